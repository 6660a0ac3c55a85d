"""What is given to `add`: tables, files or a folder, checked and brought into the form in which parts are kept."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from stead.errors import Conflict, InvalidInput, NotFound, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

FRAMES = (".parquet", ".csv", ".csv.gz")


class Stamp(NamedTuple):
    """What tells, without reading it, that a file is the one it was."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, file: Path) -> Stamp:
        found = file.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


class Given(NamedTuple):
    """One thing to add: a file, or a table that has none."""

    path: str
    """Its name in the version: relative, with slashes."""
    file: Path | None
    table: pa.Table | None = None
    stamp: Stamp | None = None
    """Of the file when it was found."""


def given(source: Path | pa.Table | Sequence[Path]) -> list[Given]:
    """What a source holds, in order of name.

    Raises NotFound (`source-missing`), InvalidInput (`path-invalid`, `path-escapes`, `path-twice`, `dataset-empty`).
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        found = sorted(_folder(path), key=_name) if path.is_dir() else [_given(path.name, path)]
    elif isinstance(source, Sequence):
        found = [_given(Path(path).name, Path(path)) for path in source]
    else:
        found = [Given("rows.parquet", None, source)]
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


def are_frames(found: Sequence[Given]) -> bool:
    """Whether all of it is tables; otherwise every file is kept as it is."""
    return all(each.table is not None or each.path.lower().endswith(FRAMES) for each in found)


def checked_path(path: str) -> str:
    """A relative path fit for a part. Raises InvalidInput (`path-invalid`).

    >>> checked_path("2012/trips.parquet")
    '2012/trips.parquet'
    """
    pieces = path.split("/")
    odd = any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in path) or "\\" in path
    if odd or len(path) > 1000 or any(piece in ("", ".", "..") or len(piece) > 250 for piece in pieces):
        raise InvalidInput(
            "path-invalid",
            f"{path!r} is no path of a part",
            hint="relative, with slashes, without '..' and control codes",
        )
    return path


def load(each: Given) -> pa.Table:
    """A table as given: texts as texts (no dictionaries), without metadata. Raises InvalidInput (`frame-unreadable`)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if each.table is not None:
        return plain(each.table)
    assert each.file is not None
    try:
        if each.path.lower().endswith(".parquet"):
            return plain(pq.read_table(each.file))
        return plain(_csv(each.file, each.path))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidInput("frame-unreadable", f"{each.path} cannot be read as a table: {error}") from None


def plain(table: pa.Table) -> pa.Table:
    """The same rows with dictionaries as their values, and nothing in the schema but names and types."""
    import pyarrow as pa

    if len(set(table.column_names)) < len(table.column_names):
        twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
        raise InvalidInput("column-twice", f"more than one column is called {twice[0]!r}")
    fields = [
        pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(fields)).replace_schema_metadata(None)


def as_it_is(each: Given, schema: pa.Schema) -> bool:
    """Whether a given Parquet file already has the wanted types, so that its bytes can be kept."""
    import pyarrow.parquet as pq

    if each.file is None or not each.path.lower().endswith(".parquet"):
        return False
    return bool(pq.read_schema(each.file).equals(schema, check_metadata=False))


def _csv(file: Path, name: str) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    options = csv.ConvertOptions(strings_can_be_null=True)
    open_stream: Any = pa.input_stream
    with open_stream(str(file), compression="gzip" if name.lower().endswith(".gz") else None) as stream:
        return csv.read_csv(stream, convert_options=options)


def _folder(folder: Path) -> Iterator[Given]:
    root = folder.resolve()
    for current, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted([*files, *(f for f in folders if (Path(current) / f).is_symlink())]):
            path = Path(current) / name
            relative = checked_path(PurePosixPath(path.relative_to(folder)).as_posix())
            if not path.resolve().is_relative_to(root):
                raise InvalidInput("path-escapes", f"{relative!r} is a link out of the folder", hint="copy the file")
            if path.is_dir():
                raise InvalidInput("path-escapes", f"{relative!r} is a link to a folder", hint="copy the folder")
            yield _given(relative, path)


def _name(each: Given) -> str:
    return each.path


def _given(name: str, path: Path) -> Given:
    file = _file(path)
    return Given(checked_path(name), file, None, Stamp.of(file))


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


def _file(path: Path) -> Path:
    if not path.exists():
        raise NotFound(
            "source-missing",
            f"there is no file {path}",
            hint=did_you_mean(path.name, _names_in(path.parent)),
        )
    if not path.is_file():
        raise InvalidInput("path-invalid", f"{path} is no ordinary file")
    return path


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
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
