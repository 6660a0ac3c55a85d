"""The power of a test's machine is cut: kill -9 of all that has its mark among its variables, at once."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def cut(mark: str) -> None:
    """End what has `NAME=value` in its environment, and what that started meanwhile."""
    for _ in range(3):
        for place in Path("/proc").glob("[0-9]*/environ"):
            try:
                mine = mark.encode() in place.read_bytes().split(b"\0")
            except OSError:
                continue
            if mine:
                with suppress(ProcessLookupError):
                    os.kill(int(place.parent.name), signal.SIGKILL)
