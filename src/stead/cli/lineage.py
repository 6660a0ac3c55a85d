"""`stead lineage`: what led to a thing, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stead.cli import output
from stead.cli.common import connect
from stead.errors import InvalidInput

PAGE = 1_000


@click.command()
@click.argument("of", metavar="WHAT")
@click.option("--up", "direction", flag_value="up", help="Only what led to it.")
@click.option("--down", "direction", flag_value="down", help="Only what came of it.")
@click.option("--beyond", is_flag=True, help="Go on through decisions, earlier versions and the data appended to.")
@click.option("--predictions", is_flag=True, help="The predictions that came from it, newest first.")
@click.option("--limit", default=20, show_default=True, help="So many predictions.")
@click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(path_type=Path),
    help="Write all of them to a file, one JSON object a line.",
)
@click.option("--openlineage", is_flag=True, help="The runs in it as OpenLineage events, one JSON object a line.")
@output.json_option
def lineage(
    of: str,
    direction: str | None,
    beyond: bool,
    predictions: bool,
    limit: int,
    file: Path | None,
    openlineage: bool,
    as_json: bool,
) -> Any:
    """Data version → run → model version → deployment → predictions → labels → decision, both ways from any of them.

    WHAT is demand@3 (a model's version, else a dataset's), dataset:demand@7, run:ID, deployment:12, a prediction's id, or decision:40.
    """
    caller = connect()
    if openlineage:
        import msgspec

        events = caller.call("lineage.openlineage", ref=of)
        if as_json:
            return events
        for event in events:
            print(msgspec.json.encode(event).decode())
        return None
    if predictions or file is not None:
        if direction == "up" or beyond:
            raise InvalidInput(
                "usage",
                "predictions come of a thing: --up and --beyond do not fit",
                hint=f"stead lineage {of} --predictions",
            )
        if file is not None:
            return _write(caller, of, file)
        found = caller.call("lineage.list_predictions_from", ref=of, limit=limit)
        if as_json:
            return found
        rows = [(p.id, f"{p.model}@{p.version}", output.when(p.event_time), p.output, p.label) for p in found]
        output.table(
            ("prediction", "version", "event time", "output", "label"), rows, empty=f"no predictions came from {of}"
        )
        return None
    traced = caller.call("lineage.trace", ref=of, direction=direction or "both", beyond=beyond)
    if as_json:
        return traced
    before: dict[str, list[str]] = {}
    names = {node.id: _short(node) for node in traced.nodes}
    for arrow in traced.arrows:
        before.setdefault(arrow.target, []).append(f"{names[arrow.source]} ({arrow.relation})")
    lines = [
        (
            ("* " if node.id == traced.start else "… " if node.edge else "  ") + names[node.id],
            node.said,
            ", ".join(before.get(node.id, [])),
        )
        for node in _ordered(traced)
    ]
    output.table(("what", "known of it", "came from"), lines)
    if any(node.edge for node in traced.nodes):
        output.note("… more may lie behind these: ask for one of them, or --beyond")
    if traced.cut:
        output.note("there is more than one answer holds: --up, --down, or ask for a nearer thing")
    return None


def _short(node: Any) -> str:
    """As it can be asked for again."""
    kind, _, name = node.id.partition(":")
    return f"{kind}:{name[-8:]}" if kind == "run" else f"{kind}:{name[:12]}" if kind == "environment" else str(node.id)


def _ordered(traced: Any) -> list[Any]:
    """What led to something before it: a node stands behind all that it came from, where that is no circle."""
    nodes = {node.id: node for node in traced.nodes}
    depth = dict.fromkeys(nodes, 0)
    for _ in nodes:
        moved = False
        for arrow in traced.arrows:
            if depth[arrow.target] < depth[arrow.source] + 1 <= len(nodes):
                depth[arrow.target] = depth[arrow.source] + 1
                moved = True
        if not moved:
            break
    return sorted(nodes.values(), key=lambda node: (depth[node.id], node.kind))


def _write(caller: Any, of: str, file: Path) -> None:
    """All predictions, page by page, into a file that is there whole or not at all."""
    import msgspec

    partial, count, before = file.with_name(f".{file.name}.part"), 0, None
    with partial.open("wb") as out:
        while page := caller.call("lineage.list_predictions_from", ref=of, limit=PAGE, before=before):
            out.writelines(msgspec.json.encode(each) + b"\n" for each in page)
            count, before = count + len(page), page[-1].id
            output.note(f"{count} predictions")
    partial.replace(file)
    print(file)
