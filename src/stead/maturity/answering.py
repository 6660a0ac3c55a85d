"""Whether MLOps pays for a team: one pure rule from records and answers to yes, not yet or no, and the stage to aim at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from stead.maturity.advice import FEW, FOR_WHOM, MANY, justified
from stead.maturity.case import case_of, effects_of, hours, pays, when
from stead.maturity.conditions import conditions_of
from stead.maturity.inputs import Range, figure, inputs_of, known_of
from stead.maturity.measured import measured_of
from stead.maturity.questions import QUESTIONS, list_answers, read_answer
from stead.maturity.recorded import history, recorded
from stead.maturity.types import (
    STAGES,
    Answer,
    Case,
    Condition,
    Input,
    Known,
    Question,
    Recorded,
    Value,
    Worth,
)
from stead.store import Store

Word = Literal["yes", "not yet", "no"]
DAILY = 250
"""Deployments a year: more of them, or more than ten times as many models, are no condition that one waits for."""
RIGHT_TIME = "The right time is while the first model goes to production"
INSTEAD = "a cron job that trains and a spreadsheet that says which version runs where are fine"


@dataclass(frozen=True)
class Verdict:
    """What the rule says, and by what."""

    answer: Word
    why: str
    todo: str
    command: str = "stead worth --interview"


def worth(store: Store, *, trying: Mapping[str, Any] | None = None) -> Worth:
    """Whether MLOps pays for this team: from records where there are any, from the interview where not.

    `trying` are answers that stand in for both, by question, and are not kept. Raises InvalidInput (`question-unknown`,
    `answer-invalid`).
    """
    tried = {name: read_answer(name, given) for name, given in (trying or {}).items()}
    read = history(store)
    found = answered(recorded(read), list_answers(store), tried)
    return replace(found, measured=measured_of(store, read, found.case))


def answered(records: Recorded, answers: Sequence[Answer], trying: Mapping[str, Value] | None = None) -> Worth:
    """The whole answer that follows from records and answers; `trying` stands in for either and is not kept."""
    known, contradictions = known_of(records, answers, trying)
    case = case_of(inputs_of(known))
    conditions = conditions_of(known)
    verdict = judge(known, case, conditions, records)
    effects = effects_of(case, lambda inputs: _with(inputs, known, records).answer)
    stage, stage_said = aim(verdict.answer, known, case, records.stage)
    return Worth(
        answer=verdict.answer,
        said=verdict.why,
        todo=verdict.todo,
        command=verdict.command,
        stage=stage,
        stage_said=stage_said,
        conditions=conditions,
        case=replace(case, effects=effects),
        contradictions=contradictions,
        questions=unasked(known),
        known=known,
        answers=list(answers),
    )


def _with(inputs: Sequence[Input], known: Mapping[str, Known], records: Recorded) -> Verdict:
    """The verdict with other inputs, for what it would take to change it."""
    moved = dict(known)
    for each in inputs:
        if each.name in known:
            value: Range = (each.low, each.likely, each.high)
            moved[each.name] = Known(value, each.source, each.said)
    return judge(moved, case_of(inputs), conditions_of(moved), records)


def judge(known: Mapping[str, Known], case: Case, conditions: Sequence[Condition], records: Recorded) -> Verdict:
    """Yes, not yet or no, and why: the conditions decide whether it matters, the hours whether it pays."""
    holds = {each.name: each.holds for each in conditions}
    if not figure(known, "models"):
        return _before_production(known, holds)
    if holds["poc"] and not holds["depends"]:
        return Verdict(
            "no",
            "It is a proof of concept: what it will be is not decided.",
            f"Do not build yet: {INSTEAD}. {RIGHT_TIME}.",
            "",
        )
    if holds["depends"] is None:
        return _unknown(known)
    if not holds["depends"]:
        return _unimportant(case, holds)
    return _important(known, case, conditions, holds, records)


def _before_production(known: Mapping[str, Known], holds: Mapping[str, bool | None]) -> Verdict:
    """A team that has no model in production: its own starting point."""
    if holds["poc"]:
        return Verdict(
            "no",
            "It is a proof of concept, and no model is in production.",
            f"Do not build yet: a notebook and git are enough; later {INSTEAD}. {RIGHT_TIME}.",
            "",
        )
    if figure(known, "planned"):
        if holds["low_impact"] and not holds["depends"]:
            return Verdict(
                "no",
                "A first model goes to production, and little would come of its mistakes.",
                f"{INSTEAD[0].upper()}{INSTEAD[1:]}, until somebody depends on it.",
                "",
            )
        return Verdict(
            "yes",
            f"{RIGHT_TIME}, and that is now: what is recorded from the first day costs minutes, and cannot be made up for later.",
            "First step: train, register and deploy that first model through stead, and set one monitor on it; automate nothing yet.",
            "stead init",
        )
    if figure(known, "models") is None:
        return Verdict(
            "not yet",
            "Nothing is known of models in production here.",
            f"Say what there is, in a few questions; nothing has to be installed or deployed for it. {RIGHT_TIME}.",
        )
    return Verdict(
        "not yet",
        "No model is in production, and none is about to be.",
        "It becomes a yes when a first model is about to go there: that is the right time.",
        "stead worth --answer planned=1",
    )


def _unknown(known: Mapping[str, Known]) -> Verdict:
    count = figure(known, "models") or 0
    said = "A model is" if count == 1 else f"{count:,.0f} models are"
    return Verdict(
        "not yet",
        f"{said} in production, and nobody has said whether a business process depends on them.",
        "Say whether one does: that decides it, before any hours do.",
        "stead worth --answer depends=yes",
    )


def _unimportant(case: Case, holds: Mapping[str, bool | None]) -> Verdict:
    """Models on which nothing depends: hours alone may still speak for it."""
    if pays(case) == "surely":
        return Verdict(
            "not yet",
            f"No business process depends on these models, and yet {hours(case.manual)} a year go into deploying them.",
            f"First deploy them less often: who would notice? It becomes a yes where they have to be so many deployments; then it pays back {when(case.payback)}.",
            "stead worth --try depends=yes",
        )
    why = (
        "they stay as they are, and little comes of a mistake"
        if holds["static"]
        else "no business process depends on them"
    )
    return Verdict("no", f"The models are in production, but {why}.", f"Do not build: {INSTEAD}.", "")


def _important(
    known: Mapping[str, Known],
    case: Case,
    conditions: Sequence[Condition],
    holds: Mapping[str, bool | None],
    records: Recorded,
) -> Verdict:
    """Models that a business process depends on."""
    paid, back = pays(case), when(case.payback)
    speaking = [each for each in conditions if each.speaks == "for" and each.holds]
    against = [each for each in conditions if each.speaks == "against" and each.holds]
    them = "this model" if figure(known, "models") == 1 else "these models"
    late = holds["late"] and (holds["people"] or (figure(known, "models") or 0) > FEW)
    if paid == "surely":
        why = f"A business process depends on {them}, and {hours(case.saved[0])} a year by hand can be saved: building pays back {back}."
        return Verdict("yes", why, *_first_step(known, case, records))
    if late:
        alone = f", which alone pay back {back}" if paid in ("surely", "perhaps") else ""
        why = f"A business process depends on {them} and {'its' if them == 'this model' else 'their'} decay was noticed late: that costs more than hours{alone}."
        return Verdict("yes", why, *_first_step(known, case, records))
    if paid == "perhaps" and len(speaking) >= 3 and not against:
        why = f"{len(speaking)} of the four conditions for it hold and none against; the hours pay back {back}, so that recording comes first and building later."
        return Verdict("yes", why, *_first_step(known, case, records))
    return Verdict(
        "not yet",
        _why_not(case, paid, against, them),
        _would_change(case, holds, records.stage),
        "stead worth --interview" if paid == "unknown" else "",
    )


def _why_not(case: Case, paid: str, against: Sequence[Condition], them: str) -> str:
    """Why what matters does not pay yet."""
    if paid == "unknown":
        return f"A business process depends on {them}; {_unsaid(case)}, nobody has said."
    worst, within = case.payback[1], case.input("horizon").likely
    back = when(case.payback, digits=1 if worst is not None and round(worst) == round(within) else 0)
    late = (
        f"pay back {back}, not {'surely ' if paid == 'perhaps' else ''}within the {within:,.0f} months that they must"
    )
    reason = f"A business process depends on {them}, but the hours {'never pay back' if back == 'never' else late}"
    return f"{reason}; against it: {', '.join(each.text.lower() for each in against)}." if against else f"{reason}."


def _would_change(case: Case, holds: Mapping[str, bool | None], stage: int) -> str:
    """The conditions that would make it a yes."""
    if pays(case) == "unknown":
        return f"Say {_unsaid(case)}; or look whether decay is noticed late, which alone makes it a yes where several people work on it."
    models, retrains = needed(case)
    now, often = case.input("models").likely, case.input("retrains").likely
    ways = []
    if models is not None and models <= MANY * max(now, 1):
        ways.append(f"with {models:,.0f} such models (now {now:,.3g})")
    if retrains is not None and retrains <= DAILY:
        plural = "" if retrains == 1 else "s"
        ways.append(f"with {retrains:,.0f} deployment{plural} of each a year (now {often:,.3g})")
    if not holds["late"]:
        ways.append("when decay is noticed late and more than one person works on the models")
    elif not holds["people"]:
        ways.append("when a second person works on the models")
    until = f"one check a day that compares the loss with last month’s, and {INSTEAD}"
    if stage > 1:
        until = "keep what runs already, and build nothing further"
    return f"It becomes a yes {', or '.join(ways)}. Until then: {until}."


def _unsaid(case: Case) -> str:
    """What the hours cannot be told without."""
    said = {"models": "how many models there are", "retrains": "how often each is deployed"}
    return " and ".join(text for name, text in said.items() if case.input(name).source == "default")


def needed(case: Case) -> tuple[float | None, float | None]:
    """How many models, or how many deployments of each a year, it takes to pay back surely; None where no number does, or this one."""
    models, retrains, work = (case.input(name) for name in ("models", "retrains", "hours"))
    a_year = (
        case.input("build").high * 12 / case.input("horizon").likely + case.automated[0].high
        if case.input("horizon").likely > 0
        else math.inf
    )

    def enough(one: float, now: float) -> float | None:
        found = math.ceil(a_year / one) if one > 0 and math.isfinite(a_year) else None
        return found if found is not None and found > now else None

    return enough(retrains.low * work.low, models.low), enough(models.low * work.low, retrains.low)


def _first_step(known: Mapping[str, Known], case: Case, records: Recorded) -> tuple[str, str]:
    """What a team does first, by where it stands: the same step as the page of maturity names."""
    if not records.models:
        others = "; record the others’ deployments until they follow" if figure(known, "models") != 1 else ""
        which = "one of them" if others else "it"
        return f"First step: train, register and deploy {which} through stead{others}.", "stead init"
    stage, _ = aim("yes", known, case, records.stage)
    if 1 < stage <= records.stage:
        return (
            f"Nothing is to be built: the team is where these models need it, at stage {records.stage}. Keep its checks.",
            "stead maturity",
        )
    if records.step is None:
        return "First step: what the next stage lacks stands on the page of maturity.", "stead maturity"
    step = records.step
    title = step.title[:1].lower() + step.title[1:]
    cost = f" It takes {step.cost}." if step.cost else ""
    return f"First step: {title}: {step.said}.{cost}", step.command


def aim(answer: Word, known: Mapping[str, Known], case: Case, stage: int) -> tuple[int, str]:
    """The stage to aim at, and why: what the models justify, and never two ahead of where the team is."""
    models, people = figure(known, "models") or 0, figure(known, "people")
    if answer == "no":
        return 1, "Stage 1 is enough: what is done by hand stays by hand."
    if not models:
        return 1, f"Everybody starts at stage 1 ({STAGES[1]}): what is done by hand is recorded first."
    right = justified(models, people)
    if answer == "not yet":
        if right < stage:
            return right, f"Stage {right} ({STAGES[right]}) is enough until then; the team is at stage {stage}."
        return stage, f"Stay at stage {stage} ({STAGES[stage]}) until then."
    if pays(case) == "surely":
        right = max(right, 2)
    where = FOR_WHOM[right]
    if right == 2 and models < 5:
        where += "; fewer pay for it where they are deployed often"
    elif right < justified(models, None):
        where += f"; stage {right + 1} takes more than one engineer"
    if stage > right:
        return right, f"Stage {right} ({STAGES[right]}) is right for {where}; stage {stage} is overhead for these."
    if right > stage + 1:
        next_one = f"Stage {stage + 1} ({STAGES[stage + 1]}) is next"
        return stage + 1, f"{next_one}; these models justify stage {right}, and none is skipped."
    return right, f"Stage {right} ({STAGES[right]}) is right for {where}."


def unasked(known: Mapping[str, Known]) -> list[Question]:
    """What is worth asking still: not known, and not settled by what is."""
    models = figure(known, "models")
    settled = {question.name for question in QUESTIONS if question.detail}
    if models:
        settled |= {"planned", "poc"}
    if figure(known, "retrains") is not None:
        settled.add("static")
    if "depends" in known and known["depends"].value is True:
        settled |= {"poc", "low_impact"}
    if models == 0:
        settled |= {"late", "static"}
        if figure(known, "planned") == 0:
            settled |= {"depends", "low_impact", "retrains", "hours", "people"}
    return [each for each in QUESTIONS if each.name not in known and each.name not in settled]
