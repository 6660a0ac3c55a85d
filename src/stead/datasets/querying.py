"""The rows of a query on another database, in batches; it is only read from."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from stead.datasets.sources import Query
from stead.errors import Failed, InvalidInput, NotFound

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 50_000


def read_query(query: Query) -> Generator[pa.Table]:
    """Tables of some rows each, whose types are those of their values.

    Raises InvalidInput (`database-url-invalid`, `driver-missing`, `query-invalid`), NotFound (`source-missing`),
    Failed (`query-failed`).
    """
    engine = _engine(query.url)
    connected = False
    try:
        with engine.connect() as connection:
            connected = True
            yield from _rows(connection, query.sql)
    except sa.exc.SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        if not connected or getattr(error, "connection_invalidated", False):
            hint = "is the database there, and its address right?"
            raise Failed("query-failed", f"the database did not answer: {said}", hint=hint) from None
        raise InvalidInput("query-invalid", f"the query was refused by its database: {said}") from None
    finally:
        engine.dispose()


def _rows(connection: sa.Connection, sql: str) -> Iterator[pa.Table]:
    import pyarrow as pa

    kind = connection.dialect
    if kind.name == "sqlite":
        connection.exec_driver_sql("pragma query_only=on")
    elif kind.name == "postgresql":
        connection = connection.execution_options(postgresql_readonly=True)
    sql = sql.replace("%", "%%") if kind.paramstyle in ("format", "pyformat") else sql
    options: dict[str, Any] = {"stream_results": True, "yield_per": BATCH}
    with connection.execution_options(**options).exec_driver_sql(sql) as found:
        if not found.returns_rows:
            raise InvalidInput("query-invalid", "the query gives no rows", hint="a SELECT")
        names = list(found.keys())
        came = False
        for rows in found.partitions(BATCH):
            came = True
            yield _table(names, list(zip(*rows, strict=True)))
        if not came:
            yield pa.table({name: pa.nulls(0) for name in names})


def shown(url: str) -> str:
    """The address of a database without its password.

    >>> shown("postgresql://ann:secret@db/shop")
    'postgresql://ann:***@db/shop'
    """
    return _parsed(url).render_as_string(hide_password=True)


def _parsed(url: str) -> sa.URL:
    try:
        return sa.make_url(url)
    except sa.exc.ArgumentError:
        raise _odd("it is no address") from None


def _odd(why: str) -> InvalidInput:
    return InvalidInput(
        "database-url-invalid",
        f"the database cannot be asked: {why}",
        hint="sqlite:///FILE or postgresql://USER@HOST/NAME",
    )


def _engine(url: str) -> sa.Engine:
    parsed = _parsed(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).is_file():
        raise NotFound("source-missing", f"there is no database {parsed.database}")
    try:
        return sa.create_engine(parsed)
    except sa.exc.NoSuchModuleError:
        raise _odd(f"nothing speaks {parsed.drivername}") from None
    except ModuleNotFoundError as error:
        driver = "'psycopg[binary]'" if error.name == "psycopg" else f"what has {error.name}, or name another driver"
        raise InvalidInput("driver-missing", f"the database needs {error.name}", hint=f"pip install {driver}") from None


def _table(names: list[str], columns: list[tuple[Any, ...]]) -> pa.Table:
    """Raises InvalidInput (`column-twice`, `frame-unreadable`)."""
    import pyarrow as pa

    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput("column-twice", f"more than one column is called {twice!r}", hint="name it with AS")
    arrays = []
    for name, values in zip(names, columns, strict=True):
        try:
            arrays.append(pa.array(values))
        except pa.ArrowInvalid:
            try:
                arrays.append(pa.array(values, pa.float64()))
            except (pa.ArrowException, TypeError):
                arrays.append(pa.array([None if value is None else str(value) for value in values]))
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise InvalidInput("frame-unreadable", f"the column {name!r} cannot be kept: {error}") from None
    return pa.table(arrays, names=names)
