"""The stage month by month, computed from the records as of each month's end, and kept before pruning takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa

from stead.maturity.clocks import DAY_MS
from stead.maturity.records import OfModel, Records
from stead.maturity.staging import members_of, stage_of_model, stage_of_team, team_clock
from stead.maturity.tables import months as table
from stead.maturity.types import Month, Stage
from stead.runtime.clock import now_ms
from stead.store import Store

MOST_MONTHS = 36
"""So far back goes a history."""


def month_of(at: int) -> str:
    """
    >>> month_of(1_385_856_000_000), month_of(0)
    ('2013-12', '1970-01')
    """
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m")


def end_of(month: str) -> int:
    """When a month is over, milliseconds.

    >>> month_of(end_of("2013-12")), month_of(end_of("2013-12") - 1)
    ('2014-01', '2013-12')
    """
    year, number = int(month[:4]), int(month[5:])
    return int(datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp() * 1000)


def closed(first: int | None, now: int) -> list[str]:
    """The months from a first record on that are over, at most the last three years of them."""
    if first is None or first > now:
        return []
    found, month = [], month_of(first)
    while end_of(month) <= now:
        found.append(month)
        month = month_of(end_of(month))
    return found[-MOST_MONTHS:]


def wanted(records: Records) -> dict[str, list[str]]:
    """The closed months of each model and of the team (`""`), each by its own clock."""
    found = {name: closed(of.first, of.at(records.now)[0]) for name, of in records.models.items()}
    members = members_of(records, records.now)
    now, as_of = team_clock(members, records.now)
    begun = [_begun(of, wall=as_of == "now") for of in records.models.values()]
    return {"": closed(min((each for each in begun if each is not None), default=None), now), **found}


def _begun(of: OfModel, *, wall: bool) -> int | None:
    """The first record of a model by the team's clock."""
    return of.clock.pairs[0][0] if wall and of.clock.pairs else of.first


def made(records: Records, missing: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Stage]]:
    """Months of models and of the team, with the stage at the end of each."""
    for month in sorted({month for months in missing.values() for month in months}):
        end = end_of(month) - 1
        members = members_of(records, end)
        for member in members:
            if month in missing.get(member.of.name, ()):
                yield month, stage_of_model(member)
        if month in missing.get("", ()):
            yield month, stage_of_team(members, end)


def kept(store: Store) -> dict[tuple[str, str], int]:
    """The stages that are kept, by model and month."""
    with store.db.read() as tx:
        return {
            (row.model, row.month): int(row.stage)
            for row in tx.execute(sa.select(table.c.model, table.c.month, table.c.stage))
        }


def keep(store: Store, stages: Sequence[tuple[str, Stage]], *, again: bool = False) -> None:
    """Keep the stages of closed months; those that are kept stay as they are, unless they are computed `again`."""
    rows = [
        {"model": stage.model, "month": month, "stage": stage.stage, "checks": {each.check: each.met for each in stage.checks}, "at": now_ms()}
        for month, stage in stages
    ]  # fmt: skip
    with store.db.write("maturity.month") as tx:
        store.db.upsert(tx, table, rows, ["model", "month"], update=None if again else [])


def before(known: Mapping[tuple[str, str], int], stages: Sequence[Stage]) -> list[Month]:
    """The months that are over before the present one of each stage, oldest first, the last three years of them."""
    found = []
    for stage in stages:
        present = month_of(stage.now)
        own = sorted(month for name, month in known if name == stage.model and month < present)
        found += [Month(stage.model, month, known[stage.model, month]) for month in own[-MOST_MONTHS:]]
    return found


def since_of(history: Sequence[Month], model: str, stage: int, present: str) -> str:
    """The month in which the present stage began, as far back as the history goes without another one."""
    before = [each for each in history if each.model == model and each.month < present]
    since = present
    for each in sorted(before, key=lambda one: one.month, reverse=True):
        if each.stage != stage:
            break
        since = each.month
    return since


def dated(stage: Stage, history: Sequence[Month]) -> Stage:
    return replace(stage, since=since_of(history, stage.model, stage.stage, month_of(stage.now)))


def reaching(missing: Mapping[str, Sequence[str]]) -> int | None:
    """From when on days must be read to compute some months; None where none is missing."""
    first = min((month for months in missing.values() for month in months), default=None)
    return None if first is None else end_of(first) - 31 * DAY_MS - 100 * DAY_MS
