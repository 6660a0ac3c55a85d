"""Why a training that was run again came out otherwise: changes are undone one after another, until as few as possible explain it.

A cause counts only if restoring it, everything else left as it is now, restores the result, and leaving it out does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from stead import models
from stead.errors import SteadError
from stead.jobs import Keeper
from stead.pipelines.recipes import Change, Recipe, beyond, changes, restored
from stead.pipelines.replaying import Replayed, furthest, held_against, replay, told, tolerance_of, verdict_of
from stead.store import Store

EXPLAINING = 20
"""So many times the time of a training is allowed."""


@dataclass(frozen=True)
class Cause:
    """Something that explains a difference, with what was recorded and what is now."""

    name: str
    then: str | None
    now: str | None


@dataclass(frozen=True)
class Explanation:
    """What explains a difference, as far as restoring it restores the result."""

    causes: list[Cause] = field(default_factory=list)
    needed: list[Cause] = field(default_factory=list)
    """What the causes do not run without once they are restored, such as a library that a restored one imports."""
    difference: float | None = None
    """The largest relative difference that is left with the causes restored; None where no number tells it."""
    verdict: str = "different"
    """What the result is with the causes restored: `identical`, `tolerance`, or still `different`."""
    chance: bool = False
    """Two runs of the same recipe differ from one another."""
    innocent: list[str] = field(default_factory=list)
    """What is not as it was recorded, too, and changes nothing."""
    beyond: list[str] = field(default_factory=list)
    """What differs of the machine and can't be restored on it."""
    runs: int = 0

    @property
    def said(self) -> str:
        """The explanation in words.

        >>> Explanation([Cause("seed", "0", "7")], verdict="identical", runs=2).said
        'seed (0 → 7) explains it: with it as it was recorded the result is identical'
        """
        if self.causes:
            named, needed = (
                [f"{c.name} ({c.then or 'none'} → {c.now or 'none'})" for c in some]
                for some in (self.causes, self.needed)
            )
            what = "identical" if self.verdict == "identical" else "within tolerance"
            if needed:
                what += f"; {', '.join(needed)} was restored with it, since else it does not run"
            if len(named) == 1:
                return f"{named[0]} explains it: with it as it was recorded the result is {what}"
            return f"{', '.join(named[:-1])} and {named[-1]} together explain it: without any one of them as recorded the result is another, with all of them it is {what}"
        if self.chance:
            return "it is left to chance: two runs of the same recipe differ from one another, so something draws numbers that no seed fixes"
        told = f"; not to be restored here: {', '.join(self.beyond)}" if self.beyond else ""
        return f"nothing that is recorded explains it{told}"


def explain(
    store: Store,
    keeper: Keeper,
    logged: models.LoggedModel,
    then: Recipe,
    now: Recipe,
    replayed: Replayed,
    *,
    allow: Sequence[str],
) -> Explanation:
    """Which changes from `then` to `now` explain that what came out (`replayed`) is not the recorded model."""
    facts = logged.info.get("facts") or {}, replayed.info.get("facts") or {}
    found, tolerance = changes(store, then, now, *facts), tolerance_of(logged)
    # Where the golden rows show the difference, hold-outs need not be made for each trial.
    judge = not any(value for name, value in held_against(store, logged, replayed).items() if "golden" in name)
    trials = 0
    stopped: set[frozenset[str]] = set()

    def trial(recipe: Recipe, told_as: str) -> tuple[float, Replayed | None]:
        nonlocal trials
        trials += 1
        keeper.report(f"explaining, run {trials}: {told_as}", 7, 8)
        try:
            again = replay(store, keeper, recipe, allow=allow, judge=judge)
        except SteadError as error:
            keeper.check()  # its own end is no result of a trial
            keeper.log(f"this combination does not run: {error.message}\n")
            return math.inf, None
        difference = max(held_against(store, logged, again).values())
        keeper.log(f"{told_as}: {'identical' if not difference else f'apart by {difference:.1e}'}\n")
        return difference, again

    whole, again = trial(restored(now, found), "everything as it was recorded") if found else (math.inf, replayed)
    if whole > tolerance:
        other = trial(restored(now, found), "the same once more")[1]
        chance = again is not None and other is not None and _differ(again, other)
        return Explanation(difference=told(whole), chance=chance, beyond=beyond(*facts), runs=trials)

    least = tolerance if whole else 0.0

    def enough(some: Sequence[Change], kept: Sequence[Change] = ()) -> bool:
        names = [change.name for change in (*kept, *some)]
        difference, again = trial(restored(now, [*kept, *some]), f"{', '.join(names) or 'nothing'} as recorded")
        if again is None:
            stopped.add(frozenset(names))
        return difference <= least

    causes = minimal(found, enough)
    for cause in tuple(causes):
        rest = [each for each in causes if each is not cause]
        parts = cause.parts()
        if len(parts) > 1 and enough(parts, rest):
            causes = [*rest, *minimal(parts, partial(enough, kept=rest))]
    names = {cause.name for cause in causes}
    needed = [
        cause for cause in causes if any(names - {cause.name} <= tried and cause.name not in tried for tried in stopped)
    ]
    if len(needed) == len(causes):
        needed = []
    as_causes = {cause.name: Cause(cause.name, cause.then, cause.now) for cause in causes}
    return Explanation(
        causes=[as_causes[cause.name] for cause in causes if cause not in needed],
        needed=[as_causes[cause.name] for cause in needed],
        difference=told(whole),
        verdict=verdict_of(whole, tolerance),
        innocent=[change.name for change in found if change.name not in names and not _within(change, names)],
        beyond=beyond(*facts),
        runs=trials,
    )


def minimal(found: Sequence[Change], enough: Callable[[Sequence[Change]], bool]) -> list[Change]:
    """As few of `found`, which is enough, as are enough together: leaving out any one of them is not.

    Halves are left out first, then quarters, then one at a time: k changes of which one counts take about 2 log2 k runs.
    """
    kept = list(found)
    size = max(1, len(kept) // 2)
    while True:
        at = 0
        while at < len(kept) and len(kept) > 1:
            less = kept[:at] + kept[at + size :]
            if less and enough(less):
                kept = less
            else:
                at += size
        if size == 1:
            return kept
        size //= 2


def _within(change: Change, names: set[str]) -> bool:
    return any(part.name in names for part in change.parts())


def _differ(one: Replayed, other: Replayed) -> bool:
    """Whether two runs are not alike; hold-outs are compared where both made them."""
    pairs = [(one.golden[name], other.golden[name]) for name in ("outputs", "features")]
    if one.fitted.holdouts and other.fitted.holdouts:
        pairs.append((one.fitted.metrics, other.fitted.metrics))
    return any(furthest(a, b) > 0 for a, b in pairs)
