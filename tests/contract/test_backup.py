"""Backup of a live store, restore elsewhere, and migration of a store of an earlier version; on every database."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from stead import care, datasets, ledger, predictions, runs
from stead.config import load_settings
from stead.errors import Conflict, Failed, NotFound, SteadError
from stead.predictions import Label, PredictionLog
from stead.runtime.clock import now_ms
from stead.store import Store, hold_bytes, may_delete, open_store, opening
from stead.store.opening import open_any
from tests.conftest import new_store
from tests.contract.traffic import hours

Make = Callable[[], str]


def elsewhere(root: Path, database: str = "") -> Store:
    """An empty store without tables, or with empty ones."""
    return open_any(load_settings(environ={"STEAD_STORE": str(root), "STEAD_DATABASE": database, "STEAD_USER": "ada"}))


def life(store: Store, note: Callable[[str], None], stop: threading.Event) -> None:
    """Predictions, labels, compaction, and rows of every kind, until told to stop; `note` gets what was acknowledged."""
    made = PredictionLog(store, "gateway-1", roll_bytes=2000)
    number = 0
    while not stop.is_set():
        requests = hours(3, first=3 * number)
        made.append(requests)
        made.sync()
        predictions.add_labels(store, [Label(each.id, 1.0) for each in requests])
        if number % 5 == 4:
            predictions.seal_labels(store)
            predictions.compact(store)
            predictions.refresh_performance(store)
        for each in requests:
            note(each.id)
        number += 1
    made.close()


def test_a_backup_of_a_live_store_has_all_that_was_acknowledged_before(any_store: Store, tmp_path: Path) -> None:
    store = any_store
    datasets.add(store, "d", pa.table({"a": [1.5, None], "b": ["x", "y"]}))
    acknowledged: list[str] = []
    stop = threading.Event()
    traffic = threading.Thread(target=life, args=(store, acknowledged.append, stop))
    traffic.start()
    try:
        made = []
        for _ in range(2):
            while len(acknowledged) < 30 * (1 + len(made)):
                assert traffic.is_alive()
            before = set(acknowledged)
            made.append((care.back_up(store, tmp_path / "place"), before))
    finally:
        stop.set()
        traffic.join()
    assert len(care.list_backups(tmp_path / "place")) == 2
    assert not list((tmp_path / "place").glob(".partial*"))
    for number, (backup, before) in enumerate(made):
        copy = elsewhere(tmp_path / f"copy{number}")
        care.restore(copy, tmp_path / "place" / backup.name)
        assert care.check(copy, contents=True) == []
        predictions.compact(copy)
        predictions.refresh_performance(copy)
        rows = predictions.read(copy, "bikes").to_pylist()
        assert before <= {row["id"] for row in rows if row["label"] is not None}
        assert len(rows) == len({row["id"] for row in rows})
        assert datasets.read(copy, "d@1").to_pylist() == datasets.read(store, "d@1").to_pylist()
        copy.close()


@pytest.mark.parametrize(("source", "target"), [("sqlite", "postgres"), ("postgres", "sqlite")])
def test_a_backup_is_restored_onto_either_database(
    source: str, target: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def database(kind: str) -> str:
        return str(request.getfixturevalue("postgres")()) if kind == "postgres" else ""

    store = new_store(tmp_path / "a", database(source))
    run = runs.start(store, project="p", name="r", source={"none": None, "list": [1, "ü"]})
    runs.log(store, run.id, metrics={"loss": float("nan"), "acc": float("inf")}, step=1)
    with store.db.write("care.record") as tx:
        ledger.record(tx, actor="me", action="alias.set", subject="x", summary="first")
    ledger.checkpoint(store)
    care.back_up(store, tmp_path / "place")
    copy = elsewhere(tmp_path / "b", database(target))
    care.restore(copy, tmp_path / "place")
    assert runs.get_run(copy, run.id) == runs.get_run(store, run.id)
    assert ledger.verify(copy) == ledger.verify(store) == 1
    newest = [entry.action for entry in ledger.list_entries(copy)]
    assert newest == ["store.restored", "alias.set"]  # numbers go on behind those that came along
    with copy.db.read() as a, store.db.read() as b:
        empty = sa.text("select count(*) from ledger where undo is null")
        assert a.execute(empty).scalar() == b.execute(empty).scalar()
    store.close()
    copy.close()


def test_only_what_is_new_is_copied_and_only_so_many_are_kept(store: Store, tmp_path: Path) -> None:
    place = tmp_path / "place"
    store.blobs.put(b"x" * 5000)
    assert care.back_up(store, place).copied >= 5000
    gone = store.blobs.put(b"y" * 7000)
    second = care.back_up(store, place)
    assert second.copied == 7000
    store.blobs.delete(gone)
    for _ in range(2):
        last = care.back_up(store, place, keep=2)
    assert [each.name for each in care.list_backups(place)] == sorted([last.name, care.list_backups(place)[1].name])[
        ::-1
    ]
    assert not (place / "blobs" / gone[:2] / gone[2:]).exists()
    assert len(list((place / "blobs").glob("??/*"))) == last.blobs


def test_what_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(Conflict) as raised:
        care.back_up(store, tmp_path / "other")
    assert raised.value.code == "backup-place"
    with pytest.raises(NotFound):
        care.restore(store, tmp_path / "nothing")
    made = care.back_up(store, tmp_path / "place")
    with pytest.raises(Conflict) as raised:
        care.restore(store, tmp_path / "place")
    assert raised.value.code == "restore-not-empty"
    table = tmp_path / "place" / made.name / "tables" / "ledger.gz"
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    copy = elsewhere(tmp_path / "copy")
    with pytest.raises(Failed) as failed:
        care.restore(copy, tmp_path / "place")
    assert failed.value.code == "backup-corrupt"
    copy.close()


def test_a_store_with_damaged_bytes_is_told_how_it_is_migrated_all_the_same(
    later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path / "s")
    store.blobs.path(store.blobs.put(b"bad")).write_bytes(b"BAD")
    store.close()
    monkeypatch.setenv("STEAD_STORE", str(tmp_path / "s"))
    monkeypatch.setattr(opening, "MIGRATIONS", later)
    (later / "versions" / "0999_next.py").write_text(NEXT)
    from stead.cli import cli

    refused = CliRunner().invoke(cli, ["migrate"]).exception
    assert isinstance(refused, Failed) and refused.code == "backup-damaged" and "migrate --no-backup" in refused.hint
    assert len(care.list_backups(tmp_path / "s" / "backups")) == 1
    assert "was old" in CliRunner().invoke(cli, ["migrate", "--no-backup"], catch_exceptions=False).output


def test_damaged_bytes_are_told_at_backup_and_nothing_else_is_lost(store: Store, tmp_path: Path) -> None:
    good, bad = store.blobs.put(b"good"), store.blobs.put(b"bad")
    store.blobs.path(bad).write_bytes(b"BAD")
    with pytest.raises(Failed) as raised:
        care.back_up(store, tmp_path / "place")
    assert raised.value.code == "backup-damaged" and bad[:12] in raised.value.message
    copy = elsewhere(tmp_path / "copy")
    assert care.restore(copy, tmp_path / "place").damaged == [bad]
    assert copy.blobs.has(good) and not copy.blobs.has(bad)
    copy.close()


def test_while_a_backup_copies_nothing_is_deleted(any_store: Store) -> None:
    assert may_delete(any_store)
    with hold_bytes(any_store, "test") as renew:
        renew()
        assert not may_delete(any_store)
    assert may_delete(any_store)


def test_a_job_that_stores_old_bytes_again_makes_them_fresh(store: Store) -> None:
    import os

    digest = store.blobs.put(b"old")
    os.utime(store.blobs.path(digest), (0, 0))
    assert next(store.blobs.all()).at == 0
    store.blobs.put(b"old")
    assert next(store.blobs.all()).at > now_ms() / 1000 - 60


NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0999", "NEWEST", None, None

def upgrade():
    op.create_table("made_later", sa.Column("id", sa.Integer, primary_key=True))
    with op.batch_alter_table("jobs") as batch:
        batch.add_column(sa.Column("note", sa.Text, nullable=False, server_default="none"))
        batch.alter_column("kind", new_column_name="kind_of")
    op.execute("insert into made_later (id) select count(*) from jobs")
""".replace("NEWEST", max(opening.MIGRATIONS.glob("versions/0*.py")).name[:4])


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This stead has a further migration: stores made by it before are old."""
    folder = tmp_path / "migrations"
    shutil.copytree(opening.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_earlier_store_is_refused_then_migrated_with_a_backup(
    kind: str, later: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue("postgres")() if kind == "postgres" else ""
    store = new_store(tmp_path / "s", url)
    with store.db.write("jobs.enqueue") as tx:
        tx.execute(sa.text(JOB))
        tx.execute(sa.text("insert into job_logs (job_id, seq, at, text) values ('j', 1, 0, 'said')"))
    store.close()
    monkeypatch.setenv("STEAD_STORE", str(tmp_path / "s"))
    monkeypatch.setenv("STEAD_DATABASE", url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opening, "MIGRATIONS", later)
    (later / "versions" / "0999_next.py").write_text(NEXT + "    raise ValueError('half way')\n")
    from stead.cli import cli

    for command in (["status"], ["models", "list"], ["backup", "x"], ["decisions"]):
        refused = CliRunner().invoke(cli, command).exception
        assert isinstance(refused, SteadError) and (refused.code, refused.hint) == ("schema-old", "stead migrate")
    assert "half way" in str(CliRunner().invoke(cli, ["migrate"]).exception)
    db = open_any(load_settings())
    assert opening.schema_state(db.db) == "old"  # nothing of it is left
    with db.db.read() as tx:
        assert not sa.inspect(tx).has_table("made_later")
    (later / "versions" / "0999_next.py").write_text(NEXT)
    done = CliRunner().invoke(cli, ["migrate"], catch_exceptions=False)
    assert "backup: " in done.output and "was old" in done.output
    after = open_store()
    with after.db.read() as tx:
        assert tx.execute(sa.text("select kind_of, note from jobs")).all() == [("train", "none")]
        assert tx.execute(sa.text("select text from job_logs")).all() == [("said",)]  # not gone with its parent's table
        assert tx.execute(sa.text("select id from made_later")).scalar() == 1
    assert len(care.list_backups(tmp_path / "s" / "backups")) == 2
    # the way down: the backup is restored as it was, and migrated again
    copy = elsewhere(tmp_path / "down")
    care.restore(copy, tmp_path / "s" / "backups")
    assert opening.schema_state(copy.db) == "old"
    opening.migrate(copy.db)
    with copy.db.read() as tx:
        assert tx.execute(sa.text("select kind_of, note from jobs")).all() == [("train", "none")]
    for each in (db, after, copy):
        each.close()


JOB = (
    "insert into jobs (id, kind, payload, state, priority, run_after, attempt, max_attempts, timeout_s, fence,"
    " cancel_requested, requested_by, created_at)"
    " values ('j', 'train', '{}', 'succeeded', 0, 0, 1, 1, 1, 1, false, 'me', 0)"
)
