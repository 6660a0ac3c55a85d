"""What a pool of images keeps for the next builds, and letting go of what none has used lately: it is made or fetched again.

A file's time is when a build used it last. A build holds the pool as long as it runs, and nothing goes meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stead.images.layout import Layout, spare

UNUSED_S = 30 * 24 * 3600
_KEPT = re.compile(r"[0-9a-f]{64}(\.json)?")


@contextmanager
def held(pool: Layout) -> Iterator[None]:
    """While something is built in a pool. The kernel lets go where a process dies."""
    with spare(pool.folder):
        pool.folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(pool.folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def unused(pool: Layout) -> dict[Path, int]:
    """Blobs and notes that no build has used for a month, with their sizes. Bases that `stead image base` made stay."""
    found: dict[Path, int] = {}
    for place in ("blobs/sha256", "layers", "seen"):
        for path in (pool.folder / place).glob("*"):
            with suppress(FileNotFoundError):
                told = path.stat()
                if _KEPT.fullmatch(path.name) and told.st_mtime < time.time() - UNUSED_S:
                    found[path] = told.st_size
    return found


def prune(pool: Layout) -> int:
    """Let go of what is unused; how many bytes, none while something is built."""
    if not pool.folder.is_dir():
        return 0
    handle = os.open(pool.folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = unused(pool)
        for path in gone:
            path.unlink(missing_ok=True)
        return sum(gone.values())
    except BlockingIOError:
        return 0
    finally:
        os.close(handle)
