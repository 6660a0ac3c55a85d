"""An append-only file of records that survives kill -9: the journal of a run, the log of predictions and labels.

Layout: the magic `STEADLOG`, a version byte, seven zero bytes; then records of u32 length, u32 CRC-32 of the payload (both
little endian), payload. Many records go to the operating system in one write, so that a process killed right after it
has lost none. A torn tail, left by a power cut or a full disk, ends the reading and is cut off by the next writer.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from stead.errors import Failed
from stead.runtime.failpoints import failpoint

MAGIC = b"STEADLOG\x01" + bytes(7)
_HEAD = struct.Struct("<II")
MAX_RECORD = 1 << 30


class RecordLog:
    """Writes one file. Not safe for two writers: each process has a file of its own.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.log"
    >>> log = RecordLog(path)
    >>> log.append([b"one", b"two"])
    >>> [record for _, record in read_records(path)]
    [b'one', b'two']
    """

    def __init__(self, path: Path, *, point: str = "recordlog.append") -> None:
        self.path = path
        self._point = point
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = valid_size(path)
        os.ftruncate(self._file, self.size)
        os.lseek(self._file, self.size, os.SEEK_SET)
        if self.size == 0:
            try:
                self._write(MAGIC)
            except Failed:
                self.close()
                raise

    def append(self, records: Iterable[bytes], *, sync: bool = False) -> None:
        """Hand records to the operating system in one write; with `sync` also to the disk.

        Raises Failed (`disk-full`) and leaves the file as it was where they do not fit.
        """
        pieces: list[bytes] = []
        for record in records:
            pieces.append(_HEAD.pack(len(record), zlib.crc32(record)))
            pieces.append(record)
        if not pieces:
            return
        failpoint(f"{self._point}:before")
        self._write(b"".join(pieces))
        if sync:
            os.fdatasync(self._file) if hasattr(os, "fdatasync") else os.fsync(self._file)
        failpoint(f"{self._point}:after")

    def sync(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            os.ftruncate(self._file, self.size)
            os.lseek(self._file, self.size, os.SEEK_SET)
            raise Failed(
                "disk-full", f"could not write {self.path.name}: {error.strerror}", hint="free space and try again"
            ) from error
        self.size += len(data)


def read_records(path: Path, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Each whole record after `offset`, with the offset behind it; stops at a torn tail or at the end.

    Raises Failed (`log-corrupt`) where the file is none of ours.
    """
    with open(path, "rb") as file:
        head = file.read(len(MAGIC))
        if head != MAGIC:
            if MAGIC.startswith(head):
                return
            raise Failed("log-corrupt", f"{path} is no record log of this version")
        position = max(offset, len(MAGIC))
        file.seek(position)
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, checksum = _HEAD.unpack(head)
            if length > MAX_RECORD:
                return
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                return
            position += _HEAD.size + length
            yield position, payload


def valid_size(path: Path) -> int:
    """Bytes up to the end of the last whole record."""
    if path.stat().st_size < len(MAGIC):
        return 0
    end = len(MAGIC)
    for end, _ in read_records(path):  # noqa: B007
        pass
    return end
