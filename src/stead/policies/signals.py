"""What may make stead train again: each signal looks at records and says what it sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from stead import deployments, models, predictions
from stead.config import duration_ms
from stead.policies.tables import retrainings
from stead.policies.types import Signal, Standing
from stead.runtime.clock import to_iso
from stead.store import Store

DAY = 86_400_000
DEFAULTS: dict[str, tuple[str, ...]] = {
    "record": (),
    "train": ("schedule", "incident"),
    "deploy": ("proxy", "incident"),
}


@dataclass(frozen=True)
class View:
    """What signals look at: a model with a live version at a moment of its clock."""

    store: Store
    standing: Standing
    live: deployments.Deployment
    now: int


def triggers_of(standing: Standing, level: str) -> tuple[str, ...]:
    """The signals that train a model again at a level; none at `record`."""
    if level == "record":
        return ()
    return standing.policy.triggers if standing.policy.triggers is not None else DEFAULTS[level]


def age(view: View) -> Signal:
    """The champion is older than `max_age`."""
    born = view.live.event_time or view.live.created_at
    days = (view.now - born) / DAY
    limit = view.standing.policy.max_age
    fires = bool(limit) and view.now - born > duration_ms(limit)
    return Signal("age", fires, f"version {view.live.version} is {days:.0f} days old", {"days": days, "limit": limit})


def loss(view: View) -> Signal:
    """The measured loss of the last 28 days is over `max_loss`."""
    days = predictions.performance(view.store, view.standing.model, since=view.now - 28 * DAY, until=view.now + 1)
    mine = [day for day in days if day.version == view.live.version]
    weight = sum(day.weight_sum for day in mine)
    limit = view.standing.policy.max_loss
    if weight <= 0:
        return Signal("loss", False, "no labelled rows in 28 days")
    value = sum(day.loss_sum for day in mine) / weight
    return Signal(
        "loss",
        limit is not None and value > limit,
        f"the loss of 28 days is {value:.4g}" + (f", the limit {limit:g}" if limit is not None else ""),
        {"loss": value, "limit": limit, "labelled": sum(day.labelled for day in mine)},
    )


SIGNALS: dict[str, Callable[[View], Signal]] = {"age": age, "loss": loss}
"""Signals that are looked at whenever something changed; the schedule fires by its own table."""


def rested(tx: sa.Connection, model: str, *, now: int, rest_ms: int) -> int | None:
    """When the last retraining that a signal began was so lately that it must rest: the model's time when it may again."""
    moment = sa.func.coalesce(retrainings.c.event_time, retrainings.c.at)
    query = sa.select(sa.func.max(moment)).where(
        retrainings.c.model == model, retrainings.c.trigger.not_in(("person", "schedule")), moment <= now
    )
    last = tx.execute(query).scalar()
    return None if last is None or last + rest_ms <= now else int(last) + rest_ms


def begun_today(tx: sa.Connection, model: str, *, now: int) -> int:
    """Retrainings that stead began in the 24 hours before `now`."""
    moment = sa.func.coalesce(retrainings.c.event_time, retrainings.c.at)
    query = sa.select(sa.func.count()).where(
        retrainings.c.model == model, retrainings.c.trigger != "person", moment > now - DAY, moment <= now
    )
    return int(tx.execute(query).scalar_one())


def said_when(moment: int) -> str:
    return to_iso(moment)[:16]


def has_live(store: Store, model: str) -> deployments.Deployment | None:
    models.get_model(store, model)
    return deployments.live_deployment(store, model)
