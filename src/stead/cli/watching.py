"""`stead monitors` and `stead incidents`."""

from __future__ import annotations

from typing import Any

import click

from stead.cli import output
from stead.cli.common import MOMENT, connect

_MARKS = {"ok": "○", "alarm": "●", "unknown": "–"}


@click.command()
@click.argument("model")
@click.option("--days", is_flag=True, help="What each monitor said day by day, instead of what they see now.")
@click.option("--monitor", help="With --days, one of loss, data, scale, drift, outputs, volume.")
@click.option("--since", type=MOMENT, help="With --days, from this day of event time on.")
@click.option("--until", type=MOMENT, help="With --days, to before this one.")
@output.json_option
def monitors(model: str, days: bool, monitor: str | None, since: int | None, until: int | None, as_json: bool) -> Any:
    """What the monitors of MODEL see now: loss, broken data, units, drift, outputs, rows a day."""
    caller = connect()
    if days or monitor or since or until:
        found = caller.call("monitors.monitor_days", model=model, monitor=monitor, since=since, until=until)
        if as_json:
            return found
        rows = [(output.when(d.day)[:10], d.monitor, d.version or None, d.outcome, d.value, d.bound) for d in found]
        output.table(("day", "monitor", "version", "says", "value", "bound"), rows, right=(4, 5))
        return None
    seen = caller.call("monitors.monitoring", model=model)
    if as_json:
        return seen
    if seen.version is None:
        output.note(f"no version of {model} is live (stead deploy {model})")
    for view in seen.monitors:
        day = f" ({output.when(view.day)[:10]})" if view.day is not None else ""
        print(f"{_MARKS[view.outcome]} {view.monitor:8} {view.said}{day}")
    for incident in seen.incidents:
        print(f"incident {incident.id}, {incident.severity}: {incident.summary}")
    return None


@click.group()
def incidents() -> None:
    """What is wrong with models, by one cause each: list, show, open, resolve."""


@incidents.command("list")
@click.option("--model")
@click.option("--all", "every", is_flag=True, help="Resolved ones, too.")
@click.option("--limit", default=50, show_default=True)
@output.json_option
def incidents_list(model: str | None, every: bool, limit: int, as_json: bool) -> Any:
    """Incidents that are open, newest first."""
    state = None if every else "open"
    found = connect().call("monitors.list_incidents", model=model, state=state, limit=limit)
    if as_json:
        return found
    rows = [(i.id, i.model, i.severity, i.kind, i.state, output.when(i.event_time)[:16], i.summary) for i in found]
    heads = ("no.", "model", "severity", "kind", "state", "since", "what")
    output.table(heads, rows, right=(0,), empty="no incident" if every else "no incident is open")
    return None


@incidents.command("show")
@click.argument("number", type=int)
@output.json_option
def incidents_show(number: int, as_json: bool) -> Any:
    """One incident, what it is founded on, and who was told."""
    caller = connect()
    found = caller.call("monitors.get_incident", number=number)
    told = caller.call("monitors.list_deliveries", number=number)
    if as_json:
        return {"incident": found, "deliveries": told}
    output.facts(
        [
            ("incident", found.id),
            ("model", found.model if found.version is None else f"{found.model}@{found.version}"),
            ("state", found.state),
            ("severity", found.severity),
            ("what", found.summary),
            ("cause", found.cause),
            ("opened", f"{output.when(found.event_time)} (event time) by {found.opened_by}"),
            ("resolved", found.resolved_by and f"{output.when(found.resolved_event_time)} by {found.resolved_by}"),
            ("because", found.reason),
            *((name, str(value)) for name, value in found.evidence.items()),
        ]
    )
    for each in told:
        why = f": {each.error}" if each.error else ""
        print(f"  {each.event} by {each.route}: {each.state}, {each.attempts} attempts{why}")
    return None


@incidents.command("open")
@click.argument("model")
@click.argument("summary")
@click.option(
    "--kind",
    default="performance",
    show_default=True,
    help="performance (may train it again, as the policy says), data or other.",
)
@output.json_option
def incidents_open(model: str, summary: str, kind: str, as_json: bool) -> Any:
    """Say that something is wrong with MODEL, in a sentence."""
    found = connect().call("monitors.open_incident", model=model, summary=summary, kind=kind)
    if as_json:
        return found
    output.note(f"incident {found.id} is open; stead incidents resolve {found.id} ends it")
    return None


@incidents.command("resolve")
@click.argument("number", type=int)
@click.option("--reason", help="Kept with it and in the ledger.")
@output.json_option
def incidents_resolve(number: int, reason: str | None, as_json: bool) -> Any:
    """Say that an incident is over."""
    found = connect().call("monitors.resolve_incident", number=number, reason=reason)
    if as_json:
        return found
    output.note(f"incident {number} of {found.model} is resolved")
    return None
