"""What stead works by for a model, handed over by `stead train`, `stead level` and `stead push`."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from stead import ledger, models
from stead.config import PolicyConfig, RolloutConfig, checked_facts
from stead.errors import InvalidInput, NotFound
from stead.pipelines import Spec
from stead.policies.tables import standing
from stead.policies.types import Standing
from stead.runtime.clock import now_ms
from stead.store import Store, from_row


def push(store: Store, model: str, *, spec: Spec, policy: PolicyConfig, rollout: RolloutConfig) -> Standing:
    """Keep the code and the policy of a model, so that stead can train it without the project's folder.

    What stead.toml says of its owner, its importance and what its loss costs holds from now on. Handing over the same
    again changes nothing. Raises InvalidInput (`model-mismatch`, `facts-invalid`).
    """
    if spec.model != model:
        raise InvalidInput("model-mismatch", f"the code was packed for {spec.model!r}, not {model!r}")
    given = {
        "spec": msgspec.to_builtins(spec),
        "policy": msgspec.to_builtins(policy),
        "rollout": msgspec.to_builtins(rollout),
        "recipe": spec.recipe,
    }
    facts = checked_facts(spec.facts)
    with store.db.write("policies.push") as tx:
        before = find_standing(tx, model)
        same = before is not None and all(
            msgspec.to_builtins(getattr(before, key)) == value for key, value in given.items()
        )
        number = (before.number if before else 0) + (not same)
        # where deployments find their plan, and decisions the policy's version
        models.set_settings_in(tx, model, rollout=given["rollout"], policy=number)
        models.set_facts_in(tx, store, model, facts)
        if before is not None and same:
            return before
        values = {"model": model, **given, "number": number, "at": now_ms(), "by": store.actor}
        store.db.upsert(tx, standing, values, ["model"])
        changed = "the first" if before is None else "with changed code" if before.recipe != spec.recipe else "changed"
        ledger.record(
            tx,
            actor=store.actor,
            action="policy.pushed",
            model=model,
            subject=f"policy {model} {number}",
            summary=f"policy {number} of {model}, {changed}",
            evidence={"number": number, **{key: given[key] for key in ("policy", "rollout", "recipe")}},
        )
        made = find_standing(tx, model)
        assert made is not None
        return made


def get_standing(store: Store, model: str) -> Standing:
    """What stead works by for a model. Raises NotFound (`policy-missing`)."""
    with store.db.read() as tx:
        found = find_standing(tx, model)
    if found is None:
        raise NotFound(
            "policy-missing", f"stead has no code of {model} to train with", hint=f"stead push {model}, in its project"
        )
    return found


def find_standing(tx: sa.Connection, model: str) -> Standing | None:
    row = tx.execute(sa.select(standing).where(standing.c.model == model)).mappings().first()
    return None if row is None else from_row(row, Standing)
