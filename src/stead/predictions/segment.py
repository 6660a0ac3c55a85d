"""Raw segments: the files that predictions and labels are appended to before they become Parquet.

A segment belongs to the process that made it and is locked (`flock`) as long as that process writes it. The kernel
drops the lock when the process dies, so a segment that can be locked is sealed, whoever made it and however it ended.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stead.config import checked_name
from stead.errors import Failed
from stead.runtime.failpoints import failpoint
from stead.runtime.ids import new_id
from stead.runtime.recordlog import MAGIC, RecordLog, valid_size
from stead.store import Store

Kind = Literal["predictions", "labels", "shadows"]
"""`shadows` are what versions scored aside, for requests that another version answered."""
SUFFIX = ".log"
ROLL_BYTES = 16 << 20
ROLL_SECONDS = 300.0
"""A segment ends at this size or age, or when it is a little of both: what is raw is read by row in every process that looks."""
SHARED_SECONDS = 15.0
"""The age at which it ends where other machines share the store: they see what is in the store, and nothing of what is raw here."""
SOON_BYTES = 1 << 19
SOON_SECONDS = 30.0


def roll_seconds(store: Store) -> float:
    """How long a segment of a store is written."""
    return ROLL_SECONDS if store.db.is_sqlite else SHARED_SECONDS


def folder_of(store: Store, kind: Kind) -> Path:
    """Where the raw segments of this machine lie."""
    return store.root / "log" / kind


class Segment:
    """A new raw segment, locked until it is closed. Raises Failed (`disk-full`) and leaves no file where it cannot be made."""

    def __init__(self, folder: Path, writer: str, *, point: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = -1
        self._opened = time.monotonic()
        while self._lock < 0:
            self.path = folder / f"{new_id()}-{checked_name(writer)}{SUFFIX}"
            self._lock = _create_locked(self.path)
        try:
            self.log = RecordLog(self.path, point=point)
            _sync_folder(folder)
        except BaseException:
            self.path.unlink(missing_ok=True)
            os.close(self._lock)
            raise

    def full(self, *, roll_bytes: int = ROLL_BYTES, roll_seconds: float = ROLL_SECONDS) -> bool:
        """Whether it is time for the next one."""
        size, age = self.log.size, time.monotonic() - self._opened
        return size >= roll_bytes or age >= roll_seconds or (size >= SOON_BYTES and age >= SOON_SECONDS)

    def handle(self) -> int:
        """A file descriptor of its own, to be synced without holding up who appends; the caller closes it."""
        return os.dup(self._lock)

    def close(self) -> None:
        """Seal it: whoever compacts may take it now."""
        self.log.close()
        os.close(self._lock)


@dataclass(frozen=True)
class Sealed:
    """A raw segment whose writer is gone, held so that nobody else takes it."""

    name: str
    path: Path

    def remove(self) -> None:
        """Remove the file, now that its rows are in the store. What follows a torn record is kept beside it, as `.torn`."""
        failpoint("predictions.remove:before")
        size = self.path.stat().st_size
        if len(MAGIC) < size and valid_size(self.path) < size:
            os.replace(self.path, self.path.with_suffix(".torn"))
        else:
            self.path.unlink()
        failpoint("predictions.remove:after")


def raw_paths(store: Store, kind: Kind) -> list[Path]:
    """All raw segments of this machine, oldest first."""
    folder = folder_of(store, kind)
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.endswith(SUFFIX)]
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names)]


@contextmanager
def raw_files(store: Store, *, still: bool = False) -> Iterator[None]:
    """Around each step that makes Parquet of a raw segment and removes it; a backup holds them `still` while it copies them."""
    folder = store.root / "log"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if still else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


@contextmanager
def sealed(path: Path) -> Iterator[Sealed | None]:
    """Hold a segment for compaction; None where its writer lives, or somebody else holds it or has removed it."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        yield None
        return
    try:
        yield Sealed(path.name.removesuffix(SUFFIX), path) if _still_there(handle, path) else None
    finally:
        os.close(handle)


def _create_locked(path: Path) -> int:
    """A new file, locked; -1 where a compaction took it for a dead process's empty file before it was locked."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failed(
            "disk-full", f"could not make {path.name}: {error.strerror}", hint="free space and try again"
        ) from error
    fcntl.flock(handle, fcntl.LOCK_EX)
    if _still_there(handle, path):
        return handle
    os.close(handle)
    return -1


def _still_there(handle: int, path: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    """A new file survives a power cut only when its folder's entry does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
