"""A store that is not there, damaged, emptied or a copy: said as such, and nothing is made or changed."""

from __future__ import annotations

import shlex
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.life import Life
from tests.conftest import free_ports, new_store

ID = "01a20faac4227f0c82e4d450af24882f"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Life]:
    """An empty project of the default template."""
    made = Life(tmp_path / "p", tuple(free_ports(2)))  # type: ignore[arg-type]
    made.folder.mkdir()
    made.run("init", "--name", "p")
    yield made
    made.run("down")


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    """A folder without a project or a store, and a home of its own."""
    (tmp_path / "home").mkdir()
    (tmp_path / "p").mkdir()
    made = Life(tmp_path / "p", tuple(free_ports(2)), {"HOME": str(tmp_path / "home")})  # type: ignore[arg-type]
    yield made
    made.run("down")


def test_what_only_reads_makes_no_store(life: Life) -> None:
    for command in ("status", "doctor", "doctor --store"):
        life.run(*command.split())
    life.run("models", "show", "q", code=3)
    assert "no store" in life.run("backup", str(life.folder / "backups"), code=1)
    assert not list((life.folder.parent / "home").iterdir()) and not list(life.folder.iterdir())
    life.run("label", ID, "5")
    assert (life.folder.parent / "home" / ".stead" / "stead.db").exists()


def test_doctor_sees_pages_that_no_command_reads(life: Life) -> None:
    root = life.folder.parent / "home" / ".stead"
    new_store(root).close()
    file = root / "stead.db"
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("select rootpage from sqlite_schema where name = 'recipe_budgets'")
        page = int(found.fetchone()[0])
    with open(file, "r+b") as out:
        out.seek((page - 1) * 4096)
        out.write(b"x" * 4096)
    life.run("status")
    [row] = [each for each in life.json("doctor") if each["name"] == "store"]
    assert not row["ok"] and "is damaged" in row["found"] and "stead restore" in row["hint"]
    assert "is damaged" in life.run("doctor", "--store", code=1)


@pytest.mark.parametrize("left", [0, None, 4096])
def test_an_emptied_database_is_no_new_store(life: Life, left: int | None) -> None:
    """Empty, away, or a header whose write-ahead log is lost."""
    root = life.folder.parent / "home" / ".stead"
    store = new_store(root)
    store.blobs.put(b"a model")
    store.close()
    file = root / "stead.db"
    file.unlink()
    if left is not None:
        file.touch()
    if left:
        connection = sqlite3.connect(file)
        connection.execute("pragma journal_mode=wal")
        connection.close()
    before = file.read_bytes() if file.exists() else None
    for command in (["status"], ["label", ID, "5"], ["up", "--background"]):
        told = life.run(*command, code=1)
        assert "stead.db is missing or empty" in told and "hint: " in told and "stead restore" in told
    assert (file.read_bytes() if file.exists() else None) == before
    assert not next(each for each in life.json("doctor") if each["name"] == "store")["ok"]


def test_ports_in_use_are_told_at_once_with_a_command_that_works(life: Life) -> None:
    with socket.create_server(("127.0.0.1", life.ports[0])), socket.create_server(("127.0.0.1", life.ports[1])):
        told = life.run("up", "--background", code=2)
        assert f"port {life.ports[0]} of" in told and f"port {life.ports[1]} of" in told
        hint = next(line.removeprefix("hint: stead ") for line in told.splitlines() if line.startswith("hint: "))
        life.run(*shlex.split(hint))
        assert life.json("status")["up"] is True


def test_a_project_copied_while_it_is_up_trains_by_itself(project: Life, tmp_path: Path) -> None:
    project.run("up", "--background")
    copy = Life(tmp_path / "copy", project.ports, project.extra)
    deadline = time.monotonic() + 20
    while not project.json("status")["gateways"]:
        assert time.monotonic() < deadline
    shutil.copytree(project.folder, copy.folder)
    copy.run("train", "p", "--since", "2026-01-01", "--until", "2026-02-01")
    told = copy.run("deploy", "p", code=2)
    assert f"port {project.ports[0]} of" in told and "hint: stead up --background --port" in told
    assert project.json("models", "list") == []


def test_a_training_goes_on_here_when_its_agent_is_taken_away(project: Life) -> None:
    code = project.folder / "p.py"
    once = f"import pathlib, time; m = pathlib.Path({str(project.folder / 'm')!r}); m.exists() or m.touch() or time.sleep(600)"
    code.write_text(code.read_text().replace("    return Hist", f"    {once}\n    return Hist"))
    project.run("up", "--background")
    train = project.begin("train", "p", "--since", "2026-01-01", "--until", "2026-02-01")
    deadline = time.monotonic() + 120
    while not any((job["progress"] or {}).get("doing") == "evaluate" for job in project.json("jobs", "list")):
        assert time.monotonic() < deadline and train.poll() is None, train.communicate()
    project.run("down")
    _, said = train.communicate(timeout=180)
    assert train.returncode == 0 and "the job goes on here" in said, said
    assert project.json("models", "list")[0]["name"] == "p"
