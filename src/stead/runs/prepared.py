"""Statements of the hot path, turned into the driver's SQL once: a delivery has seven, and each costs a fifth this way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa


class Prepared:
    """A statement with named parameters. Values go to the driver as they are: numbers, texts, bytes and None.

    >>> from stead.store import Database
    >>> plus = Prepared(sa.select(sa.bindparam("a", type_=sa.Integer) + 1))
    >>> with Database("sqlite://").read() as tx:
    ...     plus(tx, {"a": 1}).scalar_one()
    2
    """

    def __init__(self, statement: sa.Executable, columns: Sequence[str] | None = None) -> None:
        self._statement: Any = statement
        self._columns = columns
        self._made: dict[str, tuple[str, list[str] | None]] = {}

    def __call__(
        self, tx: sa.Connection, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> sa.CursorResult[Any]:
        sql, order = self._made.get(tx.dialect.name) or self._make(tx.dialect)
        rows = [values] if isinstance(values, Mapping) else values
        sent: list[Any] = [tuple([row[name] for name in order]) for row in rows] if order is not None else list(rows)
        return tx.exec_driver_sql(sql, sent[0] if len(sent) == 1 else sent)

    def _make(self, dialect: sa.Dialect) -> tuple[str, list[str] | None]:
        compiled = self._statement.compile(dialect=dialect, column_keys=self._columns)
        made = (str(compiled), list(compiled.positiontup) if compiled.positiontup is not None else None)
        self._made[dialect.name] = made
        return made


def insert(table: sa.Table) -> Prepared:
    """An insert of whole rows."""
    return Prepared(sa.insert(table), [column.name for column in table.columns])
