"""Delivering what dead processes left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stead.errors import SteadError, Unreachable
from stead.runtime import journal as j
from stead.sdk.sender import deliver

if TYPE_CHECKING:
    from stead.api import Caller

EMPTY_S = 60
"""A folder without a record may be one that is being made at this moment."""


def sync_journals(
    caller: Caller, root: Path, *, progress: Callable[[str], None] = lambda _: None, living: bool = False
) -> int:
    """Deliver the journals under `root`/journals whose processes are gone, and return how many records that were.

    A run whose journal does not say how it ended was killed. A journal that the store refuses stays and is told;
    `living` also carries those of living processes, without ending their runs.
    Raises Unreachable where nobody answers; what was delivered until then stays delivered.
    """
    carried = 0
    for folder in sorted((root / "journals").glob("*")):
        logs = j.logs_of(folder)
        alive = any(j.is_alive(log) for log in logs)
        if alive and not living:
            continue
        if not any(_has_records(log) for log in logs):
            if time.time() - folder.stat().st_mtime > EMPTY_S:
                j.remove(folder)
            continue
        try:
            count = _one(caller, folder, alive)
        except Unreachable:
            raise
        except SteadError as error:
            progress(f"run {folder.name}: {error.message}; its journal stays in {folder}")
            continue
        progress(f"run {folder.name}: {count} records delivered")
        carried += count
    return carried


def _has_records(log: Path) -> bool:
    return next(j.read(log), None) is not None


def _one(caller: Caller, folder: Path, alive: bool) -> int:
    courier = j.Courier(
        folder,
        lambda writer, first, records: deliver(caller, folder.name, writer, first, records),
        caller.put_blob,
    )
    count = courier.carry()
    if alive:
        return count
    if not courier.has_ended:
        caller.call("runs.end", run_id=folder.name, status="killed", error="its process ended without a word")
    j.remove(folder)
    return count
