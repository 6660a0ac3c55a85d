"""The interview: what is asked where no record says it, how an answer is read, and the answers that people gave."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from stead import ledger
from stead.errors import InvalidInput, did_you_mean
from stead.ledger import Undo
from stead.maturity.tables import answers as table
from stead.maturity.types import Answer, Question, Value
from stead.runtime.clock import now_ms
from stead.store import Store

QUESTIONS = (
    Question("models", "How many models are in production now?", "number", help="0 where none is yet", high=100_000),
    Question("planned", "How many models go to production for the first time within three months?", "number", high=100_000),
    Question("depends", "Does a business process depend on one of them?", "yes", help="would somebody call within a day if it were gone"),
    Question("low_impact", "If a model were wrong for a week, would little come of it?", "yes"),
    Question("retrains", "How often a year is each of them trained and deployed anew?", "number", "a year", high=10_000, help="50 is weekly, 12 monthly, 0 never"),
    Question("late", "Was it ever noticed late that a model had become worse: after more than a week, or by its users?", "yes"),
    Question("people", "How many people work on the same models?", "number", high=100_000),
    Question("poc", "Is all of it a proof of concept?", "yes"),
    Question("static", "Do the models stay as they are, because what they tell of does not change?", "yes"),
    Question("hours", "Hours of work by hand from a trained model to one that answers?", "number", "h a deployment", high=10_000, help="2 to 4 where nobody has measured"),
    Question("review", "Minutes a week that a person looks at what runs by itself?", "number", "min a week", high=10_080, detail=True),
    Question("weeks", "Weeks a year that are worked?", "number", "weeks", high=53, detail=True),
    Question("build", "Hours that it takes to build, and to get used to?", "number", "h", detail=True),
    Question("fte", "Productive hours of an engineer a year?", "number", "h a year", high=8_784, detail=True, help="1,000 after meetings, leave and mail; 1,600 on paper"),
    Question("horizon", "Months within which it must pay back?", "number", "months", high=1_200, detail=True),
)  # fmt: skip
"""In the order in which they are asked; `help` says what a figure means."""
BY_NAME = {question.name: question for question in QUESTIONS}
_WORDS = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}


def question(name: str) -> Question:
    """A question by its name. Raises InvalidInput (`question-unknown`)."""
    if name not in BY_NAME:
        hint = did_you_mean(name, BY_NAME) or f"one of {', '.join(BY_NAME)}"
        raise InvalidInput("question-unknown", f"there is no question {name[:100]!r}", hint=hint)
    return BY_NAME[name]


def read_answer(name: str, given: Any) -> Value:
    """An answer as it was typed or sent: `yes`, `no`, a figure, a range `2-4`, or low, likely and high.

    Raises InvalidInput (`question-unknown`, `answer-invalid`).

    >>> read_answer("depends", "yes"), read_answer("hours", "2-4"), read_answer("models", 3)
    (True, (2.0, 3.0, 4.0), (3.0, 3.0, 3.0))
    """
    asked = question(name)
    if asked.kind == "yes":
        word = given if isinstance(given, bool) else _WORDS.get(str(given).strip().lower())
        if word is None:
            raise InvalidInput(
                "answer-invalid", f"{name}: {str(given)[:100]!r} is neither yes nor no", hint=f"--answer {name}=yes"
            )
        return word
    figures = _figures(given)
    if not 1 <= len(figures) <= 3 or sorted(figures) != figures:
        raise InvalidInput(
            "answer-invalid",
            f"{name}: {str(given)[:100]!r} is no figure",
            hint=f"a figure such as 3, or a range such as 2-4: --answer {name}=3",
        )
    if not all(asked.low <= each <= asked.high for each in figures):
        raise InvalidInput(
            "answer-invalid", f"{name}: {str(given)[:100]} is not between {asked.low:,.0f} and {asked.high:,.0f}"
        )
    return figures[0], figures[1] if len(figures) == 3 else (figures[0] + figures[-1]) / 2, figures[-1]


def _figures(given: Any) -> list[float]:
    """The numbers of an answer; none where it is no answer."""
    parts = re.split(r"\s*(?:-|–|\.\.|\bto\b)\s*", given.strip()) if isinstance(given, str) else given
    found = [_number(part) for part in (parts if isinstance(parts, list | tuple) else [parts])]
    return [each for each in found if each is not None] if None not in found else []


def _number(part: Any) -> float | None:
    if isinstance(part, str):
        return float(text) if re.fullmatch(r"\d{1,12}(\.\d{1,15})?", text := part.strip().replace(",", "")) else None
    number = isinstance(part, int | float) and not isinstance(part, bool)
    return float(part) if number and math.isfinite(part) else None


def list_answers(store: Store) -> list[Answer]:
    """What people answered in the interview, in the order of its questions."""
    with store.db.read() as tx:
        return _answers(tx)


def answer(
    store: Store, answers: Mapping[str, Any], *, reason: str | None = None, undoes: int | None = None
) -> list[Answer]:
    """Keep answers of the interview, by question, and return all that there are; None takes one away.

    What is the same as before changes nothing. Raises InvalidInput (`question-unknown`, `answer-invalid`).
    """
    read = {question(name).name: None if given is None else read_answer(name, given) for name, given in answers.items()}
    with store.db.write("maturity.answer") as tx:
        before = {each.question: each.value for each in _answers(tx)}
        changed = {name: value for name, value in read.items() if before.get(name) != value}
        if not changed and undoes is None:
            return _answers(tx)
        for name, value in changed.items():
            if value is None:
                tx.execute(sa.delete(table).where(table.c.question == name))
            else:
                row = {"question": name, "value": _plain(value), "by": store.actor, "at": now_ms()}
                store.db.upsert(tx, table, row, ["question"])
        ledger.record(
            tx,
            actor=store.actor,
            action="worth.answered",
            subject="worth",
            summary="; ".join(f"{name}: {said(value)}" for name, value in changed.items())
            or "the answers stay as they are",
            reason=reason,
            evidence={"answers": {name: _plain(value) for name, value in changed.items()}},
            undo=Undo("maturity.answer", {"answers": {name: _plain(before.get(name)) for name in changed}}),
            undoes=undoes,
        )
        return _answers(tx)


def said(value: Value | None) -> str:
    """An answer in words.

    >>> said(True), said((2.0, 3.0, 4.0)), said((50.0, 50.0, 50.0)), said(None)
    ('yes', '2 to 4', '50', 'no answer')
    """
    if value is None:
        return "no answer"
    if isinstance(value, bool):
        return "yes" if value else "no"
    low, likely, high = (f"{each:,.4g}" if each < 10_000 else f"{each:,.0f}" for each in value)
    return (
        low
        if low == high
        else f"{low} to {high}"
        if value[1] == (value[0] + value[2]) / 2
        else f"{low} to {high}, likely {likely}"
    )


def typed(value: Value) -> str:
    """An answer as it is typed.

    >>> typed(True), typed((2.0, 3.0, 4.0)), typed((50.0, 50.0, 50.0)), typed((1.0, 2.0, 9.0))
    ('yes', '2-4', '50', '1-2-9')
    """
    if isinstance(value, bool):
        return said(value)
    low, likely, high = (f"{each:.10g}" for each in value)
    if low == high:
        return low
    return f"{low}-{high}" if value[1] == (value[0] + value[2]) / 2 else f"{low}-{likely}-{high}"


def _plain(value: Value | None) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _answers(tx: sa.Connection) -> list[Answer]:
    kept = {row["question"]: row for row in tx.execute(sa.select(table)).mappings()}
    out = []
    for name in BY_NAME:
        if name in kept:
            row = kept[name]
            out.append(Answer(name, read_answer(name, row["value"]), row["by"], row["at"]))
    return out
