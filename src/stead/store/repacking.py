"""Taking chunks out of packs that no file needs any more, and putting whole ones in the place of damaged ones.

A pack is never changed. What stays of it is written into a new one, the rows of its chunks turn to that in one transaction, and only
then its bytes go; who was about to read from the old one looks again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import blake3
import sqlalchemy as sa

from stead.errors import Failed, NotFound
from stead.runtime.clock import now_ms
from stead.store.blobs import FRESH_S, OLD_S, Stored
from stead.store.packfile import Chunk, Pack, first_run, unpacked, unpacked_recipe
from stead.store.packs import Packs, insert_pack, put_pack, sliced
from stead.store.tables import chunks, files, packs

OLD_MS = OLD_S * 1000


@dataclass(frozen=True)
class Needed:
    """What stays: chunks, and the blobs that packs consist of (names)."""

    chunks: set[bytes]
    """And all else that has a name."""
    files: set[bytes]
    blobs: set[str]


def needed(owner: Packs, names: Iterable[str]) -> Needed:
    """What the files of these names need, and those that were stored less than a day ago.

    Raises Failed (`blob-corrupt`, its `files` by name why) where that cannot be told of some.
    """
    wanted = [bytes.fromhex(name) for name in names]
    kept = set(wanted)
    recipes: dict[bytes, bytes] = {}
    with owner.db.read() as tx:
        for some in sliced(wanted):
            query = sa.select(files.c.digest, files.c.recipe).where(files.c.digest.in_(some))
            recipes.update((bytes(row.digest), bytes(row.recipe)) for row in tx.execute(query))
        young = sa.select(files.c.digest, files.c.recipe).where(files.c.at >= now_ms() - OLD_MS)
        recipes.update((bytes(row.digest), bytes(row.recipe)) for row in tx.execute(young))
        blobs = {bytes(digest).hex() for digest in tx.execute(sa.select(packs.c.digest)).scalars()}
    lost: dict[str, str] = {}
    for name, recipe in recipes.items():
        blobs.add(recipe.hex())
        parts = _told(owner, recipe.hex())
        if isinstance(parts, str):
            lost[name.hex()] = parts
        else:
            kept.update(parts)
    if lost:
        listed = ", ".join(f"{name[:12]} {why}" for name, why in lost.items())
        raise Failed(
            "blob-corrupt",
            f"{listed}: what is needed cannot be told",
            hint="nothing names them yet: add again what they came from; a day after they were stored they go by themselves",
            files=lost,
        )
    return Needed(kept, set(recipes), blobs)


def freed(owner: Packs, keep: Needed) -> int:
    """How many bytes `sweep` would take out of packs."""
    with owner.db.read() as tx:
        dead = sum(size for _, size in _dead(tx, keep))
        return dead + sum(size - left for _, _, size, left in _torn(tx))


def sweep(owner: Packs, keep: Needed, may_delete: Callable[[], bool]) -> int:
    """Take out the chunks that are not needed and are older than a day; how many bytes are free then.

    A pack that is damaged stays as it is, so that what is still whole in it can be had.
    """
    gone: list[bytes] = []
    with owner.db.write("packs.sweep") as tx:
        before = now_ms() - OLD_MS
        old = tx.execute(sa.select(files.c.digest).where(files.c.at < before)).scalars()
        gone = [bytes(digest) for digest in old if bytes(digest) not in keep.files]
        for some in sliced(gone):
            tx.execute(sa.delete(files).where(files.c.digest.in_(some), files.c.at < before))
        dead = [digest for digest, _ in _dead(tx, keep)]
        for some in sliced(dead):
            tx.execute(sa.delete(chunks).where(chunks.c.digest.in_(some), chunks.c.at < before))
    for digest in (*gone, *dead):
        owner.blobs.drop_copy(digest.hex())
    with owner.db.read() as tx:
        torn = list(_torn(tx))
    size = 0
    for number, digest, whole, left in torn:
        if not may_delete():
            break  # a backup began: the next call goes on
        if _rewritten(owner, number):
            size += whole - left
            if digest not in keep.chunks and may_delete():  # one that was stored again meanwhile stays
                owner.blobs.forget(Stored(digest.hex(), whole, time.time() - FRESH_S))
    return size


def problems_of(owner: Packs, names: set[str], there: set[str], altered: set[str]) -> dict[str, list[str]]:
    """What is wrong with files that are no blobs of their own, given which blobs there are and which of these were altered."""
    found: dict[str, list[str]] = {}
    parts: dict[str, list[bytes]] = {name: [bytes.fromhex(name)] for name in names}
    with owner.db.read() as tx:
        for some in sliced([bytes.fromhex(name) for name in names]):
            for row in tx.execute(sa.select(files.c.digest, files.c.recipe).where(files.c.digest.in_(some))):
                name, recipe = bytes(row.digest).hex(), bytes(row.recipe).hex()
                told = _told(owner, recipe)
                if isinstance(told, str):
                    parts[name], found[name] = [], [told]
                else:
                    parts[name] = told
    lie = owner.find(list({digest for each in parts.values() for digest in each}))
    for name, each in parts.items():
        if any(digest not in lie for digest in each):
            found[name] = ["are missing"]
            continue
        packs_of = {lie[digest].pack.hex() for digest in each}
        found.setdefault(name, []).extend(f"are missing, with the pack {pack[:12]}" for pack in packs_of - there)
        bad = sum(lie[digest].pack.hex() in altered and not _whole(owner, lie[digest]) for digest in each)
        if bad:
            found[name].append(f"were altered: {bad} of {len(each)} chunks")
    return found


def _told(owner: Packs, recipe: str) -> list[bytes] | str:
    """The chunks of a file, by its recipe; or why that cannot be told."""
    try:
        return [digest for digest, _ in unpacked_recipe(owner.blobs.get(recipe))]
    except (NotFound, Failed) as error:
        if error.code not in ("blob-missing", "blob-corrupt"):
            raise
        why = "was altered" if error.code == "blob-corrupt" else "is missing"
        return f"cannot be put together: the recipe {recipe[:12]} {why}"


def _whole(owner: Packs, chunk: Chunk) -> bool:
    try:
        owner.read([chunk])
    except (NotFound, Failed):
        return False
    return True


def mend(owner: Packs, whole: Mapping[bytes, bytes]) -> None:
    """Put bytes in the place of chunks that are damaged or missing. Raises ValueError where they are not those of their names."""
    pack = Pack()
    for digest, data in whole.items():
        if blake3.blake3(data).digest() != digest:
            raise ValueError(f"these are not the bytes of {digest.hex()[:12]}")
        pack.add(digest, data, len(data))
    name = put_pack(owner.blobs, pack)
    with owner.db.write("packs.move") as tx:
        _turned(tx, owner, name, pack, None)
    owner.blobs.damaged.forget(digest.hex() for digest in whole)


def _dead(tx: sa.Connection, keep: Needed) -> Iterator[tuple[bytes, int]]:
    query = sa.select(chunks.c.digest, chunks.c.stored).where(chunks.c.at < now_ms() - OLD_MS)
    for row in tx.execute(query.execution_options(yield_per=5000)):
        if bytes(row.digest) not in keep.chunks:
            yield bytes(row.digest), row.stored


def _torn(tx: sa.Connection) -> Iterator[tuple[int, bytes, int, int]]:
    """Packs with bytes that belong to no chunk: number, name, bytes, and how many of these are needed."""
    left = sa.func.coalesce(sa.func.sum(chunks.c.stored), 0)
    query = (
        sa.select(packs.c.id, packs.c.digest, packs.c.bytes, left.label("left"))
        .outerjoin(chunks, chunks.c.pack == packs.c.id)
        .where(packs.c.at < now_ms() - OLD_MS)
        .group_by(packs.c.id, packs.c.digest, packs.c.bytes)
        .having(left < packs.c.bytes)
    )
    for row in tx.execute(query):
        yield row.id, bytes(row.digest), row.bytes, int(row.left)


def _rewritten(owner: Packs, number: int) -> bool:
    """Whether what stays of a pack is in a new one; False where some of it cannot be read."""
    query = (
        sa.select(chunks.c.digest, packs.c.digest, chunks.c.offset, chunks.c.stored, chunks.c.bytes)
        .join(packs, packs.c.id == chunks.c.pack)
        .where(packs.c.id == number)
        .order_by(chunks.c.offset)
    )
    with owner.db.read() as tx:
        stay = [Chunk(bytes(row[0]), bytes(row[1]), *row[2:]) for row in tx.execute(query)]
    pack, place = Pack(), 0
    try:
        while place < len(stay):
            group = first_run(stay, place, len(stay))
            start = group[0].offset
            stored = owner.blobs.read_range(group[0].pack.hex(), start, group[-1].offset + group[-1].stored - start)
            for chunk in group:
                piece = stored[chunk.offset - start : chunk.offset - start + chunk.stored]
                unpacked(chunk, piece)
                pack.add(chunk.digest, piece, chunk.bytes)
            place += len(group)
    except (NotFound, Failed) as error:
        if error.code not in ("blob-missing", "blob-corrupt"):
            raise
        return False
    name = put_pack(owner.blobs, pack) if stay else b""
    with owner.db.write("packs.move") as tx:
        if stay:
            _turned(tx, owner, name, pack, number)
        rest = tx.execute(sa.select(sa.func.count()).where(chunks.c.pack == number)).scalar()
        if not rest:
            tx.execute(sa.delete(packs).where(packs.c.id == number))
    return not rest


def _turned(tx: sa.Connection, owner: Packs, name: bytes, pack: Pack, old: int | None) -> None:
    """The rows of chunks turn to a new pack, those of one old pack or wherever they were."""
    new = insert_pack(tx, owner.db, name, pack.size)
    here = chunks.c.digest == sa.bindparam("b_digest")
    here = here & (chunks.c.pack == old) if old is not None else here
    turned = (
        sa.update(chunks).where(here).values(pack=new, offset=sa.bindparam("b_offset"), stored=sa.bindparam("b_stored"))
    )
    tx.execute(
        turned,
        [{"b_digest": digest, "b_offset": offset, "b_stored": stored} for digest, offset, stored, _ in pack.entries],
    )
