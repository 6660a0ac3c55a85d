"""What every automatic action leaves in the ledger."""

from __future__ import annotations

from stead import ledger
from stead.store import Store

FINDINGS = ("decision.judged", "retraining.done", "retraining.failed", "shadow.ended")
"""Entries that tell what came of a decision: there is nothing in them to take back."""


def check_decisions(store: Store, model: str) -> list[ledger.Entry]:
    """What stead did by itself for a model, each with evidence, alternatives, the policy's version and the way back."""
    found = [entry for entry in ledger.list_entries(store, model=model, limit=1000) if entry.actor == "agent"]
    for entry in found:
        assert entry.evidence and entry.policy, entry
        if entry.action not in FINDINGS:
            assert entry.alternatives and entry.undo is not None, entry
    return found
