"""The two doors of the database, upsert, and what errors become; on every database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from stead.errors import Conflict, Failed, InvalidInput, Unreachable
from stead.ledger.tables import checkpoints as points
from stead.store import Database, Store, migrate, open_store
from stead.store.opening import schema_state
from stead.store.types import Store as StoreType
from tests.conftest import new_store

NAME = "ledger.checkpoint"  # any registered name
"""The transactions below are named after one that exists."""


def row(number: int, digest: str = "a", at: int = 0) -> dict[str, object]:
    return {"last_entry": number, "at": at, "digest": digest}


def rows(store: Store) -> list[tuple[object, ...]]:
    with store.db.read() as tx:
        return [tuple(each) for each in tx.execute(sa.select(points).order_by(points.c.last_entry))]


def test_a_transaction_commits_whole_or_not_at_all(any_store: Store) -> None:
    with any_store.db.write(NAME) as tx:
        tx.execute(sa.insert(points), [row(1), row(2)])
    with pytest.raises(ZeroDivisionError), any_store.db.write(NAME) as tx:
        assert tx.execute(sa.insert(points), row(3)).rowcount / 0
    assert rows(any_store) == [(1, 0, "a"), (2, 0, "a")]


def test_what_contradicts_is_a_conflict_and_changes_nothing(any_store: Store) -> None:
    with pytest.raises(Conflict) as raised, any_store.db.write(NAME) as tx:
        tx.execute(sa.insert(points), [row(1), row(1)])
    assert raised.value.code == "conflict"
    assert rows(any_store) == []


@pytest.mark.parametrize("digest", ["\udcff", "a\x00b"])
def test_a_text_that_no_database_can_hold_is_bad_input(any_store: Store, digest: str) -> None:
    if "\x00" in digest and any_store.db.is_sqlite:
        pytest.skip("SQLite holds it")
    with pytest.raises(InvalidInput) as raised, any_store.db.write(NAME) as tx:
        tx.execute(sa.insert(points), row(1, digest))
    assert raised.value.code == "text-invalid"
    with pytest.raises(InvalidInput), any_store.db.read() as tx:
        tx.execute(sa.select(points).where(points.c.digest == digest))


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_a_number_of_more_than_64_bits_is_bad_input(any_store: Store, number: int) -> None:
    with pytest.raises(InvalidInput) as raised, any_store.db.write(NAME) as tx:
        tx.execute(sa.insert(points), row(1, at=number))
    assert raised.value.code == "number-too-large"
    with pytest.raises(InvalidInput), any_store.db.read() as tx:
        tx.execute(sa.select(points).where(points.c.at < number).limit(number)).first()
    assert rows(any_store) == []


def test_a_transaction_without_a_registered_name_is_refused(any_store: Store) -> None:
    with pytest.raises(LookupError, match="nowhere"), any_store.db.write("nowhere") as tx:
        tx.execute(sa.insert(points), row(1))
    assert rows(any_store) == []


@pytest.mark.filterwarnings("ignore")
def test_ctrl_c_stays_ctrl_c_at_whatever_moment_a_transaction_is_closed(store: Store) -> None:
    """SQLAlchemy that is broken off while it closes one raises an error about its own state."""

    def closed(moment: int) -> int:
        db, seen = Database(store.db.url), 0  # one of its own: a connection that was not given back is lost to the pool

        def stop(*_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == moment:
                sys.setprofile(None)
                raise KeyboardInterrupt

        try:
            with db.read() as tx:
                tx.execute(sa.select(points)).all()
                sys.setprofile(stop)
        finally:
            sys.setprofile(None)
            db.close()
        return seen

    moments = closed(0)
    assert moments > 20
    for moment in range(1, moments - 1):  # the last ones are those of the profile itself
        with pytest.raises(KeyboardInterrupt):
            closed(moment)


def test_upsert(any_store: Store) -> None:
    db = any_store.db
    with db.write(NAME) as tx:
        db.upsert(tx, points, [row(1), row(2)], ["last_entry"])
        db.upsert(tx, points, [row(2, "b", 5), row(3)], ["last_entry"])
        db.upsert(tx, points, row(1, "c", 9), ["last_entry"], update=["digest"])
        db.upsert(tx, points, row(1, "d"), ["last_entry"], update=[])
        db.upsert(tx, points, [], ["last_entry"])
    assert rows(any_store) == [(1, 0, "c"), (2, 5, "b"), (3, 0, "a")]


def test_tables_of_an_empty_old_and_newer_store(any_store: Store) -> None:
    assert schema_state(any_store.db) == "current"
    migrate(any_store.db)
    with any_store.db.write("store.migrate") as tx:
        tx.execute(sa.text("update alembic_version set version_num = '9999'"))
    assert schema_state(any_store.db) == "new"


def test_a_newer_store_is_not_opened(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with store.db.write("store.migrate") as tx:
        tx.execute(sa.text("update alembic_version set version_num = '9999'"))
    store.close()
    with pytest.raises(Failed) as raised:
        new_store(tmp_path)
    assert raised.value.code == "schema-new"


def test_tables_that_are_missing(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(Failed) as raised, db.read() as tx:
        tx.execute(sa.select(points))
    assert raised.value.code == "schema-missing"
    db.close()


@pytest.mark.parametrize("statement", ["select turned from ledger", "insert into ledger (turned) values (1)"])
def test_tables_of_a_development_version_are_told_as_such(any_store: Store, statement: str) -> None:
    """Its revision is today's, a column is not there: it was "database-unreachable", or an error of the driver."""
    with pytest.raises(Failed) as raised, any_store.db.write("store.migrate") as tx:
        tx.execute(sa.text(statement))
    assert raised.value.code == "schema-differs" and "turned" in raised.value.message
    assert "STEAD_STORE" in str(raised.value.hint)


@pytest.mark.parametrize("url", ["no url", "oracle+nothing://x/y", "postgresql://nobody@127.0.0.1:1/none"])
def test_addresses_that_lead_nowhere(url: str) -> None:
    with pytest.raises((InvalidInput, Unreachable)) as raised, Database(url).read() as tx:
        tx.execute(sa.text("select 1"))
    assert raised.value.code in ("database-url-invalid", "driver-missing", "database-unreachable")


def test_a_password_is_never_told() -> None:
    with pytest.raises(Unreachable) as raised, Database("postgresql://ada:geheim@127.0.0.1:1/x").read() as tx:
        tx.execute(sa.text("select 1"))
    assert "geheim" not in str(raised.value)


def test_two_processes_that_open_a_new_store_at_once(tmp_path: Path) -> None:
    code = "import sys; from stead.store import open_store; open_store().close()"
    environment = {"STEAD_STORE": str(tmp_path / "new"), "PATH": "", "HOME": str(tmp_path)}
    started = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    store = new_store(tmp_path / "new")
    assert schema_state(store.db) == "current"
    assert isinstance(store, StoreType)
    assert store.root.stat().st_mode & 0o077 == 0
    store.close()


def test_settings_open_the_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEAD_STORE", str(tmp_path / "here"))
    store = open_store()
    assert store.root == tmp_path / "here"
    store.close()


def test_a_store_in_a_repository_is_not_for_its_git(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    new_store(tmp_path / ".stead").close()
    status = subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path, check=True, capture_output=True)
    assert status.stdout == b""


def test_a_file_that_may_only_be_read_is_named(tmp_path: Path) -> None:
    new_store(tmp_path).close()
    reading = Database(f"sqlite:///file:{tmp_path / 'stead.db'}?mode=ro&uri=true")
    with pytest.raises(Failed) as raised, reading.write(NAME) as tx:
        tx.execute(sa.insert(points), [row(1)])
    assert raised.value.code == "store-permission" and raised.value.hint
    reading.close()


@pytest.mark.parametrize("first", [0, 2])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, first: int) -> None:
    """All of it, or all pages but the first ones."""
    store = new_store(tmp_path)
    with store.db.write(NAME) as tx:
        tx.execute(sa.insert(points), [row(n) for n in range(3)])
    store.close()
    file = tmp_path / "stead.db"
    whole = file.read_bytes()
    file.write_bytes(whole[: first * 4096] + b"x" * (len(whole) - first * 4096))
    with pytest.raises(Failed) as raised:
        rows(new_store(tmp_path))
    assert raised.value.code == "database-damaged" and "stead restore" in str(raised.value.hint)
