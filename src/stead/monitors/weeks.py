"""Columns week by week against the references of the versions that answered, and the loss beside them on the same days."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from stead import models, predictions
from stead.errors import NotFound, did_you_mean
from stead.monitors import references
from stead.monitors.columns import OUTPUT
from stead.monitors.packing import Columns, unpack
from stead.monitors.reading import monitor_days
from stead.monitors.references import DAY, FEATURE, MONDAY, WEEK, ColumnsReference
from stead.monitors.tables import monitor_days as days_table
from stead.monitors.tables import profile_days as table
from stead.monitors.tables import watches
from stead.monitors.types import ColumnProfile, ColumnWeek, Expected, LossDay, ModelDrift
from stead.stats.drift import ColumnReference, drift, parts
from stead.stats.histograms import Histogram, merge_histograms, moments
from stead.store import Store, checked_limit

LONG = WEEK * DAY
WEEKS = 12
MOST_WEEKS = 520


def drift_by_week(
    store: Store, model: str, *, weeks: int = WEEKS, version: int | None = None, until: int | None = None
) -> ModelDrift:
    """Each raw column and the output by week, the furthest first, and the loss by day: labelled, and to expect without.

    The `weeks` weeks from Monday to Monday that end with the one before `until` (milliseconds, event time), by default with the
    last one that has rows. A week is held against the reference of the version that answered most of its rows, or of `version`.
    Raises NotFound (`model-unknown`, `reference-missing`), InvalidInput (`limit-invalid`).
    """
    seen = _Weeks.of(store, model, weeks, version, until)
    profiles = [seen.profile(key) for key in seen.keys]
    estimates = monitor_days(store, model, monitor="estimate", version=version, since=seen.since, until=seen.until)
    return ModelDrift(model, seen.since, seen.until, sorted(profiles, key=_far), seen.days(store, version), estimates)


def _far(profile: ColumnProfile) -> tuple[float, str]:
    return -max((week.distance or 0.0 for week in profile.weeks), default=0.0), profile.column


def column_profile(
    store: Store,
    model: str,
    column: str,
    *,
    weeks: int = WEEKS,
    version: int | None = None,
    until: int | None = None,
) -> ColumnProfile:
    """A raw column by week with both distributions: that of the week, and that of the reference it is held against.

    `column` is the name of a raw column, or `output` for what the model answers; the rest as in `drift_by_week`.
    Raises NotFound (`model-unknown`, `reference-missing`, `column-unknown`), InvalidInput (`limit-invalid`).
    """
    seen = _Weeks.of(store, model, weeks, version, until)
    key = FEATURE + column if column != OUTPUT else OUTPUT
    if key not in seen.keys:
        names = [name.removeprefix(FEATURE) for name in seen.keys]
        raise NotFound(
            "column-unknown",
            f"{model} is not watched on a column {column!r}",
            hint=did_you_mean(column, names) or f"columns: {', '.join(names)}",
        )
    return seen.profile(key, distributions=True)


def looks(store: Store, model: str) -> tuple[int, int]:
    """Grows with every look at a model that found something new, and with every day of it that labels changed."""
    with store.db.read() as tx:
        turn = tx.execute(sa.select(watches.c.turn).where(watches.c.model == model)).scalar()
    return turn or 0, predictions.last_refresh(store, model)


@dataclass(frozen=True)
class _Weeks:
    """The profiled weeks of a model: which version's, and its days' histograms."""

    model: str
    since: int
    until: int
    references: dict[int, ColumnsReference]
    weeks: dict[int, tuple[int, list[Columns]]]
    broken: dict[tuple[int, str], str]
    """By beginning of the week and column."""

    @classmethod
    def of(cls, store: Store, model: str, weeks: int, version: int | None, until: int | None) -> _Weeks:
        checked_limit(weeks, MOST_WEEKS)
        models.get_model(store, model)
        mine = table.c.model == model if version is None else (table.c.model == model) & (table.c.version == version)
        before = mine if until is None else mine & (table.c.day < until)
        with store.db.read() as tx:
            last = tx.execute(sa.select(sa.func.max(table.c.day)).where(before)).scalar()
            if last is None:
                who = model if version is None else f"{model}@{version}"
                raise NotFound(
                    "reference-missing",
                    f"{who} has no rows yet that could be held against a reference",
                    hint=f"stead monitors {model}",
                )
            high = week_of(last) + LONG
            since = high - weeks * LONG
            inside = before & (table.c.day >= since)
            query = sa.select(table.c.version, table.c.day, table.c.rows).where(inside).order_by(table.c.day)
            most = _most(tx.execute(query).all())
            chosen = {}
            for start, number in most.items():
                its = inside & (table.c.version == number) & (table.c.day >= start) & (table.c.day < start + LONG)
                found = tx.execute(sa.select(table.c.histograms).where(its).order_by(table.c.day)).scalars()
                chosen[start] = (number, [unpack(packed)[0] for packed in found])
        known = {number: references.load(store, model, number).columns for number in set(most.values())}
        whole = {number: each for number, each in known.items() if each is not None}
        kept = {start: each for start, each in chosen.items() if each[0] in whole}
        return cls(model, since, high, whole, kept, _broken(store, model, most, since, high))

    @property
    def keys(self) -> list[str]:
        """Columns of any of the versions, the newest version's first."""
        newest = sorted(self.references, reverse=True)
        return list(dict.fromkeys(key for number in newest for key in self.references[number].bins))

    def profile(self, key: str, *, distributions: bool = False) -> ColumnProfile:
        found, versions = [], set()
        for start, (number, days) in self.weeks.items():
            some = [day[key] for day in days if key in day]
            if some and key in self.references[number].slow:
                column = key.removeprefix(FEATURE)
                reference = self.references[number].slow[key]
                broken = self.broken.get((start, column), "")
                found.append(_week(start, number, merge_histograms(some), reference, broken, distributions))
                versions.add(number)
        newest = max(number for number, each in self.references.items() if key in each.slow)
        return ColumnProfile(
            model=self.model,
            column=key.removeprefix(FEATURE),
            kind=self.references[newest].bins[key].kind,
            weeks=found,
            references=[self._expected(key, number) for number in sorted(versions)] if distributions else [],
        )

    def _expected(self, key: str, number: int) -> Expected:
        of = self.references[number].slow[key]
        edges = list(of.bins.edges) if of.bins.kind == "number" else []
        source, rows = self.references[number].source, of.whole.rows
        return Expected(number, source, rows, edges, _mean(of.whole, of), parts(of.whole, of.bins))

    def days(self, store: Store, version: int | None) -> list[LossDay]:
        """The loss by day over the same weeks."""
        days = predictions.performance(store, self.model, since=self.since, until=self.until)
        looked = monitor_days(store, self.model, monitor="loss", since=self.since, until=self.until)
        bounds = {(each.day, each.version): each.bound for each in looked}
        return [
            LossDay(each.day, each.version, each.predictions, each.labelled, each.loss, bounds.get((each.day, each.version)))
            for each in days
            if version in (None, each.version)
        ]  # fmt: skip


def week_of(day: int) -> int:
    """The Monday that a day's week begins with.

    >>> week_of(5 * DAY) == MONDAY
    True
    """
    return (day - MONDAY) // LONG * LONG + MONDAY


def _most(days: Iterable[Any]) -> dict[int, int]:
    """By week the version that answered most of its rows; the later one of two alike."""
    rows: dict[int, dict[int, int]] = {}
    for version, day, count in days:
        week = rows.setdefault(week_of(day), {})
        week[version] = week.get(version, 0) + count
    return {start: max(week, key=lambda version: (week[version], version)) for start, week in sorted(rows.items())}


def _broken(store: Store, model: str, most: Mapping[int, int], since: int, until: int) -> dict[tuple[int, str], str]:
    """What the monitors of data and units said was broken, by week and column."""
    mine = (days_table.c.model == model) & (days_table.c.monitor.in_(("data", "scale")))
    query = sa.select(days_table.c.day, days_table.c.version, days_table.c.evidence).where(
        mine, days_table.c.day >= since, days_table.c.day < until, days_table.c.outcome == "alarm"
    )
    found: dict[tuple[int, str], str] = {}
    with store.db.read() as tx:
        for row in tx.execute(query):
            start = week_of(row.day)
            if most.get(start) == row.version:
                found |= {(start, column): kind for kind, columns in row.evidence.items() for column in columns}
    return found


def _week(
    start: int, version: int, histogram: Histogram, reference: ColumnReference, broken: str, distributions: bool
) -> ColumnWeek:
    found = drift(histogram, reference)
    known = found.distance == found.distance
    return ColumnWeek(
        since=start,
        until=start + LONG,
        version=version,
        rows=histogram.rows,
        distance=found.distance if known else None,
        p_value=found.p_value if known else None,
        broken=broken,
        mean=_mean(histogram, reference),
        parts=parts(histogram, reference.bins) if distributions else [],
    )


def _mean(histogram: Histogram, reference: ColumnReference) -> float | None:
    """Of the numbers, in the column's own unit."""
    if reference.bins.kind != "number":
        return None
    mean = moments(histogram)[0]
    return None if math.isnan(mean) else reference.bins.center + mean * reference.bins.scale
