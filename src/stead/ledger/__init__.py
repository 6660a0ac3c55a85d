"""The append-only record of decisions, written in the transaction of the change: who, what, when, on which evidence, how to undo.

A checkpoint chains the entries since the last one, so that a later alteration is found by `verify`.
"""

from stead.ledger.operations import checkpoint, get_entry, list_entries, newest_in, record, verify
from stead.ledger.types import Checkpoint, Entry, Undo

OPERATIONS = {"read": ("get_entry", "list_entries", "verify")}

__all__ = [
    "OPERATIONS",
    "Checkpoint",
    "Entry",
    "Undo",
    "checkpoint",
    "get_entry",
    "list_entries",
    "newest_in",
    "record",
    "verify",
]
