"""Undo: a ledger entry names the operation that takes it back."""

from __future__ import annotations

from stead import ledger
from stead.errors import Conflict
from stead.store import Store


def undo(store: Store, number: int, *, reason: str | None = None) -> ledger.Entry:
    """Take a decision back and return the entry that says so: `deployment.requested` where that takes a moment still.

    Raises NotFound (`decision-unknown`), Conflict (`not-undoable`, `already-undone`).
    """
    from stead.api.table import operation

    entry = ledger.get_entry(store, number)
    if entry.undone_by is not None:
        hint = f"stead decisions show {entry.undone_by}"
        raise Conflict("already-undone", f"decision {number} was undone by {entry.undone_by}", hint=hint)
    if entry.undo is not None and entry.overrides:
        ref = "{model}@{version}".format(**entry.undo.arguments)
        forced = " ".join(f"--override {gate}" for gate in entry.overrides)
        raise Conflict(
            "not-undoable",
            f"decision {number} ({entry.summary}) is a refusal by gates: a person overrides them, with a reason",
            hint=f"stead deploy {ref} {forced} --reason …",
        )
    if entry.undo is None:
        raise Conflict(
            "not-undoable",
            f"decision {number} ({entry.summary}) has no undo",
            hint="stead decisions lists those that can be taken back with their command",
        )
    before = ledger.list_entries(store, model=entry.model, limit=1)[0].id
    operation(entry.undo.operation).function(
        store, **entry.undo.arguments, undoes=number, reason=reason or f"undo {number}"
    )
    undone_by = ledger.get_entry(store, number).undone_by
    if undone_by is None:  # a version that is not warm is loaded first: the deployment that was asked for will undo it
        newest = ledger.list_entries(store, model=entry.model, limit=1)[0]
        if newest.id == before:
            raise Conflict(
                "already-undone",
                f"decision {number} ({entry.summary}) holds no more: nothing is left to take back",
                hint="stead decisions",
            )
        return newest
    return ledger.get_entry(store, undone_by)
