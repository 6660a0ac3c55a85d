"""One turn of the loop. All it does is in the store, so it can end anywhere, and two loops do nothing twice."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from stead import deployments, jobs, ledger, maturity, models, monitors, policies, predictions
from stead.errors import SteadError
from stead.store import Store

CALM_MS = 3 * 86_400_000
"""So far may a replay run ahead of the loop at level `record`, where days are only watched."""


@dataclass(frozen=True)
class Followed:
    """What a replay of a model should wait for."""

    settled: bool
    """The loop has done all that could be done at the moment that the replay has asked for."""
    running: bool
    """A job runs that was triggered at an event time."""
    waiting: bool
    """A version waits for a person."""


@dataclass(frozen=True)
class Turn:
    """What one turn of the loop did: how many things moved, whether a replay holds a clock, and whether it waits for the next turn."""

    moved: int
    held: bool
    hurried: bool


def tick(store: Store) -> Turn:
    """Look at every model once. One model's error is told and keeps no other waiting."""
    policies.end_drills(store)
    clocks = jobs.take_up_clocks(store)
    if clocks:  # a replay passes days in a moment: what it has brought counts at once
        predictions.refresh_performance(store)
    observed, moved = 0, Counter[str]()
    known = models.list_models(store)
    due = monitors.due(store, known)
    for model in known:
        if model.name in due:
            look = partial(monitors.observe, store, model, refreshed=clocks.get(model.name, 0))
            observed += _safely(model.name, look)
    news = monitors.batch_news(store)
    for model in known:
        turn = _batches if model.level == "record" else _look
        moved[model.name] += _safely(model.name, partial(turn, store, model, news))
    for deployment in deployments.canaries(store):
        moved[deployment.model] += _safely(deployment.model, partial(_canary, store, deployment))
    for retraining in policies.open_retrainings(store):
        moved[retraining.model] += _safely(retraining.model, partial(_advance, store, retraining))
    for name, at in clocks.items():
        if not moved[name] and not _moving(store, name, policies.open_retrainings(store, model=name)):
            jobs.settle_clock(store, name, at=at)
    judged = sum(_safely(each[0].model, partial(_judge, store, each)) for each in deployments.judged_now(store))
    acting = {model.name for model in known if model.level == "deploy"}
    for live, wrong in deployments.judged_wrong(store) if acting else ():
        if live.model in acting:
            moved[live.model] += _safely(live.model, partial(_take_back, store, live, wrong))
    if not clocks:
        _safely("maturity", partial(maturity.keep_daily, store))
    hurried = any(moved[name] for name in clocks)
    return Turn(observed + moved.total() + judged, held=bool(clocks), hurried=hurried)


def follows(store: Store, model: str, *, end: bool = False) -> Followed:
    """Whether the loop has followed the clock of a model to where its replay wants it, at its `end` to the day. Raises NotFound (`model-unknown`)."""
    level = models.get_model(store, model).level
    running = bool(jobs.open_jobs(store, model=model, timed=True))
    opened = policies.open_retrainings(store, model=model)
    under_way = running or _moving(store, model, opened)
    calm = not end and level == "record" and deployments.under_way(store, model) is None
    with store.db.read() as tx:
        settled = jobs.settled_in(tx, model, ahead=CALM_MS if calm else 0)
    waiting = any(each.state == "waiting" for each in opened)
    return Followed(settled=settled and not under_way, running=running, waiting=waiting)


def _moving(store: Store, model: str, opened: Sequence[policies.Retraining]) -> bool:
    """Whether a retraining that began at an event time is about to move, and needs neither rows nor a person for it."""
    if not any(each.state != "waiting" and each.event_time is not None for each in opened):
        return False
    canaries = deployments.canaries(store)  # a canary needs rows, and a version behind it waits for it
    return all(deployment.model != model for deployment in canaries)


def _look(store: Store, model: models.Model, news: monitors.BatchNews) -> int:
    with store.db.read() as tx:
        standing = policies.find_standing(tx, model.name)
    if standing is None:
        return 0
    moved = policies.adopt(store, model, standing) + int(policies.decide(store, model) is not None)
    moved += int(policies.ingest_due(store, model) is not None)
    scheduled = bool(standing.policy.ingest)
    return moved + monitors.observe_batches(store, model, standing.spec.dataset, news, scheduled=scheduled)


def _batches(store: Store, model: models.Model, news: monitors.BatchNews) -> int:
    """At `record` nobody acts, and a batch in quarantine is told all the same."""
    dataset = str(model.settings.get("dataset") or "")
    return monitors.observe_batches(store, model, dataset, news, scheduled=False) if dataset else 0


def _canary(store: Store, deployment: deployments.Deployment) -> int:
    after = deployments.observe(store, deployment.id, halted=partial(policies.why_frozen, model=deployment.model))
    return int((after.state, len(after.shares)) != (deployment.state, len(deployment.shares)))


def _judge(store: Store, waiting: Sequence[ledger.Judgement]) -> int:
    return int(deployments.judge(store, waiting))


def _take_back(store: Store, live: deployments.Deployment, wrong: ledger.Judgement) -> int:
    with store.db.read() as tx:
        if policies.why_frozen(tx, live.model) is not None:
            return 0
    deployments.take_back(store, live, wrong)
    return 1


def _advance(store: Store, retraining: policies.Retraining) -> int:
    return int(policies.advance(store, retraining))


def _safely(model: str, what: Callable[[], int]) -> int:
    try:
        return what()
    except SteadError as error:
        print(f"{model}: {error.code}: {error.message}", file=sys.stderr, flush=True)
    except sa.exc.SQLAlchemyError as error:
        print(f"{model}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return 0
