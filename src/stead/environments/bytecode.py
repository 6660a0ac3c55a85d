"""Compiled modules for a new environment, taken from where the same source was compiled before.

The first import of a scientific stack compiles for about seven seconds. The interpreter that runs stead, and environments
made earlier, often hold the very same files: their `.pyc` are taken where magic number and source agree byte for byte.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_SUFFIX = f".{sys.implementation.cache_tag}.pyc"
_HEAD = importlib.util.MAGIC_NUMBER + bytes(4)
"""Magic number and the flags of a file that is checked by its source's time and size, which follow."""


def borrow(site: Path, lenders: Iterable[Path]) -> int:
    """Fill `site` (a site-packages folder) with compiled modules of the lenders'; returns how many. Never fails."""
    tops = {entry.name for entry in os.scandir(site) if entry.is_dir() and not entry.name.endswith(".dist-info")}
    borrowed = 0
    for lender in lenders:
        for compiled, relative in _compiled(lender, tops):
            with suppress(OSError):
                borrowed += _take(compiled, lender / relative, site / relative)
    return borrowed


def _compiled(lender: Path, tops: set[str]) -> Iterator[tuple[Path, Path]]:
    for top in sorted(tops):
        for folder, _, files in os.walk(lender / top):
            if not folder.endswith("__pycache__"):
                continue
            parent = Path(folder).parent.relative_to(lender)
            for name in files:
                if name.endswith(_SUFFIX):
                    yield Path(folder) / name, parent / f"{name[: -len(_SUFFIX)]}.py"


def _take(compiled: Path, lent: Path, source: Path) -> bool:
    target = source.parent / "__pycache__" / compiled.name
    if not source.exists() or target.exists():
        return False
    theirs, ours = lent.stat(), source.stat()
    if theirs.st_size != ours.st_size:
        return False
    same_file = (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)
    if not same_file and lent.read_bytes() != source.read_bytes():
        return False
    code = compiled.read_bytes()
    if code[:16] != _HEAD + _stamp(theirs):
        return False
    target.parent.mkdir(exist_ok=True)
    if same_file:
        os.link(compiled, target)
    else:
        target.write_bytes(_HEAD + _stamp(ours) + code[16:])
    return True


def _stamp(stat: os.stat_result) -> bytes:
    return (int(stat.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little") + (stat.st_size & 0xFFFFFFFF).to_bytes(4, "little")
