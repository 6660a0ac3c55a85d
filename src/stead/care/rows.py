"""Rows of every table as files that any database takes back: SQLite's onto PostgreSQL and the other way.

Tables are read as they are in the database, not as this version of stead has them, so that a store of an earlier version
is saved before it is migrated. A file is gzip of blocks: four bytes of length, then MessagePack of a list of rows. JSON
stays the text that it was.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from stead.errors import Failed
from stead.store import digest_of

PASSING = frozenset({"alembic_version", "agents", "gateways", "store_holds"})
"""The revision is kept by itself; the others tell of processes, which a restored store does not have."""
BLOCK = 500
_LENGTH = struct.Struct("<I")


def tables_of(tx: sa.Connection) -> list[sa.Table]:
    """The tables that hold something to keep, those that others point at first."""
    found = sa.MetaData()
    found.reflect(bind=tx)
    return [table for table in found.sorted_tables if table.name not in PASSING]


def write_rows(tx: sa.Connection, table: sa.Table, path: Path) -> tuple[int, str]:
    """Write all rows of a table to a file; how many, and the file's digest."""
    columns = [sa.cast(c, sa.Text).label(c.name) if isinstance(c.type, sa.JSON) else c for c in table.columns]
    encode = msgspec.msgpack.Encoder().encode
    number = 0
    with open(path, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=3, mtime=0, filename="") as out:
        found = tx.execute(sa.select(*columns).execution_options(yield_per=BLOCK))
        for block in found.partitions(BLOCK):
            data = encode([[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in block])
            out.write(_LENGTH.pack(len(data)) + data)
            number += len(block)
    return number, digest_of(path)


def read_rows(path: Path) -> Iterator[list[list[Any]]]:
    """The blocks of a file."""
    with gzip.open(path, "rb") as file:
        while head := file.read(_LENGTH.size):
            yield msgspec.msgpack.decode(file.read(_LENGTH.unpack(head)[0]))


def insert_rows(tx: sa.Connection, name: str, columns: Sequence[str], path: Path) -> int:
    """Put the rows of a file into a table of the database; how many."""
    table = sa.Table(name, sa.MetaData(), autoload_with=tx, resolve_fks=False)
    kinds: list[Any] = [table.c[column].type for column in columns]
    texts = [place for place, kind in enumerate(kinds) if isinstance(kind, sa.JSON)]
    into = sa.table(
        name,
        *(
            sa.column(column, sa.JSON(none_as_null=True) if isinstance(kind, sa.JSON) else kind)
            for column, kind in zip(columns, kinds, strict=True)
        ),
    )
    number = 0
    for block in read_rows(path):
        for row in block:
            for place in texts:
                row[place] = _parsed(row[place])
        try:
            tx.execute(sa.insert(into), [dict(zip(columns, row, strict=True)) for row in block])
        except sa.exc.DataError as error:
            raise Failed("restore-unfit", f"this database does not take a row of {name}: {error.orig}") from error
        number += len(block)
    _go_on_counting(tx, table)
    return number


def _parsed(text: str | None) -> Any:
    """JSON as it is to be inserted: no value at all and the value null are two things."""
    if text is None:
        return None
    return sa.JSON.NULL if text == "null" else json.loads(text)


def _go_on_counting(tx: sa.Connection, table: sa.Table) -> None:
    """PostgreSQL numbers new rows by a sequence, which does not see rows that bring their number along."""
    key = table.primary_key.columns
    if tx.dialect.name == "sqlite" or len(key) != 1 or not isinstance((column := next(iter(key))).type, sa.Integer):
        return
    sequence = tx.execute(sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))).scalar()
    last = tx.execute(sa.select(sa.func.max(column))).scalar()
    if sequence is not None and last is not None:
        tx.execute(sa.select(sa.func.setval(sequence, last)))
