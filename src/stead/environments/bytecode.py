"""Compiled modules for a new environment, taken from where the same source was compiled before.

The first import of a scientific stack compiles for about seven seconds. The interpreter that runs stead, and environments
made earlier, often hold the very same files: their `.pyc` are taken where magic number and source agree byte for byte.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

_SUFFIX = f".{sys.implementation.cache_tag}.pyc"
_HEAD = importlib.util.MAGIC_NUMBER + bytes(4)
"""Magic number and the flags of a file that is checked by its source's time and size, which follow."""


def borrow(site: Path, lenders: Iterable[Path]) -> int:
    """Fill `site` (a site-packages folder) with compiled modules of the lenders'; returns how many. Never fails."""
    tops = sorted(entry.name for entry in os.scandir(site) if entry.is_dir() and not entry.name.endswith(".dist-info"))
    with ThreadPoolExecutor(4, "bytecode") as workers:  # the file system is waited for, mostly
        return sum(sum(workers.map(partial(_borrow, str(site), str(lender)), tops)) for lender in lenders)


def _borrow(site: str, lender: str, top: str) -> int:
    """From one package of a lender. Paths are texts here: there are thousands."""
    borrowed = 0
    for folder, _, files in os.walk(f"{lender}/{top}"):
        parent, _, last = folder[len(lender) + 1 :].rpartition("/")
        if last != "__pycache__" or not os.path.isdir(f"{site}/{parent}"):
            continue
        cache = f"{site}/{parent}/__pycache__"
        with suppress(OSError):
            os.makedirs(cache, exist_ok=True)
            there = set(os.listdir(cache))
            for name in files:
                if name.endswith(_SUFFIX) and name not in there:
                    source = f"{parent}/{name[: -len(_SUFFIX)]}.py"
                    with suppress(OSError):
                        borrowed += _take(f"{folder}/{name}", f"{lender}/{source}", f"{site}/{source}", cache)
    return borrowed


def _take(compiled: str, lent: str, source: str, cache: str) -> bool:
    theirs, ours = os.stat(lent), os.stat(source)
    if theirs.st_size != ours.st_size:
        return False
    same_file = (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)
    if not same_file and Path(lent).read_bytes() != Path(source).read_bytes():
        return False
    with open(compiled, "rb") as file:
        if file.read(16) != _HEAD + _stamp(theirs):
            return False
        rest = b"" if same_file else file.read()
    target = f"{cache}/{os.path.basename(compiled)}"
    if same_file:
        os.link(compiled, target)
    else:
        Path(target).write_bytes(_HEAD + _stamp(ours) + rest)
    return True


def _stamp(stat: os.stat_result) -> bytes:
    return (int(stat.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little") + (stat.st_size & 0xFFFFFFFF).to_bytes(4, "little")
