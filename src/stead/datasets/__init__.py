"""Data versions by content: a version is a manifest of parts, with schema, row count, time range and profile.

Appending adds parts and copies none (`operations`); `sources` and `schemas` check what is given, `reading` gives rows
between two times, files for a job, and verifies bytes. `comparing` tells what changed from one version to another, `contracts` what a batch must hold to, `quarantine` keeps those that do not.
`marking` finds the versions that may hold rows of an erased key.
"""

from stead.datasets.comparing import binned, diff
from stead.datasets.contracts import Contract, contract_text, infer_contract, inferred, read_contract, violations
from stead.datasets.marking import Held, columns_held, find_key, mark_in, marked_now
from stead.datasets.operations import add, add_stored, get_version, leave_out, list_datasets, list_versions
from stead.datasets.quarantine import Quarantined, held_back, list_quarantine, put_aside
from stead.datasets.reading import batches, read, status, verify
from stead.datasets.rows import contents, times_of
from stead.datasets.sources import Delta, Query
from stead.datasets.types import (
    Column,
    ColumnDiff,
    DatasetDiff,
    DatasetVersion,
    FileDiff,
    Mark,
    Part,
    RowDiff,
    RowsDiff,
)
from stead.folders import Status

OPERATIONS = {
    "read": ("diff", "get_version", "infer_contract", "list_datasets", "list_quarantine", "list_versions", "verify"),
    "write": ("add_stored",),
}

__all__ = [
    "OPERATIONS",
    "Column",
    "ColumnDiff",
    "Contract",
    "DatasetDiff",
    "DatasetVersion",
    "Delta",
    "FileDiff",
    "Held",
    "Mark",
    "Part",
    "Quarantined",
    "Query",
    "RowDiff",
    "RowsDiff",
    "Status",
    "add",
    "add_stored",
    "batches",
    "binned",
    "columns_held",
    "contents",
    "contract_text",
    "diff",
    "find_key",
    "get_version",
    "held_back",
    "infer_contract",
    "inferred",
    "leave_out",
    "list_datasets",
    "list_quarantine",
    "list_versions",
    "mark_in",
    "marked_now",
    "put_aside",
    "read",
    "read_contract",
    "status",
    "times_of",
    "verify",
    "violations",
]
