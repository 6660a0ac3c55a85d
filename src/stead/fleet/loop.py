"""One turn of the loop. All it does is in the store, so it can end anywhere, and two loops do nothing twice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from stead import deployments, jobs, ledger, models, monitors, policies, predictions
from stead.errors import SteadError
from stead.fleet.tables import followed
from stead.runtime.clock import now_ms
from stead.store import Store

DAY = 86_400_000
CALM_MS = 3 * DAY
"""So far may a replay run ahead of the loop at level `record`, where only monitors watch; else a day."""


@dataclass(frozen=True)
class Followed:
    """How far the loop has followed a replay, and what the replay should wait for."""

    now: int | None
    """The model's clock at the loop's last turn."""
    ahead: int
    """How far the replay may be ahead of it."""
    running: bool
    """A job runs that was triggered at an event time."""
    moving: bool
    """A retraining that was begun at an event time is about to make a move that needs neither rows nor a person."""
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
    with store.db.read() as tx:
        clocks = jobs.held_clocks(tx)
    if clocks:  # a replay passes days in a moment: what it has brought counts at once
        predictions.refresh_performance(store)
    moved = 0
    known = models.list_models(store)
    due = monitors.due(store, known)
    for model in known:
        if model.name in due:
            moved += _safely(model.name, partial(monitors.observe, store, model, refreshed=clocks.get(model.name, 0)))
    news = monitors.batch_news(store)
    for model in known:
        if model.level != "record":
            moved += _safely(model.name, partial(_look, store, model, news))
    for deployment in deployments.canaries(store):
        moved += _safely(deployment.model, partial(_canary, store, deployment))
    for waiting in deployments.judged_now(store):
        moved += _safely(waiting[0].model, partial(_judge, store, waiting))
    for retraining in policies.open_retrainings(store):
        moved += _safely(retraining.model, partial(_advance, store, retraining))
    followed_on = _remember(store, clocks)
    return Turn(moved, held=bool(clocks), hurried=bool(clocks) and (followed_on or moved > 0))


def follows(store: Store, model: str) -> Followed:
    """How far the loop has followed the clock of a model that a replay holds, and what is under way. Raises NotFound (`model-unknown`)."""
    level = models.get_model(store, model).level
    with store.db.read() as tx:
        row = tx.execute(sa.select(followed.c.now).where(followed.c.model == model)).first()
    under_way = policies.open_retrainings(store, model=model)
    timed = any(each.state != "waiting" and each.event_time is not None for each in under_way)
    rolled_out = any(deployment.model == model for deployment in deployments.canaries(store))
    return Followed(
        now=None if row is None else int(row.now),
        ahead=CALM_MS if level == "record" and not rolled_out else DAY,
        running=bool(jobs.open_jobs(store, model=model, timed=True)),
        moving=timed and not rolled_out,  # a canary needs rows, and a version behind it waits for it
        waiting=any(each.state == "waiting" for each in under_way),
    )


def _look(store: Store, model: models.Model, news: monitors.BatchNews) -> int:
    with store.db.read() as tx:
        standing = policies.find_standing(tx, model.name)
    if standing is None:
        return 0
    moved = policies.adopt(store, model, standing) + int(policies.decide(store, model) is not None)
    moved += int(policies.ingest_due(store, model) is not None)
    scheduled = bool(standing.policy.ingest)
    return moved + monitors.observe_batches(store, model, standing.spec.dataset, news, scheduled=scheduled)


def _canary(store: Store, deployment: deployments.Deployment) -> int:
    after = deployments.observe(store, deployment.id, halted=partial(policies.why_frozen, model=deployment.model))
    return int((after.state, len(after.shares)) != (deployment.state, len(deployment.shares)))


def _judge(store: Store, waiting: Sequence[ledger.Judgement]) -> int:
    return int(deployments.judge(store, waiting))


def _advance(store: Store, retraining: policies.Retraining) -> int:
    return int(policies.advance(store, retraining))


def _remember(store: Store, clocks: dict[str, int]) -> bool:
    """Write how far the held clocks were followed, and forget those that nobody holds any more. True where there was news."""
    with store.db.read() as tx:
        known = {row.model: row.now for row in tx.execute(sa.select(followed.c.model, followed.c.now))}
    if known == clocks:
        return False
    with store.db.write("fleet.follow") as tx:
        for model in known.keys() - clocks.keys():
            tx.execute(sa.delete(followed).where(followed.c.model == model))
        for model, now in clocks.items():
            store.db.upsert(tx, followed, {"model": model, "now": now, "at": now_ms()}, ["model"])
    return True


def _safely(model: str, what: Callable[[], int]) -> int:
    try:
        return what()
    except SteadError as error:
        print(f"{model}: {error.code}: {error.message}", file=sys.stderr, flush=True)
    except sa.exc.SQLAlchemyError as error:
        print(f"{model}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return 0
