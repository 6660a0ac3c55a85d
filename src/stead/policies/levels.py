"""Who acts: the level of a model, one step at a time, and the switch that stops all automatic action."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from stead import deployments, ledger, models
from stead.config import LEVELS
from stead.errors import Conflict, InvalidInput, Refused, did_you_mean
from stead.ledger import Undo
from stead.policies.schedules import forget
from stead.policies.standing import find_standing
from stead.policies.tables import freezes
from stead.policies.types import Freeze, LevelChange, Need
from stead.runtime.clock import now_ms
from stead.store import Store, from_row

CHANGES = {
    "record": [
        "people train, deploy and roll back; stead records",
        "monitors watch and open incidents; nobody acts on them but people",
    ],
    "train": [
        "stead trains on the schedule and on open incidents",
        "each new version waits for approval, with the verdicts of its gates: stead approve, stead reject",
        "after approval the rollout plan runs",
    ],
    "deploy": [
        "stead trains when the policy says so: stead explain tells what it sees",
        "a version that passes every gate is rolled out under guard, and taken back when a guard breaks; nobody is asked",
        "outside the bounds (retrains a day, deployments a week) stead asks",
    ],
}


def preview_level(store: Store, model: str, level: str) -> LevelChange:
    """What a change of level would mean, and what it needs. Raises NotFound (`model-unknown`), InvalidInput (`level-unknown`)."""
    if level not in LEVELS:
        hint = did_you_mean(level, LEVELS) or f"one of {', '.join(LEVELS)}"
        raise InvalidInput("level-unknown", f"{level!r} is no level", hint=hint)
    before = models.get_model(store, model).level
    needs = [] if level not in CHANGES or LEVELS.index(level) <= LEVELS.index(before) else _needs(store, model, level)
    return LevelChange(model, before, level, CHANGES.get(level, []), needs)


def set_level(
    store: Store, model: str, level: str, *, reason: str | None = None, undoes: int | None = None
) -> LevelChange:
    """Change who acts for a model.

    Raises Refused (`level-skipped`) for two steps up at once, (`level-not-ready`) where something that the level needs is
    missing, (`level-not-built`) for `manage`, Conflict (`level-same`), NotFound, InvalidInput (`level-unknown`).
    """
    change = preview_level(store, model, level)
    if change.before == level:
        raise Conflict("level-same", f"{model} is at level {level} already")
    if level == "manage":
        raise Refused(
            "level-not-built",
            "the level manage is not built yet: policies that share a budget among models, choose features and retire",
            hint="the highest level is deploy",
        )
    if LEVELS.index(level) - LEVELS.index(change.before) > 1:
        following = LEVELS[LEVELS.index(change.before) + 1]
        raise Refused(
            "level-skipped",
            f"{model} is at {change.before}; {level} is two steps away, and a team takes stages one by one: "
            f"what {level} relies on is what {following} brings",
            hint=f"stead level {model} {following}",
        )
    if missing := [need for need in change.needs if not need.met]:
        raise Refused(
            "level-not-ready",
            f"{level} needs {'; '.join(need.what for need in missing)}",
            hint=missing[0].hint or None,
        )
    with store.db.write("policies.level") as tx:
        before = models.set_level_in(tx, model, level)
        if before != change.before:
            raise Conflict("level-changed", f"{model} was set to {before} meanwhile", hint=f"stead level {model}")
        if level == "record":
            forget(tx, model)
        number = ledger.record(
            tx,
            actor=store.actor,
            action="level.changed",
            model=model,
            subject=f"level {model}",
            summary=f"{model} went from {before} to {level}",
            reason=reason,
            evidence={"before": before, "after": level, "changes": change.changes},
            undo=Undo("policies.set_level", {"model": model, "level": before}),
            undoes=undoes,
        )
    return replace(change, decision=number)


def _needs(store: Store, model: str, level: str) -> list[Need]:
    with store.db.read() as tx:
        known = find_standing(tx, model) is not None
    needs = [
        Need("the model's code, so that stead can train it", known, f"stead push {model}, in its project"),
        Need(
            "a version that is live",
            deployments.live_deployment(store, model) is not None,
            f"stead train {model}; stead deploy {model}",
        ),
    ]
    if level == "deploy":
        needs.append(
            Need(
                "the name of the column with the time of a row, so that rows can be held out by time",
                bool(models.get_model(store, model).settings.get("time")),
                'time = "…" under [models.NAME] in stead.toml, then stead train',
            )
        )
    return needs


def freeze(store: Store, *, model: str | None = None, reason: str | None = None, undoes: int | None = None) -> Freeze:
    """Stop all automatic action of a model, or of every model, at once; what people ask for goes on.

    Where it stands still already nothing changes; where that is for a drill it stays from now on. Raises NotFound (`model-unknown`).
    """
    if model is not None:
        models.get_model(store, model)
    name = model or ""
    with store.db.write("policies.freeze") as tx:
        row = tx.execute(sa.select(freezes).where(freezes.c.model == name)).mappings().first()
        before = None if row is None else from_row(row, Freeze)
        if before is not None and not before.drill:
            return before
        made = Freeze(name, store.actor, now_ms(), reason)
        store.db.upsert(tx, freezes, {"model": name, "by": made.by, "at": made.at, "reason": reason}, ["model"])
        record_frozen(tx, store, name, "frozen", reason, Undo("policies.thaw", {"model": model}), undoes)
    return made


def thaw(store: Store, *, model: str | None = None, reason: str | None = None, undoes: int | None = None) -> None:
    """Let automatic action go on, of a model where not all are frozen; nothing changes where it does.

    Raises NotFound (`model-unknown`).
    """
    if model is not None:
        models.get_model(store, model)
    name = model or ""
    with store.db.write("policies.freeze") as tx:
        if tx.execute(sa.delete(freezes).where(freezes.c.model == name)).rowcount:
            record_frozen(tx, store, name, "thawed", reason, Undo("policies.freeze", {"model": model}), undoes)


def record_frozen(
    tx: sa.Connection,
    store: Store,
    name: str,
    what: str,
    reason: str | None,
    undo: Undo,
    undoes: int | None = None,
    *,
    evidence: dict[str, Any] | None = None,
) -> int:
    """The ledger's entry of a freeze or a thaw, in its transaction; its number."""
    return ledger.record(
        tx,
        actor=store.actor,
        action=f"automation.{what}",
        model=name or None,
        subject=f"automation {name or 'of every model'}",
        summary=f"automatic action of {name or 'every model'} was {what}",
        reason=reason,
        evidence=evidence,
        undo=undo,
        undoes=undoes,
    )


def list_freezes(store: Store) -> list[Freeze]:
    """What stands still now."""
    with store.db.read() as tx:
        return [from_row(row, Freeze) for row in tx.execute(sa.select(freezes).order_by(freezes.c.model)).mappings()]


def why_frozen(tx: sa.Connection, model: str) -> str | None:
    """That a model is frozen, and why; None where it is not."""
    frozen = frozen_in(tx, model)
    return None if frozen is None else frozen.said


def frozen_in(tx: sa.Connection, model: str) -> Freeze | None:
    """The freeze that holds for a model, its own or that of every model."""
    row = (
        tx.execute(sa.select(freezes).where(freezes.c.model.in_(("", model))).order_by(freezes.c.model))
        .mappings()
        .first()
    )
    return None if row is None else from_row(row, Freeze)
