"""The files of a folder, and what is remembered of them: enough to tell without reading them that none was touched.

Nothing here needs a store that is open, so that a command which only looks loads little.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from stead.errors import InvalidInput
from stead.runtime import typed

R = TypeVar("R", "Remembered", "Glance")
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
    for above, files in listings(folder, apart_from):
        for name, place, found in files:
            yield above + name, place, Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


def listings(folder: Path, apart_from: Path) -> Iterator[tuple[str, list[Found]]]:
    """As `walk`, a folder at a time: its path in the folder, ending in a slash, and its files."""
    within = Within.of(folder, apart_from)
    left = [""]
    while left:
        above = left.pop()
        files, below = within.listed(above)
        left += below
        yield above, files


class Found(NamedTuple):
    """A file of a folder: name, path, and what the file system says of it."""

    name: str
    place: str
    stat: os.stat_result


class Within(NamedTuple):
    """A folder whose files are listed, but for one in it that is left out."""

    folder: str
    root: Path
    left_out: str

    @classmethod
    def of(cls, folder: Path, apart_from: Path) -> Within:
        return cls(os.fspath(folder), folder.resolve(), os.path.realpath(apart_from))

    def listed(self, above: str) -> tuple[list[Found], list[str]]:
        """The files of a folder in it, named as `walk` begins their paths, and the folders in that one.

        Raises InvalidInput (`path-escapes`, `path-invalid`, `file-unreadable`).
        """
        files: list[Found] = []
        below: list[str] = []
        place = os.path.join(self.folder, above) if above else self.folder
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    kind = stat.S_IFMT(found.st_mode)
                    if kind == stat.S_IFLNK:
                        found = _linked(above + entry.name, entry, self.root)
                        kind = stat.S_IFMT(found.st_mode)
                    if kind == stat.S_IFREG:
                        files.append(Found(entry.name, entry.path, found))
                    elif kind != stat.S_IFDIR:
                        raise InvalidInput("path-invalid", f"{above + entry.name!r} is no ordinary file")
                    elif os.path.basename(self.left_out) != entry.name or os.path.realpath(entry.path) != self.left_out:
                        below.append(f"{above}{entry.name}/")
        except OSError as error:
            said = f"{error.filename or place} cannot be read: {error.strerror}"
            raise InvalidInput("file-unreadable", said) from None
        return files, below


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


class Glance(msgspec.Struct):
    """As much of what is remembered as tells that nothing was touched: read in a moment, however many files there are."""

    root: str
    whole: str
    folders: dict[str, bytes]
    """By folder in it, ending in a slash, the seal of its files."""
    files: int


def seal(files: Iterable[tuple[str, int, int, int]]) -> bytes:
    """One name for the files of a folder as they are: of each name, size, time and inode."""
    lines = sorted([f"{name}\0{size} {mtime} {inode}" for name, size, mtime, inode in files])
    return hashlib.blake2b("\0".join(lines).encode("utf-8", "surrogateescape"), digest_size=16).digest()


def glance_of(found: Remembered) -> Glance:
    """What of a whole version's folder is enough to tell that nothing was touched."""
    folders: dict[str, list[tuple[str, int, int, int]]] = {}
    for path, (size, mtime, inode, _) in found.files.items():
        above, slash, name = path.rpartition("/")
        folders.setdefault(above + slash, []).append((name, size, mtime, inode))
    return Glance(found.root, found.whole, {above: seal(files) for above, files in folders.items()}, len(found.files))


def remembered_in(store: Path, name: str) -> Path:
    """The file that remembers the folder of a dataset; one that is lost is made again."""
    return store / "cache" / "data" / f"{name}.index"


def remembered(file: Path, root: str) -> Remembered | None:
    """What a file remembers of a folder, if it is about that one."""
    return _read(file, root, Remembered)


def glanced(file: Path, root: str) -> Glance | None:
    """What is kept beside it for a glance at that folder, where it is a whole version."""
    return _read(glance_in(file), root, Glance)


def glance_in(file: Path) -> Path:
    return file.with_suffix(".glance")


def _read(file: Path, root: str, kind: type[R]) -> R | None:
    with suppress(OSError, msgspec.MsgspecError):
        found: R = msgspec.msgpack.decode(file.read_bytes(), type=typed.ready(kind))
        return found if found.root == root else None
    return None
