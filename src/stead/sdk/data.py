"""Dataset versions as tables, recorded as inputs of the run that reads them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stead.errors import Failed, InvalidInput, NotFound
from stead.sdk import connection, tracking

if TYPE_CHECKING:
    from stead.api import Caller
    from stead.datasets import DatasetVersion, Status
    from stead.store import Store


def dataset(ref: str, *, columns: Sequence[str] | None = None, arrow: bool = False) -> Any:
    """A dataset version (`trips@3`, or `trips` for the newest) as a pandas frame, or as an Arrow table.

    Where pandas is not installed it is an Arrow table. The active run records it as an input. Raises InvalidInput
    (`dataset-no-table`) where the version holds other files; `dataset_files` fetches those.
    """
    caller = connection.caller()
    version = caller.call("datasets.get_version", ref=ref, with_parts=True)
    if version.source.get("kind") == "delta":
        from stead import datasets

        return _framed(datasets.read(_store(), version.ref, columns=columns), version, arrow)
    if not version.part_list or any(part.format != "parquet" for part in version.part_list):
        raise InvalidInput(
            "dataset-no-table", f"{version.ref} holds files, not a table", hint="stead.sdk.data.dataset_files"
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = list(columns) if columns is not None else None
    parts = [pq.read_table(io.BytesIO(caller.get_blob(part.digest)), columns=wanted) for part in version.part_list]
    return _framed(pa.concat_tables(parts, promote_options="permissive"), version, arrow)


def _framed(table: Any, version: DatasetVersion, arrow: bool) -> Any:
    _note(version.dataset, version.version)
    if not arrow:
        try:
            return table.to_pandas()
        except ImportError:
            pass
    return table


def dataset_files(ref: str, folder: str | Path) -> list[Path]:
    """The files of a dataset version, written into a folder under their own names."""
    version, written = files_into(connection.caller(), ref, Path(folder))
    _note(version.dataset, version.version)
    return written


def files_into(caller: Caller, ref: str, folder: Path) -> tuple[DatasetVersion, list[Path]]:
    """A version, and copies of its files, each whole or not at all.

    Raises InvalidInput (`path-escapes`, `dataset-referenced`, `folder-unwritable`), NotFound (`blob-missing`), Failed (`blob-corrupt`, `disk-full`).
    """
    from stead.datasets.frames import FULL
    from stead.runtime.journal import clean_path

    version: DatasetVersion = caller.call("datasets.get_version", ref=ref, with_parts=True)
    if version.source.get("kind") == "delta":
        raise InvalidInput(
            "dataset-referenced",
            f"{version.ref} is a table that is kept elsewhere",
            hint=f"stead.dataset('{version.ref}') reads its rows; the table itself is {version.source['url']}",
        )
    written: list[Path] = []
    for part in version.part_list:
        target = folder / clean_path(part.path)
        if not target.resolve().is_relative_to(folder.resolve()):
            raise InvalidInput("path-escapes", f"{part.path!r} would leave the folder {folder}")
        try:
            caller.fetch_blob(part.digest, target)
        except OSError as error:
            said = f"could not write {target}: {error.strerror}"
            if error.errno in FULL:
                raise Failed("disk-full", said, hint="free space, or name another folder") from None
            raise InvalidInput("folder-unwritable", said, hint="name another folder") from None
        except (NotFound, Failed) as error:
            damaged = error.code in ("blob-missing", "blob-corrupt")
            hint = f"stead data verify {version.ref} --repair-from BACKUPS" if damaged else error.hint
            raise type(error)(error.code, f"{part.path} of {version.ref}: {error.message}", hint=hint) from None
        written.append(target)
    return version, written


def add(name: str, source: Any, *, append: bool = False, time_column: str | None = None) -> DatasetVersion:
    """Store data as the next version of a dataset: a path, several, a frame (pandas, polars, Arrow), a stream of them, or a `Query`.

    Parquet, CSV and Arrow files become tables, others stay as they are. What is there already is not stored again. The other verbs are
    `status`, `verify`, `gc`, `dataset`, `dataset_files`, and `stead.api.connect().call("datasets.diff", …)` as for any operation.
    Raises InvalidInput (`data-remote`) over HTTP, and what `stead.datasets.add` raises.
    """
    from stead import datasets

    return datasets.add(_store(), name, source, append=append, time_column=time_column)


def status(ref: str, folder: str | Path) -> Status:
    """How the files of a folder differ from a version; those that were added from there and not touched since are not read."""
    from stead import datasets

    return datasets.status(_store(), ref, Path(folder))


def verify(ref: str, *, repair_from: str | Path | None = None) -> int:
    """Check the bytes of a version; how many parts it has. What is found damaged is stored anew when it is added again; with `repair_from` (backups, another store) what is damaged is taken from there.

    Raises Failed (`dataset-corrupt`) and says which bytes of which part.
    """
    from stead import care

    if repair_from is not None:
        care.repair(_store(), ref, Path(repair_from))
    number: int = connection.caller().call("datasets.verify", ref=ref)
    return number


def gc(*, dry_run: bool = True) -> int:
    """How many bytes belong to nothing any more; without `dry_run` they are freed. What a version refers to stays."""
    from stead import care

    freed: int = connection.caller().call("care.prune", rules=care.Rules(), dry_run=dry_run).bytes
    return freed


def _store() -> Store:
    from stead.api import Embedded

    caller = connection.caller()
    if not isinstance(caller, Embedded):
        raise InvalidInput(
            "data-remote",
            "data is added, compared and repaired where the store is, not over HTTP",
            hint="run this on the server's machine, or set STEAD_DATABASE and STEAD_BLOBS",
        )
    return caller.store


def _note(name: str, version: int) -> None:
    run = tracking.active()
    if run is not None:
        run.log_input(name, version)
