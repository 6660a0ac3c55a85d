"""The append-only record of decisions, written in the transaction of the change: who, what, when, on which evidence, how to undo.

What the rows that came after say of a decision stands beside it as a judgement. A checkpoint chains the entries since the last one, so that a later alteration is found by `verify`.
"""

from stead.ledger.judgements import await_judgement, list_judgements, open_judgements, write_judgement, wrong_promotions
from stead.ledger.operations import checkpoint, get_entry, list_entries, newest_in, record, verify
from stead.ledger.types import Checkpoint, Entry, Judgement, Undo

OPERATIONS = {"read": ("get_entry", "list_entries", "list_judgements", "verify")}

__all__ = [
    "OPERATIONS",
    "Checkpoint",
    "Entry",
    "Judgement",
    "Undo",
    "await_judgement",
    "checkpoint",
    "get_entry",
    "list_entries",
    "list_judgements",
    "newest_in",
    "open_judgements",
    "record",
    "verify",
    "write_judgement",
    "wrong_promotions",
]
