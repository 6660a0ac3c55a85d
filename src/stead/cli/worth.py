"""`stead worth`: whether MLOps pays for this team, and the interview."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from stead.cli import output
from stead.cli.common import connect
from stead.errors import InvalidInput, SteadError

if TYPE_CHECKING:
    from stead.api import Caller
    from stead.maturity import Question, Worth

MARKS = {True: "●", False: "○", None: "?"}


@click.command()
@click.option("--interview", is_flag=True, help="Ask what the records do not say, on this terminal.")
@click.option("--answer", "given", multiple=True, metavar="NAME=VALUE", help="Answer a question: depends=yes, models=3, hours=2-4; nothing behind = takes the answer away. May be given often.")  # fmt: skip
@click.option("--try", "tried", multiple=True, metavar="NAME=VALUE", help="Say what would be with this figure, and keep nothing. May be given often.")  # fmt: skip
@click.option("--all", "every", is_flag=True, help="Ask all questions, and show every input.")
@output.json_option
def worth(interview: bool, given: Sequence[str], tried: Sequence[str], every: bool, as_json: bool) -> Any:
    """Whether MLOps pays for this team: yes, not yet or no, from its records, and from an interview where there are none.

    An answer may be skipped; Ctrl-C keeps what was answered. It works before anything is deployed.
    """
    caller = connect()
    if answers := _pairs(given):
        caller.call("maturity.answer", answers=answers)
    if interview:
        _interview(caller, every)
    trying = {name: value or "" for name, value in _pairs(tried).items()}
    found: Worth = caller.call("maturity.worth", trying=trying)
    if as_json:
        return found
    _tell(found, every)
    return None


def _pairs(given: Sequence[str]) -> dict[str, str | None]:
    """NAME=VALUE as a question and its answer. Raises InvalidInput (`answer-invalid`)."""
    out: dict[str, str | None] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise InvalidInput("answer-invalid", f"{each[:100]!r} is no answer", hint="--answer depends=yes")
        out[name.strip()] = value.strip() or None
    return out


def _interview(caller: Caller, every: bool) -> None:
    """Ask one question after the other; what was answered is kept, also when it is stopped."""
    if not sys.stdin.isatty():
        raise InvalidInput(
            "terminal-missing",
            "an interview takes a terminal",
            hint="stead worth --answer models=3 --answer depends=yes",
        )
    answers: dict[str, Any] = {}
    skipped: set[str] = set()
    output.note("Enter skips a question, Ctrl-C ends; a range is written as 2-4.")
    try:
        while (question := _next(caller, answers, skipped, every)) is not None:
            value = _ask(question)
            if value is None:
                skipped.add(question.name)
            else:
                answers[question.name] = value
    except (click.Abort, KeyboardInterrupt):
        output.note("")
    if answers:
        caller.call("maturity.answer", answers=answers)
        kept = "1 answer is" if len(answers) == 1 else f"{len(answers)} answers are"
        output.note(f"{kept} kept; stead worth --answer NAME=VALUE changes one, stead decisions shows how to undo them")


def _next(caller: Caller, answers: Mapping[str, Any], skipped: set[str], every: bool) -> Question | None:
    """What is asked next, by what was answered before."""
    if every:
        from stead.maturity import QUESTIONS

        left: Sequence[Question] = QUESTIONS
    else:
        left = caller.call("maturity.worth", trying=answers).questions
    return next((each for each in left if each.name not in skipped and each.name not in answers), None)


def _ask(question: Question) -> str | None:
    """One answer, as it was typed; None where it is skipped. Asked again where it cannot be read."""
    from stead.maturity.questions import read_answer

    kind = "yes or no" if question.kind == "yes" else question.unit or "a number"
    told = f" ({question.help})" if question.help else ""
    while True:
        typed = click.prompt(f"{question.text}{told} [{kind}]", default="", show_default=False, err=True)
        if not typed.strip():
            return None
        try:
            read_answer(question.name, typed)
        except SteadError as error:
            output.note(f"  {error.message}" + (f"; {error.hint}" if error.hint else ""))
            continue
        return str(typed)


def _tell(found: Worth, every: bool) -> None:
    from stead.maturity.case import hours, months, span

    print(f"{found.answer}: {found.said}")
    print(found.todo)
    if found.command:
        print(f"  {found.command}")
    print(found.stage_said)
    for each in found.contradictions:
        print(f"▲ {each}")
    print()
    for condition in found.conditions:
        sign = "+" if condition.speaks == "for" else "−"
        print(f"{MARKS[condition.holds]} {sign} {condition.text}: {_by(condition.source, condition.said)}")
    case = found.case
    print()
    shown = case.inputs if every else [each for each in case.inputs if each.name in ("models", "retrains", "hours")]
    rows = [[each.name, each.label, *(_figure(end) for end in (each.low, each.likely, each.high)), each.unit, _by(each.source, each.said)] for each in shown]  # fmt: skip
    output.table(["input", "", "low", "likely", "high", "", "from"], rows, right=(2, 3, 4))
    print()
    lines = (case.manual, case.needless, *case.automated, *case.saved)
    output.facts([(line.name, f"{hours(line)} a year") for line in lines])
    output.facts([(case.fte.name, f"{span(case.fte.low, case.fte.high, '.2g')} {case.fte.said}")])
    output.facts([("Pays back", months(case.payback)), ("Reviewed one by one", months(case.payback_each))])
    deciding = [each for each in case.effects if each.decides]
    for effect in deciding:
        print(f"the answer changes at {effect.label.lower()}: {_figure(effect.flips_at)}")
    if not deciding:
        print(
            "no single input changes the answer from its low end to its high end, or from half to double where it has no range"
        )
    print()
    output.facts([(each.name, f"{each.value}  {each.said}") for each in found.measured])
    if found.questions:
        names = ", ".join(each.name for each in found.questions)
        output.note(f"not known yet: {names}; stead worth --interview")


def _by(source: str | None, said: str) -> str:
    return said if source in (None, "default") else f"{source}: {said}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
