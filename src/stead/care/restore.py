"""Bringing a backup back, into an empty place only.

A file `restoring` in the store's folder stands from the first byte to the last, and no command opens such a store. Bytes
come first, then the raw log and journals, then all rows in one transaction; so what a kill -9 leaves is either refused or
whole, and the same command goes on with it.
"""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from stead import ledger
from stead.care.backup import NAMES, blob_path, find_backup, names_of, read_manifest
from stead.care.copying import copy_checked
from stead.care.rows import PASSING, insert_rows
from stead.care.types import Backup, Manifest, Progress
from stead.errors import Conflict, Failed
from stead.store import Store, digest_of
from stead.store.blobs import CHUNK
from stead.store.opening import RESTORING, revision_in, revisions, upgrade_in


def restore(store: Store, source: Path, *, progress: Progress = lambda *_: None) -> Backup:
    """Restore a backup, or the newest one of a place, into this store, which must be empty. All bytes are held against their names.

    A backup of an earlier version of stead is restored as it was; `stead migrate` brings it on.
    Raises NotFound (`backup-unknown`), Conflict (`restore-not-empty`), Failed (`backup-corrupt`, `backup-newer`, `restore-unfit`).
    """
    place, name = find_backup(source)
    folder = place / name
    manifest = read_manifest(folder)
    if manifest.revision not in revisions():
        raise Failed("backup-newer", f"backup {name} was made by stead {manifest.stead}", hint="pip install -U stead")
    mark = store.root / RESTORING
    begun = mark.read_text(encoding="utf-8").strip() if mark.exists() else ""
    made = Backup.of(place, manifest, copied=manifest.bytes)
    full = _full(store)
    if full and begun == str(folder.resolve()):  # killed when all was done
        mark.unlink()
        return made
    if full or (not begun and _has_records(store)):
        raise Conflict(
            "restore-not-empty",
            f"the store {store.root} holds {f'rows of {full}' if full else 'predictions or runs'}",
            hint="STEAD_STORE=FOLDER (and STEAD_DATABASE, STEAD_BLOBS) name an empty place",
        )
    _check_files(folder, manifest)
    mark.write_text(f"{folder.resolve()}\n", encoding="utf-8")
    _blobs(store, place, folder, manifest, progress)
    for path, digest in manifest.files.items():
        _place_file(folder / path, store.root / path, digest)
    with store.db.write("care.restore", tables=True) as tx:
        _rows(tx, folder, manifest, progress)
        if manifest.revision == revisions()[-1]:
            _record(tx, store, manifest)
    os.sync()
    mark.unlink()
    return made


def _full(store: Store) -> str:
    """A table that has rows; empty where none has."""
    with store.db.read() as tx:
        for name in sa.inspect(tx).get_table_names():
            if (
                name not in PASSING
                and tx.execute(sa.select(sa.literal(1)).select_from(sa.table(name)).limit(1)).first()
            ):
                return name
    return ""


def _has_records(store: Store) -> bool:
    return any(True for folder in ("log", "journals") for _ in (store.root / folder).rglob("*.log"))


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Before anything is written: everything but the blobs is as the manifest says."""
    wanted = {table.file: table.digest for table in manifest.tables.values()} | manifest.files
    wanted[NAMES] = manifest.names
    for path, digest in wanted.items():
        if not (folder / path).is_file() or digest_of(folder / path) != digest:
            raise _corrupt(folder.name, path)


def _corrupt(name: str, what: str) -> Failed:
    return Failed("backup-corrupt", f"{what} of backup {name} is missing or altered", hint="take an earlier backup")


def _blobs(store: Store, place: Path, folder: Path, manifest: Manifest, progress: Progress) -> None:
    done, total = 0, manifest.bytes
    for digest, size in names_of(folder).items():
        source = blob_path(place, digest)
        if not source.is_file() or not store.blobs.put_named(digest, source):
            raise _corrupt(manifest.name, f"blob {digest[:12]}")
        done += size
        progress("blobs", done, total)


def _place_file(source: Path, target: Path, digest: str) -> None:
    with open(source, "rb") as file:
        pieces = iter(lambda: file.read(CHUNK), b"")
        if not copy_checked(pieces, target, digest):
            raise _corrupt(source.parent.name, source.name)


def _rows(tx: sa.Connection, folder: Path, manifest: Manifest, progress: Progress) -> None:
    if revision_in(tx) != manifest.revision:  # empty tables of another version, or none
        found = sa.MetaData()
        found.reflect(bind=tx)
        found.drop_all(tx)
        upgrade_in(tx, manifest.revision)
    for done, (name, table) in enumerate(manifest.tables.items()):
        progress("rows", done, len(manifest.tables))
        if insert_rows(tx, name, table.columns, folder / table.file) != table.rows:
            raise _corrupt(manifest.name, table.file)


def _record(tx: sa.Connection, store: Store, manifest: Manifest) -> None:
    ledger.record(
        tx,
        actor=store.actor,
        action="store.restored",
        subject=f"backup {manifest.name}",
        summary=f"restored from backup {manifest.name}; what came after it is not here",
        evidence={"at": manifest.at, "blobs": manifest.blobs, "damaged": len(manifest.damaged)},
    )
