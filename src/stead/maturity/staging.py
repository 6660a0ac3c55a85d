"""The stage of a model and of the team: the highest of which all checks hold, with those of the stages before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stead.config import LEVELS
from stead.maturity.checks import BY_NAME, CHECKS
from stead.maturity.clocks import DAY_MS
from stead.maturity.figures import Check, Member, looked
from stead.maturity.records import OfModel, Records
from stead.maturity.types import STAGES, Result, Stage
from stead.runtime.clock import to_iso

NOW = "now"


def there(of: OfModel, at: int, wall: int) -> bool:
    """Whether a model was there at a moment: since its first record, its registration, or the first day of its replay."""
    if of.clock.pairs:
        return min(of.first or at, of.clock.pairs[0][1]) <= at
    return of.created_at <= wall or (of.first is not None and of.first <= at)


def members_of(records: Records, at: int) -> list[Member]:
    """The models that were there at a moment, each as of its own clock."""
    found = [(of, *of.at(at)) for of in records.models.values()]
    return [Member(of, own, wall) for of, own, wall in found if there(of, own, wall)]


def highest(results: Sequence[Result]) -> tuple[int, bool]:
    """The stage that checks carry, and whether those of the first one hold: without them no higher stage counts.

    >>> highest([])
    (1, False)
    """
    stage = 0
    for number in STAGES:
        mine = [each for each in results if each.stage == number]
        if not mine or not all(each.met for each in mine):
            break
        stage = number
    return max(stage, 1), stage >= 1


def checks_for(*, team: bool) -> list[Check]:
    """The checks that count: some are asked of the team alone."""
    return [check for check in CHECKS if team or not check.team]


def stage_of_model(member: Member) -> Stage:
    """Where a model stands by its own records."""
    of = member.of
    found = [looked(check, [member])[0] for check in checks_for(team=False)]
    results = [each if each.met else mended(each, of.name, of.level, member.at) for each in found]
    stage, recorded = highest(results)
    return Stage(
        of.name, stage, recorded, member.at, of.clock.as_of, of.importance, of.weight, of.level, results,
        _sure(results, stage, recorded), None, of.left_out,
    )  # fmt: skip


def stage_of_team(members: Sequence[Member], at: int, stages: Sequence[Stage] = ()) -> Stage:
    """Where the team stands: the rows of its models put together, those of a model that matters more with more weight.

    With the `stages` of its models each failing check names what mends it for the one that keeps it from holding most.
    """
    results = []
    for check in CHECKS:
        found = looked(check, members)[0]
        worst = next(iter(failing(check.name, stages)), None) if not found.met else None
        if not found.met:
            found = mended(
                found, worst.model if worst else "", worst.level if worst else "", worst.now if worst else at
            )
        results.append(found)
    stage, recorded = highest(results)
    own, as_of = team_clock(members, at)
    weight, lost = sum(member.of.weight for member in members), sum(member.of.left_out for member in members)
    return Stage("", stage, recorded, own, as_of, "", weight, "", results, _sure(results, stage, recorded), None, lost)


def mended(result: Result, model: str, level: str, now: int) -> Result:
    """A check that does not hold, with the command that mends it for a model of that level, one step of the level at a time."""
    check = BY_NAME[result.check]
    days = {"today": to_iso(now)[:10], "year_ago": to_iso(now - 365 * DAY_MS)[:10]}
    command, cost = (text.format(model=model or "MODEL", **days) for text in (check.mend, check.cost))
    if model and not level:
        return replace(result, mend=f"stead train {model}", cost="30 min for its stead.toml: it is in no registry yet")
    words = command.split()
    if words[:2] == ["stead", "level"] and level in LEVELS:
        has, needs = LEVELS.index(level), LEVELS.index(words[3])
        if has >= needs:
            return replace(
                result, mend="", cost=f"time: {model} is at level {level}, and what people did leaves the window"
            )
        if needs - has > 1:
            command = f"stead level {model} {LEVELS[has + 1]}"
            cost = f"{cost}; {words[3]} comes after it"
    return replace(result, mend=command, cost=cost)


def failing(name: str, stages: Sequence[Stage]) -> list[Stage]:
    """The models of which a check does not hold, the one that matters most first; those without a row come where no other fails."""
    found = [(stage, each) for stage in stages for each in stage.checks if each.check == name and not each.met]
    broken = [stage for stage, each in found if each.met is False] or [stage for stage, _ in found]
    return sorted(broken, key=lambda stage: (-stage.weight, stage.model))


def team_clock(members: Sequence[Member], at: int) -> tuple[int, str]:
    """The wall clock, unless every model lives in a replay: then where the last of them ended."""
    replayed = [member for member in members if member.of.clock.pairs]
    if not replayed or len(replayed) < len(members):
        return at, NOW
    last = max(replayed, key=lambda member: member.at)
    return last.at, last.of.clock.as_of


def _sure(results: Sequence[Result], stage: int, recorded: bool) -> bool:
    return recorded and all(each.sure for each in results if each.stage <= stage)
