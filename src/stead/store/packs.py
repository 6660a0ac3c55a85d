"""How the bytes of data are kept: cut into chunks by content, compressed, many chunks in a pack.

A pack is a blob like any other, and so is a recipe, which tells the chunks of one file in order; the database knows in which pack a
chunk lies. So backups, restores and buckets have nothing to learn, what two versions have in common is stored once, and a
chunk is there for others only once its pack is whole: a kill -9 leaves at worst a pack that no row tells of.

A file of less than `WHOLE` bytes is one chunk. What is stored again is made fresh, as with any blob (`blobs.FRESH_S`).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import blake3
import sqlalchemy as sa

from stead.errors import Failed, InvalidInput, NotFound
from stead.runtime.clock import now_ms
from stead.store.chunks import WINDOW, cut
from stead.store.database import Database
from stead.store.tables import chunks, files, packs

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from stead.store.blobs import Blobs, Thing

WHOLE = 8 << 20
PACK = 64 << 20
AT_ONCE = 500
FRESH_MS = 12 * 3_600_000
_LEVEL = 1
_SAMPLE = 8 << 10
"""A chunk of which so much from its middle does not compress is stored as it is."""
_RECIPE, _PACK = b"stead recipe 1\n", b"stead pack 1\n"
"""What recipes and packs begin with, so that none has the name of a file that is kept."""
_ENTRY = struct.Struct("<32sI")
T = TypeVar("T")


class Chunk(NamedTuple):
    """Where a chunk lies."""

    digest: bytes
    pack: bytes
    offset: int
    stored: int
    bytes: int


class Kept(NamedTuple):
    """Something that is stored: its place among what was given, its name and bytes."""

    place: int
    digest: str
    bytes: int


class Flaw(NamedTuple):
    """A stretch of a file that is not as it was stored."""

    offset: int
    bytes: int
    chunk: str
    why: str


class Packs:
    """The chunks of one store. `keep` stores, `chunks_of` and `read` give back."""

    def __init__(self, db: Database, blobs: Blobs) -> None:
        self.db = db
        self.blobs = blobs

    def keep(self, things: Sequence[Thing], progress: Callable[[int], None] = lambda _: None) -> Iterator[Kept]:
        """Store bytes and files; each is told of when it is there for good, in any order. Chunks that are there are not stored again.

        Raises InvalidInput (`file-unreadable`), Failed (`disk-full`), Unreachable (`blobs-unreachable`).
        """
        from concurrent.futures import ThreadPoolExecutor  # not at the end of a process, when a run is delivered

        with ThreadPoolExecutor(2, "packing") as workers:
            yield from _Keeping(self, workers, progress).run(things)

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Which chunks are there, made fresh."""
        found: dict[bytes, int] = {}
        with self.db.read() as tx:
            for some in sliced(digests):
                query = sa.select(chunks.c.digest, chunks.c.at).where(chunks.c.digest.in_(some))
                found.update((bytes(row.digest), row.at) for row in tx.execute(query))
        old = [digest for digest, at in found.items() if at < now_ms() - FRESH_MS]
        if old:
            with self.db.write("packs.renew") as tx:
                there: set[bytes] = set()
                for some in sliced(old):
                    tx.execute(sa.update(chunks).where(chunks.c.digest.in_(some)).values(at=now_ms()))
                    there.update(
                        map(bytes, tx.execute(sa.select(chunks.c.digest).where(chunks.c.digest.in_(some))).scalars())
                    )
            return (found.keys() - set(old)) | there
        return set(found)

    def renew(self, digest: str) -> bool:
        """Make a file that is here fresh, with all its chunks; False where it is not here, or not whole."""
        try:
            parts = self.recipe(digest)
        except NotFound:
            return False
        names = list(dict.fromkeys(name for name, _ in parts))
        if len(self.known(names)) < len(names):
            return False
        name = bytes.fromhex(digest)
        if parts == [(name, parts[0][1])]:
            return True
        self.blobs.put(packed_recipe(parts))
        with self.db.write("packs.renew") as tx:
            mine = sa.update(files).where(files.c.digest == name).values(at=now_ms())
            return bool(tx.execute(mine).rowcount)

    def size(self, digest: str) -> int | None:
        """Bytes of a file that is here; None where it is not."""
        name = bytes.fromhex(digest)
        with self.db.read() as tx:
            for table in (files, chunks):
                size = tx.execute(sa.select(table.c.bytes).where(table.c.digest == name)).scalar()
                if size is not None:
                    return int(size)
        return None

    def recipe_name(self, digest: str) -> str | None:
        """The blob that tells the chunks of a file; None where it is one chunk, or not here."""
        with self.db.read() as tx:
            found = tx.execute(sa.select(files.c.recipe).where(files.c.digest == bytes.fromhex(digest))).scalar()
        return None if found is None else bytes(found).hex()

    def recipe(self, digest: str) -> list[tuple[bytes, int]]:
        """The chunks of a file with their bytes. Raises NotFound (`blob-missing`), Failed (`blob-corrupt`)."""
        recipe = self.recipe_name(digest)
        if recipe is not None:
            return unpacked_recipe(self.blobs.get(recipe))
        size = self.size(digest)
        if size is None:
            raise NotFound("blob-missing", f"the store has no bytes {digest[:12]}")
        return [(bytes.fromhex(digest), size)]

    def chunks_of(self, digest: str) -> list[Chunk]:
        """The chunks of a file, in order. Raises NotFound (`blob-missing`) where the file or one of them is not here."""
        parts = self.recipe(digest)
        found = self.find(list(dict.fromkeys(name for name, _ in parts)))
        try:
            return [found[name] for name, _ in parts]
        except KeyError as error:
            gone = error.args[0].hex()
            raise NotFound("blob-missing", f"the store has no chunk {gone[:12]} of {digest[:12]}") from None

    def find(self, digests: Sequence[bytes]) -> dict[bytes, Chunk]:
        """Where chunks lie; those that are not here are left out."""
        columns = (chunks.c.digest, packs.c.digest.label("pack"), chunks.c.offset, chunks.c.stored, chunks.c.bytes)
        query = sa.select(*columns).join(packs, packs.c.id == chunks.c.pack)
        found = {}
        with self.db.read() as tx:
            for some in sliced(digests):
                for row in tx.execute(query.where(chunks.c.digest.in_(some))):
                    found[bytes(row[0])] = Chunk(bytes(row[0]), bytes(row[1]), *row[2:])
        return found

    def read(self, wanted: Sequence[Chunk]) -> list[bytes]:
        """The bytes of chunks that lie one after the other in one pack. Raises Failed (`blob-corrupt`), NotFound (`blob-missing`)."""
        first, last = wanted[0], wanted[-1]
        stored = self.blobs.read_range(first.pack.hex(), first.offset, last.offset + last.stored - first.offset)
        return [
            unpacked(chunk, stored[chunk.offset - first.offset : chunk.offset - first.offset + chunk.stored])
            for chunk in wanted
        ]

    def flaws(self, digest: str) -> list[Flaw]:
        """What of a file is missing or was altered."""
        found, offset = [], 0
        parts = self.recipe(digest)
        there = self.find(list(dict.fromkeys(name for name, _ in parts)))
        for name, size in parts:
            why = ""
            if name not in there:
                why = "is missing"
            else:
                try:
                    self.read([there[name]])
                except NotFound:
                    why = f"is missing, with the pack {there[name].pack.hex()[:12]}"
                except Failed:
                    why = f"was altered, in the pack {there[name].pack.hex()[:12]}"
            if why:
                found.append(Flaw(offset, size, name.hex(), why))
            offset += size
        return found


def sliced(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[first : first + AT_ONCE] for first in range(0, len(values), AT_ONCE))


def packed_recipe(parts: Iterable[tuple[bytes, int]]) -> bytes:
    """
    >>> unpacked_recipe(packed_recipe([(bytes(32), 7)])) == [(bytes(32), 7)]
    True
    """
    return _RECIPE + b"".join(_ENTRY.pack(digest, size) for digest, size in parts)


def unpacked_recipe(data: bytes) -> list[tuple[bytes, int]]:
    return [(digest, size) for digest, size in _ENTRY.iter_unpack(data[len(_RECIPE) :])]


def unpacked(chunk: Chunk, stored: bytes | memoryview) -> bytes:
    """A chunk from what its pack has of it. Raises Failed (`blob-corrupt`)."""
    import pyarrow as pa

    data: bytes | None = None
    if len(stored) == chunk.stored == chunk.bytes:
        data = bytes(stored)
    elif len(stored) == chunk.stored:
        try:
            data = pa.Codec("zstd").decompress(stored, decompressed_size=chunk.bytes, asbytes=True)
        except (pa.ArrowException, OSError):
            data = None
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
        self.pieces: list[bytes | memoryview] = [_PACK]
        self.entries: list[tuple[bytes, int, int, int]] = []
        """Digest, offset, bytes in the pack, bytes."""
        self.size = 0
        """Bytes of its chunks."""

    def add(self, digest: bytes, stored: bytes | memoryview, size: int) -> None:
        self.entries.append((digest, len(_PACK) + self.size, len(stored), size))
        self.pieces.append(stored)
        self.size += len(stored)

    def put(self, blobs: Blobs) -> bytes:
        """Store it as a blob."""
        return bytes.fromhex(blobs.put(b"".join(self.pieces)))


def insert_pack(tx: sa.Connection, db: Database, digest: bytes, size: int) -> int:
    """The number of a pack whose bytes are stored."""
    db.upsert(tx, packs, {"digest": digest, "bytes": size, "at": now_ms()}, ["digest"], update=["at"])
    return int(tx.execute(sa.select(packs.c.id).where(packs.c.digest == digest)).scalar_one())


@dataclass
class _File:
    """A file or bytes whose chunks are on their way."""

    place: int
    digest: bytes
    size: int
    parts: list[tuple[bytes, int]] | None
    """None where it is one chunk."""
    behind: int
    """The last pack that may have some of it."""


class _Keeping:
    """One call of `keep`. Reading, cutting and hashing happen here, compressing and writing in two threads beside."""

    def __init__(self, owner: Packs, workers: ThreadPoolExecutor, progress: Callable[[int], None]) -> None:
        self.owner = owner
        self.progress = progress
        self.seen = 0
        self.workers = workers
        self.filling: dict[bytes, bytes] = {}
        """Chunks of the next pack."""
        self.filled = 0
        self.looked_at: list[tuple[bytes, bytes]] = []
        """Chunks of which it is not known yet whether they are there."""
        self.looked_size = 0
        self.under_way: set[bytes] = set()
        self.writing: list[tuple[int, Future[set[bytes]]]] = []
        self.files: list[_File] = []
        self.number = 0
        """Of the pack that is being filled."""

    def run(self, things: Sequence[Thing]) -> Iterator[Kept]:
        for place, thing in enumerate(things):
            for chunk in self._file(place, thing):
                self._offer(*chunk)
                if self.looked_size >= WINDOW or len(self.looked_at) >= 4 * AT_ONCE:
                    self._look()
                if self.filled >= PACK:
                    yield from self._send(2)
        self._look()
        yield from self._send(0)

    def _file(self, place: int, thing: Thing) -> Iterator[tuple[bytes, bytes]]:
        """The chunks of one thing with their digests; at their end it waits for its packs."""
        pieces = _pieces(thing)
        first = next(pieces, b"")
        if len(first) < WHOLE:
            digest = blake3.blake3(first).digest()
            self.files.append(_File(place, digest, len(first), None, -1))
            yield digest, first
            return
        hasher: Any = blake3.blake3(max_threads=2)
        parts: list[tuple[bytes, int]] = []

        def heard() -> Iterator[bytes]:
            piece: bytes | None = first
            while piece is not None:
                hasher.update(piece)
                yield piece
                piece = next(pieces, None)

        for view in cut(heard()):
            digest = blake3.blake3(view).digest()
            parts.append((digest, len(view)))
            yield digest, view  # type: ignore[misc]  # copied where it is new
        self.files.append(_File(place, hasher.digest(), sum(size for _, size in parts), parts, -1))

    def _offer(self, digest: bytes, data: bytes) -> None:
        self.looked_at.append((digest, data))
        self.looked_size += len(data)

    def _look(self) -> None:
        """Sort what came into what is there and what has to be packed."""
        asked = list(dict.fromkeys(d for d, _ in self.looked_at if d not in self.filling and d not in self.under_way))
        known = self.owner.known(asked) if asked else set()
        for digest, data in self.looked_at:
            if digest not in known and digest not in self.filling and digest not in self.under_way:
                self.filling[digest] = bytes(data)
                self.filled += len(data)
        self.seen += self.looked_size
        self.progress(self.seen)
        self.looked_at, self.looked_size = [], 0
        for file in self.files:
            if file.behind < 0:
                file.behind = self.number

    def _send(self, most: int) -> Iterator[Kept]:
        """Give what is filled to the writers, and wait until at most so many packs are being written."""
        if self.filling:
            self.under_way |= self.filling.keys()
            self.writing.append((self.number, self.workers.submit(_written, self.owner, self.filling)))
            self.filling, self.filled = {}, 0
            self.number += 1
        while self.writing and (len(self.writing) > most or self.writing[0][1].done()):
            number, future = self.writing.pop(0)
            self.under_way -= future.result()
            yield from self._commit(number)
        if most == 0:
            yield from self._commit(self.number)

    def _commit(self, number: int) -> Iterator[Kept]:
        """The rows of the files that are whole with a pack whose chunks are there."""
        ready = [file for file in self.files if 0 <= file.behind <= number]
        whole = {}
        for file in ready:
            if file.parts is not None:
                recipe = bytes.fromhex(self.owner.blobs.put(packed_recipe(file.parts)))
                whole[file.digest] = {"digest": file.digest, "recipe": recipe, "bytes": file.size, "at": now_ms()}
        if whole:
            with self.owner.db.write("packs.files") as tx:
                self.owner.db.upsert(tx, files, list(whole.values()), ["digest"], update=["recipe", "at"])
        self.files = [file for file in self.files if not 0 <= file.behind <= number]
        yield from (Kept(file.place, file.digest.hex(), file.size) for file in ready)


def _written(owner: Packs, filling: dict[bytes, bytes]) -> set[bytes]:
    """Store a pack of chunks, and let others know of them."""
    import pyarrow as pa

    codec: Any = pa.Codec("zstd", _LEVEL)
    pack = Pack()
    for digest, data in filling.items():
        stored, middle = data, data[len(data) // 2 :][:_SAMPLE]
        if len(codec.compress(middle, asbytes=True)) < 0.97 * len(middle):
            smaller = codec.compress(data, asbytes=True)
            stored = smaller if len(smaller) < len(data) else data
        pack.add(digest, stored, len(data))
    name, now = pack.put(owner.blobs), now_ms()
    with owner.db.write("packs.keep") as tx:
        mine = insert_pack(tx, owner.db, name, pack.size)
        rows = [
            {"digest": digest, "pack": mine, "offset": offset, "stored": stored, "bytes": size, "at": now}
            for digest, offset, stored, size in pack.entries
        ]
        owner.db.upsert(tx, chunks, rows, ["digest"], update=["at"])
    return set(filling)


def _pieces(thing: Thing) -> Iterator[bytes]:
    """Raises InvalidInput (`file-unreadable`)."""
    if isinstance(thing, bytes):
        yield thing
        return
    if not isinstance(thing, Path):  # others may be reading it, too
        offset = 0
        while piece := os.pread(thing.fileno(), WINDOW, offset):
            offset += len(piece)
            yield piece
        return
    try:
        with open(thing, "rb") as file:
            most = min(WINDOW, os.fstat(file.fileno()).st_size + 1)  # as much as is asked for is set aside
            while piece := file.read(most):
                yield piece
    except OSError as error:
        raise InvalidInput("file-unreadable", f"{thing} cannot be read: {error.strerror}") from None


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
