"""Cron schedules on a model's clock: the next fire is stored, so nothing is fired twice and nothing is forgotten.

Fires that were missed while no agent ran become one. When a replay takes or gives back the model's clock, the next fire
is computed anew, so that a jump of years fires nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from stead.policies.tables import schedules
from stead.store import Store


def fire_after(cron: str, zone: str, now: int) -> int:
    """The first fire after `now`, milliseconds.

    Where a clock change skips a fire it comes right after the gap, and it comes once where an hour comes twice (as Debian's
    cron has it).

    >>> from stead.runtime.clock import to_iso, to_ms
    >>> to_iso(fire_after("0 4 1 * *", "UTC", to_ms("2013-01-01T05:00")))
    '2013-02-01T04:00:00+00:00'
    """
    from cronsim import CronSim

    local = datetime.fromtimestamp(now / 1000, UTC).astimezone(ZoneInfo(zone))
    return int(next(CronSim(cron, local)).timestamp() * 1000)


def due(store: Store, tx: sa.Connection, model: str, kind: str, cron: str, zone: str, *, now: int, held: bool) -> bool:
    """Whether a schedule fires at the model's `now`; its next fire is then a later one. In the caller's transaction."""
    key = (schedules.c.model == model) & (schedules.c.kind == kind)
    if not cron:
        tx.execute(sa.delete(schedules).where(key))
        return False
    row = tx.execute(sa.select(schedules).where(key).with_for_update()).mappings().first()
    known = row is not None and (row["cron"], row["zone"], row["held"]) == (cron, zone, held) and row["since"] <= now
    if known and row is not None and now < row["next_fire"]:
        return False
    values = {"model": model, "kind": kind, "cron": cron, "zone": zone, "held": held, "since": now}
    store.db.upsert(tx, schedules, values | {"next_fire": fire_after(cron, zone, now)}, ["model", "kind"])
    return known


def next_fires(store: Store, model: str) -> dict[str, int]:
    """The next fire of each schedule of a model."""
    with store.db.read() as tx:
        rows = tx.execute(sa.select(schedules.c.kind, schedules.c.next_fire).where(schedules.c.model == model))
        return {row.kind: row.next_fire for row in rows}
