"""`stead monitors`, `stead drift` and `stead incidents`."""

from __future__ import annotations

from typing import Any

import click

from stead.cli import output
from stead.cli.common import MOMENT, connect, model_names
from stead.config.units import percent

_MARKS = {"ok": "○", "watching": "◐", "alarm": "●", "unknown": "–"}


@click.command()
@click.argument("model", shell_complete=model_names)
@click.option("--days", is_flag=True, help="What each monitor said day by day, instead of what they see now.")
@click.option("--monitor", help="With --days, one of loss, estimate, requests, data, scale, drift, outputs, volume.")
@click.option("--since", type=MOMENT, help="With --days, from this day of event time on.")
@click.option("--until", type=MOMENT, help="With --days, to before this one.")
@output.json_option
def monitors(model: str, days: bool, monitor: str | None, since: int | None, until: int | None, as_json: bool) -> Any:
    """What the monitors of MODEL see now: loss, the loss to expect without labels, failed requests, broken data, units, drift, outputs, rows a day."""
    caller = connect()
    if days or monitor or since or until:
        found = caller.call("monitors.monitor_days", model=model, monitor=monitor, since=since, until=until)
        if as_json:
            return found
        rows = [(output.when(d.day)[:10], d.monitor, d.version or None, d.outcome, *_figures(d)) for d in found]
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


def _figures(day: Any) -> tuple[float | None, float | None]:
    """Value and bound, where they say something: monitors of broken columns only count them."""
    if day.monitor in ("data", "scale"):
        return day.value or None, None
    return day.value, day.bound


@click.command()
@click.argument("model", shell_complete=model_names)
@click.option("--weeks", default=12, show_default=True, help="How many weeks, from Monday to Monday.")
@click.option("--until", type=MOMENT, help="The weeks before this time, instead of the last ones with rows.")
@click.option("--version", type=int, help="Only rows of this version, instead of whichever answered most.")
@click.option("--column", help="The distributions of one column, or of `output`, instead of every distance.")
@output.json_option
def drift(model: str, weeks: int, until: int | None, version: int | None, column: str | None, as_json: bool) -> Any:
    """MODEL's columns by week: distance from the reference, 0 to 1, the furthest first; below, the loss, its labels, and the loss to expect without them."""
    caller = connect()
    asked = {"model": model, "weeks": weeks, "until": until, "version": version}
    if column is not None:
        profile = caller.call("monitors.column_profile", column=column, **asked)
        if as_json:
            return profile
        _distributions(profile)
        return None
    found = caller.call("monitors.drift_by_week", **asked)
    if as_json:
        return found
    starts = list(range(found.since, found.until, _WEEK))
    rows: list[list[Any]] = []
    for profile in found.columns:
        by_week = {week.since: _distance(week) for week in profile.weeks}
        rows.append([profile.column, *(by_week.get(start) for start in starts)])
    for name, measure in (("loss", _loss), ("labelled", _labelled)):
        rows.append([name, *(measure([d for d in found.days if 0 <= d.day - s < _WEEK]) for s in starts)])
    if found.estimates:
        ends = {start: [e for e in found.estimates if 0 <= e.day - start < _WEEK] for start in starts}
        rows.append(["estimate", *(_estimate(ends[start]) for start in starts)])
    heads = ["column", *(output.when(start)[5:10] for start in starts)]
    output.table(heads, rows, right=range(1, len(heads)))
    return None


_WEEK = 7 * 86_400_000


def _distance(week: Any) -> str:
    """With a mark where a week of the reference itself is hardly so far, or where the data was broken."""
    far = "–" if week.distance is None else f"{week.distance:.2f}"
    from stead.monitors.folding import DIFFERS

    return far + ("✕" if week.broken else "*" if week.p_value is not None and week.p_value <= DIFFERS else " ")


def _loss(days: list[Any]) -> float | None:
    known = [(day.loss, day.labelled) for day in days if day.loss is not None]
    rows = sum(count for _, count in known)
    return sum(loss * count for loss, count in known) / rows if rows else None


def _estimate(windows: list[Any]) -> str | None:
    """Of the last window that ends in the week, with a mark where it is an alarm."""
    if not windows:
        return None
    last = windows[-1]
    return "unknown" if last.value is None else f"{last.value:.4g}" + ("✕" if last.outcome == "alarm" else " ")


def _labelled(days: list[Any]) -> str | None:
    rows = sum(day.rows for day in days)
    return percent(sum(day.labelled for day in days) / rows, 0) if rows else None


def _distributions(profile: Any) -> None:
    """Shares of the rows by value: the reference of each version, then its weeks."""
    for expected in profile.references:
        weeks = [week for week in profile.weeks if week.version == expected.version]
        heads = ("value", f"v{expected.version}", *(output.when(week.since)[5:10] for week in weeks))
        columns = [(dict(each.parts), each.rows) for each in (expected, *weeks)]
        names = [name for name, _ in expected.parts if any(parts.get(name) for parts, _ in columns)]
        shares = [[percent(parts.get(name, 0) / rows) if rows else None for parts, rows in columns] for name in names]
        far = ["distance", None, *(_distance(week) for week in weeks)]
        lines = [[name, *share] for name, share in zip(names, shares, strict=True)]
        output.table(heads, [far, *lines], right=range(1, len(heads)))


@click.group()
def incidents() -> None:
    """What is wrong with models, by one cause each: list, show, open, resolve; a link for users."""


@incidents.command("list")
@click.option("--model", shell_complete=model_names)
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
            ("runbook", f"stead runbook {found.kind}"),
            *((name, _fact(name, value)) for name, value in found.evidence.items()),
        ]
    )
    for each in told:
        why = f": {each.error}" if each.error else ""
        print(f"  {each.event} by {each.route}: {each.state}, {each.attempts} attempts{why}")
    return None


def _fact(name: str, value: Any) -> Any:
    """Evidence for reading: a day as a date, figures by name."""
    if name in ("since", "until", "day") and isinstance(value, int):
        return output.when(value)[:10]
    if isinstance(value, dict) and all(isinstance(each, int | float) for each in value.values()):
        return ", ".join(f"{key} {output.number(each)}" for key, each in value.items())
    if isinstance(value, list):
        return "; ".join(str(each) for each in value)
    return value if value is None or isinstance(value, int | float) else str(value)


@incidents.command("open")
@click.argument("model", shell_complete=model_names)
@click.argument("summary")
@click.option(
    "--kind",
    default="performance",
    show_default=True,
    help="performance (may train it again, as the policy says), data or other.",
)
@click.option("--since", type=MOMENT, help="Since when it was wrong, as a user saw it, on the model's own clock.")
@click.option("--by-user", metavar="NAME", help="Who noticed it; you by default.")
@click.option("--prediction", metavar="ID", help="A prediction that shows it.")
@output.json_option
def incidents_open(
    model: str,
    summary: str,
    kind: str,
    since: int | None,
    by_user: str | None,
    prediction: str | None,
    as_json: bool,
) -> Any:
    """Say that something is wrong with MODEL, in a sentence: what a user saw.

    It is kept with it whether a monitor had told of it before.
    """
    found = connect().call(
        "monitors.open_incident",
        model=model,
        summary=summary,
        kind=kind,
        since=since,
        reported_by=by_user,
        prediction=prediction,
    )
    if as_json:
        return found
    first = found.evidence.get("found_by")
    if first is not None:
        output.note(f"a monitor had told of it before: incident {first}")
    output.note(f"incident {found.id} is open; stead incidents resolve {found.id} ends it")
    return None


@incidents.command("link")
@click.argument("model", shell_complete=model_names)
@click.option("--new", is_flag=True, help="A new link; those before open nothing any more.")
@output.json_option
def incidents_link(model: str, new: bool, as_json: bool) -> Any:
    """A link to put beside MODEL's predictions in a product: users without an account say there what is wrong.

    What comes by it is an incident of kind other, which tells people and trains nothing. `?prediction=ID` at its end names the
    prediction that it stands beside. `stead tokens revoke report:MODEL` ends it.
    """
    caller = connect()
    found = caller.call("tokens.report_link", model=model, new=new)
    own = caller.settings
    url = str(own.server_url or caller.url or f"http://{own.host}:{own.port}").rstrip("/") + found.path
    if as_json:
        return {"model": model, "url": url}
    print(url)
    if not own.server_url:
        output.note("server_url in [settings] is the address at which users reach this server")
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
