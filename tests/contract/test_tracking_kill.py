"""kill -9 at each point where something could be torn: what `log` returned from is stored, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stead import runs
from stead.api import connect
from stead.config import load_settings
from stead.sdk import sync_journals
from stead.store import Store

TRAIN = """
import sys, stead
run = stead.init(project="p", config={"lr": 0.1}, watch=False)
print("run", run.id, flush=True)
for n in range(60):
    run.log({"a": n}, step=n)
    print("logged", n, flush=True)
    if n % 10 == 0:
        run.log_artifact(f"{n}".encode(), f"kept/{n}")
        print("kept", n, flush=True)
        if "slowly" in sys.argv:
            import time; time.sleep(0.03)
run.finish()
print("finished", 0, flush=True)
"""

SYNC = """
from pathlib import Path
from stead.api import connect
from stead.config import load_settings
from stead.sdk import sync_journals
settings = load_settings()
sync_journals(connect(settings), Path(settings.store))
"""

POINTS = ["journal.append", "journal.file", "journal.send", "runs.deliver", "blobs.put"]


def environ(store: Store, point: str = "") -> dict[str, str]:
    return {**os.environ, "STEAD_STORE": str(store.root), "STEAD_FAILPOINT": point}


def said(out: str) -> dict[str, list[str]]:
    """What the process said before it died, without a line that was cut off."""
    words: dict[str, list[str]] = {"run": [], "logged": [], "kept": [], "finished": []}
    for line in out[: out.rfind("\n") + 1].splitlines():
        word, value = line.split()
        words[word].append(value)
    return words


def check(store: Store, out: str) -> None:
    """All that was said to be logged is stored, nothing twice, and the run's end is true."""
    caller = connect(load_settings(environ=environ(store)))
    sync_journals(caller, store.root)
    caller.close()
    words = said(out)
    if not words["run"]:
        assert len(runs.list_runs(store).runs) <= 1
        return
    (run_id,) = words["run"]
    run = runs.get_run(store, run_id)
    assert run.params == {"lr": "0.1"}
    found = runs.series(store, [run_id], "a", points=0)
    steps = found[0].steps if found else []
    assert steps == list(range(len(steps)))
    assert len(words["logged"]) <= len(steps) <= len(words["logged"]) + 1
    kept = {artifact.path for artifact in runs.list_artifacts(store, run_id)}
    assert {f"kept/{n}" for n in words["kept"]} <= kept
    for path in kept:
        assert runs.read_artifact(store, run_id, path).decode() == path.removeprefix("kept/")
    assert run.status == "finished" if words["finished"] else run.status in ("killed", "finished")
    assert list((store.root / "journals").iterdir()) == []


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_the_training_process_dies_at_a_point(store: Store, tmp_path: Path, point: str, side: str) -> None:
    number = {"journal.append": 30, "journal.file": 2, "blobs.put": 2}.get(point, 1)
    armed = f"{point}:{side}#{number}"
    process = subprocess.run(
        [sys.executable, "-c", TRAIN, "slowly"], env=environ(store, armed), capture_output=True, text=True, cwd=tmp_path
    )
    assert process.returncode == -signal.SIGKILL
    check(store, process.stdout)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("point", ["journal.send", "runs.deliver", "runs.end", "blobs.put"])
def test_the_one_who_delivers_leftovers_dies_at_a_point(store: Store, tmp_path: Path, point: str, side: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", TRAIN],
        env=environ(store, "journal.append:after#60"),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert process.returncode == -signal.SIGKILL
    sync = subprocess.run([sys.executable, "-c", SYNC], env=environ(store, f"{point}:{side}"), check=False)
    assert sync.returncode == -signal.SIGKILL
    check(store, process.stdout)


def test_random_moments(store: Store, tmp_path: Path) -> None:
    moments = random.Random(7)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", TRAIN, "slowly"], env=environ(store), stdout=subprocess.PIPE, text=True, cwd=tmp_path
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(moments.uniform(0, 0.9))
        process.kill()
        rest, _ = process.communicate()
        check(store, first + rest)
