"""Runs a script that dies at a failpoint, as kill -9 would have it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Scenario = Callable[[Path, str], None]
"""Gets an empty folder and an armed point such as `ledger.checkpoint:before`; asserts what must hold afterwards."""

CONTRACT = Path(__file__).parent.parent


def dies(point: str, script: str, *arguments: str) -> str:
    """Run a script with a point armed; it must be killed there. Returns what it had printed."""
    path = os.pathsep.join([str(CONTRACT), str(CONTRACT.parent.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "STEAD_FAILPOINT": point, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, f"{point} was not reached: {done.stderr[-2000:]}"
    return done.stdout
