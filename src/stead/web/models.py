"""Models: the list, and one with what is live, what it loses, and its versions."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from stead import deployments, gates, models, predictions, serving
from stead.deployments import UNDER_WAY, Deployment
from stead.gates import Verdict
from stead.models import LoggedModel, Version
from stead.store import Store
from stead.web.deployments import CHIPS, coverage_chart, loss_chart
from stead.web.fleet import deployments_of, health, mean_loss, now_of, recent
from stead.web.frame import day, render, store_of

VERDICTS = {"passed": "ok", "failed": "bad", "overridden": "warn", "skipped": "idle"}
ARCHIVED = "stead.archived"


@dataclass(frozen=True)
class Row:
    """One version of the table."""

    version: Version
    chip: str
    state: str
    href: str
    random: float | None
    time: float | None
    live: float | None
    gate: Verdict | None
    flavor: str


def listed(request: Request) -> Response:
    """`/models`"""
    store = store_of(request)
    found = models.list_models(store)
    gateways = serving.gateways(store, alive=True)
    made = deployments_of(store, [model.name for model in found])
    rows = []
    for model in found:
        live, coming = now_of(made[model.name])
        rows.append((model, live, *health(model.name, live, coming, gateways)))
    return render(request, "models.html", title="Models", data=found, rows=rows)


def one(request: Request) -> Response:
    """`/models/{model}`"""
    store = store_of(request)
    model = models.get_model(store, request.path_params["model"])
    live = deployments.live_deployment(store, model.name)
    coming = deployments.under_way(store, model.name)
    days = predictions.performance(store, model.name)
    late = recent(days, 28)
    made = deployments.list_deployments(store, model=model.name, limit=200)
    chip, state = health(model.name, live, coming, serving.gateways(store, alive=True))
    by_version = {d.version: mean_loss([x for x in days if x.version == d.version]) for d in days}
    return render(
        request,
        "model.html",
        title=model.name,
        crumbs=[("Models", "/models")],
        data={"model": model, "versions": models.list_versions(store, model.name)},
        model=model,
        live=live,
        since=day(live.event_time or live.steps[-1].at) if live and live.steps else "",
        coming=coming,
        chip=chip,
        state=state,
        rows=version_rows(store, model.name, made, by_version),
        loss=mean_loss(late),
        made=sum(d.predictions for d in late),
        failed=sum(d.failed for d in late),
        labelled=sum(d.labelled for d in late),
        loss_chart=loss_chart(model.name, days, live.version if live else None) if days else "",
        coverage_chart=coverage_chart(model.name, days) if days else "",
        verdict_chips=VERDICTS,
    )


def version_rows(store: Store, model: str, made: list[Deployment], by_version: dict[int, float | None]) -> list[Row]:
    """Versions, newest first, each with its last deployment and its last verdict."""
    last: dict[int, Deployment] = {}
    for deployment in made:
        last.setdefault(deployment.version, deployment)
    verdicts: dict[int, Verdict] = {}
    for verdict in gates.list_verdicts(store, model):
        if verdict.version is not None:
            verdicts.setdefault(verdict.version, verdict)
    logged_models = {each.id: each for each in models.list_logged_models(store, model=model, limit=1000)}
    out = []
    for version in models.list_versions(store, model, limit=200):
        logged = logged_models.get(version.logged_model) or models.get_logged_model(store, version.logged_model)
        its = last.get(version.version)
        chip, state = state_of(version, its)
        out.append(
            Row(
                version,
                chip,
                state,
                f"/deployments/{its.id}" if its else "",
                logged.metrics.get("holdout_random"),
                expected_of(logged),
                by_version.get(version.version),
                verdicts.get(version.version),
                logged.flavor,
            )
        )
    return out


def state_of(version: Version, deployment: Deployment | None) -> tuple[str, str]:
    """Chip and word."""
    if ARCHIVED in version.tags:
        return "idle", "out of use"
    if deployment is None:
        return "idle", "not deployed"
    if deployment.state in UNDER_WAY:
        return "active", deployment.state
    return CHIPS.get(deployment.state, "idle"), deployment.state.replace("_", " ")


def expected_of(logged: LoggedModel) -> float | None:
    return logged.metrics.get("holdout_time")


ROUTES = [("/models", listed, ["GET"]), ("/models/{model}", one, ["GET"])]
