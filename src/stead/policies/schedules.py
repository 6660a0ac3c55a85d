"""Cron schedules on a model's clock: the next fire is stored, so nothing is fired twice and nothing is forgotten.

Fires that were missed while no agent ran become one. When a replay takes or gives back the model's clock, the next fire
is computed anew, so that a jump of years fires nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from stead.policies.tables import schedules
from stead.store import Store

MOST_MISSED = 1000
"""Missed fires that are counted."""


@dataclass(frozen=True)
class Fire:
    """A schedule came due."""

    at: int
    """When it was due last, the model's clock."""
    missed: int
    """Earlier fires that it stands for."""


def fire_after(cron: str, zone: str, now: int) -> int:
    """The first fire after `now`, milliseconds.

    Where a clock change skips a fire it comes right after the gap, and it comes once where an hour comes twice (as Debian's
    cron has it).

    >>> from stead.runtime.clock import to_iso, to_ms
    >>> to_iso(fire_after("0 4 1 * *", "UTC", to_ms("2013-01-01T05:00")))
    '2013-02-01T04:00:00+00:00'
    """
    return int(next(_fires(cron, zone, now)).timestamp() * 1000)


def _fires(cron: str, zone: str, now: int) -> Any:
    from cronsim import CronSim

    return CronSim(cron, datetime.fromtimestamp(now / 1000, UTC).astimezone(ZoneInfo(zone)))


def last_of(cron: str, zone: str, first: int, now: int) -> Fire:
    """The fires from `first` on that are due at `now`, as one.

    >>> from stead.runtime.clock import to_ms
    >>> last_of("0 * * * *", "UTC", to_ms("2013-01-01T05:00"), to_ms("2013-01-01T07:30")).missed
    2
    """
    at, missed = first, 0
    for following in _fires(cron, zone, first):
        moment = int(following.timestamp() * 1000)
        if moment > now or missed == MOST_MISSED:
            break
        at, missed = moment, missed + 1
    return Fire(at, missed)


def due(
    store: Store, tx: sa.Connection, model: str, kind: str, cron: str, zone: str, *, now: int, held: bool
) -> Fire | None:
    """The fire of a schedule that is due at the model's `now`; its next one is then a later one. In the caller's transaction."""
    key = _mine(model, kind)
    if not cron:
        tx.execute(sa.delete(schedules).where(key))
        return None
    row = tx.execute(sa.select(schedules).where(key).with_for_update()).mappings().first()
    known = row is not None and (row["cron"], row["zone"], row["held"]) == (cron, zone, held) and row["since"] <= now
    if known and row is not None and now < row["next_fire"]:
        return None
    fire = last_of(cron, zone, row["next_fire"], now) if known and row is not None else None
    values: dict[str, Any] = {
        "model": model, "kind": kind, "cron": cron, "zone": zone, "held": held, "since": now,
        "next_fire": fire_after(cron, zone, now),
    }  # fmt: skip
    before: dict[str, Any] = {"fired": None, "missed": 0, "outcome": "", "job": None}
    if fire is not None:
        before |= {"fired": fire.at, "missed": fire.missed}
    elif row is not None:
        before = {key: row[key] for key in before}
    store.db.upsert(tx, schedules, values | before, ["model", "kind"])
    return fire


def came_of(tx: sa.Connection, model: str, kind: str, outcome: str, *, job: str | None = None) -> None:
    """Keep what came of the fire that was due just now."""
    tx.execute(sa.update(schedules).where(_mine(model, kind)).values(outcome=outcome, job=job))


def waits(store: Store, model: str, kind: str, cron: str, zone: str, *, now: int, held: bool) -> bool:
    """Whether `due` would change nothing at `now`: looked at often, so it takes no write lock."""
    with store.db.read() as tx:
        row = tx.execute(sa.select(schedules).where(_mine(model, kind))).mappings().first()
    if row is None or not cron:
        return row is None and not cron
    known = (row["cron"], row["zone"], row["held"]) == (cron, zone, held) and row["since"] <= now
    return known and now < int(row["next_fire"])


def forget(tx: sa.Connection, model: str) -> None:
    """At the level `record` nothing fires; a later level begins with the next fire, not with those that nobody waited for."""
    tx.execute(sa.delete(schedules).where(schedules.c.model == model))


def _mine(model: str, kind: str) -> sa.ColumnElement[bool]:
    return (schedules.c.model == model) & (schedules.c.kind == kind)
