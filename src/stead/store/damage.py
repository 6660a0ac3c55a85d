"""What was read and found damaged, so that whoever stores it again writes it anew, though it is there.

A note is an empty file with the name of a blob or a chunk, on the machine that read it. It may be lost: damage is found again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


class Damaged:
    """Notes in a folder; without one nothing is noted.

    >>> import tempfile
    >>> damaged = Damaged(Path(tempfile.mkdtemp()) / "notes")
    >>> damaged.note("aa", "bb")
    >>> damaged.forget(["aa", "cc"])
    >>> damaged.names()
    {'bb'}
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def names(self) -> set[str]:
        with suppress(FileNotFoundError):
            return set(os.listdir(self._folder)) if self._folder is not None else set()
        return set()

    def note(self, *names: str) -> None:
        if self._folder is None:
            return
        with suppress(OSError):  # reading goes on where nothing can be written
            self._folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                (self._folder / name).touch()

    def forget(self, names: Iterable[str]) -> None:
        """Only after what is whole can be read: a kill -9 before leaves the note, and it is written once more."""
        if self._folder is not None and (noted := self.names()):
            for name in names:
                if name in noted:
                    (self._folder / name).unlink(missing_ok=True)
