"""What can be said of a store without opening it: loading what opens one takes longer than some answers do.

An answer that cannot be given so is None, and the caller asks the usual way.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from stead.config import Settings
from stead.errors import InvalidInput
from stead.folders import Status, Within, glanced, remembered_in, seal

MANY = 4000
"""So many files are looked at in two processes: what takes time is asking the system for each of them."""


def untouched(settings: Settings, ref: str, folder: Path) -> Status | None:
    """How a folder differs from a version, where it has all of its files as they were when they were added, and no others."""
    root = Path(str(settings.store)).expanduser()
    name, _, number = ref.partition("@")
    if settings.url or settings.database or not name or (number and not number.isdigit()):
        return None
    found = glanced(remembered_in(root, name), os.path.abspath(folder))
    if found is None or not folder.is_dir():
        return None
    newest = _manifest(root / "stead.db", name, int(number) if number else None)
    if newest is None or newest[1] != found.whole:
        return None
    within, above = Within.of(folder, root), _with_those_above(found.folders)
    known = frozenset(above)
    beside = _begun(lambda: _sealed(within, above[1::2], known, found.folders)) if found.files > MANY else None
    mine = above if beside is None else above[::2]
    whole = _sealed(within, mine, known, found.folders)
    if beside is not None:
        whole = beside() and whole
    return Status(f"{name}@{newest[0]}", [], [], [], found.files, 0) if whole else None


def _with_those_above(folders: Iterable[str]) -> list[str]:
    """Folders and all that they lie in."""
    found = {""}
    for folder in folders:
        while folder not in found:
            found.add(folder)
            folder = folder[: folder.rfind("/", 0, -1) + 1]
    return sorted(found)


def _sealed(within: Within, folders: Sequence[str], known: frozenset[str], seals: Mapping[str, bytes]) -> bool:
    """Whether these folders have the files that they had, and what they have beside the `known` ones holds none."""
    left = list(folders)
    while left:
        above = left.pop()
        try:
            files, below = within.listed(above)
        except InvalidInput:  # gone, or odd: who looks closer says so
            return False
        stamps = ((name, found.st_size, found.st_mtime_ns, found.st_ino) for name, _, found in files)
        if (seal(stamps) if files else None) != seals.get(above):
            return False
        left += [folder for folder in below if folder not in known]
    return True


def _begun(check: Callable[[], bool]) -> Callable[[], bool] | None:
    """Begin a check in a process of its own, which shares what is loaded; what is returned waits for what it said. None where there is none to be had."""
    try:
        pid = os.fork()
    except (AttributeError, OSError):
        return None
    if pid == 0:
        right = False
        try:
            right = check()
        finally:
            os._exit(0 if right else 1)
    return lambda: os.waitpid(pid, 0)[1] == 0


def _manifest(file: Path, name: str, number: int | None) -> tuple[int, str] | None:
    """Number and manifest of a version, by default the newest; None where there is none, or the file does not tell."""
    query = "select version, manifest from dataset_versions where dataset = ? and (? is null or version = ?) order by version desc limit 1"
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as db:
            row = db.execute(query, (name, number, number)).fetchone()
    except sqlite3.Error:
        return None
    return (int(row[0]), str(row[1])) if row else None
