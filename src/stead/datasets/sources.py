"""What is given to `add`: tables, streams of rows, files or a folder, checked and named."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stead.errors import Conflict, InvalidInput, NotFound, did_you_mean
from stead.folders import Stamp, checked_path, walk

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET = ".parquet"
CSV = (".csv", ".csv.gz")
ARROW = (".arrow", ".feather", ".ipc")
FRAMES = (PARQUET, *CSV, *ARROW)
ROWS = "rows.parquet"
"""The name of a table that has none."""


@dataclass(frozen=True)
class Query:
    """The rows of a query: a database as SQLAlchemy names it, and SQL. They are read in batches."""

    url: str
    sql: str


@dataclass(frozen=True)
class Delta:
    """A Delta table where it lies, at one of its versions, or at the newest."""

    url: str
    version: int | None = None


class Given(NamedTuple):
    """One thing to add: a file, or rows that have none."""

    path: str
    """Its name in the version: relative, with slashes."""
    file: Path | None
    rows: pa.Table | pa.RecordBatchReader | Iterator[pa.Table] | Query | None = None
    stamp: Stamp | None = None
    """Of the file when it was found."""


def given(source: Any, apart_from: Path) -> list[Given]:
    """What a source holds, in order of name.

    Raises NotFound (`source-missing`), InvalidInput (`path-invalid`, `path-escapes`, `path-twice`, `dataset-empty`, `source-unknown`).
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        found = (
            sorted((Given(checked_path(p), Path(f), None, s) for p, f, s in walk(path, apart_from)), key=_name)
            if path.is_dir()
            else [_given(path)]
        )
    elif isinstance(source, Query):
        found = [Given(ROWS, None, source)]
    elif _are_paths(source):
        found = [_given(Path(path)) for path in source]
    else:
        found = [Given(ROWS, None, _rows(source))]
    if not found:
        raise InvalidInput("dataset-empty", f"there is nothing in {source}")
    names: set[str] = set()
    for each in found:
        if each.path in names:
            raise InvalidInput(
                "path-twice", f"two files are called {each.path!r}", hint="put them into a folder and add the folder"
            )
        names.add(each.path)
    return found


def root_of(source: Any) -> Path | None:
    """The folder that the files of a source lie in; None where they have none in common, or are no files."""
    if isinstance(source, (str, Path)):
        return Path(source) if Path(source).is_dir() else Path(source).parent
    if _are_paths(source) and source:
        folders = {Path(path).parent for path in source}
        return folders.pop() if len(folders) == 1 else None
    return None


def _are_paths(source: Any) -> bool:
    return isinstance(source, Sequence) and all(isinstance(path, (str, Path)) for path in source)


def _rows(source: Any) -> pa.Table | pa.RecordBatchReader | Iterator[pa.Table]:
    """Arrow's table or stream of a frame, or the tables of what iterates over frames."""
    import pyarrow as pa

    if isinstance(source, pa.RecordBatchReader):
        return source
    return map(_table, source) if isinstance(source, (Iterator, list, tuple)) else _table(source)


def _table(source: Any) -> pa.Table:
    """Arrow's table of a frame: pandas, polars, DuckDB, or whatever else speaks Arrow."""
    import pyarrow as pa

    if isinstance(source, pa.Table):
        return source
    if isinstance(source, pa.RecordBatch):
        return pa.Table.from_batches([source])
    if type(source).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(source, preserve_index=False)
    if hasattr(source, "__arrow_c_stream__"):
        return pa.table(source)
    raise InvalidInput(
        "source-unknown",
        f"{type(source).__name__} is nothing that can be added",
        hint="a path, several paths, a frame (pandas, polars, Arrow), a stream of record batches, or stead.datasets.Query(url, sql); of a LazyFrame what .collect() gives",
    )


def are_frames(found: Sequence[Given]) -> bool:
    """Whether all of it is tables; otherwise every file is kept as it is."""
    return all(each.file is None or each.path.lower().endswith(FRAMES) for each in found)


def part_path(path: str) -> str:
    """The name of the part that a table becomes.

    >>> part_path("2012/trips.csv.gz"), part_path("trips.parquet")
    ('2012/trips.parquet', 'trips.parquet')
    """
    ending = next((suffix for suffix in (".csv.gz", *FRAMES) if path.lower().endswith(suffix)), "")
    return f"{path[: len(path) - len(ending)]}{PARQUET}"


def plain(table: pa.Table) -> pa.Table:
    """The same rows with dictionaries as their values, and nothing in the schema but names and types."""
    return table.cast(plain_schema(table.schema)).replace_schema_metadata(None)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of such a table. Raises InvalidInput (`column-twice`)."""
    import pyarrow as pa

    names = schema.names
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InvalidInput("column-twice", f"more than one column is called {twice[0]!r}")
    return pa.schema(
        [
            pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
            for field in schema
        ]
    )


def _name(each: Given) -> str:
    return each.path


def _given(path: Path) -> Given:
    if not os.path.lexists(path):
        raise NotFound(
            "source-missing", f"there is no file {path}", hint=did_you_mean(path.name, _names_in(path.parent))
        )
    if not path.is_file():
        raise InvalidInput("path-invalid", f"{path} is no ordinary file")
    return Given(checked_path(path.name), path, None, Stamp.of(path))


def check_unchanged(found: Sequence[Given]) -> None:
    """Raises Conflict (`source-changed`) where a file is not the one that it was when it was found."""
    for each in found:
        if each.file is not None and each.stamp is not None:
            try:
                same = Stamp.of(each.file) == each.stamp
            except OSError:
                same = False
            if not same:
                raise Conflict(
                    "source-changed",
                    f"{each.path} changed while it was added, and no version was made",
                    hint="add it again when nothing writes to it",
                )


def _names_in(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def times_ms(column: Any, name: str, where: str) -> Any:
    """Event times as int64 milliseconds; naive ones count as UTC. Integers are taken as milliseconds, texts as ISO 8601.

    Raises InvalidInput (`time-null`, `time-unreadable`).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        raise InvalidInput("time-null", f"{where}: the time column {name!r} is empty in {column.null_count} rows")
    kind = column.type
    try:
        if pa.types.is_integer(kind):
            return column.cast(pa.int64())
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            column = pc.cast(column, pa.timestamp("us", "UTC") if _zoned(column) else pa.timestamp("us"))
        elif not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            raise pa.ArrowInvalid(f"it is {kind}")
        return column.cast(pa.timestamp("ms", getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInput(
            "time-unreadable",
            f"{where}: the column {name!r} cannot be read as times: {error}",
            hint="timestamps, dates, ISO 8601 texts, or integers of milliseconds since 1970",
        ) from None


def _zoned(column: Any) -> bool:
    first = next((value for value in column[:1].to_pylist() if value), "")
    return first.endswith("Z") or "+" in first[10:] or "-" in first[10:]
