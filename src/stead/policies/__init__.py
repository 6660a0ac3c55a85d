"""Policies: who acts for a model, what makes stead train it again, and each retraining's way through gates and approval.

`push` hands over the code and the policy of stead.toml; `decide` begins a retraining where a trigger fires inside the
bounds; `advance` moves one on. Every automatic action is a ledger entry with its evidence and the way to undo it.
"""

from stead.policies.deciding import decide, explain, ingest_due
from stead.policies.drilling import drill_freeze, end_drills
from stead.policies.levels import freeze, list_freezes, preview_level, set_level, thaw, why_frozen
from stead.policies.retraining import (
    adopt,
    advance,
    approve,
    cancel_retraining,
    get_retraining,
    list_approvals,
    list_retrainings,
    open_retrainings,
    reject,
)
from stead.policies.standing import find_standing, get_standing, push
from stead.policies.timetable import list_schedules
from stead.policies.types import (
    OPEN,
    Explanation,
    Freeze,
    FreezeDrill,
    LevelChange,
    Need,
    Retraining,
    Schedule,
    Signal,
    Standing,
    undoable,
)

OPERATIONS = {
    "read": (
        "explain",
        "get_retraining",
        "get_standing",
        "list_approvals",
        "list_freezes",
        "list_retrainings",
        "list_schedules",
        "preview_level",
    ),
    "write": ("push",),
    "approve": ("approve", "cancel_retraining", "drill_freeze", "freeze", "reject", "set_level", "thaw"),
}

__all__ = [
    "OPEN",
    "OPERATIONS",
    "Explanation",
    "Freeze",
    "FreezeDrill",
    "LevelChange",
    "Need",
    "Retraining",
    "Schedule",
    "Signal",
    "Standing",
    "adopt",
    "advance",
    "approve",
    "cancel_retraining",
    "decide",
    "drill_freeze",
    "end_drills",
    "explain",
    "find_standing",
    "freeze",
    "get_retraining",
    "get_standing",
    "ingest_due",
    "list_approvals",
    "list_freezes",
    "list_retrainings",
    "list_schedules",
    "open_retrainings",
    "preview_level",
    "push",
    "reject",
    "set_level",
    "thaw",
    "undoable",
    "why_frozen",
]
