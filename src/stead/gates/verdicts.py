"""Keeping verdicts and finding them."""

from __future__ import annotations

import sqlalchemy as sa

from stead.gates.tables import verdicts
from stead.gates.types import Verdict
from stead.runtime.clock import now_ms
from stead.store import Store, checked_limit


def keep_verdict(store: Store, model: str, version: int, verdict: Verdict, *, deployment: int | None = None) -> None:
    values = {
        "model": model,
        "version": version,
        "deployment": deployment,
        "gate": verdict.gate,
        "outcome": verdict.outcome,
        "summary": verdict.summary,
        "evidence": verdict.evidence,
        "at": now_ms(),
    }
    with store.db.write("gates.verdict") as tx:
        tx.execute(sa.insert(verdicts).values(values))


def list_verdicts(
    store: Store, model: str, *, version: int | None = None, gate: str | None = None, limit: int = 100
) -> list[Verdict]:
    """Verdicts on a model or on one of its versions, of all gates or of one, newest first."""
    with store.db.read() as tx:
        return verdicts_in(tx, model, version=version, gate=gate, limit=limit)


def verdicts_in(
    tx: sa.Connection, model: str, *, version: int | None = None, gate: str | None = None, limit: int = 100
) -> list[Verdict]:
    """The same in a transaction of the caller's."""
    query = (
        sa.select(verdicts).where(verdicts.c.model == model).order_by(verdicts.c.id.desc()).limit(checked_limit(limit))
    )
    if version is not None:
        query = query.where(verdicts.c.version == version)
    if gate is not None:
        query = query.where(verdicts.c.gate == gate)
    return [
        Verdict(
            row["gate"], row["outcome"], row["summary"], row["evidence"], row["version"], row["deployment"], row["at"]
        )
        for row in tx.execute(query).mappings()
    ]


def refused_in(tx: sa.Connection, model: str, version: int) -> list[Verdict]:
    """Verdicts of the training that keep a version from being deployed."""
    found = verdicts_in(tx, model, version=version)
    return [each for each in reversed(found) if each.outcome == "failed" and each.deployment is None]
