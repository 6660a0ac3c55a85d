"""`stead backup`, `backups`, `restore`, `erase`, `prune`, `migrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stead.cli import output
from stead.cli.common import model_names
from stead.cli.common import settings as settings_here
from stead.config import Settings, size_text
from stead.errors import Conflict, Failed, InvalidInput

FOLDER = click.Path(path_type=Path, file_okay=False)


def _here() -> Settings:
    """The settings of a store that is opened here, not over HTTP."""
    chosen = settings_here()
    if chosen.url:
        raise InvalidInput(
            "store-remote",
            "this is done where the store is, not over HTTP",
            hint="unset STEAD_URL on the server's machine; with PostgreSQL and S3 set STEAD_DATABASE and STEAD_BLOBS",
        )
    return chosen


def _root(chosen: Settings) -> Path:
    return Path(chosen.store).expanduser()


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--keep", type=click.IntRange(1), help="Keep so many newest backups in FOLDER and remove older ones.")
@output.json_option
def backup(folder: Path, keep: int | None, as_json: bool) -> Any:
    """Copy the store as it is at this moment into FOLDER, while everything runs.

    FOLDER holds many backups; bytes that an earlier one has are not copied again.
    """
    from stead import care
    from stead.store import is_made, open_store

    if not is_made(chosen := _here()):
        raise Failed("backup-empty", f"there is no store {_root(chosen)} yet")
    store = open_store(chosen)
    try:
        with output.Bar(only_bar=True) as bar:
            made = care.back_up(store, folder, keep=keep or 0, progress=_shown(bar))
    finally:
        store.close()
    if as_json:
        return made
    print(f"{folder / made.name}: {_contents(made)}, {size_text(made.copied)} copied")
    return None


def _contents(made: Any) -> str:
    return f"{made.rows} rows, {made.blobs} blobs of {size_text(made.bytes)}"


def _shown(bar: output.Bar) -> Any:
    def show(doing: str, done: float, total: float | None) -> None:
        bar.show(doing, done, total, size_text(done) if doing == "blobs" else "")

    return show


@click.command()
@click.argument("folder", type=FOLDER)
@output.json_option
def backups(folder: Path, as_json: bool) -> Any:
    """The backups in FOLDER, newest first."""
    from stead import care

    found = care.list_backups(folder)
    if as_json:
        return found
    rows = [(b.name, output.when(b.at), b.rows, b.blobs, size_text(b.bytes), len(b.damaged) or None) for b in found]
    output.table(
        ("backup", "made", "rows", "blobs", "size", "damaged"),
        rows,
        right=(2, 3, 4, 5),
        empty=f"no backups in {folder} (stead backup FOLDER)",
    )
    return None


@click.command()
@click.argument("source", type=FOLDER)
@output.json_option
def restore(source: Path, as_json: bool) -> Any:
    """Restore a backup, or the newest one in SOURCE, into the store that the settings name, which must be empty.

    Everything is held against the backup's checksums, and the store is checked at the end.
    """
    from stead import care
    from stead.processes import lifeline
    from stead.store import schema_state
    from stead.store.opening import open_any

    chosen = _here()
    if lifeline.is_up(_root(chosen)):
        raise Conflict("already-up", f"stead is up for {_root(chosen)}", hint="stead down")
    store = open_any(chosen)
    try:
        with output.Bar(only_bar=True) as bar:
            made = care.restore(store, source, progress=_shown(bar))
        current = schema_state(store.db) == "current"
        problems = care.check_store(store) if current else []
    finally:
        store.close()
    if as_json:
        return {"backup": made, "store": str(store.root), "problems": problems, "current": current}
    print(f"{store.root}: restored from {made.name}, {_contents(made)}")
    if not current:
        output.note("the backup is of an earlier stead: stead migrate")
    if problems:
        for problem in problems:
            print(f"  {problem.what}: {problem.why}")
        raise Failed(
            "store-incomplete",
            f"{len(problems)} things are missing in the restored store",
            hint="stead doctor --store; an earlier backup may have them",
        )
    return None


@click.command()
@click.argument("model", shell_complete=model_names)
@click.option("--key", required=True, help="The key that the person's requests carried (X-Stead-Key).")
@click.option("--column", help="The column of data that holds such keys: newest versions get one without those rows.")
@click.option("--reason", help="Why; kept in the ledger, so do not name the person.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output.json_option
def erase(model: str, key: str, column: str | None, reason: str | None, yes: bool, as_json: bool) -> Any:
    """Take all requests with KEY out of MODEL's log, with answers, labels and what was scored aside, for good.

    Data versions that hold the key are marked, and say so to whoever trains on them. Backups made before still have it all.
    """
    from stead.cli.common import connect

    if not yes:
        click.confirm(f"Erase this key from the log of {model}? It cannot be undone", abort=True, err=True)
    made = connect().call("predictions.erase_key", model=model, key=key, reason=reason, column=column)
    if as_json:
        return made
    print(f"{model}: {made.requests} requests erased, {made.segments} files of the log written anew")
    if made.marked:
        print(f"marked, for they hold the key: {', '.join(made.marked)}")
    elif column:
        print(f"no data that was not marked before holds the key in {column}: no version was marked or made")
    if made.without:
        print(f"without it: {', '.join(made.without)}")
    elif made.marked:
        output.note("hint: the next training learns from them; --column COLUMN makes a version without those rows")
    return None


@click.command()
@click.option("--yes", is_flag=True, help="Let it go.")
@output.json_option
def prune(yes: bool, as_json: bool) -> Any:
    """Say what the rules `keep_predictions`, `keep_runs` and `keep_data` would let go and what that frees; with --yes let it go.

    What something needs stays, however old: data and runs of versions, golden rows, hold-outs, evidence. Layers of images that no
    build used for a month go without a rule: the next build that needs one makes it again.
    """
    from stead import care
    from stead.cli.common import connect

    rules = care.rules_of(settings_here())
    made = connect().call("care.prune", rules=rules, dry_run=not yes)
    if as_json:
        return made
    if rules == care.Rules():
        output.note('no rule says how long anything is kept: keep_runs = "2y" under [settings] in stead.toml')
    print(f"{'gone' if yes else 'would go'}: {made.sentence}; {size_text(made.bytes)} {'freed' if yes else 'to free'}")
    if made.image_bytes:
        print(f"  {size_text(made.image_bytes)} of it: layers of images that no build used for a month")
    for ref in made.data[:20]:
        print(f"  {ref}")
    for run in made.runs[:20]:
        print(f"  run {run[-8:]}")
    if not yes and (made.anything or made.bytes):
        output.note("next: stead prune --yes")
    return None


@click.command()
@click.option("--backup", "folder", type=FOLDER, help="Where the backup goes; default `backups` in the store's folder.")
@click.option("--no-backup", is_flag=True, help="Migrate without a backup.")
def migrate(folder: Path | None, no_backup: bool) -> None:
    """Bring the store's tables to this version of stead, after a backup. There is no way down but to restore it."""
    from stead import care
    from stead.processes import lifeline
    from stead.store import migrate as run
    from stead.store import schema_state
    from stead.store.opening import open_any

    chosen = _here()
    if lifeline.is_up(_root(chosen)):
        raise Conflict(
            "already-up", f"stead is up for {_root(chosen)}, and tables are not changed under it", hint="stead down"
        )
    store = open_any(chosen)
    try:
        before = schema_state(store.db)
        if before == "new":
            raise Failed("schema-new", f"the store {store.root} was made by a newer stead", hint="pip install -U stead")
        if before == "old" and not no_backup:
            place = folder or store.root / "backups"
            with output.Bar(only_bar=True) as bar:
                try:
                    made = care.back_up(store, place, progress=_shown(bar))
                except Failed as failed:
                    if failed.code != "backup-damaged":
                        raise
                    raise Failed(
                        "backup-damaged",
                        f"{failed.message}; the tables are as they were",
                        hint="it has all else: stead migrate --no-backup, then stead doctor --store says what names them",
                    ) from None
            output.note(f"backup: {place / made.name}")
        run(store.db)
    finally:
        store.close()
    output.note("the store is up to date" if before == "current" else f"the store was {before} and is up to date now")
