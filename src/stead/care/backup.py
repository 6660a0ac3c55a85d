"""A copy of a live store, of one moment, that can be restored onto any database and any place for bytes.

A place holds many backups: `blobs/` once for all of them, by content, and a folder for each with its rows, the raw part of
the log, journals and a manifest. What is not finished has a name that begins with `.partial` and is no backup.

What the order of things is for:

1. Journals first. What is delivered meanwhile is in the rows, too, and is counted once: by run, writer and number.
2. The rows of one moment, and under the same lock the raw segments of the log: a compaction between both would store what
   the rows do not have yet and remove the file. What a segment has gained since that moment comes along.
3. The blobs. Whatever the rows name was stored before them and is held (`store.hold_bytes`) until it is copied.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import blake3
import msgspec

from stead import __version__, ledger
from stead.care.copying import copy_checked, copy_log
from stead.care.rows import tables_of, write_rows
from stead.care.types import Backup, Manifest, Progress, TableCopy
from stead.errors import Conflict, Failed, NotFound
from stead.predictions.segment import raw_files
from stead.runtime import typed
from stead.runtime.clock import now_ms
from stead.runtime.failpoints import failpoint
from stead.store import Store, digest_of, hold_bytes, schema_state
from stead.store.opening import revision_in

MARK = "stead-backups"
PARTIAL = ".partial-"
NAMES, MANIFEST = "blobs.txt", "manifest.json"


def back_up(
    store: Store, place: Path, *, keep: int = 0, progress: Progress = lambda *_: None, record: bool = True
) -> Backup:
    """Make a backup of the store as it is now in `place`, a folder of backups or an empty one; nothing there is written over.

    With `keep` only so many newest ones stay. With `record` the ledger says so. Raises Conflict (`backup-place`,
    `backup-running`), Failed (`backup-empty`, `backup-damaged`: the backup is made, without bytes that the store has not as
    their names say).
    """
    state = schema_state(store.db)
    if state == "empty":
        raise Failed("backup-empty", f"there is nothing in the store {store.root} yet")
    with _held(place), ExitStack() as holds:
        # a store of an earlier version may lack the table of holds; nothing runs on it that could delete
        renew = holds.enter_context(hold_bytes(store, f"backup to {place}")) if state == "current" else lambda: None
        name = _free_name(place)
        folder = place / f"{PARTIAL}{name}"
        (folder / "tables").mkdir(parents=True)
        manifest = _copy(store, folder, name, progress)
        names, copied, damaged = _blobs(store, place, progress, renew)
        (folder / NAMES).write_text("".join(f"{digest} {size}\n" for digest, size in sorted(names.items())))
        manifest = replace(
            manifest,
            blobs=len(names),
            bytes=sum(names.values()),
            names=digest_of(folder / NAMES),
            damaged=damaged,
        )
        _write_manifest(folder, manifest)
        os.sync()
        failpoint("care.backup:before")
        os.rename(folder, place / name)
        failpoint("care.backup:after")
        if keep:
            _let_go(place, keep)
    made = Backup.of(place, manifest, copied=copied)
    if record and state == "current":
        _record(store, made)
    if damaged:
        listed = ", ".join(digest[:12] for digest in damaged[:5])
        raise Failed(
            "backup-damaged",
            f"the backup {made.name} is made, without {len(damaged)} blobs that are damaged in the store: {listed}",
            hint="stead doctor --store says what names them; restore those bytes from an earlier backup",
        )
    return made


def list_backups(place: Path) -> list[Backup]:
    """The whole backups of a place, newest first."""
    names = sorted((f.parent.name for f in place.glob(f"[0-9]*/{MANIFEST}")), reverse=True)
    return [Backup.of(place, read_manifest(place / name)) for name in names]


def find_backup(source: Path) -> tuple[Path, str]:
    """Place and name of the backup that a path means: a backup's own folder, or a place for its newest one.

    Raises NotFound (`backup-unknown`).
    """
    if (source / MANIFEST).is_file():
        return source.parent, source.name
    found = list_backups(source) if source.is_dir() else []
    if not found:
        raise NotFound("backup-unknown", f"there is no whole backup in {source}", hint="stead backup FOLDER makes one")
    return source, found[0].name


def read_manifest(folder: Path) -> Manifest:
    """Raises Failed (`backup-corrupt`)."""
    try:
        sealed = msgspec.json.decode((folder / MANIFEST).read_bytes())
        if blake3.blake3(_encoded(sealed["manifest"])).hexdigest() != sealed["digest"]:
            raise ValueError("it was altered")
        return typed.convert(sealed["manifest"], Manifest)
    except (OSError, ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise Failed("backup-corrupt", f"the manifest of {folder} cannot be read: {error}") from None


def _encoded(manifest: object) -> bytes:
    return msgspec.json.encode(manifest, order="sorted")


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    plain = msgspec.to_builtins(manifest)
    sealed = {"digest": blake3.blake3(_encoded(plain)).hexdigest(), "manifest": plain}
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(sealed), indent=1))


@contextmanager
def _held(place: Path) -> Iterator[None]:
    """One backup a place at a time; what an earlier one that was killed left half done goes."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not (place / MARK).exists():
            if any(place.iterdir()):
                raise Conflict(
                    "backup-place", f"{place} holds other files", hint="an empty folder, or one with backups of stead"
                )
            (place / MARK).write_text("Backups of stead. `stead restore FOLDER` takes the newest one.\n")
            os.chmod(place, 0o700)
    except OSError as error:
        raise Failed("backup-place", f"{place} cannot be written: {error.strerror}") from None
    handle = os.open(place / MARK, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("backup-running", f"another backup to {place} is under way") from None
        for left in place.glob(f"{PARTIAL}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(handle)


def _free_name(place: Path) -> str:
    """Names rise with time, and none is given twice."""
    while (place / (name := datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3])).exists():
        pass
    return name


def _copy(store: Store, folder: Path, name: str, progress: Progress) -> Manifest:
    """Journals, rows and the raw log. The counts of blobs are filled in later."""
    progress("journals", 0, None)
    files = _journals(store, folder)
    tables: dict[str, TableCopy] = {}
    with ExitStack() as still:
        still.enter_context(raw_files(store, still=True))
        with store.db.snapshot() as tx:
            progress("log", 0, None)
            files |= _raw_log(store, folder)
            still.close()  # compaction goes on; the rows stay those of this moment
            found = tables_of(tx)
            for done, table in enumerate(found):
                progress("rows", done, len(found))
                number, digest = write_rows(tx, table, folder / "tables" / f"{table.name}.gz")
                tables[str(table.name)] = TableCopy(
                    [str(c.name) for c in table.columns], number, f"tables/{table.name}.gz", digest
                )
            revision = revision_in(tx)
    kind = "sqlite" if store.db.is_sqlite else "postgresql"
    return Manifest(name, __version__, revision or "", now_ms(), store.actor, kind, tables, files, 0, 0, "")


def _raw_log(store: Store, folder: Path) -> dict[str, str]:
    copied = {}
    for path in sorted((store.root / "log").rglob("*")):
        if path.is_file() and path.suffix in (".log", ".torn"):
            place = path.relative_to(store.root).as_posix()
            if (digest := copy_log(path, folder / place)) is not None:
                copied[place] = digest
    return copied


def _journals(store: Store, folder: Path) -> dict[str, str]:
    """Runs that are not delivered whole: the records before the files that they name."""
    copied = {}
    for run in sorted((store.root / "journals").glob("*")):
        logs = sorted(run.glob("*.log"))
        for path in (*logs, *sorted((run / "files").glob("[0-9a-f]*"))):
            place = path.relative_to(store.root).as_posix()
            if (digest := copy_log(path, folder / place)) is not None:
                copied[place] = digest
    return copied


def _blobs(
    store: Store, place: Path, progress: Progress, renew: Callable[[], None]
) -> tuple[dict[str, int], int, list[str]]:
    """Copy the blobs that the place does not have; all names with their sizes, bytes copied, and what is damaged."""
    progress("blobs", 0, None)
    wanted = {each.digest: each.bytes for each in store.blobs.all()}
    total, done, copied = sum(wanted.values()), 0, 0
    damaged = []
    for digest, size in sorted(wanted.items()):
        renew()
        target = blob_path(place, digest)
        if not (target.is_file() and target.stat().st_size == size):
            if copy_checked(store.blobs.stream(digest), target, digest):
                copied += size
            else:
                damaged.append(digest)
        done += size
        progress("blobs", done, total)
    return {digest: size for digest, size in wanted.items() if digest not in damaged}, copied, damaged


def blob_path(place: Path, digest: str) -> Path:
    """Where a place keeps a blob."""
    return place / "blobs" / digest[:2] / digest[2:]


def names_of(folder: Path) -> dict[str, int]:
    """The blobs of a backup: name → bytes."""
    lines = (line.split() for line in (folder / NAMES).read_text().splitlines())
    return {digest: int(size) for digest, size in lines}


def _let_go(place: Path, keep: int) -> None:
    """Remove all but the newest backups, and the blobs that none of those left names."""
    for old in list_backups(place)[keep:]:
        (place / old.name / MANIFEST).unlink()  # from here on it is no backup
        shutil.rmtree(place / old.name)
    named = {digest for left in list_backups(place) for digest in names_of(place / left.name)}
    for path in (place / "blobs").glob("??/*"):
        if path.parent.name + path.name not in named:
            path.unlink()


def _record(store: Store, made: Backup) -> None:
    with store.db.write("care.record") as tx:
        ledger.record(
            tx,
            actor=store.actor,
            action="store.backed_up",
            subject=f"backup {made.name}",
            summary=f"backup {made.name} to {made.place}: {made.rows} rows, {made.blobs} blobs",
            evidence={"rows": made.rows, "blobs": made.blobs, "bytes": made.bytes, "damaged": len(made.damaged)},
        )
