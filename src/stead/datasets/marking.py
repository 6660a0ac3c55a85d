"""Which versions may hold the rows of an erased key: the key itself is looked for, as it stands or as a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from stead.datasets import manifests
from stead.datasets.tables import dataset_versions as versions
from stead.datasets.types import DatasetVersion, Mark, Part
from stead.errors import Failed
from stead.runtime.clock import now_ms
from stead.store import Store, from_row

if TYPE_CHECKING:
    import pyarrow as pa

Held = Mapping[tuple[str, int], Mapping[str, int]]
"""By dataset and version: column, or path of a file, -> rows that have a key."""
PIECE = 1 << 20


def find_key(store: Store, key: str, *, digest: str, column: str | None = None) -> Held:
    """The versions that hold a key and are not marked with its digest, each part read once; with `column` only that one is looked at.

    Columns of text, bytes and numbers are looked at, not lists or records; files that are no tables are searched as text.
    Raises Failed (`dataset-corrupt`).
    """
    seen: dict[tuple[str, str], dict[str, int]] = {}
    held: dict[tuple[str, int], dict[str, int]] = {}
    query = sa.select(versions.c.dataset, versions.c.version, versions.c.manifest, versions.c.marks)
    with store.db.read() as tx:
        rows = tx.execute(query.order_by(versions.c.dataset, versions.c.version)).all()
    for dataset, version, manifest, marks in rows:
        if any(mark["key"] == digest for mark in marks):
            continue
        found: dict[str, int] = {}
        for part in manifests.get(store, manifest, f"{dataset}@{version}").parts:
            place = (part.digest, "" if part.format == "parquet" else part.path)
            if place not in seen:
                seen[place] = _in_part(store, part, key, column)
            for name, number in seen[place].items():
                found[name] = found.get(name, 0) + number
        if found:
            held[dataset, version] = found
    return held


def columns_held(store: Store) -> list[str]:
    """The columns of all versions of data, each name once."""
    with store.db.read() as tx:
        found = tx.execute(sa.select(versions.c.schema)).scalars().all()
    return sorted({column["name"] for schema in found for column in schema})


def marked_now(store: Store, dataset: str) -> str:
    """What whoever trains on the newest version of a dataset should know of its marks; empty where there is nothing."""
    query = sa.select(versions).where(versions.c.dataset == dataset).order_by(versions.c.version.desc()).limit(1)
    with store.db.read() as tx:
        row = tx.execute(query).mappings().first()
    return from_row(row, DatasetVersion).marked_for if row is not None else ""


def mark_in(tx: sa.Connection, held: Held, *, key: str, by: str) -> list[str]:
    """Write into the record of each version that it holds rows of a key (its digest); which ones, as `demand@3`."""
    for (dataset, version), rows in held.items():
        here = (versions.c.dataset == dataset) & (versions.c.version == version)
        marks = tx.execute(sa.select(versions.c.marks).where(here).with_for_update()).scalar() or []
        mark = msgspec.to_builtins(Mark(key, dict(rows), now_ms(), by))
        tx.execute(sa.update(versions).where(here).values(marks=[*marks, mark]))
    return [f"{dataset}@{version}" for dataset, version in held]


def _in_part(store: Store, part: Part, key: str, column: str | None) -> dict[str, int]:
    import pyarrow as pa
    import pyarrow.dataset

    if part.format != "parquet":
        return {part.path: 1} if column is None and _in_file(store.blobs.path(part.digest), key.encode()) else {}
    found = {}
    try:
        rows = pyarrow.dataset.dataset(store.blobs.path(part.digest), format="parquet")
        for field in rows.schema:
            for value in key_values(key, field.type) if column in (None, field.name) else ():
                term: Any = pyarrow.dataset.field(field.name)
                if pa.types.is_dictionary(field.type):
                    term = term.cast(field.type.value_type)
                if number := rows.count_rows(filter=term == value):
                    found[field.name] = number
    except (pa.ArrowException, OSError) as error:
        raise Failed(
            "dataset-corrupt", f"the part {part.path} cannot be read: {error}", hint="stead data verify"
        ) from error
    return found


def key_values(key: str, kind: pa.DataType) -> Iterator[Any]:
    """The key as a column of a type would have it; nothing for types that hold no keys.

    >>> import pyarrow as pa
    >>> [list(key_values(key, kind)) for key in ("7", "ada") for kind in (pa.string(), pa.int8(), pa.float64())]
    [['7'], [7], [7.0], ['ada'], [], []]
    """
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    number = int(key) if key.isascii() and key.isdigit() and str(int(key)) == key else None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield key
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        yield key.encode()
    elif number is not None and pa.types.is_integer(kind):
        if number < 1 << (kind.bit_width - pa.types.is_signed_integer(kind)):
            yield number
    elif number is not None and pa.types.is_floating(kind):
        yield float(number)


def _in_file(path: Path, wanted: bytes) -> bool:
    tail = b""
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            if wanted in tail + piece:
                return True
            tail = piece[-len(wanted) :]
    return False
