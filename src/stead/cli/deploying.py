"""`stead deploy`, `rollback`, `deployments`, `decisions`, `undo`."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from stead.cli import output
from stead.cli.common import (
    MOMENT,
    NUMBER,
    connect,
    ensure_up,
    follow,
    gateway_url,
    model_names,
    settings_anyway,
    split_ref,
)
from stead.config import ROLLOUTS
from stead.errors import Failed, did_you_mean
from stead.runtime import typed

RUNNING = 200
"""Retrainings among which those lie that can still be stopped: one a model."""


@click.command()
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
@click.option(
    "--override",
    multiple=True,
    metavar="GATE",
    help="Let it pass although this gate refuses; needs --reason; may be given several times.",
)
@click.option(
    "--plan", type=click.Choice(ROLLOUTS), help="How it takes over, instead of the model's own plan in stead.toml."
)
@click.option("--reason", help="Kept in the ledger.")
@click.option("--no-fast", is_flag=True, help="By its library, even where its fast path holds.")
@click.option("--no-wait", is_flag=True, help="Return when the deployment is asked for.")
@output.json_option
def deploy(
    ref: str,
    override: tuple[str, ...],
    plan: str | None,
    reason: str | None,
    no_fast: bool,
    no_wait: bool,
    as_json: bool,
) -> Any:
    """Let a version (the newest by default) take over the model's route: warm it, check it, swap; no request fails.

    By a plan other than a swap it first shows what it does: as a canary, in an A/B test or as a shadow.

    Starts stead in the background where it does not run.
    """
    caller = connect()
    model, version = split_ref(ref)
    caller.call("models.get_model", name=model)
    if said := ensure_up(caller):
        output.note(said)
    deployment = caller.call(
        "deployments.deploy",
        model=model,
        version=version,
        override=list(override),
        plan=plan,
        reason=reason,
        fast=not no_fast,
    )
    if no_wait:
        return deployment
    deployment = _follow_deployment(caller, deployment)
    if as_json:
        return deployment
    if deployment.state == "canary":
        from stead.deployments import telling

        print(f"{model}: {telling.does(deployment)}; what it shows decides: stead deployments show {deployment.id}")
        return None
    print(f"{model}@{deployment.version} answers; it took {_took(deployment)}")
    for line in _example(caller, model):
        print(line)
    if deployment.previous:
        output.note(f"undo: stead rollback {model}")
    return None


def _follow_deployment(caller: Any, deployment: Any) -> Any:
    """Wait for a deployment's job, if it has one, and return the deployment as it is then."""
    if deployment.job is not None:
        follow(caller, caller.call("jobs.get_job", job_id=deployment.job))
    return caller.call("deployments.get_deployment", number=deployment.id)


def _took(deployment: Any) -> str:
    """From the request to the moment when the version was live."""
    live = [step.at for step in deployment.steps if step.state == "live"]
    return f"{(live[-1] - deployment.created_at) / 1000:.1f} s" if live else "–"


def _example(caller: Any, model: str) -> list[str]:
    """A curl command that works as it stands."""
    import json

    url = f"{gateway_url(caller)}/predict/{model}"
    version = caller.call("models.get_version", ref=model)
    logged = caller.call("models.get_logged_model", id=version.logged_model)
    golden = logged.files.get("stead/golden.json")
    if golden is None:
        return [f"curl {url} -H 'content-type: application/json' -d '{{\"row\": {{…}}}}'"]
    inputs = json.loads(caller.get_blob(golden.digest))["inputs"]
    if isinstance(inputs, dict):
        body = json.dumps({"row": {name: values[0] for name, values in inputs.items()}}, default=str)
    else:
        body = json.dumps({"rows": [inputs[0]]})
    quoted = body.replace("'", "'\\''")
    return [f"curl {url} -H 'content-type: application/json' -d '{quoted}'"]


@click.command()
@click.argument("model", shell_complete=model_names)
@click.option("--to", type=int, metavar="VERSION", help="An earlier version that was live; default the last good one.")
@click.option("--reason", help="Kept in the ledger.")
@click.option("--drill", is_flag=True, help="Try all of it but moving the traffic, and say how long it takes.")
@output.json_option
def rollback(model: str, to: int | None, reason: str | None, drill: bool, as_json: bool) -> Any:
    """Go back to the last good version, which is kept warm: done when the command returns.

    A drill has the version loaded by the gateways' own workers, asks it its stored rows and lets it go where it was not kept warm.
    It ends with exit code 1 where the roll-back would not have helped.
    """
    caller = connect(settings_anyway())
    if drill:
        return _drill(caller, model, to, reason, as_json)
    started = time.perf_counter()
    deployment = caller.call("deployments.rollback", model=model, to=to, reason=reason)
    if deployment.state != "live":
        output.note(f"{model}@{deployment.version} is not warm: it is loaded first, what answers now goes on meanwhile")
        deployment = _follow_deployment(caller, deployment)
    seconds = time.perf_counter() - started
    if as_json:
        return deployment
    print(f"{model} is back at version {deployment.version} after {seconds:.2f} s")
    return None


def _drill(caller: Any, model: str, to: int | None, reason: str | None, as_json: bool) -> Any:
    from stead.deployments import RollbackDrill

    job = caller.call("deployments.drill_rollback", model=model, to=to, reason=reason)
    found = typed.convert(follow(caller, job).result, RollbackDrill)
    if not found.worked:
        raise Failed("drill-failed", found.said, hint=f"stead deployments list --model {model}")
    if as_json:
        return found
    print(found.said)
    for what, took in (("loading it", found.loaded_s), ("stored rows", found.answered_s), ("the route", found.moved_s)):
        print(f"  {what:12} {took:.2f} s")
    return None


@click.command()
@click.argument("model", shell_complete=model_names)
@click.option("--reason", help="Kept in the ledger.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output.json_option
def undeploy(model: str, reason: str | None, yes: bool, as_json: bool) -> Any:
    """Take MODEL out of service: what is on its way is answered, later requests get an error that says so."""
    caller = connect()
    live = caller.call("deployments.live_deployment", model=model)
    if live is not None and not yes and sys.stdin.isatty():
        click.confirm(f"{model}@{live.version} answers now; take {model} out of service?", abort=True, err=True)
    deployment = caller.call("deployments.withdraw", model=model, reason=reason)
    if as_json:
        return deployment
    print(f"{model} is out of service; version {deployment.version} answered")
    output.note(f"undo: stead rollback {model}")
    return None


@click.group()
def deployments() -> None:
    """Deployments: how each version took over, or why it did not; and those that people made outside stead."""


@deployments.command("list")
@click.option("--model", shell_complete=model_names)
@click.option("--outside", is_flag=True, help="Those that people made outside stead, instead.")
@click.option("--limit", default=20, show_default=True)
@output.json_option
def deployments_list(model: str | None, outside: bool, limit: int, as_json: bool) -> Any:
    """Deployments, newest first."""
    caller = connect()
    if outside:
        return _list_outside(caller.call("deployments.list_outside", model=model, limit=limit), as_json)
    found = caller.call("deployments.list_deployments", model=model, limit=limit)
    if as_json:
        return found
    rows = [
        (
            d.id,
            f"{d.model}@{d.version}",
            d.kind,
            d.state,
            d.requested_by,
            output.when(d.created_at),
            d.reason or (d.error or {}).get("message"),
        )
        for d in found
    ]
    output.table(
        ("no", "version", "kind", "state", "by", "asked", "why"),
        rows,
        right=(0,),
        empty="no deployments yet (stead deploy MODEL)",
    )
    if others := caller.call("deployments.list_outside", model=model):
        output.note(f"made outside stead: {len(others)} (stead deployments list --outside)")
    return None


def _list_outside(found: list[Any], as_json: bool) -> Any:
    if as_json:
        return found
    rows = [(o.id, o.ref, o.place, o.hours, output.when(o.at)[:16], o.by, o.note or None) for o in found]
    heads = ("no", "what", "place", "hours", "when", "by", "note")
    empty = "nobody told of a deployment outside stead (stead deployments record MODEL --place PLACE)"
    output.table(heads, rows, right=(0, 3), empty=empty)
    return None


@deployments.command("record")
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
@click.option("--place", required=True, help="Where it was deployed to: a machine, a service, an application.")
@click.option("--hours", type=NUMBER, help="Hours of work by hand that it took, by everybody.")
@click.option("--at", type=MOMENT, help="When that was, on the model's own clock; now by default.")
@click.option("--note", default="", help="How it was done, such as: copied by scp.")
@output.json_option
def deployments_record(ref: str, place: str, hours: float | None, at: int | None, note: str, as_json: bool) -> Any:
    """Tell of a deployment that stead did not make, so that it counts with its work.

    Without a version it counts as one that is in no registry; so does a MODEL that nobody registered.
    """
    caller = connect()
    model, version = split_ref(ref)
    made = caller.call(
        "deployments.record_outside", model=model, version=version, place=place, hours=hours, at=at, note=note
    )
    if as_json:
        return made
    took = "" if hours is None else f", {hours:g} h"
    print(f"{made.id}: {made.ref} to {made.place}, {output.when(made.at)[:16]}{took}")
    known = [each.name for each in caller.call("models.list_models")]
    if model not in known:
        near = f" ({did_you_mean(model, known)})" if did_you_mean(model, known) else ""
        output.note(f"nobody registered a model {model!r}{near}: it counts as one that is in no registry")
    elif version is None:
        output.note(f"without a version it counts as one that is in no registry (stead models show {model})")
    output.note(f"take it back: stead deployments forget {made.id}")
    return None


@deployments.command("forget")
@click.argument("number", type=int)
@click.option("--reason", help="Kept in the ledger.")
@output.json_option
def deployments_forget(number: int, reason: str | None, as_json: bool) -> Any:
    """Take back what was told of deployment NUMBER outside stead."""
    gone = connect().call("deployments.forget_outside", number=number, reason=reason)
    if as_json:
        return gone
    output.note(f"{gone.ref} to {gone.place} is told no more")
    return None


@deployments.command("show")
@click.argument("number", type=int)
@output.json_option
def deployments_show(number: int, as_json: bool) -> Any:
    """One deployment, step by step, with the verdicts of its gates; of a canary the rows, days and guards that it stands on."""
    caller = connect()
    found = caller.call("deployments.get_deployment", number=number)
    asked = caller.call("gates.list_verdicts", model=found.model, version=found.version)
    verdicts = [verdict for verdict in asked if verdict.deployment in (None, number)]  # of its training, and its own
    if as_json:
        return {"deployment": found, "verdicts": verdicts}
    print(f"deployment {found.id}: {found.model}@{found.version}, {found.kind}, {found.state}")
    if found.job:
        print(f"  job {found.job[-12:]}")
    for step in found.steps:
        print(f"  {output.when(step.at)}  {step.state:10} {step.note}")
    for verdict in verdicts:
        print(f"  gate {verdict.gate}: {verdict.outcome}: {verdict.summary}")
    if found.shares:
        _evidence(found, caller.call("models.get_model", name=found.model).loss)
    return None


def _evidence(deployment: Any, loss: str) -> None:
    """On what a canary stands: rows, days and guards, as its page tells them."""
    from stead.deployments import telling

    print(f"  {telling.stands(deployment)}")
    for name, value, note in telling.figures(deployment, loss, output.when):
        print(f"    {name}: {value} ({note})")
    seen = telling.guards(deployment)
    if seen:
        rows = [(each.name, each.verdict, each.seen, each.interval or None, each.bound) for each in seen]
        output.table(("guard", "verdict", "seen", "95 % interval", "bound"), rows, right=(2, 3))


@deployments.command("cancel")
@click.argument("number", type=int)
@click.option("--reason")
def deployments_cancel(number: int, reason: str | None) -> None:
    """Stop a deployment that is under way."""
    found = connect(settings_anyway()).call("deployments.cancel_deployment", number=number, reason=reason)
    output.note(f"deployment {found.id} is cancelled; the present version goes on answering")


@click.group(invoke_without_command=True)
@click.option("--model", help="Only this model's.", shell_complete=model_names)
@click.option("--limit", default=30, show_default=True)
@click.pass_context
@output.json_option
def decisions(ctx: click.Context, model: str | None, limit: int, as_json: bool) -> Any:
    """The ledger: who changed what, when, why, and the command that undoes it."""
    if ctx.invoked_subcommand is not None:
        return None
    caller = connect()
    found = caller.call("ledger.list_entries", model=model, limit=limit)
    if as_json:
        return found
    standing = _standing(caller, model)
    rows = [
        (
            entry.id,
            output.when(entry.event_time or entry.at),
            entry.actor,
            entry.summary,
            entry.reason,
            _undo(entry, *standing),
            _judged(entry.judgement),
        )
        for entry in reversed(found)
    ]
    output.table(("no", "when", "who", "what", "why", "undo", "judged"), rows, right=(0,), empty="no decisions yet")
    return None


def _standing(caller: Any, model: str | None) -> tuple[list[Any], list[Any]]:
    """Retrainings and deployments, of which some can still be stopped or gone back from."""
    calls = ("policies.list_retrainings", "deployments.list_deployments")
    retrainings, moves = (caller.call(name, model=model, limit=RUNNING) for name in calls)
    return retrainings, moves


def _undo(entry: Any, retrainings: list[Any], moves: list[Any]) -> str | None:
    """Who took it back, or the command that does where one can."""
    from stead.policies import undoable

    if entry.undone_by:
        return f"undone by {entry.undone_by}"
    return f"stead undo {entry.id}" if undoable(entry, retrainings, moves) else None


def _judged(judgement: Any) -> str | None:
    """What the rows that came after say, in a word or two."""
    if judgement is None:
        return None
    return (judgement.verdict or "waits") + ("" if judgement.closed or not judgement.verdict else " so far")


@decisions.command("show")
@click.argument("number", type=int)
@output.json_option
def decisions_show(number: int, as_json: bool) -> Any:
    """One decision with its evidence."""
    caller = connect()
    entry = caller.call("ledger.get_entry", number=number)
    if as_json:
        return entry
    standing = _standing(caller, entry.model)
    output.facts(
        [
            ("decision", entry.id),
            ("what", entry.summary),
            ("action", f"{entry.action}, {entry.subject}"),
            ("who", entry.actor),
            ("when", output.when(entry.at)),
            ("event time", output.when(entry.event_time)),
            ("why", entry.reason),
            ("policy", entry.policy),
            ("instead", "; ".join(entry.alternatives) or None),
            ("judged", f"{_judged(entry.judgement)}: {entry.judgement.said}" if entry.judgement else None),
            ("undo", _undo(entry, *standing)),
        ]
    )
    output.print_json(entry.evidence)
    return None


@decisions.command("verify")
@output.json_option
def decisions_verify(as_json: bool) -> Any:
    """Recompute the chain of checkpoints: nothing that it covers was altered."""
    found = connect().call("ledger.verify")
    if as_json:
        return {"sealed": found}
    print(f"{found} decisions are as they were sealed")
    return None


@click.command()
@click.argument("number", type=int)
@click.option("--reason", help="Kept in the ledger.")
def undo(number: int, reason: str | None) -> None:
    """Take decision NUMBER back."""
    caller = connect()
    entry = caller.call("ledger.undo", number=number, reason=reason)
    if entry.action == "deployment.requested":
        number_ = entry.evidence["deployment"]
        _follow_deployment(caller, caller.call("deployments.get_deployment", number=number_))
        if (undone_by := caller.call("ledger.get_entry", number=number).undone_by) is not None:
            entry = caller.call("ledger.get_entry", number=undone_by)
    print(f"decision {entry.id}: {entry.summary}")
