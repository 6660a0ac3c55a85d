"""Data versions by content: a version is a manifest of parts, with schema, row count, time range and profile.

Appending adds parts and copies none (`operations`); `sources` and `schemas` check what is given, `reading` gives rows
between two times, files for a job, and verifies bytes.
"""

from stead.datasets.operations import add, add_stored, get_version, list_datasets, list_versions
from stead.datasets.reading import materialise, read, verify
from stead.datasets.types import Column, DatasetVersion, Part

OPERATIONS = {
    "read": ("get_version", "list_datasets", "list_versions", "verify"),
    "write": ("add_stored",),
}

__all__ = [
    "OPERATIONS",
    "Column",
    "DatasetVersion",
    "Part",
    "add",
    "add_stored",
    "get_version",
    "list_datasets",
    "list_versions",
    "materialise",
    "read",
    "verify",
]
