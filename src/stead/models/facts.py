"""Whose a model is, how much it matters and what its loss costs: kept with its settings, each change with its ledger entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from stead import ledger
from stead.config import FACTS, checked_facts
from stead.errors import InvalidInput
from stead.ledger import Undo
from stead.models.tables import models
from stead.store import Store

NOTHING = {"owner": "", "importance": "", "loss_value": 0.0, "currency": ""}
"""What takes a fact away."""


def set_facts_in(
    tx: sa.Connection,
    store: Store,
    model: str,
    facts: Mapping[str, Any],
    *,
    reason: str | None = None,
    undoes: int | None = None,
) -> None:
    """Write some facts of a model in the caller's transaction; nothing where that changes none, or where there is no such model.

    A text that is empty, and a value of the loss of 0, take away what was said. Raises InvalidInput (`facts-invalid`,
    `currency-missing`, `loss-value-missing`).
    """
    gone = {name for name, value in facts.items() if value == NOTHING[name]}
    given = checked_facts({name: value for name, value in facts.items() if name not in gone})
    row = sa.select(models.c.settings).where(models.c.name == model).with_for_update()
    settings = tx.execute(row).scalar()
    if settings is None:
        return
    before = {name: settings[name] for name in FACTS if name in settings}
    after = {name: value for name, value in (before | given).items() if name not in gone}
    if "loss_value" in gone and "currency" not in given:
        after.pop("currency", None)
    _together(model, after)
    changed = [name for name in FACTS if before.get(name) != after.get(name)]
    if not changed and undoes is None:
        return
    kept = {name: value for name, value in settings.items() if name not in FACTS} | after
    tx.execute(sa.update(models).where(models.c.name == model).values(settings=kept))
    ledger.record(
        tx,
        actor=store.actor,
        action="facts.set",
        model=model,
        subject=model,
        summary=f"{model}: {'; '.join(_said(name, after) for name in changed or facts)}",
        reason=reason,
        evidence={"before": before, "after": after},
        undo=Undo(
            "models.set_facts", {"model": model, **{name: before.get(name, NOTHING[name]) for name in changed or facts}}
        ),
        undoes=undoes,
    )


def _together(model: str, facts: Mapping[str, Any]) -> None:
    """A value of the loss and what it is in say something only together."""
    if "loss_value" in facts and "currency" not in facts:
        said = f"what the loss of {model} costs needs a currency"
        raise InvalidInput(
            "currency-missing",
            said,
            hint=f"stead models set {model} --loss-value {facts['loss_value']:g} --currency EUR",
        )
    if "currency" in facts and "loss_value" not in facts:
        said = f"nobody said what the loss of {model} costs, so that a currency says nothing"
        raise InvalidInput("loss-value-missing", said, hint="--loss-value 0.02")


def _said(name: str, facts: Mapping[str, Any]) -> str:
    value = facts.get(name)
    if name == "loss_value":
        return f"a unit of its loss costs {value:g}" if value is not None else "nobody says what its loss costs"
    if name == "owner":
        return f"its owner is {value}" if value else "it has no owner"
    return f"its {name} is {value}" if value else f"its {name} is not told"
