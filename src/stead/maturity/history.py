"""The stage month by month, computed from the records as of each month's end, and kept before pruning takes them."""

from __future__ import annotations

from collections import Counter
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


def newest(missing: Mapping[str, Sequence[str]], most: int) -> dict[str, list[str]]:
    """Of the months that are missing the newest, whole months of all that miss them, until there are so many.

    >>> newest({"a": ["2026-01", "2026-02"], "b": ["2026-02"]}, 2)
    {'a': ['2026-02'], 'b': ['2026-02']}
    """
    counted = Counter(month for months in missing.values() for month in months)
    chosen: set[str] = set()
    for month in sorted(counted, reverse=True):
        if sum(counted[each] for each in chosen) >= most:
            break
        chosen.add(month)
    return {name: [month for month in months if month in chosen] for name, months in missing.items()}


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
    own: dict[str, list[str]] = {stage.model: [] for stage in stages}
    for name, month in known:
        if name in own:
            own[name].append(month)
    found = []
    for stage in stages:
        present = month_of(stage.now)
        past = sorted(month for month in own[stage.model] if month < present)
        found += [Month(stage.model, month, known[stage.model, month]) for month in past[-MOST_MONTHS:]]
    return found


def dated(stages: Sequence[Stage], history: Sequence[Month]) -> list[Stage]:
    """Stages with the month in which each began, as far back as the history goes without another one."""
    own: dict[str, list[Month]] = {stage.model: [] for stage in stages}
    for month in history:
        if month.model in own:
            own[month.model].append(month)
    return [replace(stage, since=_since(own[stage.model], stage.stage, month_of(stage.now))) for stage in stages]


def _since(past: Sequence[Month], stage: int, present: str) -> str:
    since = present
    for each in reversed(past):
        if each.stage != stage:
            break
        since = each.month
    return since


def reaching(missing: Mapping[str, Sequence[str]]) -> int | None:
    """From when on days must be read to compute some months; None where none is missing."""
    first = min((month for months in missing.values() for month in months), default=None)
    return None if first is None else end_of(first) - 31 * DAY_MS - 100 * DAY_MS
