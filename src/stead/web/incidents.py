"""Incidents: what is wrong and was, and one with its evidence, the days of the monitor that saw it, and who was told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import deployments, jobs, ledger, models, monitors, policies, predictions
from stead.config.units import figure, lasting, number, points
from stead.maturity.clocks import clock_of
from stead.monitors import Incident, MonitorDay
from stead.monitors.folding import CAUSES
from stead.monitors.references import NAMES
from stead.runtime.clock import to_ms
from stead.store import Store
from stead.web import charts
from stead.web.fleet import DAY_MS
from stead.web.frame import back, columns_of, day, facts, form_of, need, render, store_of, when
from stead.web.ledger import chip as entry_chip

TOLD = ("columns", "bounds", "reported_by", "found_by")
"""Evidence that stands on the page in a form of its own."""
SHOWN_DAYS = 60
"""Days that are drawn before an incident began, and at most after it."""
DRAWN = {
    "loss": (
        "loss by day",
        "as labels tell it; red: the most that is usual by its hold-out, and by the first days that it served",
    ),
    "estimate": (
        "loss to expect without labels",
        "by window, from what such predictions cost in the hold-out; red: the most that is usual",
    ),
    "requests": ("requests without an answer by day", "share of the day's requests; red: the most that is usual"),
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
        models=[each.name for each in models.list_models(store)],
    )


async def tell(request: Request) -> Response:
    """`POST /incidents`: a person says that something is wrong with a model."""
    need(request, "write")
    form = await form_of(request)
    since, prediction = form.get("since", "").strip(), form.get("prediction", "").strip()
    made = await run_in_threadpool(
        monitors.open_incident,
        store_of(request),
        form.get("model", "").strip(),
        form.get("summary", ""),
        kind=form.get("kind", "other"),
        since=to_ms(since) if since else None,
        reported_by=form.get("by", "").strip() or None,
        prediction=prediction or None,
    )
    return back(request, f"/incidents/{made.id}")


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
    loss = losses(store, incident, days) if monitor not in (None, "loss") and days else []
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
        figures=figures(store, incident),
        back_to=back_to(store, incident),
        acts=acts(store, incident),
        before=[
            each for each in monitors.list_incidents(store, model=incident.model, limit=200) if _like(each, incident)
        ][:5],
        loss=day_chart(incident, loss, "loss by day", span_of(days, loss)) if loss else "",
        drawn=DRAWN.get(monitor or ""),
        chart=day_chart(incident, days, DRAWN[monitor][0], span_of(days, loss)) if days and monitor else "",
        columns=columns_of(columns) if isinstance(columns, Mapping) else [],
        report=incident.evidence if "reported_by" in incident.evidence else None,
        evidence=facts({key: value for key, value in incident.evidence.items() if key not in TOLD}),
        told=told,
        retrainings=answered(store, incident),
        events=[e for e in ledger.list_entries(store, model=incident.model, limit=100) if _about(e, incident)][:8],
        event_chip=entry_chip,
    )


def _like(other: Incident, incident: Incident) -> bool:
    return other.id != incident.id and other.cause == incident.cause and other.id < incident.id


def since_of(incident: Incident) -> int:
    """Its first day, the model's clock: what was seen may have begun before it was told."""
    return int(incident.evidence.get("since") or incident.event_time)


def seen_until(store: Store, incident: Incident) -> int:
    """Now, on the model's clock; of an incident that a replay left behind, the end of the last day that it saw."""
    left = jobs.held_at(store, incident.model) is None and abs(incident.opened_at - incident.event_time) > DAY_MS
    last = int(incident.evidence.get("day") or incident.event_time) + DAY_MS
    return max(last, incident.event_time) if left else jobs.model_now(store, incident.model)


def noticed_at(store: Store, incident: Incident) -> int:
    """When it was seen, on the model's clock: what people say after a replay stands where that one was."""
    if abs(incident.opened_at - incident.event_time) > DAY_MS:
        return incident.event_time
    return clock_of(store, incident.model).moment(incident.opened_at, None)


def figures(store: Store, incident: Incident) -> list[tuple[str, str, str]]:
    """Name, figure, what it is held against: how long, what it costs, whom it hits."""
    since, proof = since_of(incident), incident.evidence
    end = incident.resolved_event_time or seen_until(store, incident)
    out = [
        ("Open for" if incident.state == "open" else "Was open for", lasting(max(0, end - incident.event_time)), f"since {when(incident.event_time)}"),
        ("Seen after", lasting(max(0, noticed_at(store, incident) - since)), f"first day {day(since)}"),
    ]  # fmt: skip
    loss, reference, bounds = proof.get("loss", proof.get("recent")), proof.get("reference"), proof.get("bounds")
    if loss is not None and reference and bounds:
        usual = ", ".join(f"{figure(bounds[each])} by its {name}" for each, name in NAMES.items() if each in bounds)
        said = f"{figure(loss)} against {figure(reference)} in its {NAMES[proof['against']]}; at most usual: {usual}"
        out.append(("Loss", points(loss / reference - 1), said))
    columns = proof.get("columns")
    if isinstance(columns, Mapping) and columns and incident.kind == "data":
        name, what, now, usual = columns_of(columns)[0]
        out.append((name, now, f"{what}, usually {usual}"))
    days = predictions.performance(store, incident.model, since=since, until=end + 1)
    if days:
        rows, failed = sum(d.predictions for d in days), sum(d.failed for d in days)
        out.append(
            ("Rows since", number(rows), f"{number(sum(d.labelled for d in days))} labelled, {number(failed)} failed")
        )
    return out


def back_to(store: Store, incident: Incident) -> int | None:
    """The version that a roll-back would bring, as far as one knows before it is asked for."""
    if incident.state != "open":
        return None
    live = deployments.live_deployment(store, incident.model)
    made = deployments.list_deployments(store, model=incident.model, limit=200)
    return next((d.version for d in made if live and d.state == "replaced" and d.version != live.version), None)


def acts(store: Store, incident: Incident) -> list[tuple[str, str]]:
    """What a person can do now, by hand: the command, and what it does."""
    model = incident.model
    if incident.state != "open":
        return []
    frozen = any(each.model in ("", model) for each in policies.list_freezes(store))
    out = []
    if incident.kind == "data":
        dataset = models.get_model(store, model).settings.get("dataset")
        if incident.cause in CAUSES["requests"]:
            out.append((f"stead predictions list {model} --limit 20", "what was asked, and what it was answered"))
        asked = "stead data quarantine" + (f" --dataset {dataset}" if dataset else "")
        out.append((asked, "is the source broken, too: batches that were put aside"))
        out.append((f"stead drift {model}", "the columns by week, with their distributions"))
    if incident.kind in ("performance", "estimate", "drift", "other"):
        out.append((f"stead drift {model}", "which column moved, and since when"))
        out.append((f"stead train {model}", "train on the rows up to now; its gates judge the version"))
    if incident.kind == "volume":
        out.append(("stead status", "whether the gateways answer"))
    if (target := back_to(store, incident)) is not None:
        out.append((f"stead rollback {model}", f"v{target} answers again at once"))
    if not frozen and models.get_model(store, model).level != "record":
        out.append((f"stead freeze {model}", "nothing is trained or deployed by itself meanwhile"))
    return out


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


def losses(store: Store, incident: Incident, days: list[MonitorDay]) -> list[MonitorDay]:
    """What the monitor of the loss said on the same days."""
    until = days[-1].day + DAY_MS
    return monitors.monitor_days(
        store, incident.model, monitor="loss", version=incident.version, since=days[0].day, until=until
    )


def span_of(days: list[MonitorDay], loss: list[MonitorDay]) -> tuple[float, float] | None:
    """The days of both pictures, so that what happened together stands above one another; None for one picture."""
    return (days[0].day, days[-1].day) if loss and days[-1].day > days[0].day else None


def day_chart(incident: Incident, days: list[MonitorDay], what: str, span: tuple[float, float] | None = None) -> str:
    """Value by day against its bound, with the days on which it was opened and resolved."""
    lines = [charts.Line([(each.day, each.value) for each in days], "c1", "" if span else "seen")]
    for source, name in {"": "bound", **NAMES}.items():
        bounds = [(each.day, each.evidence.get("bounds", {"": each.bound}).get(source)) for each in days]
        if any(bound for _, bound in bounds):
            lines.append(charts.Line(bounds, "bound", "" if span else name.removesuffix(" labelled days"), dashed=True))
    begun = incident.evidence.get("since")
    marks = [charts.Mark(begun, "since")] if isinstance(begun, int) else []
    if incident.resolved_event_time is not None:
        marks.append(charts.Mark(incident.resolved_event_time, "resolved"))
    low, high = span or (days[0].day, days[-1].day)
    places = [low + (high - low) * n / 4 for n in range(5)] if high > low else [float(low)]
    ticks = [(place, datetime.fromtimestamp(place / 1000, UTC).strftime("%-d %b")) for place in places]
    return charts.line_chart(
        lines, label=f"{what} of {incident.model}", axes=charts.Axes(x_ticks=ticks, span=span), marks=marks
    )


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
    ("/incidents", tell, ["POST"]),
    ("/incidents/{number:int}", one, ["GET"]),
    ("/incidents/{number:int}/resolve", resolve, ["POST"]),
]
