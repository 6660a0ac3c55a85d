"""Statements on SQLite or PostgreSQL: transactions, upsert, pages. SQLAlchemy Core, no ORM."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from stead.errors import Conflict, Failed, InvalidInput, Unreachable
from stead.runtime import typed
from stead.runtime.failpoints import check_registered, failpoint

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""All tables: each part's `tables.py` adds its own."""

Row = sa.RowMapping
T = TypeVar("T")


class Database:
    """One database. `write` and `read` are the only doors.

    >>> db = Database("sqlite://")
    >>> with db.read() as tx:
    ...     tx.execute(sa.text("select 1")).scalar_one()
    1
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            parsed = sa.make_url(url)
        except sa.exc.ArgumentError:
            raise InvalidInput("database-url-invalid", f"{_hide(url)!r} is not a database URL") from None
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self.engine = sa.create_engine(parsed, connect_args={"timeout": 30, "check_same_thread": False})
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            if parsed.get_backend_name() == "postgresql" and parsed.drivername == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
            try:
                self.engine = sa.create_engine(parsed, pool_pre_ping=True)
            except sa.exc.NoSuchModuleError:
                raise InvalidInput(
                    "database-url-invalid",
                    f"stead knows no database {parsed.drivername!r}",
                    hint="sqlite:///FILE or postgresql://USER@HOST/NAME",
                ) from None
            except ModuleNotFoundError as error:
                raise InvalidInput(
                    "driver-missing",
                    f"the database {_hide(url)} needs {error.name}",
                    hint="pip install 'psycopg[binary]'",
                ) from None
        self._writing = self.engine.execution_options(stead_write=True)

    @contextmanager
    def write(self, name: str, *, tables: bool = False) -> Iterator[sa.Connection]:
        """One transaction that changes something; commits at the end, rolls back on any error.

        `name` is its failpoint. On SQLite it takes the write lock at once, so it never fails half way for a lock. One that
        changes `tables` may take a table away and put another in its place: SQLite's foreign keys are held against the rows
        at its end, where else rows that point at the table would go with it.
        """
        check_registered(name)
        with self._translated(), _heeded(), self._writing.connect() as tx, self._foreign_keys_late(tx, tables):
            with tx.begin():
                yield tx
                if tables and self.is_sqlite and (torn := tx.exec_driver_sql("pragma foreign_key_check").first()):
                    raise Conflict("conflict", f"rows of {torn[0]} would point at nothing in {torn[2]}")
                failpoint(f"{name}:before")
            failpoint(f"{name}:after")

    @contextmanager
    def _foreign_keys_late(self, tx: sa.Connection, tables: bool) -> Iterator[None]:
        if not (tables and self.is_sqlite):
            yield
            return
        cursor = tx.connection.cursor()  # outside of a transaction, where alone SQLite takes this word
        cursor.execute("pragma foreign_keys=off")
        try:
            yield
        finally:
            cursor.execute("pragma foreign_keys=on")
            cursor.close()

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """A transaction that only reads, all of it as of one moment, however long it takes and whatever is written meanwhile."""
        with self.read() as tx:
            if self.is_sqlite:
                tx.exec_driver_sql("select count(*) from sqlite_master").all()  # the moment is that of the first read
            else:
                tx.exec_driver_sql("set transaction isolation level repeatable read, read only")
                tx.exec_driver_sql("select 1").all()
            yield tx

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One transaction that only reads; on PostgreSQL each statement sees the moment at which it began."""
        with self._translated(), _heeded(), self.engine.connect() as tx:
            yield tx

    def check(self) -> None:
        """Read all of a SQLite file. Raises Failed (`database-damaged`) with what is wrong first."""
        if not self.is_sqlite:
            return
        with self.read() as tx:
            said = str(tx.exec_driver_sql("pragma quick_check(1)").scalar())
        if said != "ok":
            raise damaged(f"the database {self.url} is damaged: {' '.join(said.split())}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.IntegrityError as error:
            raise Conflict("conflict", f"the change contradicts what is stored: {error.orig}") from error
        except sa.exc.OperationalError as error:
            text = str(error.orig)
            if "full" in text or "disk I/O" in text or "No space" in text:
                raise Failed(
                    "disk-full", f"the database could not be written: {text}", hint="free space and try again"
                ) from error
            if "readonly" in text:
                raise Failed(
                    "store-permission",
                    f"the database {_hide(self.url)} cannot be written: {text}",
                    hint="let the user of stead write it and its folder",
                ) from error
            if "no such table" in text or "does not exist" in text:
                raise Failed("schema-missing", f"the store has no tables yet: {text}", hint="stead migrate") from error
            if _lacks_column(text):
                raise _differs(_hide(self.url), text) from error
            if "deadlock" in text:
                said = "the database ended one of two changes that waited for each other"
                raise Failed("database-locked", said, hint="try again") from error
            if "locked" in text:
                raise Failed("database-locked", "the database stayed locked for 30 s", hint="stead status") from error
            raise Unreachable("database-unreachable", f"{_hide(self.url)} does not answer: {text}") from error
        except (sa.exc.StatementError, OverflowError, UnicodeEncodeError) as error:
            text = str(error.orig) if isinstance(error, sa.exc.DatabaseError) else ""
            if "malformed" in text or "not a database" in text:
                raise damaged(f"the database {_hide(self.url)} is damaged: {text}") from error
            if _lacks_column(text):
                raise _differs(_hide(self.url), text.splitlines()[0]) from error
            refused = _value_refused(error.orig if isinstance(error, sa.exc.StatementError) else error)
            if refused is None:
                raise
            raise refused from error

    def marks(self, number: int) -> str:
        """What stands for so many values in a statement of the driver's own: for thousands of rows at once."""
        return ", ".join(["?" if self.is_sqlite else "%s"] * number)

    def upsert(
        self,
        tx: sa.Connection,
        table: sa.Table,
        values: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        keys: Iterable[str],
        *,
        update: Iterable[str] | None = None,
    ) -> None:
        """Insert rows; where `keys` exist already, change `update` (all other given columns by default; [] leaves them)."""
        rows: list[dict[str, Any]] = [dict(values)] if isinstance(values, Mapping) else [dict(row) for row in values]
        if not rows:
            return
        insert: Any
        if self.is_sqlite:
            insert = sqlite.insert(table)
        else:
            from sqlalchemy.dialects import postgresql

            insert = postgresql.insert(table)
        keys = list(keys)
        columns = [column for column in rows[0] if column not in keys] if update is None else list(update)
        if columns:
            insert = insert.on_conflict_do_update(index_elements=keys, set_={c: insert.excluded[c] for c in columns})
        else:
            insert = insert.on_conflict_do_nothing(index_elements=keys)
        tx.execute(insert, rows)

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def _heeded() -> Iterator[None]:
    """Broken off while it closes a transaction SQLAlchemy raises an error about the state that it is in: Ctrl-C stays Ctrl-C."""
    try:
        yield
    except Exception as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


def from_row(row: Row, kind: type[T], **further: Any) -> T:
    """A row as the dataclass whose fields carry its columns' names; `further` adds or replaces fields."""
    return typed.convert({str(name): value for name, value in row.items()} | further, kind)


def checked_limit(limit: int, most: int = 10_000) -> int:
    """A count of rows to answer with. Raises InvalidInput (`limit-invalid`).

    >>> checked_limit(5)
    5
    """
    if not 0 < limit <= most:
        raise InvalidInput("limit-invalid", f"limit must be 1 to {most}, not {limit}")
    return limit


def damaged(message: str) -> Failed:
    """Rows are lost: what is wrong, and the way back."""
    return Failed("database-damaged", message, hint="stead down; move the store aside; stead restore BACKUPS")


def _lacks_column(text: str) -> bool:
    return bool(re.search(r"no such column|has no column named|column \S+( of relation \S+)? does not exist", text))


def _differs(url: str, text: str) -> Failed:
    return Failed(
        "schema-differs",
        f"the tables of {url} are of a stead between two versions, which none brings to this one: {text}",
        hint="use the stead that made them, or begin a new store: STEAD_STORE=FOLDER",
    )


def _value_refused(error: BaseException | None) -> InvalidInput | None:
    """What is wrong with a value that a driver did not take; None for any other error."""
    text = str(error)
    if "SQLite INTEGER" in text or "out of range" in text:
        return InvalidInput("number-too-large", "a number has more than 64 bits")
    if isinstance(error, UnicodeEncodeError) or "NUL (0x00)" in text:
        return InvalidInput("text-invalid", "a text has characters that cannot be stored")
    return None


def _hide(url: str) -> str:
    return re.sub(r"://([^:@/]*):[^@/]*@", r"://\1:***@", url)


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's "begin" event starts transactions, not the driver
    cursor = connection.cursor()
    cursor.execute("pragma journal_mode=wal")
    cursor.execute("pragma synchronous=full")  # an acknowledged change survives a power cut: 2.8 ms a commit
    cursor.execute("pragma foreign_keys=on")
    cursor.execute("pragma busy_timeout=30000")
    cursor.execute("pragma cache_size=-32000")
    cursor.execute("pragma case_sensitive_like=on")  # as PostgreSQL; ilike is spelled with lower()
    cursor.close()


def _begin_sqlite(tx: sa.Connection) -> None:
    tx.exec_driver_sql("BEGIN IMMEDIATE" if tx.get_execution_options().get("stead_write") else "BEGIN")
