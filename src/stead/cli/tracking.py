"""`stead runs`."""

from __future__ import annotations

from typing import Any

import click

from stead.cli import output
from stead.cli.common import connect
from stead.config import size_text


@click.group()
def runs() -> None:
    """Runs of training code."""


@runs.command("list")
@click.option("--project")
@click.option("--where", help="Filter: metrics.loss < 0.3 and params.depth = 6")
@click.option("--order", help="metrics.loss, or metrics.loss desc; default newest first.")
@click.option("--limit", default=20, show_default=True)
@output.json_option
def runs_list(project: str | None, where: str | None, order: str | None, limit: int, as_json: bool) -> Any:
    """Runs, newest first."""
    arguments = {"project": project, "filter": where, "order": order, "limit": limit}
    found = connect().call("runs.list_runs", **{key: value for key, value in arguments.items() if value is not None})
    if as_json:
        return found
    listed = found.runs
    keys = list(dict.fromkeys(key for run in listed for key in run.metrics if not key.startswith("system/")))[:4]
    rows = []
    for run in listed:
        took = f"{(run.ended_at - run.started_at) / 1000:.1f} s" if run.ended_at else None
        rows.append(
            (
                run.id[-12:],
                run.experiment,
                run.name,
                run.status,
                output.when(run.started_at),
                took,
                *(run.metrics[k].last if k in run.metrics else None for k in keys),
            )
        )
    if found.total > len(listed):
        output.note(f"{len(listed)} of {found.total} runs; --limit shows more")
    output.table(
        ("run", "project", "name", "status", "started", "took", *keys),
        rows,
        right=(5, *range(6, 6 + len(keys))),
        empty="no runs like that"
        if project or where
        else "no runs yet (stead.init in a notebook, or stead train MODEL)",
    )
    return None


@runs.command("show")
@click.argument("run_id")
@output.json_option
def runs_show(run_id: str, as_json: bool) -> Any:
    """One run: parameters, metrics, inputs, artifacts."""
    caller = connect()
    run = caller.call("runs.get_run", run_id=_full(caller, run_id))
    artifacts = caller.call("runs.list_artifacts", run_id=run.id)
    if as_json:
        return {"run": run, "artifacts": artifacts}
    git = run.source.get("git") or {}
    output.facts(
        [
            ("run", run.id),
            ("project", run.experiment),
            ("name", run.name),
            ("status", run.status),
            ("error", run.error),
            ("by", run.user),
            ("started", output.when(run.started_at)),
            ("ended", output.when(run.ended_at)),
            ("git", git.get("commit") if isinstance(git, dict) else git),
            ("inputs", ", ".join(run.inputs) or None),
        ]
    )
    for name, value in run.params.items():
        print(f"  {name:24} {value}")
    rows = [(m.key, m.n, m.last, m.min, m.max) for m in run.metrics.values()]
    output.table(("metric", "points", "last", "min", "max"), rows, right=(1, 2, 3, 4), empty="no metrics")
    for artifact in artifacts:
        print(f"  {artifact.path}  {size_text(artifact.bytes)}")
    return None


@runs.command("compare")
@click.argument("run_ids", nargs=-1, required=True)
@output.json_option
def runs_compare(run_ids: tuple[str, ...], as_json: bool) -> Any:
    """Runs side by side: what they differ in, and the metrics."""
    caller = connect()
    found = caller.call("runs.compare", run_ids=[_full(caller, run_id) for run_id in run_ids])
    if as_json:
        return found
    heads = ("", *(run[-12:] for run in found.runs))
    tags = {f"tag {key}": values for key, values in found.tags.items()}
    differs = [(key, *values) for key, values in (found.params | tags | found.facts).items()]
    output.table(heads, differs, empty="parameters, tags, data, commit and environment are the same")
    metrics = {key: values for key, values in found.metrics.items() if not key.startswith("system/")}
    rows = [(key, *(m.last if m else None for m in values)) for key, values in metrics.items()]
    output.table(heads, rows, right=tuple(range(1, len(heads))), empty="no metrics")
    return None


@runs.command("delete")
@click.argument("run_id")
def runs_delete(run_id: str) -> None:
    """Hide a run; `stead runs restore` brings it back."""
    caller = connect()
    caller.call("runs.delete_run", run_id=_full(caller, run_id))


@runs.command("restore")
@click.argument("run_id")
def runs_restore(run_id: str) -> None:
    """Bring a deleted run back."""
    connect().call("runs.restore_run", run_id=run_id)


def _full(caller: Any, run_id: str) -> str:
    """A run's id from the end of it that lists show."""
    if len(run_id) == 32:
        return run_id
    found = caller.call("runs.list_runs", limit=1000)
    near = [run.id for run in (found.runs if hasattr(found, "runs") else found) if run.id.endswith(run_id)]
    return near[0] if len(near) == 1 else run_id
