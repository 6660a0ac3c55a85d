"""The rows of a manifest: only the parts and columns that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stead.datasets import manifests, schemas, sources
from stead.datasets.frames import LARGE, gathered
from stead.datasets.manifests import Manifest
from stead.datasets.profile import PIECE
from stead.datasets.types import Part
from stead.errors import Failed, InvalidInput
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


def read_manifest(
    store: Store,
    manifest: Manifest,
    *,
    since: int | None = None,
    until: int | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The rows of a manifest, with its types."""
    import pyarrow as pa

    schema = manifests.unpacked(manifest.schema)
    wanted = list(columns) if columns is not None else schema.names
    if manifest.reference is not None:
        tables = list(_referred(manifest, schema, wanted, since, until))
    else:
        tables = [
            _rows(store, part, schema, wanted, manifest.time_column, since, until)
            for part in manifest.parts
            if _overlaps(part, since, until)
        ]
    kept = pa.schema([schema.field(name) for name in wanted])
    return pa.concat_tables(tables) if tables else kept.empty_table()


def pieces_of(store: Store, manifest: Manifest, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """All rows of a manifest in pieces: of a large part some rows at a time, of small ones many together."""
    return gathered(_tables(store, manifest, columns))


def _tables(store: Store, manifest: Manifest, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = manifests.unpacked(manifest.schema)
    wanted = pa.schema([schema.field(name) for name in columns]) if columns is not None else schema
    if manifest.reference is not None:
        yield from _referred(manifest, schema, wanted.names, None, None)
    for part in manifest.parts:
        if part.bytes < LARGE:
            yield _rows(store, part, schema, wanted.names, None, None, None)
            continue
        opened: Any = store.blobs.open(part.digest)
        try:
            with pq.ParquetFile(opened) as file:
                for batch in file.iter_batches(batch_size=PIECE, columns=wanted.names):
                    yield schemas.fitted(
                        sources.plain(pa.Table.from_batches([batch])), wanted, part.path, "the version"
                    )
        except (pa.ArrowException, OSError) as error:
            raise _corrupt(part, error) from error


def _corrupt(part: Part, error: Exception) -> Failed:
    return Failed("dataset-corrupt", f"the part {part.path} cannot be read: {error}", hint="stead data verify")


def _referred(
    manifest: Manifest, schema: pa.Schema, wanted: Sequence[str], since: int | None, until: int | None
) -> Iterator[pa.Table]:
    from stead.datasets import delta

    assert manifest.reference is not None
    by = manifest.time_column if since is not None or until is not None else None
    names = [*wanted, by] if by is not None and by not in wanted else list(wanted)
    for table in delta.read(manifest.reference, schema, names):
        if by is not None:
            table = table.filter(_between(sources.times_ms(table[by], by, manifest.reference.url), since, until))
        yield table.select(list(wanted))


def _overlaps(part: Part, since: int | None, until: int | None) -> bool:
    if part.time_min is None or part.time_max is None:
        return since is None and until is None
    return (since is None or part.time_max >= since) and (until is None or part.time_min < until)


def _rows(
    store: Store,
    part: Part,
    schema: pa.Schema,
    wanted: Sequence[str],
    time_column: str | None,
    since: int | None,
    until: int | None,
) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    by = time_column if since is not None or until is not None else None
    names = [*wanted, by] if by is not None and by not in wanted else list(wanted)
    try:
        opened: Any = store.blobs.open(part.digest)
        with pq.ParquetFile(opened) as file:  # read_table leaves threads behind that abort a process at its end
            table = sources.plain(file.read(columns=names))
    except (pa.ArrowException, OSError) as error:
        raise _corrupt(part, error) from error
    table = schemas.fitted(table, pa.schema([schema.field(name) for name in names]), part.path, "the version")
    if by is not None:
        table = table.filter(_between(sources.times_ms(table[by], by, part.path), since, until))
    return table.select(list(wanted))


def _between(times: Any, since: int | None, until: int | None) -> Any:
    import pyarrow.compute

    pc: Any = pyarrow.compute
    least, end = (-(1 << 62) if since is None else since), (1 << 62 if until is None else until)
    return pc.and_(pc.greater_equal(times, least), pc.less(times, end))


def contents(table: pa.Table, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Each row as its values, no value as None, to be held against others. Raises InvalidInput (`schema-column`)."""
    for name in names:
        if name not in table.column_names:
            raise InvalidInput("schema-column", f"there is no column {name!r}", column=name)
    columns = [[None if value != value else value for value in table[name].to_pylist()] for name in names]
    return list(zip(*columns, strict=True))


def times_of(table: pa.Table, column: str) -> list[int]:
    """Event times in milliseconds. Raises InvalidInput (`time-null`, `time-unreadable`)."""
    return list(sources.times_ms(table[column], column, "these rows").to_pylist())
