"""What may make stead train again: each signal looks at records and says what it sees."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa

from stead import datasets, deployments, models, monitors, predictions
from stead.config import duration_ms
from stead.errors import NotFound
from stead.policies.proxy import watched
from stead.policies.tables import retrainings
from stead.policies.types import Signal, Standing
from stead.runtime.clock import to_iso
from stead.stats import proxy
from stead.store import Store

DAY = 86_400_000
LATELY_MS = 28 * DAY
UNASKED = "nobody has asked it anything in 28 days"
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
    """What the champion learned from is older than `max_age`."""
    live, limit = view.live, view.standing.policy.max_age
    version = models.get_version(view.store, f"{view.standing.model}@{live.version}")
    newest = _newest_row(view.store, version)
    # without one its registration; where no replay held the clock then, but one does now, its deployment tells it
    registered = version.event_time or min(version.created_at, live.event_time or live.created_at)
    born = registered if newest is None else newest
    old = max(0, view.now - born)
    what = (
        f"version {live.version} is"
        if newest is None
        else f"the newest row that version {live.version} learned from is"
    )
    fires = bool(limit) and old > duration_ms(limit)
    return Signal("age", fires, f"{what} {old / DAY:.0f} days old", {"days": old / DAY, "limit": limit})


def _newest_row(store: Store, version: models.Version) -> int | None:
    """Event time of the newest row that a version learned from; None where it is not known."""
    trained = models.get_logged_model(store, version.logged_model).info.get("trained_on") or {}
    known = [trained.get("until")]
    if trained.get("dataset"):
        with suppress(NotFound):  # it was deleted
            known.append(datasets.get_version(store, str(trained["dataset"])).time_max)
    return min((each for each in known if each is not None), default=None)


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


def incident(view: View) -> Signal:
    """An incident of the model's performance is open since the last retraining began; broken data trains nothing.

    A retraining answers every incident that was open when it began, whatever began it: a storm of them trains once.
    """
    opened = monitors.list_incidents(view.store, model=view.standing.model, state="open")
    told = [each for each in opened if each.kind == "performance" and each.severity == "page"]
    with view.store.db.read() as tx:
        answered = last_begun(tx, view.standing.model)
    fresh = [each for each in told if each.opened_at > answered]
    if not told:
        return Signal("incident", False, "no incident of its performance is open")
    if not fresh:
        return Signal("incident", False, f"incident {told[0].id} is open and has trained it already")
    first = fresh[-1]
    if first.opened_by == "agent" and not _answers(view):
        return Signal("incident", False, f"incident {first.id} is open, but {UNASKED}")
    found = {"incident": first.id, "cause": first.cause, **first.evidence}
    return Signal("incident", True, f"incident {first.id}: {first.summary}", found)


def proxy_pair(view: View) -> Signal:
    """The champion's age has cost more than two retrainings."""
    state = watched(view.store, view.standing.model)
    if state is None or state.champion != view.live.version:
        return Signal("proxy", False, "the proxy pair has not seen the champion yet")
    rest = duration_ms(view.standing.policy.rest) // DAY
    worth = proxy.judge_pair(state.pair, price=view.standing.policy.retrain_price, rest_days=rest)
    said = f"in {state.pair.days} days age has cost {worth.prices:.1f} prices of a retraining; {proxy.PRICES:g} are a reason"
    evidence = {"prices": worth.prices, "days": state.pair.days, "gap": worth.gap, "owed_days": state.pair.owed}
    if worth.due and not _answers(view):
        return Signal("proxy", False, f"{said}; but {UNASKED}", evidence)
    return Signal("proxy", worth.due, said, evidence)


def _answers(view: View) -> bool:
    """Whether the model was asked anything lately.

    What rows of long ago said is no reason to train now; and where a replay of the past has ended, all its rows are.
    """
    return bool(
        predictions.performance(view.store, view.standing.model, since=view.now - LATELY_MS, until=view.now + 1)
    )


def data(view: View) -> Signal:
    """Enough rows came in since the champion was trained."""
    model, wanted = view.standing.model, view.standing.policy.new_rows
    try:
        newest = datasets.get_version(view.store, view.standing.spec.dataset)
    except NotFound:
        return Signal("data", False, "there is no dataset yet")
    version = models.get_version(view.store, f"{model}@{view.live.version}")
    trained = models.get_logged_model(view.store, version.logged_model).info.get("trained_on") or {}
    before = datasets.get_version(view.store, str(trained["dataset"])).rows if trained.get("dataset") else 0
    fresh = (newest.rows or 0) - (before or 0)
    return Signal(
        "data",
        0 < wanted <= fresh,
        f"{fresh:,} rows came since version {view.live.version} was trained",
        {"rows": fresh},
    )


SIGNALS: dict[str, Callable[[View], Signal]] = {
    "age": age,
    "data": data,
    "incident": incident,
    "loss": loss,
    "proxy": proxy_pair,
}
"""Signals that are looked at whenever something changed; the schedule fires by its own table."""


def last_begun(tx: sa.Connection, model: str) -> int:
    """When the last retraining began that answers the incidents before it, by the wall's clock; 0 where none did.

    One that another signal began and that failed leaves them to be answered.
    """
    answers = (retrainings.c.trigger == "incident") | (retrainings.c.state != "failed")
    query = sa.select(sa.func.max(retrainings.c.at)).where(retrainings.c.model == model, answers)
    return int(tx.execute(query).scalar() or 0)


def rested(tx: sa.Connection, model: str, *, now: int, rest_ms: int) -> int | None:
    """When the last retraining that a signal began was so lately that it must rest: the model's time when it may again."""
    moment = sa.func.coalesce(retrainings.c.event_time, retrainings.c.at)
    query = sa.select(sa.func.max(moment)).where(
        retrainings.c.model == model, retrainings.c.trigger.not_in(("person", "schedule")), moment <= now
    )
    last = tx.execute(query).scalar()
    return None if last is None or last + rest_ms <= now else int(last) + rest_ms


def begun_today(tx: sa.Connection, model: str, *, now: int) -> list[int]:
    """When stead began retrainings in the 24 hours before `now`, newest first."""
    moment = sa.func.coalesce(retrainings.c.event_time, retrainings.c.at)
    query = sa.select(moment).where(
        retrainings.c.model == model, retrainings.c.trigger != "person", moment > now - DAY, moment <= now
    )
    return sorted(map(int, tx.execute(query).scalars()), reverse=True)


def said_when(moment: int) -> str:
    return to_iso(moment)[:16].replace("T", " ")
