"""A dataset version: a manifest of parts by content, with schema, counts and profile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Part:
    """One file of a version. `format` is `parquet` for frames, `file` for anything kept as it is."""

    path: str
    digest: str
    bytes: int
    format: str
    rows: int | None = None
    time_min: int | None = None
    time_max: int | None = None


@dataclass(frozen=True)
class Reference:
    """A table that is kept elsewhere, at one of its own versions."""

    kind: str
    url: str
    version: int
    rows: int
    bytes: int
    files: int
    time_min: int | None = None
    time_max: int | None = None


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    """Arrow's name of the type: `int64`, `double`, `string`, `timestamp[us]`, …"""
    nullable: bool = True


@dataclass(frozen=True)
class Mark:
    """A key whose rows were erased and that this version may still hold rows of."""

    key: str
    """Its digest, as the ledger's entry of the erasure has it."""
    rows: dict[str, int]
    """By column (of a version of files: by path) how many rows, or files, have it."""
    at: int
    by: str


@dataclass(frozen=True)
class DatasetVersion:
    dataset: str
    version: int
    manifest: str
    schema: list[Column]
    """Columns of the frames; empty for a version of files."""
    rows: int | None
    bytes: int
    parts: int
    time_column: str | None
    time_min: int | None
    time_max: int | None
    """Least and greatest event time, milliseconds; local wall-clock times count as UTC."""
    profile: dict[str, Any]
    """By column what `datasets.profile` says: n, null, and for numbers min, max, mean, sd and histogram, else the top levels."""
    source: dict[str, Any]
    """Where it came from: path, query, the ingest step with since and until, and the version it appends to (`appends`)."""
    created_by: str
    created_at: int
    marks: list[Mark] = field(default_factory=list)
    """Keys that were erased and whose rows it may hold; what appends to it may hold them, too."""
    part_list: list[Part] = field(default_factory=list)
    """Filled by `get_version(…, with_parts=True)`."""

    @property
    def ref(self) -> str:
        return f"{self.dataset}@{self.version}"

    @property
    def marked_for(self) -> str:
        """What its marks mean for who uses it; empty without any."""
        if not self.marks:
            return ""
        keys = f"{len(self.marks)} erased key{'s' if len(self.marks) > 1 else ''}"
        return f"{self.ref} may hold rows of {keys}: stead data show {self.ref}"


Change = Literal["added", "removed", "changed"]


@dataclass(frozen=True)
class ColumnDiff:
    """A column in two versions."""

    name: str
    change: Change | None
    """`changed`: its type. None where both have it with one type."""
    type_before: str | None
    type_after: str | None
    distance: float | None
    """Jensen–Shannon distance of both distributions, missing values a value of their own: 0 the same, 1 nothing in common. None where it is not known."""
    before: dict[str, Any]
    """Its profile, as in `DatasetVersion.profile`; empty where there is no such column. Of times `over_time`, too: rows in equal stretches."""
    after: dict[str, Any]
    """The same of the other version, counted in the edges and levels of the first."""


@dataclass(frozen=True)
class FileDiff:
    """A file, or a part of a table, that is not the same in both."""

    path: str
    change: Change
    bytes_before: int | None
    bytes_after: int | None


@dataclass(frozen=True)
class RowDiff:
    """An example of a row that is not the same in both, its values as texts."""

    change: Change
    key: dict[str, str | None]
    before: dict[str, str | None]
    """Of a changed row the columns that changed."""
    after: dict[str, str | None]


@dataclass(frozen=True)
class RowsDiff:
    """Rows by key."""

    key: list[str]
    added: int
    removed: int
    changed: int
    same: int
    columns: dict[str, int]
    """By column in how many of the changed rows it changed."""
    examples: list[RowDiff]


@dataclass(frozen=True)
class DatasetDiff:
    """What changed from one version to another."""

    before: DatasetVersion
    after: DatasetVersion
    columns: list[ColumnDiff]
    files: list[FileDiff]
    rows: RowsDiff | None
    """None without a key."""

    @property
    def by_change(self) -> list[ColumnDiff]:
        """The columns, those that came, went or changed their type first, then those whose distributions are furthest apart."""
        return sorted(self.columns, key=lambda each: (each.change is None, -(each.distance or 0.0)))
