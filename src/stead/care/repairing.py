"""Bringing damaged bytes of data back from where they are still whole: a backup, or another store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import blake3

from stead.datasets import get_version, manifests, verify
from stead.datasets.types import DatasetVersion, Part
from stead.errors import Failed, NotFound
from stead.store import Blobs, Database, Store
from stead.store.opening import FILE
from stead.store.packfile import Chunk, unpacked
from stead.store.packs import Flaw, Packs
from stead.store.repacking import mend


@dataclass(frozen=True)
class Repaired:
    """What was brought back of a version."""

    ref: str
    parts: dict[str, int]
    """By path of the part how many bytes."""
    manifest: int = 0
    """Bytes of the list of its parts, where that was brought back."""

    @property
    def bytes(self) -> int:
        return sum(self.parts.values()) + self.manifest


def repair(store: Store, ref: str, source: Path) -> Repaired:
    """Take what is damaged or missing of a version from a backup, a place of backups or the folder of another store, and verify it.

    The list of its parts comes first, for it tells what these are. Only bytes that fit their names are taken.
    Raises NotFound (`repair-source`, and those of `get_version`), Failed (`dataset-corrupt`: not all of it is whole there, what
    was has been taken).
    """
    found = get_version(store, ref)
    ref = found.ref
    with _opened(source) as other:
        manifest = _mended_manifest(store, other, found, source)
        version = get_version(store, ref, with_parts=True)
        done = {part.path: size for part in version.part_list if (size := _mended(store, other, part))}
    verify(store, ref)
    return Repaired(ref, done, manifest)


@contextmanager
def _opened(source: Path) -> Iterator[Blobs]:
    place = next((folder for folder in (source, source.parent) if (folder / "blobs").is_dir()), None)
    if place is None:
        raise NotFound(
            "repair-source",
            f"{source} is neither a backup nor a store",
            hint="a folder of backups, or of another store",
        )
    blobs = Blobs(place / "blobs")
    if not (place / FILE).is_file():
        yield blobs
        return
    db = Database(f"sqlite:///{place / FILE}")
    blobs.packs = Packs(db, blobs)
    try:
        yield blobs
    finally:
        db.close()


def _mended_manifest(store: Store, other: Blobs, version: DatasetVersion, source: Path) -> int:
    """How many bytes of the list of parts were brought back. Raises Failed (`dataset-corrupt`) where it is whole nowhere."""
    ref, digest = version.ref, version.manifest
    try:
        manifests.contents(store, digest, ref)
        return 0
    except Failed as error:
        if error.code != "dataset-corrupt":
            raise
        said = error.message
    try:
        data = other.get(digest)
    except (NotFound, Failed):
        raise Failed(
            "dataset-corrupt",
            f"{said}, and is not whole in {source} either",
            hint=f"stead data verify {ref} --repair-from BACKUPS, with others that were made since {ref} was added",
        ) from None
    store.blobs.put(data, again=True)
    return len(data)


def _mended(store: Store, other: Blobs, part: Part) -> int:
    """How many bytes of a part were brought back, those of its recipe among them."""
    if store.blobs.alone(part.digest) or store.packs.size(part.digest) is None:
        try:
            store.blobs.get(part.digest)
            return 0
        except (NotFound, Failed):
            with suppress(NotFound, Failed):
                store.blobs.put(other.get(part.digest), again=True)
                return part.bytes
            return 0
    recipe, came = store.packs.recipe_name(part.digest), 0
    if recipe is not None:
        try:
            store.blobs.get(recipe)
        except (NotFound, Failed):
            with suppress(NotFound, Failed):
                told = other.get(recipe)
                store.blobs.put(told, again=True)
                came = len(told)
    try:
        flaws = store.packs.flaws(part.digest)
    except (NotFound, Failed):
        return came
    whole: dict[bytes, bytes] = {}
    for flaw in flaws:
        name = bytes.fromhex(flaw.chunk)
        if name not in whole and (data := _chunk(store, other, part, flaw)) is not None:
            whole[name] = data
    if whole:
        mend(store.packs, whole)
    return came + sum(flaw.bytes for flaw in flaws if bytes.fromhex(flaw.chunk) in whole)


def _chunk(store: Store, other: Blobs, part: Part, flaw: Flaw) -> bytes | None:
    """A chunk from the same pack there, from another pack, or from the whole file."""
    name = bytes.fromhex(flaw.chunk)
    lie = [*store.packs.find([name]).values(), *(other.packs.find([name]).values() if other.packs else ())]
    for chunk in lie:
        with suppress(NotFound, Failed):
            return _read(other, chunk)
    with suppress(NotFound, Failed):
        data = other.read_range(part.digest, flaw.offset, flaw.bytes)
        if blake3.blake3(data).digest() == name:
            return data
    return None


def _read(other: Blobs, chunk: Chunk) -> bytes:
    return unpacked(chunk, other.read_range(chunk.pack.hex(), chunk.offset, chunk.stored))
