"""Looking after a store: backup and restore, what is let go by rule, and whether everything that its rows name is there."""

from stead.care.backup import back_up, find_backup, list_backups
from stead.care.checking import check, check_store
from stead.care.pruning import prune, rules_of
from stead.care.repairing import Repaired, repair
from stead.care.restore import restore
from stead.care.types import Backup, Problem, Pruned, Rules

OPERATIONS = {"read": ("check",), "admin": ("prune",)}

__all__ = [
    "OPERATIONS",
    "Backup",
    "Problem",
    "Pruned",
    "Repaired",
    "Rules",
    "back_up",
    "check",
    "check_store",
    "find_backup",
    "list_backups",
    "prune",
    "repair",
    "restore",
    "rules_of",
]
