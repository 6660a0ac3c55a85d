"""The files of a folder, and what is remembered of them: enough to tell without reading them that none was touched.

Nothing here needs a store that is open, so that a command which only looks loads little.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from stead.errors import InvalidInput
from stead.runtime import typed

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


class Status(NamedTuple):
    """How the files of a folder differ from a version: paths, in order."""

    ref: str
    new: list[str]
    changed: list[str]
    gone: list[str]
    same: int
    read: int
    """So many had to be read: they were not added from here, or were touched since."""


class Remembered(msgspec.Struct):
    """What became of the files of a folder when they were added last, on this machine."""

    root: str
    """The folder, absolute."""
    files: dict[str, tuple[int, int, int, str]]
    """Path in it → size, time, inode, and the name of its bytes."""
    whole: str = ""
    """Manifest of the version that has these files and no others, where there is one."""


def remembered_in(store: Path, name: str) -> Path:
    """The file that remembers the folder of a dataset; one that is lost is made again."""
    return store / "cache" / "data" / f"{name}.index"


def remembered(file: Path, root: str) -> Remembered | None:
    """What a file remembers of a folder, if it is about that one."""
    with suppress(OSError, msgspec.MsgspecError):
        found = msgspec.msgpack.decode(file.read_bytes(), type=typed.ready(Remembered))
        return found if found.root == root else None
    return None
