"""Deployments: the list, and one with its steps, its verdicts and the loss by day."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import deployments, gates, ledger, models, predictions, serving
from stead.deployments import UNDER_WAY, Deployment
from stead.predictions import DayLoss
from stead.web import charts
from stead.web.fleet import expected, mean_loss
from stead.web.frame import back, form_of, need, number, render, store_of

CHIPS = {
    "live": "ok",
    "replaced": "idle",
    "rolled_back": "warn",
    "refused": "bad",
    "failed": "bad",
    "cancelled": "idle",
}
COLOURS = ("c1", "c0", "c2", "c3", "c4", "c5", "c6")


def listed(request: Request) -> Response:
    """`/deployments`"""
    model = request.query_params.get("model") or None
    found = deployments.list_deployments(store_of(request), model=model, limit=200)
    return render(
        request, "deployments.html", title="Deployments", data=found, deployments=found, chips=chips(found), model=model
    )


def chips(found: list[Deployment]) -> dict[int, str]:
    return {d.id: CHIPS.get(d.state, "active") for d in found}


def one(request: Request) -> Response:
    """`/deployments/{number}`"""
    store = store_of(request)
    deployment = deployments.get_deployment(store, request.path_params["number"])
    live = deployments.live_deployment(store, deployment.model)
    days = predictions.performance(store, deployment.model)
    all_of_model = deployments.list_deployments(store, model=deployment.model, limit=200)
    verdicts = gates.list_verdicts(store, deployment.model, version=deployment.version)
    route = serving.get_route(store, deployment.model)
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
            models.get_model(store, deployment.model).loss,
        ),
        steps=deployment.steps,
        verdicts=verdicts,
        route=route,
        warm=route.warm if route else [],
        is_live=live is not None and live.id == deployment.id,
        under_way=deployment.state in UNDER_WAY,
        loss_chart=loss_chart(deployment.model, days, all_of_model),
        coverage_chart=coverage_chart(deployment.model, days),
        by_version=by_version(days),
        events=ledger.list_entries(store, model=deployment.model, limit=12),
    )


def sentence(deployment: Deployment, days: list[DayLoss], test: float | None, loss_name: str) -> tuple[str, str]:
    """The answer first: a few bold words, then the figures."""
    ref = f"v{deployment.version}"
    if deployment.state in ("refused", "failed"):
        return f"{ref} was {'refused' if deployment.state == 'refused' else 'not deployed'}.", (
            deployment.error or {}
        ).get("message", "")
    if deployment.state in UNDER_WAY:
        return f"{ref} is on its way.", f"It is {deployment.state}; the present version answers meanwhile."
    own = [d for d in days if d.version == deployment.version]
    loss = mean_loss(own[-28:])
    if loss is None:
        return (
            f"{ref} answers." if deployment.state == "live" else f"{ref} {deployment.state.replace('_', ' ')}.",
            "No label has come yet, so nobody can say how good it is.",
        )
    told = f"Its {loss_name} over its last {len(own[-28:])} days is {number(loss, 3)}"
    if test is None:
        return f"{ref} {'answers' if deployment.state == 'live' else deployment.state.replace('_', ' ')}.", told + "."
    ratio = loss / test if test else float("inf")
    told += f", expected was {number(test, 3)} (its hold-out in time)."
    if ratio > 1.25:
        return f"{ref} is worse than it was when it was trained.", told
    return f"{ref} does what it did when it was trained.", told


def loss_chart(model: str, days: list[DayLoss], all_of_model: list[Deployment]) -> str:
    """Loss by day of event time, a curve a version, weekly means where there are many days."""
    versions = sorted({d.version for d in days})
    width = bucket_days(days)
    lines = []
    for version in versions:
        points = buckets([d for d in days if d.version == version], width)
        newest = version == versions[-1]
        lines.append(
            charts.Line(
                points,
                "c1" if newest else COLOURS[1 + (len(versions) - 2 - versions.index(version)) % 6],
                f"v{version}",
            )
        )
    first_day = {version: min(d.day for d in days if d.version == version) for version in versions}
    marks = [charts.Mark(day, f"v{version}") for version, day in first_day.items()]
    what = "day" if width == 1 else f"{width} days"
    return charts.line_chart(
        lines,
        label=f"loss of {model} by {what} of event time",
        height=220,
        axes=charts.Axes(x_ticks=time_ticks(days)),
        marks=marks,
    )


def coverage_chart(model: str, days: list[DayLoss]) -> str:
    """Share of predictions whose label has come, on the same axis."""
    width = bucket_days(days) * 86_400_000
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
        axes=charts.Axes(y_high=1.0, y_format="{:.0%}", x_ticks=time_ticks(days)),
    )


def bucket_days(days: list[DayLoss]) -> int:
    """Days a point: at most some 200 points."""
    if not days:
        return 1
    span = (max(d.day for d in days) - min(d.day for d in days)) // 86_400_000 + 1
    return 1 if span <= 120 else 7 if span <= 1400 else 28


def buckets(days: list[DayLoss], width: int) -> list[charts.Point]:
    sums: dict[int, list[float]] = {}
    for d in days:
        total = sums.setdefault(d.day // (width * 86_400_000) * width * 86_400_000, [0.0, 0.0])
        total[0] += d.loss_sum
        total[1] += d.weight_sum
    return [(float(day), loss / weight if weight else None) for day, (loss, weight) in sorted(sums.items())]


def time_ticks(days: list[DayLoss]) -> list[tuple[float, str]]:
    """Five or so dates over the days."""
    if not days:
        return []
    low, high = min(d.day for d in days), max(d.day for d in days)
    places = [low + (high - low) * i / 4 for i in range(5)] if high > low else [float(low)]
    form = "%b %Y" if high - low > 120 * 86_400_000 else "%-d %b"
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


ROUTES = [
    ("/deployments", listed, ["GET"]),
    ("/deployments/{number:int}", one, ["GET"]),
    ("/models/{model}/rollback", roll_back, ["POST"]),
]
