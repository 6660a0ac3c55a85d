"""Delta tables by reference: a version of a dataset is a version of the table, whose files stay where they are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stead.datasets import schemas, sources
from stead.datasets.frames import Frame, gathered
from stead.datasets.profile import PIECE
from stead.datasets.sources import Delta
from stead.datasets.types import Reference
from stead.errors import Failed, InvalidInput, NotFound

if TYPE_CHECKING:
    import pyarrow as pa


def refer(source: Delta) -> tuple[Reference, Frame]:
    """What names a version of a table for good (the newest, where none is given), and its rows.

    Raises NotFound (`source-missing`), InvalidInput (`driver-missing`, `column-twice`).
    """
    url = source.url if "://" in source.url else os.path.abspath(source.url)  # it is read from other folders, too
    table = _opened(url, source.version)
    sizes = _sizes(table)
    rows = table.to_pyarrow_dataset()
    reference = Reference("delta", url, table.version(), rows.count_rows(), sum(sizes), len(sizes))
    schema = sources.plain_schema(rows.schema.remove_metadata())

    def pieces() -> Iterator[pa.Table]:
        return read(reference, schema, schema.names)

    return reference, Frame(url, schema, pieces, reference.rows, None, True)


def read(reference: Reference, schema: pa.Schema, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of a version of a table in pieces. Raises Failed (`dataset-corrupt`), NotFound (`source-missing`)."""
    import pyarrow as pa

    wanted = pa.schema([schema.field(name) for name in columns])
    try:
        found: Any = _opened(reference.url, reference.version).to_pyarrow_dataset()
        batches = found.to_batches(columns=list(columns), batch_size=PIECE)
        yield from gathered(
            schemas.fitted(sources.plain(pa.Table.from_batches([batch])), wanted, reference.url, "the version")
            for batch in batches
        )
    except (pa.ArrowException, OSError) as error:
        said = f"{reference.url} at version {reference.version} cannot be read: {_said(error)}"
        raise Failed("dataset-corrupt", said, hint="was the table vacuumed? its files are not stead's") from error


def _opened(url: str, version: int | None) -> Any:
    try:
        import deltalake
    except ModuleNotFoundError:
        raise InvalidInput("driver-missing", "Delta tables need deltalake", hint="pip install 'stead[delta]'") from None
    try:
        return deltalake.DeltaTable(url, version=version)
    except Exception as error:
        if not type(error).__module__.startswith(("_internal", "deltalake")) and not isinstance(
            error, (OSError, ValueError)
        ):
            raise
        which = "" if version is None else f" version {version} of"
        raise NotFound("source-missing", f"there is no{which} Delta table {url}: {_said(error)}") from None


def _said(error: Exception) -> str:
    """The first line, without the colours that the reader of tables writes."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error).splitlines()[0])


def _sizes(table: Any) -> list[int]:
    import pyarrow as pa

    sizes: list[Any] = pa.table(table.get_add_actions(flatten=True))["size_bytes"].to_pylist()
    return [int(size) for size in sizes]
