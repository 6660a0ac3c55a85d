"""kill -9 of a training process: what `log` returned from is stored, once. `failpoints/tracking.py` dies at each point."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from stead import runs
from stead.api import connect
from stead.config import load_settings
from stead.runtime import journal as j
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
    left = [log for folder in (store.root / "journals").iterdir() for log in j.logs_of(folder)]
    assert not left, "an empty folder may stay, for a minute: it looks like one that was just begun"


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
