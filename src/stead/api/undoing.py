"""Undo: a ledger entry names the operation that takes it back."""

from __future__ import annotations

from stead import ledger
from stead.errors import Conflict
from stead.store import Store


def undo(store: Store, number: int, *, reason: str | None = None) -> ledger.Entry:
    """Take a decision back and return the entry that says so.

    Raises NotFound (`decision-unknown`), Conflict (`not-undoable`, `already-undone`).
    """
    from stead.api.table import operation

    entry = ledger.get_entry(store, number)
    if entry.undone_by is not None:
        raise Conflict("already-undone", f"decision {number} was undone by {entry.undone_by}")
    if entry.undo is None:
        raise Conflict("not-undoable", f"decision {number} ({entry.summary}) has no undo")
    operation(entry.undo.operation).function(
        store, **entry.undo.arguments, undoes=number, reason=reason or f"undo {number}"
    )
    undone_by = ledger.get_entry(store, number).undone_by
    assert undone_by is not None
    return ledger.get_entry(store, undone_by)
