"""What can be said of a store without opening it: loading what opens one takes longer than some answers do.

An answer that cannot be given so is None, and the caller asks the usual way.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from stead.config import Settings
from stead.folders import Status, glanced, listings, remembered_in, seal


def untouched(settings: Settings, ref: str, folder: Path) -> Status | None:
    """How a folder differs from a version, where it has all of its files as they were when they were added, and no others.

    Raises InvalidInput (`path-escapes`, `path-invalid`, `file-unreadable`).
    """
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
    seen = 0
    for above, files in listings(folder, root):
        if files and found.folders.get(above) != seal((n, s.st_size, s.st_mtime_ns, s.st_ino) for n, _, s in files):
            return None
        seen += len(files)
    return Status(f"{name}@{newest[0]}", [], [], [], seen, 0) if seen == found.files else None


def _manifest(file: Path, name: str, number: int | None) -> tuple[int, str] | None:
    """Number and manifest of a version, by default the newest; None where there is none, or the file does not tell."""
    query = "select version, manifest from dataset_versions where dataset = ? and (? is null or version = ?) order by version desc limit 1"
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as db:
            row = db.execute(query, (name, number, number)).fetchone()
    except sqlite3.Error:
        return None
    return (int(row[0]), str(row[1])) if row else None
