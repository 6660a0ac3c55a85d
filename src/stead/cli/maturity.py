"""`stead maturity`: the stage of the team and of each model, from their records, and the one next step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stead.cli import output
from stead.cli.common import MOMENT, connect, model_names
from stead.errors import Failed

if TYPE_CHECKING:
    from stead.maturity import Checked, Maturity, Result, Stage

MARK = {True: "✓", False: "✗", None: "–"}
SHOWN = 30
"""Rows of a check that are printed."""


@click.command()
@click.argument("model", required=False, shell_complete=model_names)
@click.option("--at", type=MOMENT, help="As of a moment that has passed, by the clock of what it is about.")
@click.option("--check", "name", help="One check, with the rows that it rests on.")
@click.option("--all", "every", is_flag=True, help="The checks of every stage, not only of this and the next.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the page as one file that needs nothing else.",
)
@output.json_option
def maturity(model: str | None, at: int | None, name: str | None, every: bool, html: Path | None, as_json: bool) -> Any:
    """At which of four stages the team stands, or MODEL, computed from the records; and what the next step is.

    A stage is reached where all its checks hold over the last 90 days, with those of the stages before; everybody starts at 1.
    """
    caller = connect()
    if name is not None:
        checked = caller.call("maturity.check_rows", check=name, model=model, at=at)
        return checked if as_json else _tell_check(checked)
    found = caller.call("maturity.assess", model=model, at=at)
    if html is not None:
        from stead.web.maturity import as_file

        _write(html, as_file(found, model))
    if as_json:
        return found
    if html is None:
        _tell(found, model, every)
    return None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failed("file-failed", f"{path}: {error.strerror}") from None
    output.note(f"wrote {path}")


def _tell(found: Maturity, model: str | None, every: bool) -> None:
    from stead.maturity.types import STAGES

    about = found.models[0] if model else found.team
    print(f"{model or 'team'}: stage {about.stage} of 4, {STAGES[about.stage]}{_since(found, about)}")
    print(found.verdict)
    for step in found.steps:
        print(f"  → {step.title}: {step.said}")
        print(f"      {step.command or 'nothing to run'}{f'  ({step.cost})' if step.cost else ''}")
    print(found.only)
    shown = range(1, 5) if every else (about.stage, about.stage + 1) if about.recorded else (1, 2)
    rows = [
        (each.stage, MARK[each.met], each.check, each.title, each.said) for each in about.checks if each.stage in shown
    ]
    output.table(("stage", "", "check", "what", "measured"), rows, right=(0,))
    if not model and found.models:
        print()
        models = [(s.model, s.stage, s.since, s.importance, s.level, _held(s)) for s in found.models]
        output.table(("model", "stage", "since", "importance", "level", "next stage"), models, right=(1,))
    for note in found.notes:
        output.note(note)


def _since(found: Maturity, about: Stage) -> str:
    before = [
        month.stage for month in found.history if month.model == about.model and month.month < (about.since or "")
    ]
    return (f", since {about.since}" if about.since else "") + (f", was {before[-1]} before" if before else "")


def _held(stage: Stage) -> str:
    aim = 1 if not stage.recorded else stage.stage + 1
    checks = [each for each in stage.checks if each.stage == aim]
    return f"{sum(bool(each.met) for each in checks)} of {len(checks)} checks" if checks else ""


def _tell_check(checked: Checked) -> None:
    result: Result = checked.result
    over = f", in {result.days} days" if result.days and result.rows else ""
    print(f"{MARK[result.met]} {result.title}: {result.said}{over}")
    print(f"  {result.why}")
    if result.low is not None and result.high is not None:
        print(
            f"  95 % interval {result.low:.0%} to {result.high:.0%}{'' if result.sure else ', which reaches beyond the bound'}"
        )
    if result.mend:
        print(f"  mend it: {result.mend}  ({result.cost})")
    against = result.kind == "most"
    rows = [
        (("against" if row.good else "") if against else MARK[row.good], row.model, row.subject, output.when(row.moment)[:10], row.said)
        for row in checked.rows[:SHOWN]
    ]  # fmt: skip
    output.table(("", "model", "what", "when", "record"), rows, empty="no record to look at")
    if len(checked.rows) > SHOWN:
        output.note(f"{len(checked.rows) - SHOWN} more: --json")
