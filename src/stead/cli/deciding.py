"""`stead level`, `push`, `explain`, `schedules`, `retrainings`, `approvals`, `approve`, `reject`, `freeze`, `thaw`."""

from __future__ import annotations

from typing import Any

import click

from stead.cli import output
from stead.cli.common import connect, level_names, looks_at, model_names, project_or_none, push_project, split_ref
from stead.errors import Failed


@click.command()
@click.argument("model", shell_complete=model_names)
@click.argument("level", required=False, shell_complete=level_names)
@click.option("--reason", help="Kept in the ledger.")
@click.option("--dry-run", is_flag=True, help="Say what would change and what it needs; change nothing.")
@output.json_option
def level(model: str, level: str | None, reason: str | None, dry_run: bool, as_json: bool) -> Any:
    """Who acts for MODEL: record (people), train (stead trains, people approve), deploy (stead acts inside bounds).

    Without LEVEL it says where the model is. A level is taken one step at a time; `stead undo` takes the change back.
    """
    caller = connect()
    if level is None:
        known = caller.call("models.get_model", name=model)
        if as_json:
            return known
        print(known.level)
        return None
    project = project_or_none()
    if not dry_run and project is not None and model in project.models:
        push_project(caller, model)
    preview = caller.call("policies.preview_level", model=model, level=level)
    if not as_json and preview.changes:
        print(f"{model}: {preview.before} → {preview.after}")
        for line in preview.changes:
            print(f"  {line}")
        for need in preview.needs:
            print(f"  {'✓' if need.met else '✗'} {need.what}" + ("" if need.met else f": {need.hint}"))
    if dry_run and preview.changes:
        return preview if as_json else None
    change = caller.call("policies.set_level", model=model, level=level, reason=reason)
    if as_json:
        return change
    output.note(f"{model} is at {level}; undo: stead undo {change.decision}")
    return None


@click.command()
@click.argument("model", shell_complete=model_names)
@output.json_option
def push(model: str, as_json: bool) -> Any:
    """Hand the code and the policy of MODEL in stead.toml over: what stead trains with when nobody starts it."""
    pushed = push_project(connect(), model)
    if as_json:
        return pushed
    print(f"policy {pushed.number} of {model}, recipe {pushed.recipe[:12]}, by {pushed.by}, {output.when(pushed.at)}")
    return None


@click.command()
@click.argument("model", shell_complete=model_names)
@output.json_option
def explain(model: str, as_json: bool) -> Any:
    """What the policy of MODEL sees now, what it would do next, and why."""
    found = connect().call("policies.explain", model=model)
    if as_json:
        return found
    print(f"next: {found.next}")
    for line in found.why:
        print(f"  {line}")
    if found.frozen:
        print(f"  frozen: {found.frozen}")
    for signal in found.signals:
        print(f"  {'●' if signal.fires else '○'} {signal.name}: {signal.said}")
    for each in found.schedules:
        fires = output.when(each.next_fire)[:16] if each.next_fire is not None else each.off
        print(f"  {each.kind} by schedule: {fires}")
    for each in found.judged:
        stands = "" if each.closed else " so far"
        article = "an" if each.kind == "abort" else "a"
        print(
            f"  decision {each.entry}, {article} {each.kind}: {each.verdict or 'not judged yet'}{stands}: {each.said}"
        )
    return None


@click.command()
@click.argument("model", required=False, shell_complete=model_names)
@output.json_option
def schedules(model: str | None, as_json: bool) -> Any:
    """What stead does by the clock, of MODEL or of every model: next fire on the model's own clock, and what came of the last."""
    found = connect().call("policies.list_schedules", model=model)
    if as_json:
        return found
    rows = [
        (
            s.model,
            s.kind,
            f"{s.cron} {s.zone}",
            output.when(s.next_fire)[:16] if s.next_fire is not None else s.off,
            output.when(s.fired)[:16] if s.fired is not None else None,
            s.missed or None,
            s.error or (f"{s.outcome}, {s.state}" if s.state else s.outcome or None),
        )
        for s in found
    ]
    heads = ("model", "what", "when", "next", "last", "missed", "came of it")
    output.table(heads, rows, right=(5,), empty="no model is handed over with a schedule (stead push MODEL)")
    return None


@click.group()
def retrainings() -> None:
    """Trainings at level train and above, and what became of their versions."""


@retrainings.command("list")
@click.option("--model", shell_complete=model_names)
@click.option("--limit", default=20, show_default=True)
@output.json_option
def retrainings_list(model: str | None, limit: int, as_json: bool) -> Any:
    """Retrainings, newest first."""
    found = connect().call("policies.list_retrainings", model=model, limit=limit)
    if as_json:
        return found
    _table(found, "no retraining yet")
    return None


@retrainings.command("show")
@click.argument("number", type=int)
@output.json_option
def retrainings_show(number: int, as_json: bool) -> Any:
    """One retraining."""
    caller = connect()
    found = caller.call("policies.get_retraining", number=number)
    if as_json:
        return found
    looks_at(caller, found.model, [found.version])
    output.facts(
        [
            ("retraining", found.id),
            ("model", found.model),
            ("state", found.state),
            ("because", f"{found.trigger}: {found.reason}"),
            ("version", found.version),
            ("champion then", found.champion),
            ("job", found.job),
            ("deployment", found.deployment),
            ("decided by", found.decided_by),
            ("reason", found.decision_reason),
            ("error", (found.error or {}).get("message")),
            ("event time", output.when(found.event_time)),
        ]
    )
    return None


@retrainings.command("cancel")
@click.argument("number", type=int)
@click.option("--reason", help="Kept in the ledger.")
def retrainings_cancel(number: int, reason: str | None) -> None:
    """Stop a retraining that has not come to a deployment."""
    found = connect().call("policies.cancel_retraining", number=number, reason=reason)
    output.note(f"retraining {number} is {found.state}")


@click.command()
@click.option("--model", shell_complete=model_names)
@output.json_option
def approvals(model: str | None, as_json: bool) -> Any:
    """Versions that wait for a person."""
    caller = connect()
    found = caller.call("policies.list_approvals", model=model)
    if as_json:
        return found
    _table(found, "nothing waits for approval")
    for each in found:
        since = each.overtaken_by(caller.call("deployments.live_deployment", model=each.model))
        if since is not None:
            ref, before = f"{each.model}@{each.version}", f"v{each.champion}" if each.champion else "none"
            print(
                f"{ref} was judged against {before}, and v{since} has taken over since: stead compare {each.model}@{since} {ref}"
            )
    if found:
        looks_at(caller, model)
        output.note(f"stead approve {found[0].model}@{found[0].version}, or stead reject … --reason …")
    return None


@click.command()
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
@click.option("--reason", help="Kept in the ledger.")
@output.json_option
def approve(ref: str, reason: str | None, as_json: bool) -> Any:
    """Let the version that waits take over, by the model's rollout plan."""
    model, version = split_ref(ref)
    found = connect().call("policies.approve", model=model, version=version, reason=reason)
    if as_json:
        return found
    print(f"{model}@{found.version} is approved; deployment {found.deployment} begins")
    return None


@click.command()
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
@click.option("--reason", help="Kept in the ledger.")
@output.json_option
def reject(ref: str, reason: str | None, as_json: bool) -> Any:
    """Do not deploy the version that waits; the champion goes on."""
    model, version = split_ref(ref)
    found = connect().call("policies.reject", model=model, version=version, reason=reason)
    if as_json:
        return found
    print(f"{model}@{found.version} is rejected")
    return None


@click.command()
@click.argument("model", required=False, shell_complete=model_names)
@click.option("--reason", help="Kept in the ledger.")
@click.option("--drill", is_flag=True, help="For some seconds, to see whether all stands still; then thaw.")
def freeze(model: str | None, reason: str | None, drill: bool) -> None:
    """Stop all automatic action of MODEL, or of every model, at once. What people ask for goes on.

    A drill waits until the loop has come around while frozen, and looks whether anything was decided by itself. It ends with exit code 1 where that was so.
    """
    if drill:
        output.note(f"freezing {model or 'everything'} for a drill, until the loop has come around: some seconds")
        found = connect().call("policies.drill_freeze", model=model or "", reason=reason)
        if not found.worked:
            raise Failed("drill-failed", found.said, hint="stead decisions")
        print(found.said)
        return
    connect().call("policies.freeze", model=model, reason=reason)
    output.note(f"{model or 'everything'} is frozen; stead thaw{f' {model}' if model else ''} lets it go on")


@click.command()
@click.argument("model", required=False, shell_complete=model_names)
@click.option("--reason", help="Kept in the ledger.")
def thaw(model: str | None, reason: str | None) -> None:
    """Let automatic action go on."""
    caller = connect()
    caller.call("policies.thaw", model=model, reason=reason)
    frozen = [each.model for each in caller.call("policies.list_freezes")]
    if model is not None and "" in frozen:
        output.note(f"{model} is still frozen, as every model is: stead thaw")
    elif model is None and frozen:
        output.note(f"everything goes on by itself but {', '.join(frozen)}: stead thaw {frozen[0]}")
    else:
        output.note(f"{model or 'everything'} goes on by itself")


def _table(found: list[Any], empty: str) -> None:
    rows = [
        (
            r.id,
            r.model,
            r.trigger,
            r.state,
            f"{r.model}@{r.version}" if r.version else None,
            output.when(r.event_time or r.at),
            (r.error or {}).get("message") or r.reason,
        )
        for r in found
    ]
    output.table(("no.", "model", "because", "state", "version", "when", "what"), rows, right=(0,), empty=empty)
