"""Wheels that the store keeps: an environment is made of them without any index, and what cannot be had again is named."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa
from local_package import make_package

from stead import environments, jobs
from stead.config import load_settings
from stead.environments.locking import build_wheel
from stead.environments.vendoring import locate
from stead.jobs.tables import jobs as job_table
from stead.processes.handlers import handlers
from stead.store import Store

NAME = "stead-test-vendored"


class Index:
    """A package index of our own beside the real one: what it has can be withdrawn."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.page = root / "simple" / NAME / "index.html"
        self.page.parent.mkdir(parents=True)
        (root / "out").mkdir()

    def publish(self, value: int, version: str = "1.0") -> Path:
        source = make_package(self.root / f"source{value}", NAME.replace("-", "_"), source=f"VALUE = {value}\n")
        wheel = build_wheel(source, self.root / "out")
        sha = hashlib.sha256(wheel.read_bytes()).hexdigest()
        kept = wheel.rename(self.page.parent / wheel.name)
        self.page.write_text(f'<a href="{kept.name}#sha256={sha}">{kept.name}</a>')
        return kept


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    made = Index(tmp_path / "index")
    made.publish(42)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(made.root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("UV_INDEX", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    yield made
    server.shutdown()
    server.server_close()


def lock(store: Store) -> environments.Environment:
    return environments.lock(store, [NAME, "six"])


def vendor(store: Store, digest: str) -> jobs.Job:
    job = environments.vendor(store, digest)
    assert environments.vendor(store, digest).id == job.id, "it is asked for once"
    done = jobs.work(store, handlers(load_settings()), owner="me", job_id=job.id)
    assert done is not None
    return done


def forget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """Another machine: nothing cached."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / name))


def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV_INDEX")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


def test_an_environment_is_made_of_what_is_kept(
    store: Store, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = lock(store)
    done = vendor(store, environment.digest)
    assert done.state == "succeeded" and done.result is not None, done.error
    assert (done.result["kept"], done.result["new"]) == (3, 3), "msgspec is in every environment"
    again = vendor(store, environment.digest)
    assert again.result is not None and (again.result["kept"], again.result["new"]) == (3, 0)
    forget(monkeypatch, tmp_path, "other")
    no_index(monkeypatch)
    assert environments.unobtainable(store, environment) == {}
    python = environments.ensure(store, environment.digest)
    run = subprocess.run(
        [python, "-c", "import stead_test_vendored, six; print(stead_test_vendored.VALUE)"], capture_output=True
    )
    assert run.stdout == b"42\n", run.stderr
    assert {wheel.name for wheel in environments.vendored(store, environment)} == {NAME, "six", "msgspec"}


def test_what_cannot_be_had_again_is_named(
    store: Store, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = lock(store)
    assert environments.unobtainable(store, environment) == {}
    index.page.write_text("")
    forget(monkeypatch, tmp_path, "other")
    assert environments.unobtainable(store, environment) == {NAME: "1.0 is not at the index any more"}
    failed = vendor(store, environment.digest)
    assert failed.state == "failed" and failed.error is not None and failed.error["code"] == "wheels-missing"
    assert failed.error["message"] == f"not every wheel can be had: {NAME} 1.0 is not at the index any more"
    assert {wheel.name for wheel in environments.vendored(store, environment)} == {"six", "msgspec"}, "the rest is kept"
    index.publish(43)
    forget(monkeypatch, tmp_path, "third")
    assert environments.unobtainable(store, environment) == {
        NAME: "1.0 has other bytes at the index than the lock names"
    }
    no_index(monkeypatch)
    assert "the index does not answer" in environments.unobtainable(store, environment)[NAME]


def test_what_is_listed_and_gone_is_named_and_the_rest_is_kept(
    store: Store, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = lock(store)
    (wheel,) = index.page.parent.glob("*.whl")
    wheel.unlink()
    failed = vendor(store, environment.digest)
    assert failed.error is not None and failed.error["code"] == "wheels-missing", failed
    assert failed.error["message"] == f"not every wheel can be had: {NAME} 1.0 is not at the index any more"
    assert {wheel.name for wheel in environments.vendored(store, environment)} == {"six", "msgspec"}
    forget(monkeypatch, tmp_path, "other")
    no_index(monkeypatch)
    failed = vendor(store, environment.digest)
    assert failed.error is not None and failed.error["code"] == "index-unreachable", failed
    assert failed.error["message"].endswith(f"; not kept yet: {NAME}")


def test_what_comes_with_other_bytes_is_not_kept(store: Store, index: Index) -> None:
    environment = lock(store)
    (wheel,) = index.page.parent.glob("*.whl")
    wheel.write_bytes(wheel.read_bytes()[:-1])
    failed = vendor(store, environment.digest)
    assert failed.error is not None and failed.error["code"] == "wheel-damaged", failed
    assert NAME not in {wheel.name for wheel in environments.vendored(store, environment)}


KILLED = """
import sys; from stead import jobs; from stead.config import load_settings
from stead.processes.handlers import handlers; from stead.store import open_store
store = open_store(load_settings(environ={"STEAD_STORE": sys.argv[1], "STEAD_USER": "ada"}))
jobs.work(store, handlers(load_settings()), owner="dying")
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_while_wheels_are_kept_it_goes_on(store: Store, index: Index, moment: str) -> None:
    environment = lock(store)
    job = environments.vendor(store, environment.digest)
    environ = {**os.environ, "STEAD_FAILPOINT": f"environments.vendor:{moment}#2"}
    died = subprocess.run([sys.executable, "-c", KILLED, str(store.root)], env=environ, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(environments.vendored(store, environment)) == (1 if moment == "before" else 2)
    with store.db.write("jobs.beat") as tx:
        tx.execute(sa.update(job_table).where(job_table.c.id == job.id).values(lease_until=1))
    done = jobs.work(store, handlers(load_settings()), owner="me")
    assert done is not None and done.state == "succeeded", done
    assert len(environments.vendored(store, environment)) == 3


def test_wheels_of_another_platform(store: Store, tmp_path: Path) -> None:
    environment = environments.lock(store, ["six", "numpy>=2"])
    paths = environments.fetch_all(store, environment, tmp_path, platform="linux-aarch64", glibc="2.28")
    names = sorted(path.name for path in paths)
    assert [name.partition("-")[0] for name in names] == ["msgspec", "numpy", "six"]
    assert all("aarch64" in name or name.endswith("none-any.whl") for name in names)
    hashes = {"six": {"0" * 64}}
    assert locate({"six": "1.16.0"}, hashes, python="3.12", platform="linux-aarch64") == (
        [],
        {"six": "1.16.0 has other bytes at the index than the lock names"},
    )
