"""What to do next: the failing checks of the next stage only, what each takes, and whether that stage is worth it at all."""

from __future__ import annotations

from collections.abc import Sequence

from stead.config import LEVELS
from stead.maturity.checks import BY_NAME
from stead.maturity.figures import Member
from stead.maturity.staging import failing
from stead.maturity.types import STAGES, Fit, Result, Stage, Step

NAMED = 3
"""Models that are named where a check fails of more."""
LAST = max(STAGES)
FEW = 2
"""Models for which stage 1 is right; a check that a person wrote is enough to see one of them become worse."""
MANY, TEAM, HUNDREDS = 10, 2, 100
FOR_WHOM = {
    1: "one or two models",
    2: "five to ten models",
    3: "ten to fifty models, with two to four engineers",
    4: "hundreds of models",
}
"""What a stage is right for."""


def aim_of(stage: Stage) -> int:
    """The group of checks that is worked on next: of the first stage while it does not hold, then of the one above."""
    return 1 if not stage.recorded else min(stage.stage + 1, LAST)


def justified(models: float, people: float | None) -> int:
    """The stage that so many models justify; 3 takes more than one engineer.

    >>> justified(2, 5), justified(10, 5), justified(20, 3), justified(20, 1), justified(300, 20)
    (1, 3, 3, 2, 4)
    """
    if models < FEW + 1:
        return 1
    if models < MANY or (people is not None and people < TEAM):
        return 2
    return 3 if models < HUNDREDS else 4


def fit_of(members: Sequence[Member], team: Stage, *, past: bool = False) -> Fit:
    """What stage the models justify, by how many answer: importance weighs rows against rows, and makes no model two.

    Between three and four models stage 2 is taken to be justified, though it is right only where they are trained again often. The
    levels are those of now, so that nothing is said of them when one looks at the `past`.
    """
    live = [member for member in members if member.of.live_at(member.at)]
    right = justified(len(live), None)
    wish = max((LEVELS.index(member.of.level) + 1 for member in members if member.of.level and not past), default=1)
    overhead = max(team.stage, wish) > right
    number = f"{len(live)} live {'model' if len(live) == 1 else 'models'}"
    if not live:
        return Fit(1, overhead, "No model answers yet: stage 1 is right until the first one does.")
    between = (
        ": between the first and the second, which pays where they are trained again often"
        if 3 <= len(live) < 5
        else ""
    )
    said = f"{number} {'justifies' if len(live) == 1 else 'justify'} stage {right}, which is for {FOR_WHOM[right]}{between}."
    if overhead:
        what = (
            f"stage {team.stage}, where the team stands,"
            if team.stage > right
            else f"level {LEVELS[wish - 1]}, which a model is set to,"
        )
        said += f" More than that, such as {what} is overhead unless it costs nothing."
    return Fit(right, overhead, said)


def steps_of(team: Stage, stages: Sequence[Stage], fit: Fit) -> list[Step]:
    """The failing checks of the team's next stage, the least work for the most models first.

    Where that stage would be overhead, those of the models that lag behind the team's stage.
    """
    aim = aim_of(team)
    if team.recorded and (aim > fit.justified or team.stage == LAST):
        return _ordered(
            _step(each, [stage]) for stage in stages if stage.stage < team.stage or not stage.recorded
            for each in stage.checks if each.stage == aim_of(stage) and not each.met
        )  # fmt: skip
    return _ordered(
        _step(each, failing(each.check, stages)) for each in team.checks if each.stage == aim and not each.met
    )


def steps_of_model(stage: Stage) -> list[Step]:
    """The failing checks of a model's next stage."""
    return _ordered(_step(each, [stage]) for each in stage.checks if each.stage == aim_of(stage) and not each.met)


def only(stage: Stage) -> str:
    """Why nothing is said of the stage after the next."""
    aim = aim_of(stage)
    if aim == LAST:
        return "There is no stage after it."
    after = (
        f"Nothing is said of stage {aim + 1}: it rests on what stage {aim} brings, and a team takes stages one by one."
    )
    return (
        after
        if stage.recorded
        else f"{after} While manual work is not recorded, no higher stage counts, whatever its checks say."
    )


def _step(result: Result, of: Sequence[Stage]) -> tuple[tuple[bool, bool, float, float], Step]:
    names = [stage.model for stage in of]
    more = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
    about = f"; {', '.join(names[:NAMED])}{more}" if len(names) > 1 else ""
    first = names[0] if names else ""
    command = (
        next((each.mend for each in of[0].checks if each.check == result.check), result.mend) if of else result.mend
    )
    cost = next((each.cost for each in of[0].checks if each.check == result.check), result.cost) if of else result.cost
    first_of_all = result.stage == 1 and result.met is None  # nothing is there yet: in the order of a model's life
    effort = tuple(BY_NAME).index(result.check) if first_of_all else BY_NAME[result.check].minutes
    order = (not command, first_of_all, effort, -sum(stage.weight for stage in of))
    return order, Step(first, result.check, result.title, result.said + about, command, cost)


def _ordered(found: object) -> list[Step]:
    return [step for _, step in sorted(found, key=lambda pair: pair[0])]  # type: ignore[call-overload]


def verdict(about: Stage, members: Sequence[Member], fit: Fit, steps: Sequence[Step]) -> str:
    """The answer in a few sentences: the stage, whether it is the right one, the next step."""
    if not members:
        return "There is no model yet, so there is nothing to measure. Everybody starts at stage 1: stead init, then stead train."
    name = about.model or "The team"
    if all(each.met is None for each in about.checks):
        return f"Nothing is recorded of {about.model or 'any model'} in the last year, so no stage is said. Everybody starts at stage 1."
    held = [each for each in about.checks if each.stage == aim_of(about)]
    if not about.recorded:
        count = sum(bool(each.met) for each in held)
        said = f"{name} is at stage 1, and not all that people do is recorded: {count} of {len(held)} checks hold. Until all do no higher stage counts."
    else:
        said = f"{name} is at stage {about.stage}, {STAGES[about.stage]}."
        said += "" if about.model else f" {fit.said}"
    if not steps:
        return f"{said} Nothing needs to be done."
    if about.recorded and not about.model and aim_of(about) > fit.justified:
        return f"{said} One step is worth taking: {steps[0].model}, which lags behind. Stage {aim_of(about)} for everything would be overhead."
    return f"{said} Next: {steps[0].title[:1].lower()}{steps[0].title[1:]}: {steps[0].said}."
