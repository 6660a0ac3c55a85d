"""The store that every operation gets: database, bytes, folders and who is acting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from stead.store.blobs import Blobs
from stead.store.database import Database
from stead.store.packs import Packs


@dataclass(frozen=True)
class Store:
    """What an operation works on.

    `root` is the folder of this machine for what is not shared: journals, logs, environments, process files.
    `actor` is written into the ledger with every change: `person:ada`, `token:ci`, `agent`, `policy:…`.
    """

    db: Database
    blobs: Blobs
    root: Path
    actor: str

    @property
    def packs(self) -> Packs:
        """What lies in packs."""
        return self.blobs.packs or Packs(self.db, self.blobs)

    def acting(self, actor: str) -> Store:
        """The same store on behalf of somebody else."""
        return replace(self, actor=actor)

    def close(self) -> None:
        self.db.close()
