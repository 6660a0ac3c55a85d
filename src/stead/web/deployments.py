"""Deployments: the list, and one with its steps, its verdicts and the loss by day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import deployments, gates, ledger, maturity, models, predictions, serving
from stead.config.units import figure
from stead.deployments import UNDER_WAY, WAS_LIVE, Deployment, telling
from stead.errors import InvalidInput
from stead.predictions import DayLoss
from stead.runtime.clock import to_ms
from stead.store import Store
from stead.web import canary, charts
from stead.web.fleet import DAY_MS, WORSE, expected, mean_loss, recent
from stead.web.frame import amount, back, form_of, need, render, store_of
from stead.web.ledger import chip as chip_of
from stead.web.work import spent

CHIPS = {
    "live": "ok",
    "replaced": "idle",
    "rolled_back": "warn",
    "refused": "bad",
    "failed": "bad",
    "cancelled": "idle",
    "withdrawn": "idle",
    "aborted": "bad",
}
COLOURS = ("c0", "c2", "c3", "c4", "c5", "c6")
"""Versions beside the one in question, newest first."""
AROUND_MS = 60 * DAY_MS
"""So much of the time before and after a version's own days is drawn with them."""
EVENTS = 8
ENOUGH_LABELS = 20
"""With fewer nothing is said of whether a version keeps its promise."""


def listed(request: Request) -> Response:
    """`/deployments`"""
    store, model = store_of(request), request.query_params.get("model") or None
    found = deployments.list_deployments(store, model=model, limit=200)
    outside = deployments.list_outside(store, model=model, limit=200)
    return render(
        request,
        "deployments.html",
        title="Deployments",
        data={"deployments": found, "outside": outside},
        deployments=found,
        chips=chips(found),
        model=model,
        outside=outside,
        models=[each.name for each in models.list_models(store)],
    )


async def record_outside(request: Request) -> Response:
    """`POST /deployments/outside`: a person tells of a deployment that stead did not make."""
    need(request, "write")
    form = await form_of(request)
    version, hours, at = (form.get(name, "").strip() for name in ("version", "hours", "at"))
    if version and not (version.isascii() and version.isdigit()):
        raise InvalidInput("version-invalid", f"{version[:50]!r} is no version number", hint="3")
    await run_in_threadpool(
        deployments.record_outside,
        store_of(request),
        form.get("model", "").strip(),
        version=int(version) if version else None,
        place=form.get("place", ""),
        hours=amount(hours, "hours") if hours else None,
        at=to_ms(at) if at else None,
        note=form.get("note", ""),
    )
    return back(request, "/deployments#outside")


async def forget_outside(request: Request) -> Response:
    """`POST /deployments/outside/{number}/forget`"""
    need(request, "write")
    await run_in_threadpool(deployments.forget_outside, store_of(request), request.path_params["number"])
    return back(request, "/deployments#outside")


def chips(found: list[Deployment]) -> dict[int, str]:
    return {d.id: CHIPS.get(d.state, "active") for d in found}


def one(request: Request) -> Response:
    """`/deployments/{number}`"""
    store = store_of(request)
    deployment = deployments.get_deployment(store, request.path_params["number"])
    live = deployments.live_deployment(store, deployment.model)
    is_live = live is not None and live.id == deployment.id
    days = near(predictions.performance(store, deployment.model), deployment.version)
    all_of_model = deployments.list_deployments(store, model=deployment.model, limit=200)
    verdicts = gates.list_verdicts(store, deployment.model, version=deployment.version)
    route = serving.get_route(store, deployment.model)
    loss = models.get_model(store, deployment.model).loss
    with store.db.read() as tx:
        drilled = ledger.newest_in(tx, deployment.model, "drill.rollback")
    work = [each for each in maturity.list_work(store, model=deployment.model) if each.deployment == deployment.id]
    return render(
        request,
        "deployment.html",
        title=f"{deployment.model} v{deployment.version}",
        crumbs=[("Deployments", "/deployments"), (deployment.model, f"/models/{deployment.model}")],
        crumb=f"deployment {deployment.id}",
        data={"deployment": deployment, "verdicts": verdicts, "loss": days},
        deployment=deployment,
        chip=CHIPS.get(deployment.state, "active"),
        verdict=sentence(
            deployment,
            days,
            expected(store, deployment.model, deployment),
            loss,
        ),
        canary=canary.view(deployment, loss),
        kind=telling.kind(deployment),
        is_canary=deployment.state == "canary",
        steps=deployment.steps,
        verdicts=verdicts,
        route=route,
        warm=route.warm if route else [],
        is_live=is_live,
        out_of_service=live is None and deployment.state == "withdrawn",
        under_way=deployment.state in UNDER_WAY,
        loss_chart=loss_chart(deployment.model, days, deployment.version) if days else "",
        coverage_chart=coverage_chart(deployment.model, days) if days else "",
        by_version=by_version(days),
        was_live=sorted({d.version for d in all_of_model if d.state in WAS_LIVE} - {deployment.version}, reverse=True),
        events=events(store, deployment, over=not is_live and deployment.state not in UNDER_WAY),
        event_chip=chip_of,
        by_hand=spent(work),
        drilled=drilled,
    )


def near(days: list[DayLoss], version: int) -> list[DayLoss]:
    """The days that a version answered, and those around; all where it answered none."""
    own = [d.day for d in days if d.version == version]
    return [d for d in days if not own or min(own) - AROUND_MS <= d.day <= max(own) + AROUND_MS]


def events(store: Store, deployment: Deployment, *, over: bool) -> list[ledger.Entry]:
    """What happened to the model lately; where a deployment is over, what happened when it ended."""
    own = ledger.list_entries(store, subject=f"deployment {deployment.id}", limit=EVENTS) if over else []
    own = [entry for entry in own if entry.action != "shadow.ended"]  # weeks later, when it is judged
    before = own[0].id + EVENTS // 2 if own else None
    return ledger.list_entries(store, model=deployment.model, before=before, limit=EVENTS)


def sentence(deployment: Deployment, days: list[DayLoss], test: float | None, loss_name: str) -> tuple[str, str]:
    """The answer first: a few bold words, then the figures."""
    ref = f"v{deployment.version}"
    if deployment.state in ("refused", "failed"):
        return f"{ref} was {'refused' if deployment.state == 'refused' else 'not deployed'}.", (
            deployment.error or {}
        ).get("message", "")
    if deployment.state == "aborted":
        said = (deployment.error or {}).get("message", "a guard broke")
        return f"{ref} was taken back.", f"{said[:1].upper()}{said[1:]}. v{deployment.previous} answered on."
    if deployment.state == "cancelled":
        return f"{ref} was stopped on its way.", "What was live before answered on."
    if deployment.state == "withdrawn":
        return (
            f"{deployment.model} was taken out of service.",
            f"{ref} answered last; requests now get an error that says so.",
        )
    if deployment.state in UNDER_WAY:
        return f"{ref} is on its way.", f"It is {deployment.state}; the present version answers meanwhile."
    own = recent([d for d in days if d.version == deployment.version], 28)
    loss, live = mean_loss(own), deployment.state == "live"
    does = f"{ref} answers." if live else f"{ref} was {deployment.state.replace('_', ' ')}."
    if loss is None:
        return does, "No label of its answers has come yet, so nobody can say how good it is."
    count = len({d.day for d in own})
    span = f"last {count} days" if count != 1 else "last day"
    told = f"Its {loss_name} over its {span} with answers is {figure(loss)}"
    if test is None:
        return does, told + "."
    told += f"; its hold-out in time promised {figure(test)}."
    worse = loss > test * WORSE
    labelled = sum(d.labelled for d in own)
    if not live:
        return does, told
    if labelled < ENOUGH_LABELS:
        return does, f"{told} That is by {labelled} {'label' if labelled == 1 else 'labels'}: too few to judge it."
    return (f"{ref} is worse than promised." if worse else f"{ref} keeps its promise."), told


def loss_chart(model: str, days: list[DayLoss], hot: int | None, *, height: int = 220) -> str:
    """Loss by day of event time, a curve a version, weekly where there are many days; `hot` is the one in question."""
    versions = sorted({d.version for d in days})
    others = [version for version in reversed(versions) if version != hot]
    colours = {version: COLOURS[at % len(COLOURS)] for at, version in enumerate(others)}
    width = bucket_days(days)
    lines = [
        charts.Line(
            buckets([d for d in days if d.version == version], width), colours.get(version, "c1"), f"v{version}"
        )
        for version in versions
    ]
    what = {1: "day", 7: "week"}.get(width, f"{width} days")
    return charts.line_chart(
        lines,
        label=f"loss of {model} by {what} of event time",
        height=height,
        axes=charts.Axes(x_ticks=ticks_between([x for line in lines for x, loss in line.points if loss is not None])),
        marks=takeovers(days),
    )


def takeovers(days: list[DayLoss]) -> list[charts.Mark]:
    """Where another version answers most of a day's requests; takeovers near one another share a mark."""
    most: dict[int, DayLoss] = {}
    for d in days:
        if d.day not in most or d.predictions > most[d.day].predictions:
            most[d.day] = d
    changes: list[tuple[int, int]] = []
    for at in sorted(most):
        if not changes or changes[-1][1] != most[at].version:
            changes.append((at, most[at].version))
    close = (max(most) - min(most)) * 0.06 if most else 0
    marks: list[charts.Mark] = []
    for at, version in changes:
        if marks and at - marks[-1].x <= close:
            first = marks[-1].label.partition(" ")[0]
            marks[-1] = charts.Mark(marks[-1].x, f"{first} … v{version}")
        else:
            marks.append(charts.Mark(at, f"v{version}"))
    return marks


def coverage_chart(model: str, days: list[DayLoss]) -> str:
    """Share of predictions whose label has come, on the same axis."""
    width = bucket_days(days) * DAY_MS
    sums: dict[int, list[int]] = {}
    for d in days:
        total = sums.setdefault(d.day // width * width, [0, 0])
        total[0] += d.labelled
        total[1] += d.predictions
    points = [(float(day), labelled / made if made else None) for day, (labelled, made) in sorted(sums.items())]
    return charts.line_chart(
        [charts.Line(points, "c0", "labelled")],
        label=f"share of {model}'s predictions with a label",
        height=60,
        axes=charts.Axes(y_high=1.0, y_format="{:.0%}", most=2, x_ticks=time_ticks(days)),
    )


def bucket_days(days: list[DayLoss]) -> int:
    """Days a point: at most some 200 points."""
    if not days:
        return 1
    span = (max(d.day for d in days) - min(d.day for d in days)) // DAY_MS + 1
    return 1 if span <= 120 else 7 if span <= 1400 else 28


def buckets(days: list[DayLoss], width: int) -> list[charts.Point]:
    """Loss over so many days each, at the first day with an answer; a gap where an answer is missing for longer."""
    sums: dict[int, list[float]] = {}
    for d in days:
        total = sums.setdefault(d.day // (width * DAY_MS), [d.day, 0.0, 0.0])
        total[1] += d.loss_sum
        total[2] += d.weight_sum
    points: list[charts.Point] = []
    last = None
    for number_, (day, loss, weight) in sorted(sums.items()):
        if last is not None and number_ - last > 1:
            points.append((day, None))
        points.append((day, loss / weight if weight else None))
        last = number_
    return points


def time_ticks(days: list[DayLoss]) -> list[tuple[float, str]]:
    """Five or so dates over the days."""
    return ticks_between([d.day for d in days])


def ticks_between(moments: Sequence[float]) -> list[tuple[float, str]]:
    """Five or so dates from the first moment to the last: those of what is drawn, where later days have nothing to draw."""
    if not moments:
        return []
    low, high = min(moments), max(moments)
    places = [low + (high - low) * i / 4 for i in range(5)] if high > low else [float(low)]
    form = "%b %Y" if high - low > 120 * DAY_MS else "%-d %b"
    return [(place, datetime.fromtimestamp(place / 1000, UTC).strftime(form)) for place in places]


def by_version(days: list[DayLoss]) -> list[tuple[int, int, int, int, float | None]]:
    """Version, predictions, failed, labelled, loss."""
    out = []
    for version in sorted({d.version for d in days}, reverse=True):
        own = [d for d in days if d.version == version]
        out.append(
            (
                version,
                sum(d.predictions for d in own),
                sum(d.failed for d in own),
                sum(d.labelled for d in own),
                mean_loss(own),
            )
        )
    return out


async def roll_back(request: Request) -> Response:
    """`POST /models/{model}/rollback`"""
    need(request, "write")
    form = await form_of(request)
    store = store_of(request)
    to = form.get("to", "")
    made = await run_in_threadpool(
        deployments.rollback,
        store,
        request.path_params["model"],
        to=int(to) if to.isdigit() else None,
        reason=form.get("reason") or None,
    )
    return back(request, f"/deployments/{made.id}")


async def drill(request: Request) -> Response:
    """`POST /models/{model}/drill`"""
    need(request, "write")
    form, model = await form_of(request), request.path_params["model"]
    reason = form.get("reason") or None
    job = await run_in_threadpool(deployments.drill_rollback, store_of(request), model, reason=reason)
    return back(request, f"/jobs/{job.id}")


async def withdraw(request: Request) -> Response:
    """`POST /models/{model}/withdraw`"""
    need(request, "write")
    form = await form_of(request)
    model = request.path_params["model"]
    made = await run_in_threadpool(deployments.withdraw, store_of(request), model, reason=form.get("reason") or None)
    return back(request, f"/deployments/{made.id}")


ROUTES = [
    ("/deployments", listed, ["GET"]),
    ("/deployments/outside", record_outside, ["POST"]),
    ("/deployments/outside/{number:int}/forget", forget_outside, ["POST"]),
    ("/deployments/{number:int}", one, ["GET"]),
    ("/models/{model}/rollback", roll_back, ["POST"]),
    ("/models/{model}/drill", drill, ["POST"]),
    ("/models/{model}/withdraw", withdraw, ["POST"]),
]
