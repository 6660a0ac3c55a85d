"""An environment is there whole or not at all."""

from __future__ import annotations

import fcntl
import os
import py_compile
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from local_package import make_package

from stead import deployments, environments, jobs, models
from stead.environments.bytecode import borrow
from stead.errors import Failed, InvalidInput, Unreachable
from stead.store import Store
from tests.conftest import new_store

TAG = sys.implementation.cache_tag

ENSURE = """
import sys
from stead import environments
from stead.config import load_settings
from stead.store import open_store
store = open_store(load_settings(environ={"STEAD_STORE": sys.argv[1]}))
print(environments.ensure(store, sys.argv[2], progress=print))
"""


def ensure_elsewhere(store: Store, digest: str, **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ENSURE, str(store.root), digest]
    return subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True)


def test_ensure_builds_what_is_locked(store: Store, tmp_path: Path) -> None:
    package = make_package(tmp_path / "package", "stead_test_local", source="VALUE = 42\n")
    digest = environments.lock(store, [str(package), "colorama"]).digest
    said: list[str] = []
    python = environments.ensure(store, digest, progress=said.append)
    assert said[0].startswith("creating environment")
    assert python == store.root / "environments" / digest[:16] / "bin" / "python"
    code = "import colorama, stead_test_local, msgspec, stead.runtime.clock, stead; print(stead_test_local.VALUE)"
    variables = environments.variables(extra={"PYTHONPATH": str(environments.runtime_path(store))})
    run = subprocess.run([python, "-c", code], env=variables, capture_output=True, text=True)
    assert run.stdout == "42\n", run.stderr
    absent = subprocess.run([python, "-c", "import stead.store"], env=variables, capture_output=True, text=True)
    assert "No module named 'stead.store'" in absent.stderr
    said.clear()
    assert environments.ensure(store, digest, progress=said.append) == python and said == []
    assert environments.runtime_path(store) == environments.runtime_path(store)
    hidden = [path.name for path in (store.root / "environments").iterdir() if path.name.startswith(".")]
    assert hidden == []


def test_stores_may_share_their_environments_by_a_link(store: Store, tmp_path: Path) -> None:
    python = environments.ensure(store, environments.lock(store, ["colorama"]).digest)
    other = new_store(tmp_path / "other")
    (other.root / "environments").symlink_to(store.root / "environments")
    said: list[str] = []
    assert environments.ensure(other, environments.lock(other, ["colorama"]).digest, progress=said.append) == python
    assert said == []
    other.close()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_kill_at_the_rename(store: Store, moment: str) -> None:
    digest = environments.lock(store, ["colorama"]).digest
    process = ensure_elsewhere(store, digest, STEAD_FAILPOINT=f"environments.ensure:{moment}")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert (store.root / "environments" / digest[:16]).exists() == (moment == "after")
    python = environments.ensure(store, digest)
    assert subprocess.run([python, "-c", "import colorama"]).returncode == 0
    assert not list((store.root / "environments").glob(".*"))


def test_kill_while_uv_works(store: Store) -> None:
    digest = environments.lock(store, ["colorama"]).digest
    process = ensure_elsewhere(store, digest)
    deadline = time.monotonic() + 30
    while not list((store.root / "environments").glob(".3.*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=30)
    python = environments.ensure(store, digest)
    assert subprocess.run([python, "-c", "import colorama"]).returncode == 0


def test_the_next_build_removes_what_killed_ones_left(store: Store) -> None:
    left, other = (environments.lock(store, [name]).digest for name in ("colorama", "six"))
    process = ensure_elsewhere(store, left, STEAD_FAILPOINT="environments.ensure:before")
    process.communicate(timeout=60)
    folder = store.root / "environments"
    assert list(folder.glob(".3.*-0"))
    held = folder / ".3.99-0"
    held.mkdir()
    with open(folder / "3.99-0.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environments.ensure(store, other)
        assert list(folder.glob(".*")) == [held], "its builder lives"
    python = environments.ensure(store, left)
    assert python.exists() and not list(folder.glob(".*"))


def test_two_environments_are_built_at_once_each_in_a_place_of_its_own(store: Store) -> None:
    first, second = (environments.lock(store, [name]).digest for name in ("colorama", "six"))
    folder = store.root / "environments"
    folder.mkdir(exist_ok=True)
    python = environments.get(store, first).python
    with open(folder / f"{python}-0.lock", "w") as lock:  # as one that builds there
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = ensure_elsewhere(store, second, STEAD_FAILPOINT="environments.ensure:before")
        process.communicate(timeout=60)
        assert [path.name for path in folder.glob(".*")] == [f".{python}-1"]
    assert environments.ensure(store, first).exists() and not list(folder.glob(".*"))


def test_two_at_once_share_one_build(store: Store) -> None:
    digest = environments.lock(store, ["colorama"]).digest
    both = [ensure_elsewhere(store, digest) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("creating environment" in output for output in outputs) == 1
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]


def test_no_network_leaves_nothing(store: Store, request: pytest.FixtureRequest) -> None:
    digest = environments.lock(store, ["colorama"]).digest
    request.getfixturevalue("offline")
    with pytest.raises(Unreachable) as raised:
        environments.ensure(store, digest)
    assert raised.value.code == "index-unreachable"
    assert {path.suffix for path in (store.root / "environments").iterdir()} == {".lock"}


def test_what_has_no_wheel_on_this_platform_is_named_before_it_is_made_or_deployed(
    store: Store, tmp_path: Path
) -> None:
    ours = environments.lock(store, ["docopt==0.6.2"])  # of which there is no wheel
    digest = environments.add(store, lock=ours.lock, python=ours.python, platform="darwin-arm64").digest
    with pytest.raises(Failed) as raised:
        environments.ensure(store, digest)
    said = f"the environment {digest[:12]} is locked for darwin-arm64, and this is {ours.platform}: "
    said += f"docopt 0.6.2 has no wheel for python {ours.python} on {ours.platform}, only its source"
    assert (raised.value.code, raised.value.message) == ("environment-platform", said)
    assert raised.value.hint is not None and "stead env build requirements.txt" in raised.value.hint
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: bikes\n")
    logged = models.log_model(store, folder, name="bikes", environment=digest)
    models.register(store, "bikes", logged.id)
    with pytest.raises(InvalidInput) as refused:
        deployments.deploy(store, "bikes")
    assert (refused.value.code, refused.value.message) == (
        "version-elsewhere",
        f"bikes@1 cannot be loaded here: {said}",
    )
    assert jobs.list_jobs(store) == []


def test_tampered_packages_are_not_installed(store: Store) -> None:
    made = environments.lock(store, ["colorama"])
    text = store.blobs.get(made.lock).decode()
    wrong = text.replace(text.partition("--hash=sha256:")[2][:64], "0" * 64)
    wrong = "".join(line for line in wrong.splitlines(keepends=True) if "colorama" in line or "0" * 64 in line)
    lock = store.blobs.put(wrong.rstrip(" \\\n").encode())
    digest = environments.add(store, lock=lock, python=made.python, platform=made.platform).digest
    with pytest.raises(Failed) as raised:
        environments.ensure(store, digest)
    assert raised.value.code == "environment-failed"
    assert not (store.root / "environments" / digest[:16]).exists()


def test_compiled_modules_are_taken_over(store: Store) -> None:
    """Packages that this interpreter has compiled are not compiled again, and are valid where they are taken to."""
    import cloudpickle

    py_compile.compile(cloudpickle.cloudpickle.__file__)  # where Python is told to write none, there is none yet
    version = cloudpickle.__version__
    python = environments.ensure(store, environments.lock(store, [f"cloudpickle=={version}", "colorama"]).digest)
    for each in threading.enumerate():
        if each.name == "bytecode":
            each.join()
    (compiled,) = python.parents[1].glob(f"lib/python*/site-packages/cloudpickle/__pycache__/cloudpickle.{TAG}.pyc")
    before = compiled.stat()
    code = "import cloudpickle.cloudpickle as c; print(c.__cached__, c.dumps.__code__.co_filename)"
    run = subprocess.run([python, "-v", "-c", code], capture_output=True, text=True)
    assert str(compiled) in run.stdout
    assert f"{python.parents[1]}" in run.stdout.split()[1]
    assert f"code object from {str(compiled)!r}" in run.stderr
    assert (compiled.stat().st_ino, compiled.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_only_the_same_source_lends(tmp_path: Path) -> None:
    for name, source in (("lender", "x = 1\n"), ("same", "x = 1\n"), ("other", "x = 2\n")):
        (tmp_path / name / "package").mkdir(parents=True)
        (tmp_path / name / "package" / "module.py").write_text(source)
    lent = tmp_path / "lender" / "package"
    assert borrow(tmp_path / "same", [tmp_path / "lender", tmp_path / "gone"]) == 0
    os.utime(lent / "module.py", (1, 1))
    py_compile.compile(str(lent / "module.py"))
    assert borrow(tmp_path / "same", [tmp_path / "lender"]) == 1
    assert borrow(tmp_path / "same", [tmp_path / "lender"]) == 0
    assert borrow(tmp_path / "other", [tmp_path / "lender"]) == 0
    code = "import sys; sys.path[0] = sys.argv[1]; from package import module"
    run = subprocess.run([sys.executable, "-v", "-c", code, str(tmp_path / "same")], capture_output=True, text=True)
    assert f"module.{TAG}.pyc matches" in run.stderr
    os.utime(lent / "module.py", (2, 2))  # their compiled file is stale now
    (tmp_path / "same" / "package" / "__pycache__" / f"module.{TAG}.pyc").unlink()
    assert borrow(tmp_path / "same", [tmp_path / "lender"]) == 0


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TZ": "Asia/Tokyo",
        "STEAD_TOKEN": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HTTPS_PROXY": "http://ada:secret@proxy:1",
        "HTTP_PROXY": "http://proxy:1",
        "SSL_CERT_FILE": "/certificates",
        "BIKES_KEY": "1",
        "LC_TIME": "C",
        "PYTHONPATH": "/elsewhere",
        "OMP_NUM_THREADS": "64",
    }.items():
        monkeypatch.setenv(name, value)
    seen = environments.variables()
    assert "secret" not in "".join(seen.values())
    assert seen["TZ"] == "UTC"
    assert seen["OMP_NUM_THREADS"] == seen["OPENBLAS_NUM_THREADS"] == "1"
    assert seen["SSL_CERT_FILE"] == "/certificates"
    assert seen["HTTP_PROXY"] == "http://proxy:1"
    assert not seen.keys() & {"BIKES_KEY", "PYTHONPATH", "HTTPS_PROXY"}
    allowed = environments.variables(allow=["BIKES_*", "TZ", "STEAD_TOKEN"], extra={"A": "b", "OMP_NUM_THREADS": "2"})
    assert (allowed["BIKES_KEY"], allowed["TZ"], allowed["A"]) == ("1", "Asia/Tokyo", "b")
    assert allowed["OMP_NUM_THREADS"] == "2"
    assert "STEAD_TOKEN" not in allowed


def test_compare(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    train = environments.lock(store, ["colorama==0.4.6"]).digest
    serve = environments.lock(store, ["colorama==0.4.5"]).digest
    rows = environments.compare(store, [train, serve], here=True, variables=[{}, {"TZ": "Europe/Oslo"}])
    found = {row.name: row.values for row in rows}
    assert found["colorama"][:2] == ("0.4.6", "0.4.5")
    assert found["TZ"] == ("UTC", "Europe/Oslo", "Asia/Tokyo")
    assert environments.compare(store, [train, train]) == []
    monkeypatch.setenv("WAREHOUSE_DSN", "geheim")
    for named in ("env:WAREHOUSE_DSN", "file:/etc/hostname", "env:NOT_HERE"):
        rows = environments.compare(store, [train, train], variables=[{"DSN": named}, {}])
        assert [(row.name, row.values) for row in rows] == [("DSN", (named, None))], "a secret is named, never shown"
    assert {row.name for row in environments.compare(store, [train, train], equal=True)} >= {"python", "colorama"}
