"""The journal of a run: a folder that a training process writes and a courier carries to the store.

    <run id>/<writer>.log    records, numbered from 1 by their place in the file
    <run id>/<writer>.lock   held while the writer's process lives
    <run id>/files/<sha256>  artifacts, copied before the record that names them

Each process has a writer of its own, a forked one too. What `append` returned from is with the operating system and
survives a kill -9; what the store has is known by (run, writer, number), so that carrying twice doubles nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec

from stead.errors import Failed, InvalidInput, NotFound
from stead.runtime.failpoints import failpoint
from stead.runtime.ids import new_id
from stead.runtime.recordlog import RecordLog, read_records

BATCH_RECORDS = 5_000
BATCH_BYTES = 4 << 20


Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Started(msgspec.Struct, array_like=True, tag="started"):
    """The run began; the first record of the process that began it."""

    at: Int64
    project: str
    name: str
    user: str = ""
    parent: str | None = None
    job: str | None = None
    source: dict[str, Any] = {}
    environment: str | None = None


class Facts(msgspec.Struct, array_like=True, tag="facts"):
    """More about where the run came from, known a little later: git, packages."""

    at: Int64
    source: dict[str, Any]
    environment: str | None = None


class Params(msgspec.Struct, array_like=True, tag="params"):
    at: Int64
    values: dict[str, str]


class Tags(msgspec.Struct, array_like=True, tag="tags"):
    at: Int64
    values: dict[str, str]


class Metrics(msgspec.Struct, array_like=True, tag="m"):
    """One `log({…})`: a value of each key at one step."""

    at: Int64
    step: Int64
    values: dict[str, float]


class Points(msgspec.Struct, array_like=True, tag="points"):
    """Many points of one key in columns: packed little-endian int64 steps and times (ms), float64 values."""

    at: Int64
    key: str
    steps: bytes
    times: bytes
    values: bytes


class File(msgspec.Struct, array_like=True, tag="file"):
    """An artifact: `file` is its name under `files/`; the courier fills `digest`, its name in the blob store."""

    at: Int64
    path: str
    file: str
    bytes: int
    digest: str = ""


class Text(msgspec.Struct, array_like=True, tag="text"):
    """A block of console output."""

    at: Int64
    text: str


class Input(msgspec.Struct, array_like=True, tag="input"):
    """A dataset version that the run read."""

    at: Int64
    dataset: str
    version: int
    context: str = "training"


class Beat(msgspec.Struct, array_like=True, tag="beat"):
    """The process is alive."""

    at: Int64


class Ended(msgspec.Struct, array_like=True, tag="ended"):
    at: Int64
    status: str
    error: str | None = None


Record = Started | Facts | Params | Tags | Metrics | Points | File | Text | Input | Beat | Ended
KINDS = (Started, Facts, Params, Tags, Metrics, Points, File, Text, Input, Beat, Ended)


class Delivery(msgspec.Struct, array_like=True):
    """A batch on its way to a server, in msgpack."""

    run_id: str
    writer: str
    first: int
    records: list[Record]


_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Record] = msgspec.msgpack.Decoder(Record).decode
_live: weakref.WeakSet[Journal] = weakref.WeakSet()


class Journal:
    """Writes one run's records from one process; safe for threads, and a forked child continues under its own name.

    >>> import tempfile
    >>> journal = Journal(Path(tempfile.mkdtemp()) / "r1")
    >>> journal.append(Metrics(1_700_000_000_000, 0, {"loss": 0.5}))
    >>> [record.values for _, record in read(journal.path)]
    [{'loss': 0.5}]
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failed(
                "journal-folder",
                f"cannot make the run's folder {folder}: {error.strerror}",
                hint="STEAD_STORE names another folder for the store",
            ) from None
        from stead.runtime import secrets  # here, so that `import stead` stays as light as it is

        given = secrets.mine()
        self._hide = partial(secrets.hidden, values=given) if given else None
        self._guard = threading.Lock()
        self._log: RecordLog | None = None
        self._closed = False
        self._open()
        _live.add(self)

    def append(self, *records: Record) -> None:
        """Hand records to the operating system in one write. Raises Failed (`disk-full`, `journal-closed`)."""
        data = [_encode(record) for record in records]
        if self._hide is not None:
            data = [self._hide(each) for each in data]
        with self._guard:
            if self._closed:
                raise Failed("journal-closed", f"the journal of run {self.folder.name} is closed")
            log = self._log or self._open()
            log.append(data)

    def add_file(self, source: Path | bytes, path: str, at: int) -> None:
        """Copy a file, or bytes, into the journal and record it as the artifact `path`.

        Raises InvalidInput (`path-invalid`), NotFound (`file-missing`), Failed (`disk-full`).
        """
        path = clean_path(path)
        name, size = _copy_in(source, self.folder / "files")
        self.append(File(at, path, name, size))

    def close(self) -> None:
        """Let go of the journal: from now on whoever finds the folder may carry it."""
        with self._guard:
            self._closed = True
            _live.discard(self)  # a fork closes the files of all that are live, by numbers that may be others' by now
            if self._log is not None:
                self._log.close()
                self._log = None
                _release(self._lock)

    @property
    def path(self) -> Path:
        return self.folder / f"{self.writer}.log"

    def _open(self) -> RecordLog:
        self.writer = new_id()
        self._lock = _hold(self.folder / f"{self.writer}.lock")
        self._log = RecordLog(self.path, point="journal.append")
        return self._log

    def _forked(self) -> None:
        self._guard = threading.Lock()
        if self._log is not None:
            self._log.close()
            self._log = None
        with suppress(OSError):
            os.close(self._lock)


def read(path: Path, offset: int = 0) -> Iterator[tuple[int, Record]]:
    """Each record of a writer's file after `offset`, with the offset behind it."""
    for position, payload in read_records(path, offset):
        yield position, _decode(payload)


def is_alive(log: Path) -> bool:
    """Whether the process that writes this file still lives."""
    lock = log.with_suffix(".lock")
    try:
        if _identity(os.stat(lock)) in _held:
            return True
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def clean_path(path: str) -> str:
    """A relative path with forward slashes that stays where it is put. Raises InvalidInput (`path-invalid`).

    >>> clean_path("plots//loss.png")
    'plots/loss.png'
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    bad = not parts or path.startswith("/") or ".." in parts or any(c in path for c in "\\\0") or len(path) > 1000
    if bad or any(ord(c) < 32 for c in path):
        raise InvalidInput(
            "path-invalid", f"{path!r} is no path for an artifact", hint="a relative one with '/', without '..'"
        )
    return "/".join(parts)


def checked_key(key: str) -> str:
    """The name of a parameter, tag or metric. Raises InvalidInput (`key-invalid`)."""
    if not key or len(key) > 250 or not key.isprintable():
        shown = repr(key if len(key) <= 80 else key[:77] + "…")
        raise InvalidInput(
            "key-invalid", f"{shown} is no name for a parameter, tag or metric", hint="1 to 250 printable characters"
        )
    return key


def clean_text(text: str) -> str:
    """Text that every database takes: no NUL, no lone surrogate.

    >>> clean_text("a\\udcff\\0b")
    'a?\ufffdb'
    """
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


class Courier:
    """Carries a run's journal folder to whoever keeps it, in batches, from where it was left.

    `deliver(writer, first, records)` returns the number up to which the keeper has all of that writer's records;
    `put(file)` stores an artifact's bytes and returns their name. Both may raise; the next `carry` goes on from there.
    """

    def __init__(
        self,
        folder: Path,
        deliver: Callable[[str, int, Sequence[Record]], int],
        put: Callable[[Path], str],
        *,
        fresh: bool = False,
    ) -> None:
        self.folder = folder
        self.has_ended = False
        self._deliver = deliver
        self._put = put
        self._fresh = fresh
        self._at: dict[Path, tuple[int, int]] = {}

    def carry(self) -> int:
        """Deliver what is new and return how many records that were."""
        return sum(self._carry_one(log) for log in logs_of(self.folder))

    def _carry_one(self, log: Path) -> int:
        if log not in self._at:
            self._at[log] = (0, 0)
            if not self._fresh and (known := self._deliver(log.stem, 1, [])):
                self._at[log] = self._skip(log, known)
        total = 0
        while True:
            offset, seq = self._at[log]
            records, behind = self._batch(log, offset)
            if not records:
                return total
            failpoint("journal.send:before")
            known = self._deliver(log.stem, seq + 1, records)
            failpoint("journal.send:after")
            last = seq + len(records)
            self.has_ended |= any(isinstance(record, Ended) for record in records)
            if known < last:
                raise Failed("journal-gap", f"the store has {known} of {last} records of {log.name}")
            self._at[log] = (behind, last)
            total += len(records)

    def _batch(self, log: Path, offset: int) -> tuple[list[Record], int]:
        records: list[Record] = []
        start = offset
        for offset, record in read(log, offset):  # noqa: B020
            if isinstance(record, File):
                record.digest = self._put(self._copy_of(record))
            records.append(record)
            if len(records) >= BATCH_RECORDS or offset - start > BATCH_BYTES:
                break
        return records, offset

    def _copy_of(self, record: File) -> Path:
        """The copy that a record names. A journal is written by code that is not trusted: nothing outside is read."""
        path = self.folder / "files" / record.file
        if not re.fullmatch("[0-9a-f]{64}", record.file) or path.is_symlink() or path.parent.is_symlink():
            raise InvalidInput("path-invalid", f"the journal of run {self.folder.name} names a file outside of it")
        if not path.is_file():
            raise NotFound("artifact-lost", f"the copy of artifact {record.path!r} is missing from {path.parent}")
        return path

    def _skip(self, log: Path, known: int) -> tuple[int, int]:
        offset = seq = 0
        for seq, (offset, record) in enumerate(read(log), 1):  # noqa: B007
            self.has_ended |= isinstance(record, Ended)
            if seq == known:
                break
        return offset, seq


def logs_of(folder: Path) -> list[Path]:
    """The writers' files of a run, oldest first."""
    return sorted(folder.glob("*.log"))


def remove(folder: Path) -> None:
    """Delete a journal that was carried whole; the records go first, so that none is left without its files."""
    import shutil

    for log in logs_of(folder):
        log.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _copy_in(source: Path | bytes, folder: Path) -> tuple[str, int]:
    folder.mkdir(exist_ok=True)
    part = folder / f".part-{new_id()}"
    hasher = hashlib.sha256()
    size = 0
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as old, open(part, "wb") as new:
            while piece := old.read(1 << 20):
                hasher.update(piece)
                size += new.write(piece)
        name = hasher.hexdigest()
        failpoint("journal.file:before")
        os.replace(part, folder / name)
        failpoint("journal.file:after")
    except FileNotFoundError:
        raise NotFound("file-missing", f"there is no file {source!s}") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InvalidInput("file-unreadable", f"cannot read {source!s}: {error.strerror}") from None
    except OSError as error:
        raise Failed(
            "disk-full", f"could not copy a file into the journal: {error.strerror}", hint="free space and try again"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return name, size


_held: set[tuple[int, int]] = set()  # a process that opens and closes its own lock file again would let go of it


def _hold(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.lockf(handle, fcntl.LOCK_EX)
    _held.add(_identity(os.fstat(handle)))
    return handle


def _release(handle: int) -> None:
    _held.discard(_identity(os.fstat(handle)))
    os.close(handle)


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _after_fork() -> None:
    _held.clear()
    for journal in list(_live):
        journal._forked()


os.register_at_fork(after_in_child=_after_fork)
