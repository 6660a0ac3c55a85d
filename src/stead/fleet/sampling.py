"""A sample of versions, drawn once a month, that are made again from their records: whether that can be done is found out before it must."""

from __future__ import annotations

import random
from collections.abc import Collection

import sqlalchemy as sa

from stead import jobs, ledger, pipelines
from stead.deployments import WAS_LIVE
from stead.deployments.tables import deployments
from stead.errors import SteadError
from stead.ledger.tables import ledger as entries
from stead.maturity.clocks import DAY_MS
from stead.maturity.history import month_of
from stead.pipelines.tables import reproductions
from stead.runtime.clock import now_ms
from stead.store import Store

BACK_MS = 180 * DAY_MS
"""Versions that were live in this time are drawn from; one that was made again in it, or drawn, is not drawn again."""
NEW_MS = 7 * DAY_MS
"""A store whose first record is younger is left alone, as it is in the month in which that was."""
PRIORITY = -10
"""Behind every training that waits."""
ACTION = "reproductions.sampled"


def sample_reproductions(store: Store, number: int, *, now: int | None = None) -> list[jobs.Job]:
    """Queue the reproductions of a month where they are due: `number` versions, those that are live first, else drawn at random.

    Due once in a calendar month of the wall clock (UTC), from the month after the store's first record on. A version of which something
    is not there any more is drawn as any other, and stands in the ledger's entry with what is missing. Models at level `record` are drawn,
    too: it changes nothing of what answers. The draw is fixed by the month, so that two agents that draw at once draw the same.
    """
    now = now_ms() if now is None else now
    month = month_of(now)
    with store.db.read() as tx:
        if number < 1 or not _due(tx, month, now):
            return []
        drawn = _drawn(tx, number, month, now)
    if not drawn:
        return []
    wished, missing = [], {}
    for ref in drawn:
        try:
            wished.append(pipelines.reproduction_of(store, ref))
        except SteadError as error:
            missing[ref] = error.message
    with store.db.write("fleet.sample") as tx:
        if not _due(tx, month, now):
            return []  # another agent was sooner
        made = []
        for payload, wish in wished:
            key = f"sample:{month}:{payload['model']}@{payload['version']}"
            rest: jobs.Wish = {**wish, "key": key, "priority": PRIORITY}
            made.append(jobs.enqueue_in(tx, "reproduce", payload, actor=store.actor, **rest))
        ledger.record(
            tx,
            actor=store.actor,
            action=ACTION,
            subject=f"reproductions {month}",
            summary=f"makes {', '.join(drawn)} again, drawn for {month}" + _lacking(missing),
            evidence={"month": month, "drawn": drawn, "missing": missing, "jobs": [job.id for job in made]},
            alternatives=["draw none: reproduce_sample = 0"],
        )
    return made


def _lacking(missing: Collection[str]) -> str:
    return f"; what {', '.join(missing)} needs is not there any more" if missing else ""


def _due(tx: sa.Connection, month: str, now: int) -> bool:
    first = tx.execute(sa.select(sa.func.min(entries.c.at))).scalar()
    if first is None or now - first < NEW_MS or month_of(first) == month:
        return False
    before = tx.execute(sa.select(entries.c.evidence).where(entries.c.action == ACTION)).scalars()
    return all(each.get("month") != month for each in before)


def _drawn(tx: sa.Connection, number: int, month: str, now: int) -> list[str]:
    """Versions that are live first, each part in an order that the month decides."""
    since = now - BACK_MS
    told = deployments.c
    lately = (told.state == "live") | (told.state.in_(WAS_LIVE) & (told.ended_at >= since))
    live: dict[str, bool] = {}
    for row in tx.execute(sa.select(told.model, told.version, told.state).where(lately)):
        ref = f"{row.model}@{row.version}"
        live[ref] = live.get(ref, False) or row.state == "live"
    again = sa.select(reproductions.c.model, reproductions.c.version).where(reproductions.c.at >= since)
    done = {f"{row.model}@{row.version}" for row in tx.execute(again)}
    for evidence in tx.execute(
        sa.select(entries.c.evidence).where(entries.c.action == ACTION, entries.c.at >= since)
    ).scalars():
        done |= set(evidence.get("drawn") or ())
    left = sorted(live.keys() - done)
    random.Random(month).shuffle(left)
    return sorted(left, key=lambda ref: not live[ref])[:number]
