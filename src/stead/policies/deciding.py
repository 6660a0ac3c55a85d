"""Looking at a model and deciding: does a schedule or a signal train it again, and does the policy allow it?"""

from __future__ import annotations

from collections.abc import Sequence

from stead import deployments, jobs, ledger, models
from stead.config import duration_ms
from stead.policies import signals
from stead.policies.levels import frozen_in
from stead.policies.proxy import observe_proxy
from stead.policies.retraining import begin, list_retrainings
from stead.policies.schedules import due, next_fires
from stead.policies.standing import find_standing
from stead.policies.types import OPEN, Explanation, Signal
from stead.store import Store

JUDGED = 5
"""Decisions of which `explain` tells what became of them."""


def decide(store: Store, model: models.Model) -> int | None:
    """Begin a retraining where a trigger of the model's policy fires and its bounds allow it; its number, or None."""
    with store.db.read() as tx:
        standing = find_standing(tx, model.name)
    if standing is None or model.level == "record":
        return None
    live = deployments.live_deployment(store, model.name)
    now = jobs.model_now(store, model.name)
    triggers = signals.triggers_of(standing, model.level)
    if live is not None and "proxy" in triggers:
        observe_proxy(store, standing, live, now=now)
    seen = [] if live is None else _seen(signals.View(store, standing, live, now), triggers)
    policy = standing.policy
    with store.db.write("policies.decide") as tx:
        held = jobs.held_in(tx, model.name) is not None
        cron = policy.train if "schedule" in triggers else ""
        fired = due(store, tx, model.name, "train", cron, policy.time_zone, now=now, held=held)
        if fired:
            seen.insert(0, Signal("schedule", True, f"the schedule {cron!r} fired", {"cron": cron}))
        first = next((signal for signal in seen if signal.fires), None)
        if first is None or frozen_in(tx, model.name) is not None:
            return None
        if first.name != "schedule" and signals.rested(tx, model.name, now=now, rest_ms=duration_ms(policy.rest)):
            return None
        if signals.begun_today(tx, model.name, now=now) >= policy.retrains_a_day:
            return None
        return begin(store, tx, standing, model.level, first, now=now)


def _seen(view: signals.View, names: tuple[str, ...]) -> list[Signal]:
    return [signals.SIGNALS[name](view) for name in names if name in signals.SIGNALS]


def explain(store: Store, model: str) -> Explanation:
    """What the policy of a model sees now, and what it would do next and why. Changes nothing. Raises NotFound."""
    known = models.get_model(store, model)
    now = jobs.model_now(store, model)
    live = deployments.live_deployment(store, model)
    with store.db.read() as tx:
        standing = find_standing(tx, model)
        frozen = frozen_in(tx, model)
        rest = duration_ms(standing.policy.rest) if standing else 0
        rests = signals.rested(tx, model, now=now, rest_ms=rest) if standing else None
        today = signals.begun_today(tx, model, now=now)
    under_way = [r for r in list_retrainings(store, model=model) if r.state in OPEN]
    fires = next_fires(store, model)
    triggers = signals.triggers_of(standing, known.level) if standing else ()
    seen: list[Signal] = []
    if standing is not None and live is not None:
        seen = [
            Signal(name, found.fires and name in triggers, found.said, found.evidence)
            for name, look in signals.SIGNALS.items()
            for found in (look(signals.View(store, standing, live, now)),)
        ]
    why = [f"{known.level}: " + (", ".join(triggers) or "no trigger") + " may train it again"]
    if standing is None:
        why.append("its code was not handed over: stead push")
    if live is None:
        why.append("no version is live")
    if rests is not None:
        why.append(f"a signal trained it lately: signals rest until {signals.said_when(rests)}")
    if standing is not None and today >= standing.policy.retrains_a_day:
        why.append(f"{today} retrainings in 24 hours, and the policy allows {standing.policy.retrains_a_day}")
    return Explanation(
        model=model,
        level=known.level,
        now=now,
        frozen=None if frozen is None else frozen.reason or f"frozen by {frozen.by}",
        signals=seen,
        next=_next(known.level, frozen is not None, seen, fires if "schedule" in triggers else {}, under_way),
        why=why,
        open=under_way,
        schedules=fires,
        judged=ledger.list_judgements(store, model=model, limit=JUDGED),
    )


def _next(level: str, frozen: bool, seen: list[Signal], fires: dict[str, int], under_way: Sequence[object]) -> str:
    if level == "record":
        return "nothing by itself: at record people act"
    if frozen:
        return "nothing by itself: it is frozen"
    if under_way:
        return "goes on with the retraining that is under way"
    if firing := [signal.said for signal in seen if signal.fires]:
        return f"trains it again: {firing[0]}"
    if "train" in fires:
        return f"trains it on {signals.said_when(fires['train'])}, by schedule"
    return "nothing until a signal fires"
