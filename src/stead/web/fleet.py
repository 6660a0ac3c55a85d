"""The first page: how many models are well, what needs a person, one row a model; or what to do first."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from stead import deployments, jobs, models, predictions, runs, serving
from stead.deployments import Deployment
from stead.predictions import DayLoss
from stead.store import Store
from stead.web import charts
from stead.web.frame import render, store_of

SPARK_DAYS = 28
WORSE = 1.25
"""Loss above so many times the hold-out in time is told; a plain ratio, no test."""
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Row:
    """One model of the fleet."""

    model: str
    chip: str
    state: str
    live: int | None
    level: str
    loss_name: str
    spark: str
    loss: float | None
    test: float | None
    """The version's own hold-out in time: what was to be expected."""
    predictions: int
    failed: int
    last_day: int | None
    next: str
    href: str


@dataclass(frozen=True)
class Need:
    """Something that waits for a person."""

    chip: str
    word: str
    model: str
    text: str
    href: str
    action: str


def fleet(request: Request) -> Response:
    """`/`"""
    store = store_of(request)
    known = models.list_models(store)
    if not known:
        return first_start(request, store)
    gateways = serving.gateways(store, alive=True)
    rows = [row(store, model, gateways) for model in known]
    needs = [need for model, each in zip(known, rows, strict=True) for need in needs_of(store, model, each)]
    needs.sort(key=lambda need: ("bad", "warn", "note").index(need.chip))
    healthy = sum(r.chip == "ok" for r in rows)
    return render(
        request,
        "fleet.html",
        title="Fleet",
        data={"models": rows, "needs": needs},
        rows=rows,
        needs=needs,
        healthy=healthy,
        total=sum(r.predictions for r in rows),
        failed=sum(r.failed for r in rows),
        gateways=len(gateways),
        open_jobs=jobs.open_jobs(store),
    )


def first_start(request: Request, store: Store) -> Response:
    """Nothing is registered yet: the things to do now."""
    listed = runs.list_runs(store, limit=1)
    return render(
        request,
        "start.html",
        title="Start",
        data={"models": []},
        runs=bool(listed.runs),
        address=request.url.netloc,
        agent=jobs.agent_alive(store),
        gateways=bool(serving.gateways(store, alive=True)),
    )


def row(store: Store, model: models.Model, gateways: list[serving.Gateway]) -> Row:
    """Health first: what answers, how good it was lately, what comes next."""
    live = deployments.live_deployment(store, model.name)
    coming = deployments.under_way(store, model.name)
    days = recent(predictions.performance(store, model.name), SPARK_DAYS)
    chip, state = health(model.name, live, coming, gateways)
    loss = mean_loss(days)
    return Row(
        model=model.name,
        chip=chip,
        state=state,
        live=live.version if live else None,
        level=model.level,
        loss_name=model.loss,
        spark=charts.spark(
            [mean_loss([d for d in days if d.day == day]) for day in sorted({d.day for d in days})],
            label=f"loss of {model.name} by day",
        ),
        loss=loss,
        test=expected(store, model.name, live),
        predictions=sum(d.predictions for d in days),
        failed=sum(d.failed for d in days),
        last_day=max((d.day for d in days), default=None),
        next=next_step(store, model, live, coming),
        href=f"/deployments/{live.id}" if live else f"/models/{model.name}",
    )


def health(
    name: str, live: Deployment | None, coming: Deployment | None, gateways: list[serving.Gateway]
) -> tuple[str, str]:
    """Chip and word."""
    if coming is not None:
        return "active", f"v{coming.version} {coming.state}"
    if live is None:
        return "idle", "not deployed"
    if not gateways:
        return "warn", "no gateway runs"
    states = [gateway.loaded.get(f"{name}@{live.version}") for gateway in gateways]
    if all(state == "ready" for state in states):
        return "ok", "answers"
    return ("bad", "does not load") if any(isinstance(state, dict) for state in states) else ("active", "loading")


def needs_of(store: Store, model: models.Model, row_: Row) -> list[Need]:
    """What a person should look at: nothing answers, the last deployment did not go through, the loss is not as promised."""
    out = []
    if row_.chip in ("bad", "warn"):
        out.append(Need(row_.chip, "not served", model.name, f"{row_.state}.", row_.href, "Look"))
    latest = deployments.list_deployments(store, model=model.name, limit=1)
    if latest and latest[0].state in ("refused", "failed"):
        said = (latest[0].error or {}).get("message", latest[0].state)
        out.append(Need("bad", latest[0].state, model.name, said, f"/deployments/{latest[0].id}", "Look"))
    if row_.loss is not None and row_.test and row_.loss > WORSE * row_.test:
        said = f"has a loss of {row_.loss / row_.test:.1f} times what its hold-out in time promised, over the last {SPARK_DAYS} days."
        out.append(Need("note", "loss", model.name, said, row_.href, "Look"))
    return sorted(out, key=lambda each: ("bad", "warn", "note").index(each.chip))


def next_step(store: Store, model: models.Model, live: Deployment | None, coming: Deployment | None) -> str:
    """At the level `record` people act: say what they could do."""
    if coming is not None:
        return "the deployment goes on by itself"
    if live is None:
        return f"stead deploy {model.name}"
    newest = models.get_version(store, f"{model.name}@latest").version
    if newest <= live.version:
        return "nothing to do"
    tried = [d for d in deployments.list_deployments(store, model=model.name, limit=50) if d.version == newest]
    return f"v{newest} was {tried[0].state.replace('_', ' ')}" if tried else f"v{newest} is not deployed"


def recent(days: list[DayLoss], count: int) -> list[DayLoss]:
    """The last days of a model's own time."""
    last = max((d.day for d in days), default=0)
    return [d for d in days if d.day > last - count * DAY_MS]


def mean_loss(days: list[DayLoss]) -> float | None:
    """Σ loss / Σ weight."""
    weight = sum(d.weight_sum for d in days)
    return sum(d.loss_sum for d in days) / weight if weight else None


def expected(store: Store, model: str, live: Deployment | None) -> float | None:
    """The live version's hold-out in time, or the random one."""
    if live is None:
        return None
    metrics = models.get_logged_model(store, models.get_version(store, f"{model}@{live.version}").logged_model).metrics
    return metrics.get("holdout_time", metrics.get("holdout_random"))


ROUTES = [("/", fleet, ["GET"])]
