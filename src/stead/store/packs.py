"""How the bytes of data are kept: cut into chunks by content, compressed, many chunks in a pack.

A pack is a blob, and so is a recipe, which tells the chunks of one file in order (`packfile`); the database knows in which pack a
chunk lies. So what two versions have in common is stored once, and a chunk is there for others only once its pack is whole: a
kill -9 leaves at worst a pack that no row tells of.

A file of less than `WHOLE` bytes is one chunk. What is stored again is made fresh, as with any blob (`blobs.FRESH_S`).
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

import blake3
import sqlalchemy as sa

from stead.errors import Failed, InvalidInput, NotFound
from stead.runtime.clock import now_ms
from stead.store.chunks import MOST, cut
from stead.store.database import Database
from stead.store.packfile import WHOLE, Chunk, Pack, Packer, Piece, packed_recipe, unpacked, unpacked_recipe
from stead.store.tables import chunks, files, packs

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from stead.store.blobs import Blobs, Thing

WINDOW = 8 << 20
"""So much is read before it is asked which of it is there."""
FULL = 16 << 20
"""Of so many bytes of chunks a pack is made."""
AT_ONCE = 500
FRESH_MS = 12 * 3_600_000
T = TypeVar("T")


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

        with ThreadPoolExecutor(4, "packing") as workers:
            yield from _Keeping(self, workers, progress).run(things)

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Which chunks are there, made fresh. Those that were found damaged, or whose pack is gone, are not: what is stored again is whole then."""
        found: dict[bytes, int] = {}
        lie: dict[bytes, list[bytes]] = {}
        with self.db.read() as tx:
            for some in sliced(digests):  # what the builder of queries makes of 500 names costs ten times the look
                asked = (
                    "SELECT c.digest, c.at, p.digest FROM store_chunks c JOIN store_packs p ON p.id = c.pack"
                    f" WHERE c.digest IN ({self.db.marks(len(some))})"
                )
                for name, at, pack in tx.exec_driver_sql(asked, tuple(some)):
                    found[bytes(name)] = at
                    lie.setdefault(bytes(pack), []).append(bytes(name))
        for pack, names in lie.items():
            if not self.blobs.alone(pack.hex()):
                for name in names:
                    del found[name]
        if damaged := self.blobs.damaged.names():
            found = {name: at for name, at in found.items() if name.hex() not in damaged}
        old = sorted(digest for digest, at in found.items() if at < now_ms() - FRESH_MS)
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
        except (NotFound, Failed) as error:
            if error.code not in ("blob-missing", "blob-corrupt"):
                raise
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
        made = []
        for chunk in wanted:
            start = chunk.offset - first.offset
            try:
                made.append(unpacked(chunk, stored[start : start + chunk.stored]))
            except Failed:  # of the chunk alone a pack of the same name may be made
                self.blobs.damaged.note(chunk.digest.hex(), chunk.pack.hex())
                raise
        return made

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


def put_pack(blobs: Blobs, pack: Pack) -> bytes:
    """Store a pack; its name."""
    name = pack.finished()
    blobs.put_pieces(name, pack.pieces)
    return bytes.fromhex(name)


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
    parts: list[tuple[bytes, int]]
    """Empty where it is one chunk."""
    behind: int = -1
    """The last pack that may have some of it."""


class _Writing(NamedTuple):
    """A pack that is being written."""

    number: int
    written: Future[set[bytes]]
    windows: list[mmap.mmap]
    """What it is written from."""


def _window() -> mmap.mmap:
    made = mmap.mmap(-1, WINDOW, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # one page fault instead of 512
        with suppress(OSError):
            made.madvise(mmap.MADV_HUGEPAGE)
    return made


class _Ahead(NamedTuple):
    """A window that is being read into, after room for what is put before it."""

    window: mmap.mmap
    came: Future[int]


class _Keeping:
    """One call of `keep`. Cutting and hashing of chunks happen here; reading ahead, hashing of whole files and writing in threads beside.

    Files are read into windows and written into packs from there: what is new is not copied in between, and a few windows, each
    used again when its pack is written, serve for all.
    """

    def __init__(self, owner: Packs, workers: ThreadPoolExecutor, progress: Callable[[int], None]) -> None:
        self.owner = owner
        self.progress = progress
        self.seen = 0
        self.workers = workers
        self.filling: dict[bytes, Piece] = {}
        """Chunks of the next pack."""
        self.filled = 0
        self.looked_at: list[tuple[bytes, Piece]] = []
        """Chunks of which it is not known yet whether they are there."""
        self.looked_size = 0
        self.under_way: set[bytes] = set()
        self.writing: list[_Writing] = []
        self.files: list[_File] = []
        self.number = 0
        """Of the pack that is being filled."""
        self.window: mmap.mmap | None = None
        self.taken = 0
        """Bytes of the window that chunks are made of which were not looked at yet."""
        self.full: list[mmap.mmap] = []
        """Windows that the next pack has something of."""
        self.free: list[mmap.mmap] = []

    def run(self, things: Sequence[Thing]) -> Iterator[Kept]:
        for place, thing in enumerate(things):
            if isinstance(thing, bytes):
                yield from self._bytes(place, thing)
            else:
                with _opened(thing) as source:
                    if source.size >= WHOLE or not self._small(place, source):
                        yield from self._large(place, source)
            if len(self.looked_at) >= 8 * AT_ONCE:
                yield from self._look()
        yield from self._look()
        yield from self._send(0)

    def _bytes(self, place: int, data: bytes) -> Iterator[Kept]:
        digest = blake3.blake3(data).digest()
        parts: list[tuple[bytes, int]] = []
        if len(data) < WHOLE:
            self._offer(digest, Piece(data, ""))
        else:
            for chunk in cut(data):
                parts.append(self._part(Piece(chunk, place)))
                if self.looked_size >= WINDOW:
                    yield from self._look()
        self.files.append(_File(place, digest, len(data), parts))

    def _small(self, place: int, source: _Source) -> bool:
        """Take a file as one chunk; not where it has grown."""
        if WINDOW - self.taken <= source.size:
            self._sort()
        self.window = self.window or self._fresh()
        room = memoryview(self.window)[self.taken : self.taken + source.size + 1]
        came = source.read(room, 0)
        if came > source.size:
            return False
        digest = blake3.blake3(room[:came]).digest()
        self._offer(digest, Piece(room[:came], source.like, self.window, self.taken))
        self.taken += came
        self.files.append(_File(place, digest, came, []))
        return True

    def _large(self, place: int, source: _Source) -> Iterator[Kept]:
        """Take a file in chunks; at their end it waits for its packs."""
        hasher = blake3.blake3()
        parts: list[tuple[bytes, int]] = []
        size, tail, end = 0, b"", False
        """Bytes read, and what of them may go on in what comes next: that is put before it."""
        yield from self._look()
        ahead = self._ahead(source, size)
        while not end:
            self.window, came = ahead.window, ahead.came.result()
            size, self.taken, end = size + came, MOST + came, MOST + came < WINDOW
            if not end:
                ahead = self._ahead(source, size)
            view, start = memoryview(self.window), MOST - len(tail)
            view[start:MOST] = tail
            hashing = self.workers.submit(hasher.update, view[MOST : self.taken])
            for chunk in cut(view[start : self.taken], end=end):
                parts.append(self._part(Piece(chunk, place, self.window, start)))
                start += len(chunk)
            tail = bytes(view[start : self.taken])
            hashing.result()
            yield from self._look()
        if not size:
            self._offer(hasher.digest(), Piece(b"", place))
        self.files.append(_File(place, hasher.digest(), size, parts))

    def _ahead(self, source: _Source, offset: int) -> _Ahead:
        window = self._fresh()
        return _Ahead(window, self.workers.submit(source.read, memoryview(window)[MOST:], offset))

    def _fresh(self) -> mmap.mmap:
        return self.free.pop() if self.free else _window()

    def _part(self, piece: Piece) -> tuple[bytes, int]:
        digest = blake3.blake3(piece.data).digest()
        self._offer(digest, piece)
        return digest, len(piece.data)

    def _offer(self, digest: bytes, piece: Piece) -> None:
        self.looked_at.append((digest, piece))
        self.looked_size += len(piece.data)

    def _look(self) -> Iterator[Kept]:
        """Sort what came, and send a pack off where that fills one."""
        self._sort()
        if self.filled >= FULL:
            yield from self._send(2)

    def _sort(self) -> None:
        """Sort what came into what is there and what has to be packed. Then the window is free, or goes with the pack."""
        asked = list(dict.fromkeys(d for d, _ in self.looked_at if d not in self.filling and d not in self.under_way))
        known = self.owner.known(asked) if asked else set()
        new = {digest: piece for digest, piece in self.looked_at if digest not in known}
        new = {d: piece for d, piece in new.items() if d not in self.filling and d not in self.under_way}
        size = sum(len(piece.data) for piece in new.values())
        if size < WINDOW / 2:  # a window would be held for little
            new = {digest: Piece(bytes(piece.data), piece.like) for digest, piece in new.items()}
            self.free += [self.window] if self.window else []
        else:
            self.full += [self.window] if self.window else []
        self.filling |= new
        self.filled += size
        self.window, self.taken = None, 0
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
            written = self.workers.submit(_written, self.owner, self.filling)
            self.writing.append(_Writing(self.number, written, self.full))
            self.filling, self.filled, self.full = {}, 0, []
            self.number += 1
        while self.writing and (len(self.writing) > most or self.writing[0].written.done()):
            pack = self.writing.pop(0)
            self.under_way -= pack.written.result()
            self.free += pack.windows
            yield from self._commit(pack.number)
        if most == 0:
            yield from self._commit(self.number)

    def _commit(self, number: int) -> Iterator[Kept]:
        """The rows of the files that are whole with a pack whose chunks are there."""
        ready = [file for file in self.files if 0 <= file.behind <= number]
        whole = {}
        for file in ready:
            if file.parts:
                recipe = bytes.fromhex(self.owner.blobs.put(packed_recipe(file.parts)))
                whole[file.digest] = {"digest": file.digest, "recipe": recipe, "bytes": file.size, "at": now_ms()}
        if whole:
            with self.owner.db.write("packs.files") as tx:
                self.owner.db.upsert(
                    tx, files, [whole[name] for name in sorted(whole)], ["digest"], update=["recipe", "at"]
                )
        self.files = [file for file in self.files if not 0 <= file.behind <= number]
        yield from (Kept(file.place, file.digest.hex(), file.size) for file in ready)


def _written(owner: Packs, filling: dict[bytes, Piece]) -> set[bytes]:
    """Store a pack of chunks, and let others know of them."""
    pack = Pack()
    packer = Packer()
    for digest, piece in filling.items():
        stored = packer.packed(piece)
        window = piece.window if stored is piece.data else None
        pack.add(digest, stored, len(piece.data), window, piece.start)
    name, now = put_pack(owner.blobs, pack), now_ms()
    with owner.db.write("packs.keep") as tx:
        mine = insert_pack(tx, owner.db, name, pack.size)
        _insert_chunks(tx, owner.db, sorted((*entry, mine, now) for entry in pack.entries))
    owner.blobs.damaged.forget(digest.hex() for digest in filling)
    return set(filling)


def _insert_chunks(tx: sa.Connection, db: Database, rows: Sequence[tuple[bytes, int, int, int, int, int]]) -> None:
    """Let others know of chunks: digest, offset, bytes in the pack, bytes, number of the pack, when. Those that are known are made fresh.

    In the order of their names, as whoever else writes them: two that take rows in different orders would wait for each other.
    """
    tx.exec_driver_sql(
        f'INSERT INTO store_chunks (digest, "offset", stored, bytes, pack, at) VALUES ({db.marks(6)})'
        " ON CONFLICT (digest) DO UPDATE SET"
        ' "offset" = excluded."offset", stored = excluded.stored, pack = excluded.pack, at = excluded.at',
        list(rows),
    )


class _Source(NamedTuple):
    """A file that is open."""

    number: int
    size: int
    """When it was opened."""
    name: str
    """Empty where it was open before, and stays so."""

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self.name:
            os.close(self.number)

    @property
    def like(self) -> str:
        return os.path.splitext(self.name)[1]

    def read(self, room: memoryview, offset: int) -> int:
        """Read from an offset on until there is no more room, or nothing more comes; how many bytes came.

        Raises InvalidInput (`file-unreadable`).
        """
        came = 0
        while came < len(room) and (not came or offset + came != self.size):
            try:
                more = os.preadv(self.number, [room[came:]], offset + came)
            except OSError as error:
                raise _unreadable(self.name, error) from None
            if not more:
                break
            came += more
        return came


def _opened(thing: Path | BinaryIO) -> _Source:
    """Raises InvalidInput (`file-unreadable`)."""
    if not isinstance(thing, Path):  # others may be reading it, too
        return _Source(thing.fileno(), os.fstat(thing.fileno()).st_size, "")
    name = str(thing)
    try:
        number = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # nobody may write to what is a pipe by now
    except OSError as error:
        raise _unreadable(name, error) from None
    known = os.fstat(number)
    if not stat.S_ISREG(known.st_mode):
        os.close(number)
        raise InvalidInput("file-unreadable", f"{name} cannot be read: it is no file any more")
    return _Source(number, known.st_size, name)


def _unreadable(name: str, error: OSError) -> InvalidInput:
    return InvalidInput("file-unreadable", f"{name} cannot be read: {error.strerror}")
