"""Dataset versions as tables, recorded as inputs of the run that reads them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stead.errors import InvalidInput
from stead.sdk import connection, tracking


def dataset(ref: str, *, columns: Sequence[str] | None = None, arrow: bool = False) -> Any:
    """A dataset version (`trips@3`, or `trips` for the newest) as a pandas frame, or as an Arrow table.

    Where pandas is not installed it is an Arrow table. The active run records it as an input. Raises InvalidInput
    (`dataset-no-table`) where the version holds other files; `dataset_files` fetches those.
    """
    caller = connection.caller()
    version = caller.call("datasets.get_version", ref=ref, with_parts=True)
    if not version.part_list or any(part.format != "parquet" for part in version.part_list):
        raise InvalidInput(
            "dataset-no-table", f"{version.ref} holds files, not a table", hint="stead.sdk.data.dataset_files"
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = list(columns) if columns is not None else None
    parts = [pq.read_table(io.BytesIO(caller.get_blob(part.digest)), columns=wanted) for part in version.part_list]
    table = pa.concat_tables(parts, promote_options="permissive")
    _note(version.dataset, version.version)
    if not arrow:
        try:
            return table.to_pandas()
        except ImportError:
            pass
    return table


def dataset_files(ref: str, folder: str | Path) -> list[Path]:
    """The files of a dataset version, written into a folder under their own names."""
    from stead.runtime.journal import clean_path

    caller = connection.caller()
    version = caller.call("datasets.get_version", ref=ref, with_parts=True)
    written: list[Path] = []
    for part in version.part_list:
        target = Path(folder) / clean_path(part.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(caller.get_blob(part.digest))
        written.append(target)
    _note(version.dataset, version.version)
    return written


def _note(name: str, version: int) -> None:
    run = tracking.active()
    if run is not None:
        run.log_input(name, version)
