"""Looking at a model and deciding: does a schedule or a signal train it again, and does the policy allow it?"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from stead import datasets, deployments, jobs, ledger, models, pipelines
from stead.config import duration_ms
from stead.deployments import telling
from stead.errors import NotFound
from stead.policies import signals
from stead.policies.levels import frozen_in
from stead.policies.proxy import observe_proxy
from stead.policies.retraining import begin, get_in, list_retrainings
from stead.policies.schedules import came_of, due, waits
from stead.policies.standing import find_standing
from stead.policies.timetable import list_schedules, off_at
from stead.policies.types import OPEN, Explanation, Freeze, Retraining, Schedule, Signal, Standing
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
    cron = policy.train if "schedule" in triggers else ""
    held = jobs.held_at(store, model.name) is not None
    if not any(signal.fires for signal in seen) and waits(
        store, model.name, "train", cron, policy.time_zone, now=now, held=held
    ):
        return None
    with store.db.write("policies.decide") as tx:
        held = jobs.held_in(tx, model.name) is not None
        fire = due(store, tx, model.name, "train", cron, policy.time_zone, now=now, held=held)
        if fire is not None:
            evidence = {"cron": cron, "due": fire.at, "missed": fire.missed}
            seen.insert(0, Signal("schedule", True, f"the schedule {cron!r} fired", evidence))
        first = next((signal for signal in seen if signal.fires), None)
        if first is None:
            return None
        kept = _kept(tx, standing, first, now=now)
        number = begin(store, tx, standing, model.level, first, now=now) if not kept else None
        if fire is not None and number is None:
            came_of(tx, model.name, "train", kept or "a retraining is under way already")
        elif fire is not None and number is not None:
            job = get_in(tx, number).job
            came_of(tx, model.name, "train", f"retraining {number} began", job=job)
        return number


def _kept(tx: sa.Connection, standing: Standing, signal: Signal, *, now: int) -> str:
    """Why a signal may not train the model now, and until when; empty where it may."""
    if (frozen := frozen_in(tx, standing.model)) is not None:
        return frozen.said
    return (_rests(tx, standing, now=now) if signal.name != "schedule" else "") or _spent(tx, standing, now=now)


def _rests(tx: sa.Connection, standing: Standing, *, now: int) -> str:
    """That signals rest, and until when; empty where they do not."""
    until = signals.rested(tx, standing.model, now=now, rest_ms=duration_ms(standing.policy.rest))
    return f"a signal trained it lately: signals rest until {signals.said_when(until)}" if until is not None else ""


def _spent(tx: sa.Connection, standing: Standing, *, now: int) -> str:
    """That it was trained as often as the policy allows, and until when; empty where it was not."""
    most = standing.policy.retrains_a_day
    begun = signals.begun_today(tx, standing.model, now=now)
    if len(begun) < most:
        return ""
    if most == 0:
        return "the policy allows no retraining"
    counted = f"{len(begun)} {'retraining' if len(begun) == 1 else 'retrainings'}"
    until = signals.said_when(begun[most - 1] + signals.DAY)
    return f"{counted} in 24 hours, as many as the policy allows, until {until}"


def ingest_due(store: Store, model: models.Model) -> jobs.Job | None:
    """Queue an ingest where the model's policy has one due; one at a time, and none while a training brings the rows itself.

    What it asks for begins where the dataset ends, so that fires which were missed or left out lose nothing.
    """
    with store.db.read() as tx:
        standing = find_standing(tx, model.name)
    if standing is None:
        return None
    policy, now = standing.policy, jobs.model_now(store, model.name)
    cron = policy.ingest if not off_at(standing, "ingest", model.level) else ""
    at = jobs.held_at(store, model.name)
    if waits(store, model.name, "ingest", cron, policy.time_zone, now=now, held=at is not None):
        return None
    with store.db.write("policies.ingest") as tx:
        at = jobs.held_in(tx, model.name)
        fire = due(store, tx, model.name, "ingest", cron, policy.time_zone, now=now, held=at is not None)
        if fire is None:
            return None
        if (frozen := frozen_in(tx, model.name)) is not None:
            came_of(tx, model.name, "ingest", frozen.said)
            return None
        if (busy := jobs.open_in(tx, model.name, ("ingest", "train"))) is not None:
            said = (
                "an ingest was under way" if busy.kind == "ingest" else "a training was under way, which ingests itself"
            )
            came_of(tx, model.name, "ingest", said, job=busy.id)
            return None
        job = pipelines.ingest_in(tx, standing.spec, actor="agent", until=now, event_time=at)
        came_of(tx, model.name, "ingest", "an ingest began", job=job.id)
        return job


def _seen(view: signals.View, names: tuple[str, ...]) -> list[Signal]:
    return [signals.SIGNALS[name](view) for name in names if name in signals.SIGNALS]


def explain(store: Store, model: str) -> Explanation:
    """What the policy of a model sees now, and what it would do next and why. Changes nothing. Raises NotFound."""
    known = _known(store, model)
    now = jobs.model_now(store, model)
    live = deployments.live_deployment(store, model)
    with store.db.read() as tx:
        standing = find_standing(tx, model)
        frozen = frozen_in(tx, model)
        limits = [_rests(tx, standing, now=now), _spent(tx, standing, now=now)] if standing else []
    under_way = [r for r in list_retrainings(store, model=model) if r.state in OPEN]
    timetable = list_schedules(store, model=model)
    triggers = signals.triggers_of(standing, known.level) if standing else ()
    seen: list[Signal] = []
    if standing is not None and live is not None:
        seen = [
            Signal(name, found.fires and name in triggers, found.said, found.evidence)
            for name, look in signals.SIGNALS.items()
            for found in (look(signals.View(store, standing, live, now)),)
        ]
    rollout = deployments.under_way(store, model)
    why = (
        [] if rollout is None or rollout.state != "canary" else [f"deployment {rollout.id}: {telling.stands(rollout)}"]
    )
    why += [f"{known.level}: " + (", ".join(triggers) or "no trigger") + " may train it again"]
    if standing is None:
        why.append("its code was not handed over: stead push")
    if live is None:
        why.append("no version is live")
    why += [said for said in limits if said]
    if standing is not None and (marked := datasets.marked_now(store, standing.spec.dataset)):
        why.append(marked)
    why += [said for schedule in timetable if (said := told(schedule))]
    return Explanation(
        model=model,
        level=known.level,
        now=now,
        frozen=None if frozen is None else frozen.reason or f"frozen by {frozen.by}",
        signals=seen,
        next=_next(known, frozen, _firing(seen, triggers), limits, timetable, under_way, rollout),
        why=why,
        open=under_way,
        schedules=timetable,
        judged=ledger.list_judgements(store, model=model, limit=JUDGED),
    )


def _known(store: Store, model: str) -> models.Model:
    try:
        return models.get_model(store, model)
    except NotFound:
        with store.db.read() as tx:
            if find_standing(tx, model) is None:
                raise
    said = f"{model} has no version yet, only its code was handed over"
    raise NotFound("version-unknown", said, hint=f"stead train {model}")


def _firing(seen: Sequence[Signal], triggers: Sequence[str]) -> str:
    """What the signal says that would train the model; empty where none fires."""
    firing = sorted((signal for signal in seen if signal.fires), key=lambda signal: triggers.index(signal.name))
    return firing[0].said if firing else ""


def told(schedule: Schedule) -> str:
    """What came of a schedule's last fire, where a person should know."""
    if schedule.fired is None:
        return ""
    missed = f", {schedule.missed} before it were missed" if schedule.missed else ""
    when = f"{schedule.kind} by schedule was due {signals.said_when(schedule.fired)}{missed}"
    if schedule.state == "failed":
        return f"{when}: it failed: {schedule.error or 'see its job'}"
    kept = bool(schedule.outcome) and schedule.state is None
    return f"{when}: {schedule.outcome}" if kept or missed else ""


def _next(
    model: models.Model,
    frozen: Freeze | None,
    firing: str,
    limits: Sequence[str],
    timetable: Sequence[Schedule],
    under_way: Sequence[Retraining],
    rollout: deployments.Deployment | None,
) -> str:
    refs = [f"{model.name}@{each.version}" for each in under_way if each.state == "waiting"]
    asks = f"a person approves or rejects {refs[0]}: stead approve {refs[0]}" if refs else ""
    canary = rollout is not None and rollout.state == "canary"
    if frozen is not None and (canary or model.level != "record"):
        by_itself = f"nothing by itself: it is frozen until stead thaw{f' {frozen.model}' if frozen.model else ''}"
        return f"{by_itself}; {asks}" if asks else by_itself
    if rollout is not None and canary:
        return f"goes on with deployment {rollout.id}, {telling.kind(rollout)} of version {rollout.version}, as its evidence says"
    if asks:
        return asks
    if model.level == "record":
        return "nothing by itself: at record people act"
    if under_way:
        return "goes on with the retraining that is under way"
    kept = ", and ".join(said for said in limits if said)
    if firing and not kept:
        return f"trains it again: {firing}"
    coming = _coming(timetable)
    if firing:
        return f"not yet, {kept}; then trains it again: {firing}" + (f"; {coming}" if coming else "")
    return coming or "nothing until a signal fires"


def _coming(timetable: Sequence[Schedule]) -> str:
    """What schedules do next; empty without one."""
    words = {"train": "trains it", "ingest": "ingests"}
    coming = [(each.next_fire, words[each.kind]) for each in timetable if each.next_fire is not None]
    said = [f"{word} on {signals.said_when(at)}" for at, word in sorted(coming)]
    return f"{', then '.join(said)}, by schedule" if said else ""
