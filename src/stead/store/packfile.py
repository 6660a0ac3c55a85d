"""The bytes of packs and recipes.

A pack is its mark, chunks one after the other as they are stored, and a table of them. Its name is the hash of the table alone, which has
the hash of each chunk as it is stored: so what does not compress is not hashed a third time, after its file and its chunk. Packs with an
older mark have no table, and the hash of all their bytes as name.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import blake3

from stead.errors import Failed

WHOLE = 8 << 20
"""A file of fewer bytes is one chunk."""
_LEVEL = 1
_SAMPLE = 8 << 10
"""A chunk of which so much from its middle does not compress is stored as it is,"""
_LEAST_ALIKE, _MOST_ALIKE = 7, 31
"""and so are some after it of the same file, or small files that are called alike: the more, the more samples in a row did not."""
_WORTH = 7 / 8
"""What takes no less than this when it is compressed does not compress: the rule of ZFS, for reading it costs time as well."""
RECIPE, PACK = b"stead recipe 1\n", b"stead pack 2\n"
"""What recipes and packs begin with, so that none has the name of a file that is kept."""
_ENTRY = struct.Struct("<32sI")
_ROW = struct.Struct("<32sI")
"""Of the table of a pack: the hash of what is stored of a chunk, and its bytes."""
_ROWS = struct.Struct("<I")
"""The last bytes of a pack: how many rows its table has."""
_CONTEXT = "stead 2026-11-30 names of packs"
"""What BLAKE3 hashes in it has another name than the same bytes in a file (BLAKE3 specification, 2.7)."""


class Chunk(NamedTuple):
    """Where a chunk lies."""

    digest: bytes
    pack: bytes
    offset: int
    stored: int
    bytes: int


class Piece(NamedTuple):
    """The bytes of a chunk before it is packed."""

    data: bytes | memoryview
    like: int | str
    """The file that it is of, by place, or how the name of a small file ends."""
    window: mmap.mmap | None = None
    start: int = 0
    """Where in the window it lies."""


def packed_recipe(parts: Iterable[tuple[bytes, int]]) -> bytes:
    """
    >>> unpacked_recipe(packed_recipe([(bytes(32), 7)])) == [(bytes(32), 7)]
    True
    """
    return RECIPE + b"".join(_ENTRY.pack(digest, size) for digest, size in parts)


def unpacked_recipe(data: bytes) -> list[tuple[bytes, int]]:
    return [(digest, size) for digest, size in _ENTRY.iter_unpack(data[len(RECIPE) :])]


def unpacked(chunk: Chunk, stored: bytes | memoryview) -> bytes:
    """A chunk from what its pack has of it. Raises Failed (`blob-corrupt`)."""
    data: bytes | None = None
    if len(stored) == chunk.stored == chunk.bytes:
        data = bytes(stored)
    elif len(stored) == chunk.stored:
        zstd = _zstd()
        with suppress(zstd.ZstdError, EOFError):
            data = zstd.ZstdDecompressor().decompress(stored, chunk.bytes)
    if data is None or blake3.blake3(data).digest() != chunk.digest:
        raise Failed(
            "blob-corrupt",
            f"the bytes of the chunk {chunk.digest.hex()[:12]} in the pack {chunk.pack.hex()[:12]} do not match their name",
            hint="stead data verify NAME --repair-from BACKUPS",
        )
    return data


class Pack:
    """A pack in the making."""

    def __init__(self) -> None:
        self.pieces: list[bytes | memoryview] = [PACK]
        self._table: list[bytes] = []
        self.entries: list[tuple[bytes, int, int, int]] = []
        """Digest, offset, bytes in the pack, bytes."""
        self.size = 0
        """Bytes of its chunks."""
        self._run: tuple[mmap.mmap | None, int, int] = None, 0, 0
        """The window of the last piece, and from where to where in it."""

    def add(
        self,
        digest: bytes,
        stored: bytes | memoryview,
        size: int,
        window: mmap.mmap | None = None,
        start: int = 0,
    ) -> None:
        """Add a chunk as it is stored. Of a window those that lie side by side are written as one piece."""
        self.entries.append((digest, len(PACK) + self.size, len(stored), size))
        self.size += len(stored)
        there = digest if len(stored) == size else blake3.blake3(stored).digest()
        self._table.append(_ROW.pack(there, len(stored)))
        last, first, end = self._run
        if window is not None and window is last and start == end:
            start, self.pieces[-1] = first, memoryview(window)[first : end + size]
        else:
            self.pieces.append(stored)
            end = start
        self._run = window, start, end + size

    def finished(self) -> str:
        """Write the table; the name."""
        table = b"".join(self._table)
        self.pieces += [table, _ROWS.pack(len(self._table))]
        return _table_name(table)


def pack_name(data: bytes) -> str | None:
    """The name of a pack by its bytes; None where these are no pack, or one that is not whole.

    >>> from blake3 import blake3
    >>> pack = Pack()
    >>> pack.add(blake3(b"chunk").digest(), b"chunk", 5)
    >>> name, data = pack.finished(), b"".join(pack.pieces)
    >>> pack_name(data) == name, pack_name(data.replace(b"chunk", b"trunk"))
    (True, None)
    """
    view = memoryview(data)
    if len(data) < len(PACK) + _ROWS.size or not data.startswith(PACK):
        return None
    (rows,) = _ROWS.unpack(view[-_ROWS.size :])
    start, end = len(PACK), len(data) - _ROWS.size - rows * _ROW.size
    if end < start:
        return None
    table, offset = bytes(view[end : -_ROWS.size]), start
    for there, stored in _ROW.iter_unpack(table):
        if offset + stored > end or blake3.blake3(view[offset : offset + stored]).digest() != there:
            return None
        offset += stored
    return _table_name(table) if offset == end else None


def _zstd() -> Any:
    """The module, loaded when it is used: most commands do not."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _table_name(table: bytes) -> str:
    return blake3.blake3(table, derive_key_context=_CONTEXT).hexdigest()


class Packer:
    """Compresses what is worth it, by a sample; after one that is not, the next ones like it are not looked at."""

    def __init__(self) -> None:
        self._compressor = _zstd().ZstdCompressor(_LEVEL)
        self._passing: dict[int | str, tuple[int, int]] = {}
        """How many are still to be passed over, and how many it were to begin with."""

    def packed(self, piece: Piece) -> bytes | memoryview:
        data = piece.data
        left, of = self._passing.get(piece.like, (0, 0))
        if left:
            self._passing[piece.like] = left - 1, of
            return data
        if self._smaller(data[len(data) // 2 :][:_SAMPLE]) is None:
            of = min(_MOST_ALIKE, max(_LEAST_ALIKE, 2 * of + 1))
            self._passing[piece.like] = of, of
            return data
        self._passing.pop(piece.like, None)
        return self._smaller(data) or data

    def _smaller(self, data: bytes | memoryview) -> bytes | None:
        made: bytes = self._compressor.compress(data, self._compressor.FLUSH_FRAME)
        return made if len(made) < _WORTH * len(data) else None


def first_run(wanted: Sequence[Chunk], first: int, end: int, most: int = WHOLE) -> Sequence[Chunk]:
    """The chunks from `first` on that lie one after the other in one pack, some megabytes at most."""
    place, size = first + 1, wanted[first].stored
    while place < end:
        last, chunk = wanted[place - 1], wanted[place]
        size += chunk.stored
        if chunk.pack != last.pack or chunk.offset != last.offset + last.stored or size > most:
            break
        place += 1
    return wanted[first:place]
