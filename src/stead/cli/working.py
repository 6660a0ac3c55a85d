"""`stead work`: what people did by hand."""

from __future__ import annotations

from typing import Any

import click

from stead.cli import output
from stead.cli.common import MOMENT, NUMBER, connect, model_names


@click.group(invoke_without_command=True)
@click.option("--model", shell_complete=model_names)
@click.option("--since", type=MOMENT, help="At or after this time of the wall clock.")
@click.option("--until", type=MOMENT, help="Before this time.")
@click.option("--limit", default=30, show_default=True)
@click.pass_context
@output.json_option
def work(ctx: click.Context, model: str | None, since: int | None, until: int | None, limit: int, as_json: bool) -> Any:
    """What people did by hand, newest first, and how long it took.

    Measured from the first look at what waited to the decision; a stated default a command; or as a person said.
    """
    if ctx.invoked_subcommand is not None:
        return None
    from stead.store import checked_limit

    checked_limit(limit)
    found = connect().call("maturity.list_work", model=model, since=since, until=until)
    if as_json:
        return found
    rows = [
        (
            each.entry,
            output.when(each.at),
            each.by,
            each.kind,
            each.said,
            each.deployment,
            f"{each.minutes:.1f}",
            each.source,
        )
        for each in found[:limit]
    ]
    heads = ("no", "when", "who", "kind", "what", "for deployment", "min", "source")
    output.table(heads, rows, right=(0, 5, 6), empty="nobody did anything by hand yet")
    if found:
        print()
        output.table(("kind", "source", "acts", "hours"), _sums(found), right=(2, 3))
    if len(found) > limit:
        output.note(f"{len(found) - limit} earlier ones are in the sums: --limit {len(found)} shows them")
    if any(each.source == "default" for each in found):
        output.note("what took another time: stead work correct NO MINUTES")
    return None


def _sums(found: list[Any]) -> list[tuple[str, str, int, str]]:
    """Acts and hours by kind and source, and of all."""
    kinds = sorted({(each.kind, each.source) for each in found})
    chosen = [(kind, source, [w for w in found if (w.kind, w.source) == (kind, source)]) for kind, source in kinds]
    return [
        (kind, source, len(works), f"{sum(each.minutes for each in works) / 60:.2f}")
        for kind, source, works in [*chosen, ("all", "", found)]
    ]


@work.command("correct")
@click.argument("entry", type=int)
@click.argument("minutes", type=NUMBER)
@click.option("--reason", help="Kept in the ledger.")
@output.json_option
def work_correct(entry: int, minutes: float, reason: str | None, as_json: bool) -> Any:
    """Say how many MINUTES decision ENTRY took; `stead undo` takes that back."""
    found = connect().call("maturity.correct_work", entry=entry, minutes=minutes, reason=reason)
    if as_json:
        return found
    print(f"decision {entry} counts {found.minutes:.1f} min, {found.source}")
    return None
