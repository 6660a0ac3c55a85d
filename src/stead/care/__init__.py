"""Looking after a store: backup and restore, whether everything is there, how long things are kept, and erasure by key."""

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
