"""Statements of the hot path, turned into the driver's SQL once: a delivery has seven, and each costs a fifth this way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

_Order = Callable[[Mapping[str, Any]], tuple[Any, ...]]
"""Puts a row's values into the order of the statement's question marks."""


class Prepared:
    """A statement with named parameters. Values go to the driver as they are: numbers, texts, bytes and None.

    >>> from stead.store import Database
    >>> plus = Prepared(sa.select((sa.bindparam("a", type_=sa.Integer) + sa.literal_column("1")).label("b")))
    >>> with Database("sqlite://").read() as tx:
    ...     plus.rows(tx, {"a": 1}), plus.value(tx, {"a": 2})
    ([{'b': 2}], 3)
    """

    def __init__(self, statement: sa.Executable, columns: Sequence[str] | None = None) -> None:
        self._statement: Any = statement
        self._columns = columns
        self._made: dict[str, tuple[str, _Order | None]] = {}

    def run(self, tx: sa.Connection, *values: Mapping[str, Any]) -> None:
        """Execute it once for each of `values`."""
        self._execute(tx, values)

    def value(self, tx: sa.Connection, values: Mapping[str, Any]) -> Any:
        """The first column of the first row, or None."""
        row = self._execute(tx, (values,)).fetchone()
        return None if row is None else row[0]

    def rows(self, tx: sa.Connection, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        cursor = self._execute(tx, (values,))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _execute(self, tx: sa.Connection, values: Sequence[Mapping[str, Any]]) -> Any:
        sql, order = self._made.get(tx.dialect.name) or self._make(tx.dialect)
        sent: list[Any] = list(values if order is None else map(order, values))
        cursor = tx.connection.cursor()
        try:
            if len(sent) == 1:
                cursor.execute(sql, sent[0])
            else:
                cursor.executemany(sql, sent)
        except Exception as error:
            # As SQLAlchemy would have raised it, so that the store translates it.
            raise sa.exc.DBAPIError.instance(sql, None, error, tx.dialect.loaded_dbapi.Error) from error
        return cursor

    def _make(self, dialect: sa.Dialect) -> tuple[str, _Order | None]:
        compiled = self._statement.compile(dialect=dialect, column_keys=self._columns)
        names = compiled.positiontup
        if names is None:
            order: _Order | None = None
        elif len(names) == 1:
            order = lambda row: (row[names[0]],)  # noqa: E731
        else:
            order = itemgetter(*names)
        made = (str(compiled), order)
        self._made[dialect.name] = made
        return made


def insert(table: sa.Table) -> Prepared:
    """An insert of whole rows."""
    return Prepared(sa.insert(table), [column.name for column in table.columns])
