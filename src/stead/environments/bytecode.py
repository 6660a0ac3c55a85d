"""Compiled modules for a new environment, taken from where the same source was compiled before.

The first import of a scientific stack compiles for about seven seconds. The interpreter that runs stead, and environments
made earlier, often hold the very same files: their `.pyc` are taken where magic number and source agree byte for byte.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SUFFIX = f".{sys.implementation.cache_tag}.pyc"
_HEAD = importlib.util.MAGIC_NUMBER + bytes(4)
"""Magic number and the flags of a file that is checked by its source's time and size, which follow."""


def borrow(site: Path, lenders: Iterable[Path]) -> int:
    """Fill `site` (a site-packages folder) with compiled modules of the lenders'; returns how many. Never fails."""
    tops: list[str] = []
    with suppress(OSError):
        tops = [entry.name for entry in os.scandir(site) if entry.is_dir() and not entry.name.endswith(".dist-info")]
    return sum(_borrow(str(site), str(lender), top) for lender in lenders for top in sorted(tops))


def _borrow(site: str, lender: str, top: str) -> int:
    """From one package of a lender and those in it."""
    borrowed = 0
    waiting = [top]
    while waiting:
        parent = waiting.pop()
        with suppress(OSError):
            theirs, ours = _named(f"{lender}/{parent}"), _named(f"{site}/{parent}")
            waiting += [
                f"{parent}/{name}" for name in theirs.keys() & ours.keys() if ours[name].is_dir(follow_symlinks=False)
            ]
            if "__pycache__" in theirs:
                borrowed += _lent(f"{lender}/{parent}/__pycache__", f"{site}/{parent}/__pycache__", theirs, ours)
    return borrowed


Entries = dict[str, "os.DirEntry[str]"]


def _named(folder: str) -> Entries:
    """Packages and modules in a folder."""
    with os.scandir(folder) as entries:
        return {entry.name: entry for entry in entries if "." not in entry.name or entry.name.endswith(".py")}


def _lent(lender: str, cache: str, theirs: Entries, ours: Entries) -> int:
    """From one folder of compiled modules; `theirs` and `ours` lie beside it. There are thousands: names are looked up from their folder."""
    borrowed = 0
    with suppress(FileExistsError):
        os.mkdir(cache)
    there = set(os.listdir(cache))
    with _opened(lender) as source_folder, _opened(cache) as target_folder:
        one_device = os.fstat(source_folder).st_dev == os.fstat(target_folder).st_dev
        for name in os.listdir(source_folder):
            source = name.removesuffix(_SUFFIX) + ".py"
            if name.endswith(_SUFFIX) and name not in there and source in theirs and source in ours:
                with suppress(OSError):
                    lent = one_device and theirs[source].inode() == ours[source].inode()
                    content = _content(name, source_folder, theirs[source], None if lent else ours[source])
                    if content is None:
                        continue
                    if lent:
                        os.link(name, name, src_dir_fd=source_folder, dst_dir_fd=target_folder)
                    else:
                        Path(cache, name).write_bytes(content)
                    borrowed += 1
    return borrowed


@contextmanager
def _opened(folder: str) -> Iterator[int]:
    number = os.open(folder, os.O_RDONLY)
    try:
        yield number
    finally:
        os.close(number)


def _content(name: str, folder: int, theirs: os.DirEntry[str], ours: os.DirEntry[str] | None) -> bytes | None:
    """A compiled module for our source, where it is one of theirs as it stands and ours is the same; `ours` is None for one file."""
    if ours is not None and Path(theirs.path).read_bytes() != Path(ours.path).read_bytes():
        return None
    number = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        if os.read(number, 16) != _HEAD + _stamp(theirs.stat()):
            return None
        if ours is None:
            return b""
        with open(number, "rb", closefd=False) as file:
            return _HEAD + _stamp(ours.stat()) + file.read()
    finally:
        os.close(number)


def _stamp(stat: os.stat_result) -> bytes:
    return (int(stat.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little") + (stat.st_size & 0xFFFFFFFF).to_bytes(4, "little")
