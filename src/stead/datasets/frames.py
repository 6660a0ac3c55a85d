"""Tables in pieces, so that one larger than memory can be added: read, brought to one schema, written as Parquet."""

from __future__ import annotations

import errno
import gzip
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stead.datasets import schemas, sources
from stead.datasets.profile import PIECE, Profile, Sampler, profile_of, profile_pieces
from stead.datasets.sources import ARROW, PARQUET, Given, plain, plain_schema
from stead.errors import Failed, InvalidInput

if TYPE_CHECKING:
    import pyarrow as pa

LARGE = 8 << 20
"""A table of so many bytes is written cut by content."""
MOST_HELD = 2 << 30
_VALUE = 32
"""Bytes that a value of a column may well take in memory, though a dictionary made it short in the file."""
ROW_GROUP, LARGE_GROUP, GROUP_BYTES = 262_144, 1 << 20, 256 << 20
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_BLOCK = 16 << 20
_WIDER = {"null": "int64", "int64": "double", "date32[day]": "timestamp[s]", "timestamp[s]": "timestamp[ns]"}
"""What a column of a CSV file is read as where a value further down does not fit; text where nothing stands here."""


def streamed() -> int:
    """A file of so many bytes is read in pieces: of more than a sixteenth of the free memory, for tables are larger than their files."""
    import psutil  # type: ignore[import-untyped]

    return min(MOST_HELD, int(psutil.virtual_memory().available) // 16)


Pieces = Callable[[], Iterator["pa.Table"]]
Columns = Callable[[], Iterator[tuple[str, "pa.ChunkedArray[Any]"]]]
Thing = bytes | Path | BinaryIO
"""Where the bytes of a part are before they are stored."""


@dataclass(frozen=True)
class Frame:
    """A table that can be read again and again, a piece at a time."""

    path: str
    schema: pa.Schema
    pieces: Pieces
    rows: int
    thing: Thing | None = None
    """Parquet that has just this schema; None where it has to be written."""
    large: bool = False
    """Whether it comes in many pieces."""
    columns: Columns | None = None
    """Its columns one after the other, where each of them fits into memory: then nothing is read twice for a profile."""

    def fitted(self, wanted: pa.Schema, whose: str) -> Frame:
        """The same table with the wanted columns. Raises InvalidInput (`schema-column`, `schema-type`)."""
        schema = schemas.fitted(self.schema.empty_table(), wanted, self.path, whose).schema

        def pieces() -> Iterator[pa.Table]:
            for piece in self.pieces():
                yield schemas.fitted(piece, wanted, self.path, whose)

        same = schema.equals(self.schema)
        return (
            replace(self, schema=schema)
            if same
            else replace(self, schema=schema, pieces=pieces, thing=None, columns=None)
        )


class Scratch:
    """A place for files that nothing sees and that are gone with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = ExitStack()

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with suppress(OSError):  # what could not be written to the end is tried again when it is closed
            self._files.close()
        if isinstance(error, OSError) and error.errno in FULL:
            raise Failed(
                "disk-full", f"no space left in {self.folder}", hint="free space and try again; nothing was changed"
            ) from error

    def file(self) -> BinaryIO:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._files.enter_context(tempfile.TemporaryFile(dir=self.folder))


def opened(each: Given, scratch: Scratch) -> Frame:
    """The table that was given. Raises InvalidInput (`frame-unreadable`, `column-twice`, `dataset-empty`, `schema-type`), and what reading a query raises."""
    import pyarrow as pa

    if isinstance(each.rows, pa.Table):
        return _of_table(each.path, plain(each.rows))
    if isinstance(each.rows, pa.RecordBatchReader):
        try:
            return _spooled(each.path, each.rows.schema, (pa.Table.from_batches([b]) for b in each.rows), scratch)
        except pa.ArrowInvalid as error:
            raise InvalidInput("frame-unreadable", f"the stream cannot be read to its end: {error}") from None
    if isinstance(each.rows, sources.Query):
        from stead.datasets.querying import read_query

        with closing(read_query(each.rows)) as tables:
            return _of_stream(each.path, tables, scratch)
    if each.rows is not None:
        return _of_stream(each.path, map(plain, each.rows), scratch)
    assert each.file is not None
    with _readable(each.path):
        name, size = each.path.lower(), each.file.stat().st_size
        if name.endswith(PARQUET):
            return _of_parquet(each.path, each.file, size >= streamed())
        if name.endswith(ARROW):
            return _of_arrow(each.path, each.file)
        packed = name.endswith(".gz")
        if size < (streamed() // 8 if packed else streamed()):
            return _of_table(each.path, plain(_csv(each.file, packed)))
        return _of_large_csv(each.path, each.file, packed, scratch)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except InvalidInput:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise InvalidInput("frame-unreadable", f"{path} cannot be read as a table: {error}") from None


def _of_table(path: str, table: pa.Table) -> Frame:
    many = table.num_rows > 2 * PIECE

    def pieces() -> Iterator[pa.Table]:
        for first in range(0, table.num_rows, PIECE) if many else ():
            yield table.slice(first, PIECE)
        if not many:
            yield table

    return Frame(
        path,
        table.schema,
        pieces,
        table.num_rows,
        None,
        many,
        lambda: zip(table.column_names, table.columns, strict=True),
    )


def _of_parquet(path: str, file: Path | BinaryIO, large: bool) -> Frame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source: Any = file
    reader = pq.ParquetFile(source)
    stored, rows = reader.schema_arrow, reader.metadata.num_rows
    schema = plain_schema(stored)
    thing = file if schema.equals(stored) else None
    held: list[Frame] = []

    def pieces() -> Iterator[pa.Table]:
        with _readable(path):
            if not large:
                if not held:
                    held.append(_of_table(path, plain(reader.read())))
                yield from held[0].pieces()
                return
            for batch in pq.ParquetFile(source).iter_batches(batch_size=PIECE):
                yield plain(pa.Table.from_batches([batch]))

    def columns() -> Iterator[tuple[str, pa.ChunkedArray[Any]]]:
        with _readable(path):
            reader = pq.ParquetFile(source)
            for name in schema.names:
                yield name, plain(reader.read([name], use_threads=False).select([name]))[name]

    many = large or rows > 2 * PIECE
    return Frame(path, schema, pieces, rows, thing, many, columns if many and _narrow(reader.metadata) else None)


def _narrow(metadata: Any) -> bool:
    """Whether each column of a Parquet file fits into memory, whatever its values are."""
    sizes = [0] * metadata.num_columns
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in range(group.num_columns):
            sizes[column] += group.column(column).total_uncompressed_size
    return max(int(metadata.num_rows) * _VALUE, *sizes) < streamed()


def _of_arrow(path: str, file: Path) -> Frame:
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(file)) as source:
            try:
                reader: Any = pa.ipc.open_file(source)
                yield reader.schema
                yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
            except pa.ArrowInvalid:
                source.seek(0)
                reader = pa.ipc.open_stream(source)
                yield reader.schema
                yield from reader

    found = batches()
    schema, rows = plain_schema(next(found)), sum(batch.num_rows for batch in found)

    def pieces() -> Iterator[pa.Table]:
        with _readable(path):
            found = batches()
            next(found)
            yield from gathered(plain(pa.Table.from_batches([batch])) for batch in found)

    return Frame(path, schema, pieces, rows, None, rows > PIECE)


def gathered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in pieces of some size, however small the tables are."""
    import pyarrow as pa

    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        if rows >= PIECE:
            yield pa.concat_tables(held).combine_chunks() if len(held) > 1 else held[0]
            held, rows = [], 0
    if held:
        yield pa.concat_tables(held).combine_chunks() if len(held) > 1 else held[0]


def _csv(file: Path, packed: bool) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    open_stream: Any = pa.input_stream
    with open_stream(str(file), compression="gzip" if packed else None) as stream:
        return csv.read_csv(stream, convert_options=csv.ConvertOptions(strings_can_be_null=True))


def _of_large_csv(path: str, file: Path, packed: bool, scratch: Scratch) -> Frame:
    """Its types are those of its first block; where a later value does not fit, they are made wider and it is read anew."""
    import pyarrow as pa
    from pyarrow import csv

    wider: dict[str, pa.DataType] = {}
    named: Any = pa.type_for_alias
    while True:
        options = csv.ConvertOptions(strings_can_be_null=True, column_types=wider)
        with gzip.open(file, "rb") if packed else open(file, "rb") as stream:
            source: Any = stream
            reader = csv.open_csv(source, read_options=csv.ReadOptions(block_size=_BLOCK), convert_options=options)
            try:
                tables = (pa.Table.from_batches([batch]) for batch in reader)
                return _spooled(path, reader.schema, tables, scratch)
            except pa.ArrowInvalid as error:
                name = _column_of(str(error), reader.schema)
                if name is None or (kind := str(reader.schema.field(name).type)) == "string":
                    raise
                wider[name] = named(_WIDER.get(kind, "string"))


def _column_of(said: str, schema: pa.Schema) -> str | None:
    """The column that an error of Arrow's CSV reader is about."""
    start = said.find("CSV column #")
    number = said[start + 12 :].split(":")[0] if start >= 0 else ""
    return schema.names[int(number)] if number.isdigit() and int(number) < len(schema.names) else None


def _spooled(path: str, schema: pa.Schema, tables: Iterator[pa.Table], scratch: Scratch) -> Frame:
    """Rows that come once, written as Parquet aside."""
    out = scratch.file()
    write_parquet(out, plain_schema(schema), gathered(plain(table) for table in tables))
    out.flush()
    return _of_parquet(sources.part_path(path), out, True)


def _of_stream(path: str, tables: Iterator[pa.Table], scratch: Scratch) -> Frame:
    """Tables whose types are known only when all have come: kept aside as they are, and brought together after."""
    import pyarrow as pa

    out: Any = scratch.file()
    places, kinds, rows = [], [], 0
    for table in tables:
        rows += table.num_rows
        places.append(out.tell())
        kinds.append((f"batch {len(places)}", table.schema))
        with pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table)
    if not kinds:
        raise InvalidInput("dataset-empty", "no batch of rows came, so nothing tells the columns")
    schema = schemas.common(kinds)

    def pieces() -> Iterator[pa.Table]:
        def each() -> Iterator[pa.Table]:
            for place, (name, _) in zip(places, kinds, strict=True):
                out.seek(place)
                yield schemas.fitted(pa.ipc.open_stream(out).read_all(), schema, name, "batch 1")

        return gathered(each())

    return Frame(path, plain_schema(schema), pieces, rows, None, rows > PIECE)


def write_parquet(out: Any, schema: pa.Schema, pieces: Iterator[pa.Table]) -> None:
    """Write a table, a large one cut by content and in few row groups, so that most of it stays the same when rows come in between.

    Row groups end where rows do, not where pieces do.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    head: list[pa.Table] = []
    size = 0
    for piece in pieces:
        head.append(piece)
        size += piece.nbytes
        if size >= LARGE:
            break
    if size < LARGE:
        table = pa.concat_tables(head) if head else schema.empty_table()
        pq.write_table(table.cast(schema), out, compression="zstd", row_group_size=ROW_GROUP)
        return
    rows = sum(piece.num_rows for piece in head)
    group = max(LARGE_GROUP, 1 << (GROUP_BYTES * rows // size).bit_length() - 1)
    with pq.ParquetWriter(out, schema, compression="zstd", use_content_defined_chunking=True) as writer:
        held, count = head, rows
        for piece in pieces:
            held.append(piece)
            count += piece.num_rows
            while count >= group:
                table = pa.concat_tables(held)
                writer.write_table(table.slice(0, group).combine_chunks(), row_group_size=group)
                held, count = [table.slice(group)], count - group
        while count:
            table = pa.concat_tables(held)
            writer.write_table(table.slice(0, group).combine_chunks(), row_group_size=group)
            held, count = [table.slice(group)], max(0, count - group)


def written(frame: Frame, scratch: Scratch) -> Thing:
    """The Parquet of a frame: its own file, bytes, or a file aside."""
    import io

    if frame.thing is not None:
        return frame.thing
    if not frame.large:
        out = io.BytesIO()
        write_parquet(out, frame.schema, frame.pieces())
        return out.getvalue()
    file = scratch.file()
    write_parquet(file, frame.schema, frame.pieces())
    file.flush()
    return file


def profiled(pieces: Pieces, rows: int) -> dict[str, Profile]:
    """The profile of all rows, in edges and levels of rows spread over them."""
    import pyarrow as pa

    if rows <= 2 * PIECE:
        tables = list(pieces())
        return profile_of(pa.concat_tables(tables)) if tables else {}
    sampler = Sampler()
    for piece in pieces():
        sampler.see(piece)
    return profile_pieces(pieces(), sample=sampler.table())


class Ends:
    """Least and greatest time of a column, milliseconds, as its pieces or columns pass by. Raises InvalidInput (`time-null`, `time-unreadable`)."""

    def __init__(self, frame: Frame, column: str | None) -> None:
        self.frame = frame
        self.column = column
        self.low: int | None = None
        self.high: int | None = None

    def pieces(self) -> Iterator[pa.Table]:
        """The pieces of the frame."""
        for piece in self.frame.pieces():
            if self.column is not None:
                self._see(piece[self.column], self.column)
            yield piece

    def columns(self) -> Iterator[tuple[str, pa.ChunkedArray[Any]]] | None:
        """The columns of the frame, where they are to be had one after the other."""
        return None if self.frame.columns is None else self._seen(self.frame.columns())

    def _seen(self, columns: Iterator[tuple[str, pa.ChunkedArray[Any]]]) -> Iterator[tuple[str, pa.ChunkedArray[Any]]]:
        for name, column in columns:
            if name == self.column:
                self._see(column, name)
            yield name, column

    def _see(self, times: pa.ChunkedArray[Any], name: str) -> None:
        import pyarrow.compute as pc

        if len(times):
            ends: Any = pc.min_max(sources.times_ms(times, name, self.frame.path))
            low, high = ends["min"].as_py(), ends["max"].as_py()
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)
