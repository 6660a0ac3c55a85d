"""Incidents: what is wrong and was, and one with its evidence, the days of the monitor that saw it, and who was told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import ledger, models, monitors, policies
from stead.monitors import Incident, MonitorDay
from stead.monitors.folding import CAUSES
from stead.store import Store
from stead.web import charts
from stead.web.fleet import DAY_MS
from stead.web.frame import back, columns_of, facts, form_of, need, render, store_of
from stead.web.ledger import chip as entry_chip

SHOWN_DAYS = 60
"""Days that are drawn before an incident began, and at most after it."""
DRAWN = {
    "loss": ("loss by day", "as labels tell it; red: the most that is usual for this version"),
    "data": ("broken columns by day", "columns whose empty cells, types or values are not as in the reference"),
    "scale": ("columns whose unit jumped", "by window"),
    "drift": ("distance from the reference", "the furthest column of each window, 0 to 1"),
    "outputs": ("distance of the outputs", "from what the model answered where it was judged, 0 to 1"),
    "volume": ("rows by day", "all versions together"),
}


def listed(request: Request) -> Response:
    """`/incidents`"""
    store = store_of(request)
    model = request.query_params.get("model") or None
    found = monitors.list_incidents(store, model=model, limit=200)
    opened = [each for each in found if each.state == "open"]
    return render(
        request,
        "incidents.html",
        title="Incidents",
        data=found,
        opened=sorted(opened, key=lambda each: (each.severity != "page", -each.id)),
        resolved=[each for each in found if each.state != "open"],
        chip=chip,
        model=model,
    )


def chip(incident: Incident) -> str:
    """The status that an incident's mark shows."""
    if incident.state != "open":
        return "idle"
    return "bad" if incident.severity == "page" else "note"


def one(request: Request) -> Response:
    """`/incidents/{number}`"""
    store = store_of(request)
    incident = monitors.get_incident(store, request.path_params["number"])
    monitor = monitor_of(incident)
    days = days_of(store, incident, monitor) if monitor else []
    told = monitors.list_deliveries(store, incident.id)
    name = f"{incident.model}@{incident.version}" if incident.version else incident.model
    columns = incident.evidence.get("columns")
    return render(
        request,
        "incident.html",
        title=f"Incident {incident.id}",
        crumbs=[("Incidents", "/incidents"), (incident.model, f"/models/{incident.model}")],
        crumb=f"{incident.id}, {incident.model}",
        data={"incident": incident, "days": days, "told": told},
        incident=incident,
        name=name,
        chip=chip(incident),
        level=models.get_model(store, incident.model).level,
        verdict=sentence(store, incident),
        drawn=DRAWN.get(monitor or ""),
        chart=day_chart(incident, days, DRAWN[monitor][0]) if days and monitor else "",
        columns=columns_of(columns) if isinstance(columns, Mapping) else [],
        evidence=facts({key: value for key, value in incident.evidence.items() if key != "columns"}),
        told=told,
        retrainings=answered(store, incident),
        events=[e for e in ledger.list_entries(store, model=incident.model, limit=100) if _about(e, incident)][:8],
        event_chip=entry_chip,
    )


def _about(entry: ledger.Entry, incident: Incident) -> bool:
    return entry.subject == f"incident {incident.id}" or entry.evidence.get("incident") == incident.id


def monitor_of(incident: Incident) -> str | None:
    """The monitor that looks for its cause; None for what a person said."""
    return next((monitor for monitor, causes in CAUSES.items() if incident.cause in causes), None)


def days_of(store: Store, incident: Incident, monitor: str) -> list[MonitorDay]:
    """What the monitor said around it: from some weeks before it began to some after."""
    begun = int(incident.evidence.get("since") or incident.event_time)
    since = begun - SHOWN_DAYS * DAY_MS
    until = (incident.resolved_event_time or int(incident.evidence.get("day") or begun)) + SHOWN_DAYS * DAY_MS
    return monitors.monitor_days(
        store, incident.model, monitor=monitor, version=incident.version, since=since, until=until
    )


def day_chart(incident: Incident, days: list[MonitorDay], what: str) -> str:
    """Value by day against its bound, with the days on which it was opened and resolved."""
    lines = [charts.Line([(day.day, day.value) for day in days], "c1", "seen")]
    if any(day.bound for day in days):
        lines.append(charts.Line([(day.day, day.bound) for day in days], "bound", "bound", dashed=True))
    begun = incident.evidence.get("since")
    marks = [charts.Mark(begun, "since")] if isinstance(begun, int) else []
    if incident.resolved_event_time is not None:
        marks.append(charts.Mark(incident.resolved_event_time, "resolved"))
    low, high = days[0].day, days[-1].day
    places = [low + (high - low) * n / 4 for n in range(5)] if high > low else [float(low)]
    ticks = [(place, datetime.fromtimestamp(place / 1000, UTC).strftime("%-d %b")) for place in places]
    return charts.line_chart(lines, label=f"{what} of {incident.model}", axes=charts.Axes(x_ticks=ticks), marks=marks)


def sentence(store: Store, incident: Incident) -> tuple[str, str]:
    """The answer first: what is wrong, then what is done about it."""
    said = incident.summary[:1].upper() + incident.summary[1:] + ("" if incident.summary.endswith(".") else ".")
    if incident.state != "open":
        return "It is over.", f"{said} {(incident.reason or '')[:1].upper()}{(incident.reason or '')[1:]}."
    if made := answered(store, incident):
        return said, f"Retraining {made[0].id} answers it: {made[0].state}."
    if incident.kind == "performance" and incident.severity == "page":
        return said, f"Next: {policies.explain(store, incident.model).next}."
    return said, "Nothing is trained because of it: it tells people."


def answered(store: Store, incident: Incident) -> list[policies.Retraining]:
    """Retrainings that it set going."""
    found = policies.list_retrainings(store, model=incident.model, limit=200)
    return [each for each in found if each.trigger == "incident" and each.evidence.get("incident") == incident.id]


async def resolve(request: Request) -> Response:
    """`POST /incidents/{number}/resolve`"""
    need(request, "write")
    form = await form_of(request)
    number_ = request.path_params["number"]
    await run_in_threadpool(monitors.resolve_incident, store_of(request), number_, reason=form.get("reason") or None)
    return back(request, f"/incidents/{number_}")


ROUTES = [
    ("/incidents", listed, ["GET"]),
    ("/incidents/{number:int}", one, ["GET"]),
    ("/incidents/{number:int}/resolve", resolve, ["POST"]),
]
