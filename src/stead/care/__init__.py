"""Looking after a store: backup and restore, and whether everything that its rows name is there."""

from stead.care.backup import back_up, find_backup, list_backups
from stead.care.checking import check, check_store
from stead.care.restore import restore
from stead.care.types import Backup, Problem

OPERATIONS = {"read": ("check",)}

__all__ = [
    "OPERATIONS",
    "Backup",
    "Problem",
    "back_up",
    "check",
    "check_store",
    "find_backup",
    "list_backups",
    "restore",
]
