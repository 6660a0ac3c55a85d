"""What every automatic action leaves in the ledger."""

from __future__ import annotations

from stead import ledger
from stead.store import Store

FINDINGS = ("decision.judged", "retraining.done", "retraining.failed", "shadow.ended", "version.registered")
"""Entries that tell what came of a decision: there is nothing in them to decide otherwise."""


def check_decisions(store: Store, model: str) -> list[ledger.Entry]:
    """What stead did by itself for a model, each with evidence, alternatives, the policy's version and the way back."""
    found = [entry for entry in ledger.list_entries(store, model=model, limit=1000) if entry.actor == "agent"]
    for entry in found:
        assert entry.evidence, entry
        if entry.action not in FINDINGS:
            assert entry.policy and entry.alternatives and entry.undo is not None, entry
    return found
