"""The files of a folder, and what is known of them without reading them: the stat index."""

from __future__ import annotations

import os
import re
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from stead.errors import InvalidInput
from stead.store import Store, digest_of

TICK_NS = 50_000_000
"""A file that was changed so shortly before it was looked at may be changed again at the same time of its file system."""
SAVE_S = 2.0
_PLAIN = re.compile(r"[\w -][\w ./-]*[\w. -]", re.ASCII).fullmatch
"""Most paths, which need no closer look."""


class Stamp(NamedTuple):
    """What tells, without reading it, that a file is the one it was."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, file: Path) -> Stamp:
        """Raises OSError."""
        found = file.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


def checked_path(path: str) -> str:
    """A relative path fit for a part. Raises InvalidInput (`path-invalid`).

    >>> checked_path("2012/trips.parquet")
    '2012/trips.parquet'
    """
    if _PLAIN(path) and len(path) <= 250 and "/." not in path and "//" not in path:
        return path
    pieces = path.split("/")
    odd = "\\" in path or not ((path.isascii() and path.isprintable()) or _is_plain(path))
    if odd or len(path) > 1000 or any(piece in ("", ".", "..") or len(piece) > 250 for piece in pieces):
        raise InvalidInput(
            "path-invalid",
            f"{path!r} is no path of a part",
            hint="relative, with slashes, without '..' and control codes",
        )
    return path


def _is_plain(path: str) -> bool:
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in path)


def walk(folder: Path, apart_from: Path) -> Iterator[tuple[str, str, Stamp]]:
    """The files of a folder and of those in it, but for one: path in it, which nobody has checked, path, stamp. Links to files inside are followed.

    Raises InvalidInput (`path-escapes`, `path-invalid`, `file-unreadable`).
    """
    try:
        root, left_out = folder.resolve(), os.path.realpath(apart_from)
        left = [("", os.fspath(folder))]
        while left:
            above, place = left.pop()
            with os.scandir(place) as entries:
                for entry in entries:
                    path = above + entry.name
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISLNK(found.st_mode):
                        found = _linked(path, entry, root)
                    if stat.S_ISREG(found.st_mode):
                        yield path, entry.path, Stamp(found.st_size, found.st_mtime_ns, found.st_ino)
                    elif not stat.S_ISDIR(found.st_mode):
                        raise InvalidInput("path-invalid", f"{path!r} is no ordinary file")
                    elif os.path.basename(left_out) != entry.name or os.path.realpath(entry.path) != left_out:
                        left.append((f"{path}/", entry.path))
    except OSError as error:
        raise InvalidInput("file-unreadable", f"{error.filename or folder} cannot be read: {error.strerror}") from None


def _linked(path: str, entry: os.DirEntry[str], root: Path) -> os.stat_result:
    try:
        target = Path(os.path.realpath(entry.path, strict=True))
        found = target.stat()
    except OSError:
        raise InvalidInput(
            "path-escapes", f"{path!r} is a link to nothing, or to itself", hint="remove it, or copy the file"
        ) from None
    if not target.is_relative_to(root):
        raise InvalidInput("path-escapes", f"{path!r} is a link out of the folder", hint="copy the file")
    if stat.S_ISDIR(found.st_mode):
        raise InvalidInput("path-escapes", f"{path!r} is a link to a folder", hint="copy the folder")
    return found


class _Saved(msgspec.Struct):
    root: str
    files: dict[str, tuple[int, int, int, str]]


class Index:
    """By file what became of it when it was added last, on this machine: it is not read again while size, time and inode are the same.

    One of a dataset, about the folder that was added last; open it before the folder is walked. It may be lost: then files are read.
    """

    def __init__(self, store: Store, name: str, root: Path) -> None:
        self._root = os.path.abspath(root)
        self._file = store.root / "cache" / "data" / f"{name}.index"
        self._sure_before = time.time_ns() - TICK_NS
        self._last = time.monotonic()
        self._files: dict[str, tuple[int, int, int, str]] = {}
        self._new = False
        with suppress(OSError, msgspec.MsgspecError):
            saved = msgspec.msgpack.decode(self._file.read_bytes(), type=_Saved)
            if saved.root == self._root:
                self._files = saved.files

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
        self._new = True
        if time.monotonic() - self._last > SAVE_S:
            self.save()

    def save(self) -> None:
        """Write it down; what cannot be written is not known the next time."""
        if not self._new:
            return
        temporary = self._file.with_name(f".{self._file.name}-{os.getpid()}")
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.msgpack.encode(_Saved(self._root, self._files)))
            os.replace(temporary, self._file)
        self._new, self._last = False, time.monotonic()


class Status(NamedTuple):
    """How the files of a folder differ from a version: paths, in order."""

    ref: str
    new: list[str]
    changed: list[str]
    gone: list[str]
    same: int
    read: int
    """So many had to be read: they were not added from here, or were touched since."""


def compare(
    index: Index, folder: Path, apart_from: Path, parts: dict[str, str], part_of: Callable[[str], str]
) -> Status:
    """How a folder differs from parts, by path their digests; `part_of` tells what part a file becomes. The ref is to be filled in."""
    new, changed, same, read = [], [], 0, 0
    left = dict(parts)
    for path, file, stamp in walk(folder, apart_from):
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
    index.save()
    return Status("", sorted(new), sorted(changed), sorted(left), same, read)
