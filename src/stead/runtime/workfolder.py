"""Folders for what is on its way, which a kill -9 does not leave behind for good."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NAME = "stead-work-"
_OLD_S = 60
"""Between the making of a folder and its lock lies less."""


@contextmanager
def work_folder(kind: str) -> Iterator[Path]:
    """A temporary folder, which goes at the end. What killed processes of this user left goes when the next one begins.

    A folder is locked (`flock`) as long as the process lives that works in it: the kernel lets the lock go when that dies.

    >>> with work_folder("doc") as folder:
    ...     _ = (folder / "a").write_text("on its way")
    >>> folder.exists()
    False
    """
    _clear()
    folder = Path(tempfile.mkdtemp(prefix=f"{_NAME}{kind}-"))
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _clear() -> None:
    for left in Path(tempfile.gettempdir()).glob(f"{_NAME}*"):
        with suppress(OSError):  # another one clears it, or works in it
            known = left.lstat()
            if known.st_uid != os.getuid() or known.st_mtime > time.time() - _OLD_S:
                continue
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)
