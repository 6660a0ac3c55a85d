"""What a backup consists of, and what a check of a store finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Progress = Callable[[str, float, float | None], None]
"""Told what is done now, how much of it, and of how much."""


@dataclass(frozen=True)
class TableCopy:
    """The rows of one table in a backup."""

    columns: list[str]
    rows: int
    file: str
    digest: str


@dataclass(frozen=True)
class Manifest:
    """A backup: what is in it, by content. Bytes lie beside all backups of one place, by their own names."""

    name: str
    stead: str
    revision: str
    at: int
    by: str
    database: str
    tables: dict[str, TableCopy]
    files: dict[str, str]
    """Path in the store's folder → BLAKE3: the newest part of the prediction log, and runs that were not delivered yet."""
    blobs: int
    bytes: int
    names: str
    """BLAKE3 of the list of the blobs' names."""
    damaged: list[str] = field(default_factory=list)
    """Blobs that were not in the store as their names say, so they are not here."""
    format: int = 1


@dataclass(frozen=True)
class Backup:
    """A backup that was made or found."""

    place: str
    name: str
    at: int
    revision: str
    rows: int
    blobs: int
    bytes: int
    copied: int
    """Bytes that were copied for it; the rest was there from an earlier one."""
    damaged: list[str]

    @classmethod
    def of(cls, place: Path, manifest: Manifest, *, copied: int = 0) -> Backup:
        """What a manifest tells of its backup."""
        rows = sum(table.rows for table in manifest.tables.values())
        return cls(
            str(place), manifest.name, manifest.at, manifest.revision, rows, manifest.blobs, manifest.bytes, copied,
            manifest.damaged,
        )  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """Something that a store should have and has not, or has otherwise."""

    what: str
    why: str
