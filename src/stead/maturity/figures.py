"""From rows to a figure: a share, a median or a number, whether it holds, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stead.config.units import lasting, percent
from stead.maturity.clocks import DAY_MS
from stead.maturity.records import OfModel
from stead.maturity.types import Clock, Kind, Result, Row
from stead.stats.shares import wilson

Rows = Callable[[OfModel, int, int], list[Row]]
"""From a model's records and a window, after `since` up to `until`, to the rows of a check."""
FEW = 5
"""With fewer rows than that a window reaches further back."""
FURTHEST = 365


@dataclass(frozen=True)
class Check:
    """One thing that is asked of the records."""

    name: str
    stage: int
    title: str
    why: str
    rows: Rows
    bound: float
    kind: Kind = "share"
    clock: Clock = "model"
    days: int = 90
    mend: str = ""
    """Command or setting that mends it; `{model}` stands for the model, `{today}` and `{year_ago}` for days on its clock."""
    minutes: float = 5.0
    """That a person takes for it."""
    cost: str = ""
    unit: Literal["", "min", "days", "models"] = ""
    reaches: bool = True
    """Whether a window with few rows reaches further back."""
    whole: bool = False
    """Whether its rows are all there are, not a sample of what is to come: then there is no interval."""
    team: bool = False
    """Whether it is asked of the team alone."""
    quiet: Rows | None = None
    """Rows that count where nothing else does: that nothing happened while somebody looked."""
    quietly: str = ""
    """What is said of those."""
    none: str = "no record"
    """What is said without rows."""


def measured(check: Check, rows: Sequence[Row], *, days: int, quiet: bool = False) -> Result:
    """The result of a check from its rows.

    >>> rows = [Row("m", f"m@{n}", "", "", None, good=n > 0) for n in range(20)]
    >>> share = Check("x", 1, "", "", rows=lambda *_: [], bound=0.8)
    >>> found = measured(share, rows, days=90)
    >>> found.said, found.met, found.sure, round(found.low or 0, 2)
    ('95 % (19 of 20)', True, False, 0.76)
    >>> measured(share, [], days=90).met is None
    True
    """
    good = sum(row.good for row in rows)
    value, low, high = _value(check, rows)
    met = None if value is None else value <= check.bound if check.kind in ("most", "median") else value >= check.bound
    sure = True
    if low is not None and high is not None:
        sure = high <= check.bound if check.kind == "most" else low >= check.bound
        sure = sure if met else high < check.bound if check.kind == "share" else low > check.bound
    return Result(
        check=check.name, stage=check.stage, title=check.title, why=check.why, clock=check.clock, days=days, kind=check.kind,
        bound=check.bound, met=met, value=value, said=_said(check, rows, value, good, quiet), low=low, high=high,
        sure=met is not None and sure, good=good, rows=len(rows),
    )  # fmt: skip


def _value(check: Check, rows: Sequence[Row]) -> tuple[float | None, float | None, float | None]:
    """The figure, and the ends of its interval where it is a share of a sample."""
    weight = sum(row.weight for row in rows)
    if not weight > 0:
        return None, None, None
    if check.kind == "median":
        return median((row.value, row.weight) for row in rows if row.value is not None), None, None
    if check.kind == "count":
        return float(sum(row.good for row in rows)), None, None
    share = sum(row.weight for row in rows if row.good) / weight
    if check.whole:
        return share, None, None
    effective = weight * weight / sum(row.weight * row.weight for row in rows)
    return share, *wilson(share * effective, effective)


def median(pairs: Iterable[tuple[float, float]]) -> float | None:
    """The value below which half of the weight lies; None without values.

    >>> median([(1.0, 1.0), (5.0, 1.0), (9.0, 2.0)]), median([(1.0, 1.0), (3.0, 1.0)]), median([])
    (7.0, 2.0, None)
    """
    ordered = sorted((value, weight) for value, weight in pairs if weight > 0)
    half, seen = sum(weight for _, weight in ordered) / 2, 0.0
    for place, (value, weight) in enumerate(ordered):
        seen += weight
        if abs(seen - half) < 1e-9 and place + 1 < len(ordered):
            return (value + ordered[place + 1][0]) / 2
        if seen > half:
            return value
    return None


def spoken(check: Check, value: float) -> str:
    """A figure alone, in its unit."""
    if check.unit == "min":
        return f"{value:.3g} min"
    if check.unit == "days":
        return lasting(round(value * 1440) * 60_000) if value * 1440 >= 1 else "under a minute"
    if check.kind == "count":
        return f"{value:g} {check.unit if value != 1 else check.unit.removesuffix('s')}".strip()
    return percent(value, 0 if abs(value * 100 - round(value * 100)) < 0.05 else 1)


def _said(check: Check, rows: Sequence[Row], value: float | None, good: int, quiet: bool) -> str:
    if value is None:
        return check.none
    if quiet:
        return f"{check.quietly} ({good} of {len(rows)})"
    if check.kind == "count":
        return spoken(check, good)
    if check.kind == "median":
        return f"median {spoken(check, value)} of {len(rows)}"
    weighed = ", by importance" if len({row.weight for row in rows}) > 1 else ""
    return f"{spoken(check, value)} ({good} of {len(rows)}{weighed})"


@dataclass(frozen=True)
class Member:
    """A model as of a moment of its own clock, and of the wall's."""

    of: OfModel
    at: int
    wall: int
    seen: dict[tuple[Rows, int], list[Row]] = field(default_factory=dict, compare=False, repr=False)
    """Rows that were looked at: the team's figure puts those of its models together."""

    def rows(self, rows: Rows, clock: Clock, days: int) -> list[Row]:
        """The rows of a check over so many days."""
        if (rows, days) not in self.seen:
            until = self.wall if clock == "wall" else self.at
            self.seen[rows, days] = rows(self.of, until - days * DAY_MS, until)
        return self.seen[rows, days]


def looked(check: Check, members: Sequence[Member]) -> tuple[Result, list[Row]]:
    """What a check finds of some models, put together; the rows that it rests on."""
    rows, days, quiet = gathered(check, check.rows, members, check.days), check.days, False
    if check.reaches and len(rows) < FEW and days < FURTHEST:
        further = gathered(check, check.rows, members, FURTHEST)
        if len(further) > len(rows):
            rows, days = further, FURTHEST
    if not rows and check.quiet is not None:
        rows, quiet = gathered(check, check.quiet, members, check.days), True
    return measured(check, rows, days=days, quiet=quiet), rows


def gathered(check: Check, rows: Rows, members: Sequence[Member], days: int) -> list[Row]:
    """Rows of several models, each of its own window; what several of them have in common stands once."""
    found: dict[tuple[str, str], Row] = {}
    for member in members:
        for row in member.rows(rows, check.clock, days):
            key = (row.model, row.subject)
            if key not in found or (row.good and not found[key].good):
                found[key] = row
    return list(found.values())
