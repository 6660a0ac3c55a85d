"""Runs a script that dies at a failpoint, as kill -9 would have it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

Scenario = Callable[[Path, str], None]
"""Gets an empty folder and an armed point such as `ledger.checkpoint:before`; asserts what must hold afterwards."""

CONTRACT = Path(__file__).parent.parent

_NURSERY = """
import json, os, sys, traceback
import duckdb, pyarrow.dataset, pyarrow.parquet
import traffic, tests.conftest
from stead import care, datasets, deployments, fleet, gates, jobs, models, monitors, pipelines, policies, predictions, runs, serving
from stead.runtime import failpoints
if os.path.isdir("/proc/self/task"):
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked"
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    code = 1
    try:
        for fd, path in enumerate((os.devnull, asked["out"], asked["err"])):
            os.dup2(os.open(path, os.O_RDWR), fd)
        sys.argv = ["-c", *asked["arguments"]]
        failpoints._armed = os.environ["STEAD_FAILPOINT"] = asked["point"]
        exec(compile(asked["script"], "<script>", "exec"), {"__name__": "__main__"})
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
"""


_NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""What importing pyarrow starts a thread for."""


@cache
def nursery() -> subprocess.Popen[str]:
    """A process that has imported everything and forks one for each script: most of a script's time were its imports.

    Begin it before a clock is held: where the machine is busy the imports take longer than a holder may be silent.
    """
    path = os.pathsep.join([str(CONTRACT), str(CONTRACT.parent.parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", _NURSERY],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **_NO_THREADS},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def dies(point: str, script: str, *arguments: str) -> str:
    """Run a script with a point armed; it must be killed there. Returns what it had printed."""
    begun = nursery()
    assert begun.stdin is not None
    assert begun.stdout is not None
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        asked = {"point": point, "script": script, "arguments": arguments, "out": out.name, "err": err.name}
        print(json.dumps(asked), file=begun.stdin, flush=True)
        code = int(begun.stdout.readline())
        assert code == -signal.SIGKILL, f"{point} was not reached: {err.read()[-2000:]}"
        return out.read()
