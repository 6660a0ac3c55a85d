"""What is known of a team: records and answers to the same questions, which of them counts, and the figures of the business case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from stead.maturity.questions import QUESTIONS, said
from stead.maturity.types import Answer, Fact, Input, Known, Recorded, Value

Range = tuple[float, float, float]
AT_LEAST = ("models", "people")
"""Records count what they see of these; there may be more of it elsewhere, so that a higher answer stands."""
FACTOR = 2.0
"""Figures that differ by less are not held against each other."""
DEFAULTS: dict[str, tuple[Range, str]] = {
    "models": ((1, 1, 1), "a stated default: one model, until somebody says how many"),
    "retrains": ((50, 50, 50), "a stated default: weekly"),
    "hours": ((2, 3, 4), "a stated default: 2 to 4 hours by hand"),
    "review": ((30, 30, 30), "a stated default: half an hour a week"),
    "weeks": ((50, 50, 50), "a stated default"),
    "build": ((480, 480, 480), "a stated default: three months of one engineer"),
    "fte": ((1000, 1000, 1000), "a stated default: what is left of 1,600 on paper"),
    "horizon": ((24, 24, 24), "a stated default: two years"),
}
LABELS = {
    "models": ("Models in production", ""),
    "retrains": ("Deployments of each", "a year"),
    "hours": ("Work by hand for a deployment", "h"),
    "review": ("Looking at what runs by itself", "min a week"),
    "weeks": ("Weeks that are worked", "a year"),
    "build": ("Building it, and getting used to it", "h"),
    "fte": ("Productive hours of an engineer", "h a year"),
    "horizon": ("Must pay back within", "months"),
}


def known_of(
    records: Recorded, answers: Sequence[Answer], trying: Mapping[str, Value] | None = None
) -> tuple[dict[str, Known], list[str]]:
    """By question the answer that counts, and what does not go together, each in a sentence.

    Records win over answers, except where they can see only a part of it (`AT_LEAST`) and where one of both is enough (`late`);
    what is tried out wins over both.
    """
    given = {each.question: each for each in answers}
    trying = trying or {}
    known: dict[str, Known] = {}
    contradictions: list[str] = []
    for question in QUESTIONS:
        name = question.name
        fact, answer = records.facts.get(name), given.get(name)
        if name in trying:
            known[name] = Known(trying[name], "interview", "tried out, not kept")
        elif fact is not None and answer is not None:
            known[name], against = _both(name, fact, answer)
            contradictions += [against] if against else []
        elif fact is not None:
            known[name] = Known(fact.value, "record", fact.said)
        elif answer is not None:
            known[name] = Known(answer.value, "interview", _by(answer))
    return known, contradictions + _together(known)


def _both(name: str, fact: Fact, answer: Answer) -> tuple[Known, str]:
    """Which of a record and an answer counts, and a sentence where they contradict each other."""
    by_record = Known(fact.value, "record", fact.said)
    if name in AT_LEAST and _likely(answer.value) > _likely(fact.value):
        return Known(answer.value, "interview", f"{_by(answer)}; stead sees {said(fact.value)} of them"), ""
    if name == "late" and answer.value is True and fact.value is False:
        return Known(True, "interview", f"{_by(answer)}; since then: {fact.said}"), ""
    if _alike(fact.value, answer.value, 1.0 if name in AT_LEAST else FACTOR):
        return by_record, ""
    mend = (
        " Where it does not matter: stead models set MODEL --importance low."
        if name == "depends" and fact.value
        else ""
    )
    where = f"“{answer.question}” was answered {said(answer.value)}, the records say {said(fact.value)} ({fact.said})"
    return by_record, f"{where}: the records count.{mend}"


def _together(known: dict[str, Known]) -> list[str]:
    """What does not go together among what is known, put right where one of both is the better witness."""
    out = []

    def says(name: str) -> bool:
        return name in known and known[name].value is True

    retrains, models = figure(known, "retrains"), figure(known, "models")
    if says("static") and retrains is not None and retrains > 1:
        out.append(
            f"Models that stay as they are and {said_of(known, 'retrains')} deployments of each a year do not go together: the figure counts."
        )
        del known["static"]
    if says("depends") and says("low_impact"):
        out.append(
            "A business process depends on it, and little would come of a mistake: both cannot be; it is taken for something that matters."
        )
        del known["low_impact"]
    if says("poc") and says("depends") and models != 0:
        out.append("A proof of concept that a business process depends on is none: it is taken for production.")
        del known["poc"]
    if models == 0 and not figure(known, "planned") and (says("depends") or retrains):
        out.append(
            "No model is in production and none is planned, and yet one is depended on or trained anew: it is taken for none."
        )
    return out


def said_of(known: Mapping[str, Known], name: str) -> str:
    """What is known to a question, in words."""
    return said(known[name].value) if name in known else "unknown"


def figure(known: Mapping[str, Known], name: str) -> float | None:
    """What is likely; None where nobody knows."""
    return _likely(known[name].value) if name in known else None


def inputs_of(known: Mapping[str, Known]) -> list[Input]:
    """The figures of the business case, each with where it comes from; of a team without models those of the first."""
    out = []
    for name, (label, unit) in LABELS.items():
        found = known.get(name)
        if name == "models" and not figure(known, "models") and figure(known, "planned"):
            found = known["planned"]
        if found is None or isinstance(found.value, bool):
            (low, likely, high), from_where = DEFAULTS[name]
            out.append(Input(name, label, unit, low, likely, high, "default", from_where))
        else:
            out.append(Input(name, label, unit, *found.value, found.source, found.said))
    return out


def _likely(value: Value) -> float:
    return float(value) if isinstance(value, bool) else value[1]


def _alike(one: Value, other: Value, factor: float) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one == other
    low, high = sorted([one, other])
    return low[2] * factor >= high[0]


def _by(answer: Answer) -> str:
    who = answer.by.removeprefix("person:")
    return f"{who}, {datetime.fromtimestamp(answer.at / 1000, UTC).strftime('%-d %b %Y')}"
