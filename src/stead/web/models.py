"""Models: the list, and one with what is live, who acts and what comes next, what it loses, and its versions."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import deployments, gates, models, monitors, policies, predictions, serving
from stead.config import IMPORTANCES, LEVELS
from stead.deployments import UNDER_WAY, Deployment
from stead.gates import Verdict
from stead.models import LoggedModel, Version
from stead.policies import Explanation, LevelChange, Retraining
from stead.store import Store
from stead.web.deployments import CHIPS, coverage_chart, loss_chart
from stead.web.fleet import deployments_of, health, mean_loss, now_of, recent
from stead.web.frame import amount, back, day, form_of, need, render, store_of

VERDICTS = {"passed": "ok", "failed": "bad", "overridden": "warn", "skipped": "idle"}
RETRAININGS = {"waiting": "warn", "done": "ok", "refused": "bad", "rejected": "idle", "failed": "bad"}
ARCHIVED = "stead.archived"
HIGHEST = "deploy"
"""The highest level that is built."""


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
    acting, watched = acts_of(store, model), monitors.monitoring(store, model.name)
    by_version = {d.version: mean_loss([x for x in days if x.version == d.version]) for d in days}
    return render(
        request,
        "model.html",
        title=model.name,
        crumbs=[("Models", "/models")],
        data={
            "model": model,
            "versions": models.list_versions(store, model.name),
            "policy": acting.explained,
            "retrainings": acting.retrainings,
            "monitors": watched,
        },
        model=model,
        live=live,
        since=day(live.event_time or live.steps[-1].at) if live and live.steps else "",
        coming=coming,
        chip=chip,
        state=state,
        rows=version_rows(store, model.name, made, by_version),
        late=f"28 days to {day(max(d.day for d in late))}" if late else "no rows yet",
        loss=mean_loss(late),
        made=sum(d.predictions for d in late),
        failed=sum(d.failed for d in late),
        labelled=sum(d.labelled for d in late),
        loss_chart=loss_chart(model.name, days, live.version if live else None) if days else "",
        coverage_chart=coverage_chart(model.name, days) if days else "",
        verdict_chips=VERDICTS,
        importances=IMPORTANCES,
        acting=acting,
        watched=watched,
        retraining_chip=retraining_chip,
    )


@dataclass(frozen=True)
class Acting:
    """Who acts for a model, what comes next, and how to stop it."""

    explained: Explanation
    means: list[str]
    """What the level says."""
    above: LevelChange | None
    """The next level, and what it needs; None where there is none to go to."""
    own_freeze: bool
    frozen_all: bool
    retrainings: list[Retraining]

    @property
    def asks(self) -> Retraining | None:
        """What waits for a person."""
        return next((each for each in self.explained.open if each.state == "waiting"), None)


def acts_of(store: Store, model: models.Model) -> Acting:
    freezes = {each.model for each in policies.list_freezes(store)}
    place = LEVELS.index(model.level)
    above = LEVELS[place + 1] if place < LEVELS.index(HIGHEST) else None
    return Acting(
        explained=policies.explain(store, model.name),
        means=policies.preview_level(store, model.name, model.level).changes,
        above=policies.preview_level(store, model.name, above) if above else None,
        own_freeze=model.name in freezes,
        frozen_all="" in freezes,
        retrainings=policies.list_retrainings(store, model=model.name, limit=8),
    )


def retraining_chip(retraining: Retraining) -> str:
    """The status that a retraining's mark shows."""
    return RETRAININGS.get(retraining.state, "active")


async def facts(request: Request) -> Response:
    """`POST /models/{model}/facts`: whose it is, how much it matters, what its loss costs; an empty field takes that away."""
    need(request, "write")
    form = await form_of(request)
    store, model = store_of(request), request.path_params["model"]
    before = (await run_in_threadpool(models.get_model, store, model)).importance
    importance, value = form.get("importance", ""), amount(form.get("loss_value", ""), "loss_value")
    await run_in_threadpool(
        models.set_facts,
        store,
        model,
        owner=form.get("owner", "").strip(),
        importance=None if importance == before else importance,
        loss_value=value,
        currency=form.get("currency", "").strip().upper() if value else "",
    )
    return back(request, f"/models/{model}")


async def freeze(request: Request) -> Response:
    """`POST /models/{model}/freeze`"""
    need(request, "approve")
    form = await form_of(request)
    model = request.path_params["model"]
    await run_in_threadpool(policies.freeze, store_of(request), model=model, reason=form.get("reason") or None)
    return back(request, f"/models/{model}")


async def thaw(request: Request) -> Response:
    """`POST /models/{model}/thaw`"""
    need(request, "approve")
    form = await form_of(request)
    model = request.path_params["model"]
    await run_in_threadpool(policies.thaw, store_of(request), model=model, reason=form.get("reason") or None)
    return back(request, f"/models/{model}")


def version_rows(store: Store, model: str, made: list[Deployment], by_version: dict[int, float | None]) -> list[Row]:
    """Versions, newest first, each with its last deployment and what the parity check said last."""
    last: dict[int, Deployment] = {}
    for deployment in made:
        last.setdefault(deployment.version, deployment)
    verdicts: dict[int, Verdict] = {}
    for verdict in gates.list_verdicts(store, model, gate="parity", limit=1000):
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


ROUTES = [
    ("/models", listed, ["GET"]),
    ("/models/{model}", one, ["GET"]),
    ("/models/{model}/facts", facts, ["POST"]),
    ("/models/{model}/freeze", freeze, ["POST"]),
    ("/models/{model}/thaw", thaw, ["POST"]),
]
