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


@dataclass(frozen=True)
class Rules:
    """How long what is kept, as durations (`400d`, `2y`); empty: for good. The settings `keep_predictions`, `keep_runs`, `keep_data`."""

    predictions: str = ""
    runs: str = ""
    data: str = ""


@dataclass(frozen=True)
class Pruned:
    """What the rules let go, or would."""

    dry_run: bool
    requests: int
    """Of the prediction log, with their labels and what was scored aside; or named by labels alone, whose prediction never came."""
    runs: list[str]
    data: list[str]
    """Data versions, such as `demand@3`."""
    quarantined: int
    """Batches in quarantine."""
    results: int
    """Stored results of steps: a step whose result is gone is run again."""
    bytes: int
    """About so much is free then; part of it belongs to bytes that nothing named before, either."""
    image_bytes: int = 0
    """Of these, what was kept for building images and no build used for a month: the next that needs it makes it again."""

    @property
    def anything(self) -> bool:
        return bool(self.requests or self.runs or self.data or self.quarantined or self.results)

    @property
    def sentence(self) -> str:
        """
        >>> Pruned(True, 3, ["a"], [], 0, 0, 10).sentence
        '3 requests, 1 run'
        """
        counts = {
            "request": self.requests,
            "run": len(self.runs),
            "data version": len(self.data),
            "quarantined batch": self.quarantined,
            "stored result": self.results,
        }
        said = [
            f"{n} {word if n == 1 else word + ('es' if word.endswith('h') else 's')}" for word, n in counts.items() if n
        ]
        return ", ".join(said) or "nothing"
