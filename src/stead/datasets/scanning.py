"""The files of a folder, and what is known of them without reading them: the stat index."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from stead.folders import (
    Glance,
    Remembered,
    Stamp,
    Status,
    checked_path,
    glance_in,
    glance_of,
    remembered,
    remembered_in,
    walk,
)
from stead.store import Store, digest_of

TICK_NS = 50_000_000
"""A file that was changed so shortly before it was looked at may be changed again at the same time of its file system."""
SAVE_S = 2.0


class Index:
    """By file what became of it when it was added last, on this machine: it is not read again while size, time and inode are the same.

    One of a dataset, about the folder that was added last; open it before the folder is walked. It may be lost: then files are read.
    """

    def __init__(self, store: Store, name: str, root: Path) -> None:
        self._root = os.path.abspath(root)
        self._file = remembered_in(store.root, name)
        self._sure_before = time.time_ns() - TICK_NS
        self._last = time.monotonic()
        self._new = False
        found = remembered(self._file, self._root) or Remembered(self._root, {})
        self._files, self._whole = found.files, found.whole

    def known(self, path: str, stamp: Stamp) -> str | None:
        """The name of what a file became; None where it may be another one."""
        found = self._files.get(path)
        return found[3] if found is not None and found[:3] == tuple(stamp) else None

    def same(self, path: str, stamp: Stamp, digest: str) -> bool:
        """Whether it is known that a file is what has this name."""
        return self._files.get(path) == (*stamp, digest)

    def note(self, path: str, stamp: Stamp, digest: str) -> None:
        """Remember what a file became, by what was found of it before it was read."""
        if stamp.mtime_ns >= self._sure_before or self._files.get(path) == (*stamp, digest):
            return
        self._files[path] = (*stamp, digest)
        self._new, self._whole = True, ""
        if time.monotonic() - self._last > SAVE_S:
            self.save()

    def settle(self, manifest: str, parts: dict[str, str], part_of: Callable[[str], str]) -> None:
        """Remember that the folder is this version, where it has all of its parts and nothing else is known of it."""
        mine = {part_of(path): found[3] for path, found in self._files.items()} if self._whole != manifest else {}
        if mine and mine == parts and len(mine) == len(self._files):
            self._whole, self._new = manifest, True
        self.save()

    def keep(self, paths: set[str]) -> None:
        """Forget files that are not there any more."""
        if gone := self._files.keys() - paths:
            self._files = {path: found for path, found in self._files.items() if path not in gone}
            self._new, self._whole = True, ""

    def save(self) -> None:
        """Write it down; what cannot be written is not known the next time."""
        if not self._new:
            return
        found = Remembered(self._root, self._files, self._whole)
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            glance_in(self._file).unlink(missing_ok=True)
            _replace(self._file, found)
            if self._whole:
                _replace(glance_in(self._file), glance_of(found))
        self._new, self._last = False, time.monotonic()


def _replace(file: Path, what: Remembered | Glance) -> None:
    temporary = file.with_name(f".{file.name}-{os.getpid()}")
    temporary.write_bytes(msgspec.msgpack.encode(what))
    os.replace(temporary, file)


def compare(
    index: Index, folder: Path, apart_from: Path, manifest: str, parts: dict[str, str], part_of: Callable[[str], str]
) -> Status:
    """How a folder differs from a version's parts, by path their digests; `part_of` tells what part a file becomes. The ref is to be filled in."""
    new, changed, same, read = [], [], 0, 0
    left, there = dict(parts), set()
    for path, file, stamp in walk(folder, apart_from):
        there.add(path)
        wanted = left.pop(part_of(path), None)
        if wanted is None:
            new.append(checked_path(path))
            continue
        if index.same(path, stamp, wanted):
            same += 1
            continue
        digest = index.known(path, stamp)
        if digest is None:
            read += 1
            digest = digest_of(Path(file))
            if digest == wanted:
                index.note(path, stamp, digest)
        if digest == wanted:
            same += 1
        else:
            changed.append(path)
    index.keep(there)
    index.settle(manifest, parts, part_of)
    return Status("", sorted(new), sorted(changed), sorted(left), same, read)
