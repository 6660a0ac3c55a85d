"""What the records say of each model, on its own clock: what the checks look at.

Records are named tuples, as there are many: those are made three times as fast as frozen dataclasses.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

from stead.maturity.clocks import Clock
from stead.maturity.types import IMPORTANCE, Work

T = TypeVar("T")
AUTOMATIC = ("agent", "system")
"""Who acts where no person does."""


class Version(NamedTuple):
    """A version, and what is recorded of how it was made."""

    version: int
    moment: int
    lacks: tuple[str, ...]
    """Of code, data and environment those that are not recorded."""
    job: str | None
    """The training by stead that made it."""
    trigger: str
    """What began that: a signal by name, `person`, or empty where it was no retraining of stead's."""
    retraining: int | None
    gated: int | None
    """When a gate first said yes or no to it."""


class Deployed(NamedTuple):
    """A deployment that came to answer requests, in stead or outside."""

    id: int
    version: int | None
    moment: int
    """When its version first answered: by a canary's first share, or alone."""
    back: bool
    """Whether it went back to an earlier version."""
    by: str
    outside: bool = False
    place: str = ""
    minutes: float | None = None
    """Of work by hand; None where nobody said."""
    live: int | None = None
    ended: int | None = None
    """When another version took its place, or none."""
    rolled_back: bool = False
    wrong: int | None = None
    """From when on later rows say that its promotion was wrong."""


class Refusal(NamedTuple):
    """A gate said no."""

    version: int
    deployment: int | None
    moment: int
    said: str


class Incident(NamedTuple):
    id: int
    moment: int
    page: bool
    reported: bool
    """Whether people opened it."""
    before: int | None
    """The incident of a monitor that had told of it before people did."""
    by: str
    said: str


class Decision(NamedTuple):
    """An entry of the ledger that changed, or began to change, which version answers."""

    id: int
    moment: int
    wall: int
    action: str
    by: str
    said: str
    policy: str | None
    founded: bool
    """Whether its evidence stands with it."""
    reversible: bool
    deployment: int | None = None
    worked: bool = False
    """Of a drill."""
    seconds: float | None = None
    undone: tuple[int, str] | None = None
    """When it was taken back, and by whom."""
    judged: tuple[int, str, str] | None = None
    """From when on its judgement stands, the verdict, and what it says."""


class Again(NamedTuple):
    """A version that was made again, wall clock."""

    id: int
    version: int
    moment: int
    verdict: str


class Tried(NamedTuple):
    """A backtest that came to its end, wall clock."""

    job: str
    moment: int


class Day(NamedTuple):
    """A day of event time on which a model was asked."""

    moment: int
    predictions: int
    labelled: int


class Series(Generic[T]):
    """Records in the order of their moments, so that a window is a slice."""

    def __init__(self, items: Iterable[T] = (), key: Callable[[T], int] | None = None) -> None:
        of: Callable[[Any], int] = key or (lambda item: item.moment)
        self.items: Sequence[T] = sorted(items, key=of)
        self.moments = [of(item) for item in self.items]

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def within(self, since: int, until: int) -> Sequence[T]:
        """After `since`, up to `until` with it."""
        return self.items[bisect_right(self.moments, since) : bisect_right(self.moments, until)]

    def last(self, until: int) -> T | None:
        """The newest up to `until`, with it."""
        place = bisect_right(self.moments, until)
        return self.items[place - 1] if place else None


@dataclass
class OfModel:
    """What the records say of one model, on its own clock where nothing else is said."""

    name: str
    level: str
    """Empty where it is not registered."""
    owner: str
    importance: str
    clock: Clock
    created_at: int
    """Wall clock."""
    delay: int
    """Of its labels, milliseconds."""
    registered: bool = True
    """Else it is only known from deployments outside stead."""
    policy: tuple[int, int] | None = None
    """Number of the policy in force and, wall clock, since when."""
    versions: Series[Version] = field(default_factory=Series)
    deployments: Series[Deployed] = field(default_factory=Series)
    refusals: Series[Refusal] = field(default_factory=Series)
    incidents: Series[Incident] = field(default_factory=Series)
    decisions: Series[Decision] = field(default_factory=Series)
    rejected: Series[Decision] = field(default_factory=Series)
    drills: Series[Decision] = field(default_factory=Series)
    """Roll-backs that were drilled."""
    stops: Series[Decision] = field(default_factory=Series)
    """Freezes that were drilled, of this model or of every one, wall clock."""
    again: Series[Again] = field(default_factory=Series)
    backtests: Series[Tried] = field(default_factory=Series)
    days: Series[Day] = field(default_factory=Series)
    looked: Sequence[int] = ()
    """Days that a monitor looked at, in order."""
    estimated: Sequence[int] = ()
    """Days of which the loss was estimated without labels."""
    watched: int | None = None
    """When monitors last looked, whatever they found."""
    left_out: int = 0

    @cached_property
    def weight(self) -> float:
        return IMPORTANCE.get(self.importance, IMPORTANCE["normal"])

    def live_at(self, at: int) -> list[Deployed]:
        """What answered at a moment: the version in stead, and the last one that was put to each place outside."""
        inside = [each for each in self.deployments if not each.outside and each.live is not None and each.live <= at]
        live = max(inside, key=lambda each: (each.live or 0, each.id), default=None)
        found = [live] if live is not None and (live.ended is None or live.ended > at) else []
        places: dict[str, Deployed] = {}
        for each in self.deployments:
            if each.outside and each.moment <= at and (live is None or each.moment > (live.live or 0)):
                places[each.place] = each
        return found + list(places.values())

    def looks(self, since: int, until: int) -> int:
        """Days that a monitor looked at."""
        return bisect_right(self.looked, until) - bisect_right(self.looked, since)

    @property
    def first(self) -> int | None:
        """Its first record of any kind."""
        kept = (self.versions, self.deployments, self.incidents, self.days)
        firsts = [series.moments[0] for series in kept if series.moments]
        return min([*firsts, self.clock.pairs[0][1]] if firsts and self.clock.pairs else firsts, default=None)

    @property
    def begun(self) -> int | None:
        """When its first version answered."""
        return next((each.moment for each in self.deployments), None)

    def at(self, wanted: int) -> tuple[int, int]:
        """Its clock and the wall's at a moment of the wall, or of its own clock where that lies before its replay; never after its now."""
        pairs = self.clock.pairs
        if not pairs:
            return wanted, wanted
        if wanted >= pairs[-1][0]:
            return self.clock.now, wanted
        if wanted >= pairs[0][0]:
            return min(self.clock.moment(wanted, None), self.clock.now), wanted
        own = min(wanted, self.clock.now)
        reached = [wall for wall, moment in pairs if moment <= own]
        return own, reached[-1] if reached else pairs[0][0]


@dataclass(frozen=True)
class Records:
    """All models by name, as of now."""

    now: int
    """Wall clock."""
    models: dict[str, OfModel]
    work: list[Work]
    """What people did by hand."""
