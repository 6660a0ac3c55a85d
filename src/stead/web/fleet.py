"""The first page: how many models are well, what needs a person, one row a model; or what to do first."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from stead import deployments, jobs, models, monitors, policies, predictions, runs, serving
from stead.deployments import UNDER_WAY, Deployment
from stead.predictions import DayLoss
from stead.store import Store
from stead.web import charts
from stead.web.frame import render, store_of

SPARK_DAYS = 28
MANY = 5_000
"""Deployments that the overview reads at once."""
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
    owner: str | None
    important: bool
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
    made = deployments_of(store, [model.name for model in known])
    days = predictions.recent_performance(store, days=SPARK_DAYS)
    live = {name: now_of(its)[0] for name, its in made.items()}
    waiting = policies.list_approvals(store)
    asked = {each.model: each.version for each in waiting}
    promised = models.metrics_of(store, [(name, d.version) for name, d in live.items() if d is not None])
    rows = [
        row(
            model,
            made[model.name],
            gateways,
            days.get(model.name, []),
            promised.get((model.name, d.version), {}) if d else {},
            asked.get(model.name),
        )
        for model in known
        for d in (live[model.name],)
    ]
    opened = monitors.list_incidents(store, state="open", limit=MANY)
    told = {each.model for each in opened if each.cause == "loss"}
    needs = [n for each in rows for n in needs_of(each, made[each.model]) if n.word != "loss" or n.model not in told]
    if not gateways and any(r.live for r in rows):
        needs.append(Need("bad", "not served", "No gateway runs,", "so no model answers: stead up.", "/models", "Look"))
    needs += asked_of(opened, waiting)
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


def asked_of(opened: list[monitors.Incident], waiting: list[policies.Retraining]) -> list[Need]:
    """Open incidents, and versions that wait for a yes or no."""
    out = [
        Need(
            "bad" if each.severity == "page" else "note",
            f"incident {each.id}",
            each.model,
            f"{each.summary}.",
            f"/incidents/{each.id}",
            "Look",
        )
        for each in opened
    ]
    return out + [
        Need("warn", "approve", each.model, f"v{each.version} waits for approval.", f"/approvals/{each.id}", "Decide")
        for each in waiting
    ]


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


def deployments_of(store: Store, names: list[str]) -> dict[str, list[Deployment]]:
    """Deployments of each model, newest first: one question for the whole fleet, a further one where that was cut off."""
    found = deployments.list_deployments(store, limit=MANY)
    by_model: dict[str, list[Deployment]] = {name: [] for name in names}
    for deployment in found:
        by_model.setdefault(deployment.model, []).append(deployment)
    if len(found) == MANY:
        for name in names:
            if not any(d.state == "live" for d in by_model[name]):
                by_model[name] = deployments.list_deployments(store, model=name, limit=MANY)
    return by_model


def now_of(made: list[Deployment]) -> tuple[Deployment | None, Deployment | None]:
    """The one that is live and the one that is under way."""
    live = next((d for d in made if d.state == "live"), None)
    return live, next((d for d in made if d.state in UNDER_WAY), None)


def row(
    model: models.Model,
    made: list[Deployment],
    gateways: list[serving.Gateway],
    days: list[DayLoss],
    metrics: dict[str, float],
    asked: int | None = None,
) -> Row:
    """Health first: what answers, how good it was lately, what comes next."""
    live, coming = now_of(made)
    days = days if made else []
    chip, state = health(model.name, live, coming, gateways)
    loss = mean_loss(days)
    return Row(
        model=model.name,
        chip=chip,
        state=state,
        live=live.version if live else None,
        level=model.level,
        owner=model.owner,
        important=model.importance == "high",
        loss_name=model.loss,
        spark=charts.spark(
            [mean_loss([d for d in days if d.day == day]) for day in sorted({d.day for d in days})],
            label=f"loss of {model.name} by day",
        ),
        loss=loss,
        test=promise(metrics) if days else None,
        predictions=sum(d.predictions for d in days),
        failed=sum(d.failed for d in days),
        last_day=max((d.day for d in days), default=None),
        next=f"v{asked} waits for approval" if asked else next_step(model, live, coming, made),
        href=f"/deployments/{live.id}" if live else f"/models/{model.name}",
    )


CHIPS = {"answers": "ok", "loading": "active", "no gateway runs": "warn", "does not load": "bad"}


def health(
    name: str, live: Deployment | None, coming: Deployment | None, gateways: list[serving.Gateway]
) -> tuple[str, str]:
    """Chip and word."""
    if coming is not None:
        return "active", f"v{coming.version} {coming.state}"
    if live is None:
        return "idle", "not deployed"
    word, _ = serving.standing(gateways, [f"{name}@{live.version}"])
    return CHIPS[word], word


def needs_of(row_: Row, made: list[Deployment]) -> list[Need]:
    """What a person should look at: nothing answers, the last deployment did not go through, the loss is not as promised."""
    out = []
    if row_.chip == "bad":
        out.append(Need(row_.chip, "not served", row_.model, f"{row_.state}.", row_.href, "Look"))
    if made and made[0].state in ("refused", "failed"):
        said = (made[0].error or {}).get("message", made[0].state)
        out.append(Need("bad", made[0].state, row_.model, said, f"/deployments/{made[0].id}", "Look"))
    if made and made[0].state == "aborted":
        said = f"v{made[0].version} was taken back: {(made[0].error or {}).get('message', 'a guard broke')}."
        out.append(Need("note", "aborted", row_.model, said, f"/deployments/{made[0].id}", "Look"))
    if row_.loss is not None and row_.test and row_.loss > WORSE * row_.test:
        said = f"has a loss of {row_.loss / row_.test:.1f} times what its hold-out in time promised, over the last {SPARK_DAYS} days."
        out.append(Need("note", "loss", row_.model, said, row_.href, "Look"))
    return sorted(out, key=lambda each: ("bad", "warn", "note").index(each.chip))


def next_step(model: models.Model, live: Deployment | None, coming: Deployment | None, made: list[Deployment]) -> str:
    """At the level `record` people act: say what they could do."""
    if coming is not None:
        return "the deployment goes on by itself"
    if live is None:
        return f"stead deploy {model.name}"
    newest = model.versions  # numbers have no gaps
    if newest <= live.version:
        return "nothing to do"
    tried = [d for d in made if d.version == newest]
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
    """What the live version promised."""
    if live is None:
        return None
    return promise(models.metrics_of(store, [(model, live.version)]).get((model, live.version), {}))


def promise(metrics: dict[str, float]) -> float | None:
    """What a version promised: the hold-out in time, or the random one."""
    return metrics.get("holdout_time", metrics.get("holdout_random"))


ROUTES = [("/", fleet, ["GET"])]
