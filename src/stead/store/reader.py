"""A file that lies in chunks, to be read from anywhere: what pyarrow takes in place of a path."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from stead.errors import NotFound

if TYPE_CHECKING:
    from stead.store.packs import Packs


class PackedFile(io.RawIOBase):
    """Reads only the chunks that it is asked for, each held against its name. Raises what `Packs.read` raises."""

    def __init__(self, packs: Packs, digest: str) -> None:
        self._packs = packs
        self._digest = digest
        self._chunks = packs.chunks_of(digest)
        self._starts = [0, *accumulate(chunk.bytes for chunk in self._chunks)]
        self._at = 0
        self._held: tuple[int, list[bytes]] = (0, [])
        """The chunks that were read last, from which on."""

    @property
    def size(self) -> int:
        return self._starts[-1]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self.size if size is None or size < 0 else min(self.size, self._at + size)
        if end <= self._at:
            return b""
        first = bisect_right(self._starts, self._at) - 1
        last = bisect_right(self._starts, end - 1) - 1
        data = b"".join(self._some(first, last + 1))
        skipped = self._at - self._starts[first]
        data = data[skipped : skipped + end - self._at]
        self._at = end
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def pieces(self) -> Iterator[bytes]:
        """The whole of it in pieces of some megabytes."""
        first = 0
        while first < len(self._chunks):
            group = self._group(first, len(self._chunks))
            yield b"".join(group)
            first += len(group)

    def _some(self, first: int, end: int) -> Iterator[bytes]:
        start, held = self._held
        while first < end:
            if start <= first < start + len(held):
                some = held[first - start : end - start]
            else:
                some = held = self._group(first, end)
                start = first
                self._held = (start, held)
            yield from some
            first += len(some)

    def _group(self, first: int, end: int) -> list[bytes]:
        """The bytes of a few chunks, those that lie together in one pack read at once."""
        from stead.store.packfile import first_run

        wanted = first_run(self._chunks, first, end)
        try:
            return self._packs.read(wanted)
        except NotFound:  # its pack was written anew meanwhile
            self._chunks = self._packs.chunks_of(self._digest)
            return self._packs.read(first_run(self._chunks, first, end))
