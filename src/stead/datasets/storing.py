"""Storing the bytes of parts; of files that are known by their stamps nothing is read again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from stead.datasets.frames import Frame, Scratch, Thing, opened
from stead.datasets.scanning import Index
from stead.datasets.sources import Given
from stead.datasets.types import Part
from stead.store import Store

Progress = Callable[[int, int], None]
"""Told how many bytes were read, and of how many."""


@dataclass(frozen=True)
class Adding:
    """What is to be added, what is known of its files, and who is told."""

    found: Sequence[Given]
    scratch: Scratch
    index: Index | None = None
    progress: Progress = lambda *_: None

    @cached_property
    def frames(self) -> list[Frame]:
        """The tables, opened once: a stream does not come again where another version came between."""
        return [opened(each, self.scratch) for each in self.found]


@contextmanager
def begun(
    store: Store, found: Sequence[Given], index: Index | None = None, progress: Progress = lambda *_: None
) -> Iterator[Adding]:
    """What is to be added, with a place for what has to be kept aside meanwhile."""
    with Scratch(store.root / "cache" / "adding") as scratch:
        yield Adding(found, scratch, index, progress)


def stored(store: Store, parts: Sequence[Part], things: Sequence[Thing], adding: Adding) -> list[Part]:
    """The parts, one of each thing that is added, with their bytes stored."""
    done = _known(store, things, adding)
    rest = [n for n in range(len(parts)) if n not in done]
    total = sum(_size(things[n], adding.found[n]) for n in rest)
    kept = store.blobs.keep([things[n] for n in rest], lambda read: adding.progress(read, total))
    for place, digest, size in kept:
        n = rest[place]
        done[n] = digest, size
        each = adding.found[n]
        if adding.index is not None and each.stamp is not None:
            adding.index.note(each.path, each.stamp, digest)
    if adding.index is not None:
        adding.index.save()
    return [replace(part, digest=done[n][0], bytes=done[n][1]) for n, part in enumerate(parts)]


def _known(store: Store, things: Sequence[Thing], adding: Adding) -> dict[int, tuple[str, int]]:
    """By place name and bytes of the files that became something that is stored still."""
    if adding.index is None:
        return {}
    found: dict[int, tuple[str, int]] = {}
    for n, (thing, each) in enumerate(zip(things, adding.found, strict=True)):
        if each.stamp is not None and thing == each.file:
            digest = adding.index.known(each.path, each.stamp)
            if digest is not None:
                found[n] = digest, each.stamp.size
    fresh = store.blobs.renew(digest for digest, _ in found.values()) if found else set()
    return {n: each for n, each in found.items() if each[0] in fresh}


def _size(thing: Thing, each: Given) -> int:
    if isinstance(thing, bytes):
        return len(thing)
    if each.stamp is not None and thing == each.file:
        return each.stamp.size
    return os.stat(thing).st_size if isinstance(thing, Path) else os.fstat(thing.fileno()).st_size
