"""Adding dataset versions and finding them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from stead.config import checked_name
from stead.datasets import manifests, profile, schemas, sources
from stead.datasets.frames import Ends, profiled, written
from stead.datasets.manifests import Manifest
from stead.datasets.marking import key_values
from stead.datasets.querying import shown
from stead.datasets.rows import pieces_of, read_manifest
from stead.datasets.scanning import Index
from stead.datasets.storing import Adding, Progress, begun, stored
from stead.datasets.tables import dataset_versions as versions
from stead.datasets.tables import datasets
from stead.datasets.types import Column, DatasetVersion, Mark, Part, Reference
from stead.errors import Conflict, InvalidInput, NotFound, did_you_mean
from stead.folders import checked_path
from stead.runtime import typed
from stead.runtime.clock import now_ms
from stead.store import Row, Store, from_row

if TYPE_CHECKING:
    import pyarrow as pa

TRIES = 100


def add(
    store: Store,
    name: str,
    source: Any,
    *,
    append: bool = False,
    time_column: str | None = None,
    origin: dict[str, Any] | None = None,
    replace_since: int | None = None,
    upon: int | None = None,
    progress: Progress = lambda *_: None,
) -> DatasetVersion:
    """Store a table, files or a folder as the next version of a dataset; what is the same content is the same version.

    A source is a path, several, a frame (Arrow, pandas, polars), a stream of record batches (of Arrow, or what iterates over batches or frames), a `Query`, or a `Delta` table, which is not copied. Parquet, CSV and Arrow files
    become tables (types as pyarrow infers them), everything else is kept as it is; a folder is tables only where all its files are.
    What is larger than memory is read in pieces; of a folder that holds the store, that is left out. With `append` the parts of the newest version come first, by reference: nothing of them is read
    or stored again, and the columns must agree. `time_column` gives the event time of a row and is inherited by appends.
    `origin` says where it comes from. With `replace_since` (ms) the rows from then on are left out of what is appended to: the new ones
    take their place. `upon` is the newest version that the rows were chosen for, 0 for none. Nothing is changed where anything is wrong.

    Raises InvalidInput (`schema-column`, `schema-type`, `time-…`, `path-…`, `frame-unreadable`, `dataset-…`), NotFound (`source-missing`),
    Failed (`dataset-corrupt`) where the manifest that it goes on from was damaged, Conflict (`dataset-changed`) where another version came after `upon`, or (`source-changed`) a file changed meanwhile.
    """
    checked_name(name)
    if isinstance(source, sources.Delta):
        return _refer(store, name, source, time_column, origin or {}, append)
    root = sources.root_of(source)
    index = Index(store, name, root) if root is not None else None
    found = sources.given(source, store.root)
    said = {"path": str(source)} if isinstance(source, (str, Path)) else {}
    if isinstance(source, sources.Query):
        said = {"kind": "query", "database": shown(source.url), "query": source.sql}
    with begun(store, found, index, progress) as adding:
        made = _add(store, name, adding, append, time_column, said | (origin or {}), replace_since, upon)
    if index is not None:
        digests = manifests.digests(store, made.manifest, made.ref)
        index.settle(made.manifest, digests, sources.part_path if made.schema else str)
    return made


def add_stored(
    store: Store,
    name: str,
    files: Mapping[str, str],
    *,
    append: bool = False,
    time_column: str | None = None,
    origin: dict[str, Any] | None = None,
) -> DatasetVersion:
    """Like `add`, of files whose bytes are in the blob store already: path → digest. For clients that sent them there."""
    checked_name(name)
    found = [sources.Given(checked_path(path), store.blobs.path(files[path])) for path in sorted(files)]
    if not found:
        raise InvalidInput("dataset-empty", "there are no files to add")
    with begun(store, found) as adding:
        return _add(store, name, adding, append, time_column, origin or {})


def get_version(store: Store, ref: str, *, with_parts: bool = False) -> DatasetVersion:
    """`demand@3`, or `demand` for the newest.

    Raises NotFound (`dataset-unknown`, `dataset-version-unknown`), InvalidInput (`ref-invalid`), and with its parts Failed
    (`dataset-corrupt`).
    """
    name, number = parse_ref(ref)
    query = sa.select(versions).where(versions.c.dataset == name).order_by(versions.c.version.desc()).limit(1)
    if number is not None:
        query = query.where(versions.c.version == number)
    with store.db.read() as tx:
        row = tx.execute(query).mappings().first()
        if row is None:
            known = tx.execute(sa.select(datasets.c.name)).scalars().all()
            newest = tx.execute(sa.select(sa.func.max(versions.c.version)).where(versions.c.dataset == name)).scalar()
    if row is None:
        if newest is not None:
            raise NotFound(
                "dataset-version-unknown", f"{name} has no version {number}", hint=f"the newest is {name}@{newest}"
            )
        raise NotFound(
            "dataset-unknown",
            f"there is no dataset {name!r}",
            hint=did_you_mean(name, known) or f"stead data add {name} FILE",
        )
    return _version(store, row, with_parts=with_parts)


def list_datasets(store: Store) -> list[DatasetVersion]:
    """The newest version of each dataset, by name."""
    newest = (
        sa.select(versions.c.dataset, sa.func.max(versions.c.version).label("version"))
        .group_by(versions.c.dataset)
        .subquery()
    )
    same = (versions.c.dataset == newest.c.dataset) & (versions.c.version == newest.c.version)
    with store.db.read() as tx:
        rows = tx.execute(sa.select(versions).join(newest, same).order_by(versions.c.dataset)).mappings().all()
    return [_version(store, row) for row in rows]


def list_versions(store: Store, name: str) -> list[DatasetVersion]:
    """All versions of a dataset, newest first. Raises NotFound (`dataset-unknown`)."""
    get_version(store, checked_name(name))
    query = sa.select(versions).where(versions.c.dataset == name).order_by(versions.c.version.desc())
    with store.db.read() as tx:
        return [_version(store, row) for row in tx.execute(query).mappings()]


def parse_ref(ref: str) -> tuple[str, int | None]:
    """
    >>> parse_ref("demand@3"), parse_ref("demand")
    (('demand', 3), ('demand', None))
    """
    name, at, number = ref.partition("@")
    checked_name(name)
    if at and not (number.isascii() and number.isdigit() and int(number) > 0):
        raise InvalidInput(
            "ref-invalid", f"{ref!r} names no dataset version", hint=f"{name}@1, or {name} for the newest"
        )
    return name, int(number) if at else None


def _version(store: Store, row: Row, *, with_parts: bool = False) -> DatasetVersion:
    parts = manifests.get(store, row["manifest"], f"{row['dataset']}@{row['version']}").parts if with_parts else []
    return from_row(row, DatasetVersion, part_list=[msgspec.to_builtins(part) for part in parts])


@dataclass(frozen=True)
class _News:
    """What an addition brings: parts whose bytes are stored, and of tables the profile of all rows, unless it is to be made of all anew."""

    parts: list[Part]
    profile: dict[str, Any] | None
    schema: pa.Schema | None
    time_column: str | None


def _add(
    store: Store,
    name: str,
    adding: Adding,
    append: bool,
    time_column: str | None,
    origin: dict[str, Any],
    replace_since: int | None = None,
    upon_version: int | None = None,
) -> DatasetVersion:
    """Prepare upon the newest version, and commit where it is still the newest; else prepare upon the one that came between."""
    for _ in range(TRIES):
        base = _newest(store, name)
        if upon_version is not None and upon_version != (base.version if base else 0):
            raise Conflict(
                "dataset-changed", f"another version of {name} came meanwhile", hint=f"stead data show {name}"
            )
        start = manifests.get(store, base.manifest, base.ref) if base is not None and append else None
        if start is not None and start.reference is not None:
            raise InvalidInput(
                "dataset-referenced",
                f"{name} is a table that is kept elsewhere, and nothing is appended to it",
                hint="append to the table, and add its new version",
            )
        if start is not None and replace_since is not None:
            start = _before(store, start, replace_since)
        upon = base if append and replace_since is None else None
        news = _prepared(store, adding, start, time_column, base.ref if base else name, upon)
        sources.check_unchanged(adding.found)
        if base is not None and start is not None:
            known = {part.digest for part in start.parts}
            if all(part.digest in known for part in news.parts) and news.time_column == start.time_column:
                return base
            origin = {**origin, "appends": base.version}
        manifest = Manifest(
            parts=_joined(start.parts if start else [], news.parts),
            time_column=news.time_column,
            schema=manifests.packed(news.schema) if news.schema is not None else "",
        )
        whole = news.profile is None or (start is not None and replace_since is not None)
        figures = _profile(store, manifest) if whole else news.profile or {}
        marks = base.marks if base is not None and append else []
        made = _committed(store, name, base, manifest, figures, origin, marks)
        if made is not None:
            return made
    raise _busy(name)


def _busy(name: str) -> Conflict:
    return Conflict("dataset-busy", f"others kept adding to {name}", hint="try again")


def leave_out(store: Store, name: str, column: str, key: str, *, digest: str) -> DatasetVersion | None:
    """A new version of a dataset without the rows that have a key in a column; None where the newest has none of them.

    `digest` is the key's that they are marked by. Parts without such rows stay as they are, and so does what the next ingest asks for.
    """
    import pyarrow.compute

    pc: Any = pyarrow.compute
    for _ in range(TRIES):
        base = get_version(store, name)
        manifest = manifests.get(store, base.manifest, base.ref)
        schema = manifests.unpacked(manifest.schema) if manifest.schema else None
        value = next(key_values(key, schema.field(column).type), None) if schema and column in schema.names else None
        if value is None:
            return None
        parts = []
        for part in manifest.parts:
            rows = read_manifest(store, replace(manifest, parts=[part]))
            kept = rows.filter(pc.fill_null(pc.not_equal(rows[column], value), True))
            same = kept.num_rows == rows.num_rows
            parts.append(part if same else _stored_rows(store, part.path, kept, manifest.time_column))
        if parts == manifest.parts:
            return None
        manifest = replace(manifest, parts=parts)
        origin = {"kind": "erasure", "key": digest, "of": base.version}
        origin |= {"until": base.source["until"]} if "until" in base.source else {}
        marks = [mark for mark in base.marks if mark.key != digest]
        if made := _committed(store, name, base, manifest, _profile(store, manifest), origin, marks):
            return made
    raise _busy(name)


def _refer(
    store: Store, name: str, source: sources.Delta, time_column: str | None, origin: dict[str, Any], append: bool
) -> DatasetVersion:
    """A version that is one of a table that is kept elsewhere; of what is read only the profile is kept."""
    from stead.datasets.delta import refer

    if append:
        raise InvalidInput(
            "dataset-referenced",
            "nothing is appended to a table that is kept elsewhere",
            hint="append to the table, and add its new version",
        )
    reference, frame = refer(source)
    if time_column is not None and time_column not in frame.schema.names:
        hint = did_you_mean(time_column, frame.schema.names)
        raise InvalidInput("time-column-unknown", f"there is no column {time_column!r}", hint=hint)
    ends = Ends(frame, time_column)
    figures = profiled(ends.pieces, frame.rows)
    reference = replace(reference, time_min=ends.low, time_max=ends.high)
    manifest = Manifest([], time_column, manifests.packed(frame.schema), reference=reference)
    said = {"kind": "delta", "url": source.url, "table_version": reference.version}
    for _ in range(TRIES):
        if made := _committed(store, name, _newest(store, name), manifest, figures, said | origin, []):
            return made
    raise _busy(name)


def _newest(store: Store, name: str) -> DatasetVersion | None:
    query = sa.select(versions).where(versions.c.dataset == name).order_by(versions.c.version.desc()).limit(1)
    with store.db.read() as tx:
        row = tx.execute(query).mappings().first()
    return None if row is None else _version(store, row)


def _prepared(
    store: Store,
    adding: Adding,
    start: Manifest | None,
    time_column: str | None,
    whose: str,
    upon: DatasetVersion | None,
) -> _News:
    found = adding.found
    if start is not None and start.time_column and time_column not in (None, start.time_column):
        raise InvalidInput(
            "time-column-differs", f"the time column of {whose} is {start.time_column!r}, not {time_column!r}"
        )
    if start is not None:
        time_column = start.time_column or time_column
    frames = sources.are_frames(found)
    if start is not None and frames != bool(start.schema):
        kinds = ("tables", "files") if start.schema else ("files", "tables")
        raise InvalidInput("dataset-kind-differs", f"{whose} holds {kinds[0]}, and these are {kinds[1]}")
    if not frames:
        if time_column is not None:
            raise InvalidInput("dataset-no-time", "files that are no tables have no time column")
        files = [each.file for each in found if each.file is not None]
        parts = [Part(each.path, "", 0, "file") for each in found]
        return _News(stored(store, parts, files, adding), {}, None, None)
    return _prepared_tables(store, adding, start, time_column, whose, upon)


def _prepared_tables(
    store: Store,
    adding: Adding,
    start: Manifest | None,
    time_column: str | None,
    whose: str,
    upon: DatasetVersion | None,
) -> _News:
    """Store tables, and make their profile meanwhile."""
    from concurrent.futures import ThreadPoolExecutor  # it cannot be loaded while a process ends

    frames = adding.frames
    if start is not None:
        wanted = manifests.unpacked(start.schema)
    else:
        wanted = schemas.common([(frame.path, frame.schema) for frame in frames])
        whose = frames[0].path
    frames = [frame.fitted(wanted, whose) for frame in frames]
    if time_column is not None and time_column not in wanted.names:
        raise InvalidInput(
            "time-column-unknown",
            f"there is no column {time_column!r}",
            hint=did_you_mean(time_column, wanted.names) or f"columns: {', '.join(wanted.names)}",
        )
    things = [written(frame, adding.scratch) for frame in frames]
    ends = [Ends(frame, time_column) for frame in frames]
    rows = sum(frame.rows for frame in frames)
    with ThreadPoolExecutor(1, "storing") as beside:
        drafts = [
            Part(f.path if thing is f.thing else sources.part_path(f.path), "", 0, "parquet", f.rows)
            for f, thing in zip(frames, things, strict=True)
        ]
        at_once = any(frame.large for frame in frames)
        storing = beside.submit(stored, store, drafts, things, adding) if at_once else None
        figures = _figures(ends, rows, upon)
        parts = storing.result() if storing is not None else stored(store, drafts, things, adding)
    parts = [replace(part, time_min=end.low, time_max=end.high) for part, end in zip(parts, ends, strict=True)]
    return _News(parts, figures, frames[0].schema, time_column)


def _figures(ends: Sequence[Ends], rows: int, upon: DatasetVersion | None) -> dict[str, Any] | None:
    """The profile of new rows and those of the version that they are added to; None where it has to be made of all rows anew."""

    def pieces() -> Iterator[pa.Table]:
        return chain.from_iterable(end.pieces() for end in ends)

    columns = ends[0].columns() if upon is None and len(ends) == 1 else None
    if columns is not None:
        return profile.profile_columns(columns)
    if upon is None:
        return profiled(pieces, rows)
    if profile.worn(upon.profile, (upon.rows or 0) + rows):
        for _ in pieces():  # the times of the rows are held against what they should be
            pass
        return None
    return profile.merge(upon.profile, profile.profile_pieces(pieces(), upon.profile))


def _stored_rows(store: Store, path: str, table: pa.Table, time_column: str | None) -> Part:
    """A part of rows that are there as a table."""
    given = sources.Given(path, None, table)
    with begun(store, [given]) as adding:
        return _prepared_tables(store, adding, None, time_column, path, None).parts[0]


def _joined(before: Sequence[Part], new: Sequence[Part]) -> list[Part]:
    """All parts in order. A frame whose path is taken gets a number; a file must have a path of its own."""
    taken = {part.path for part in before}
    joined = list(before)
    for part in new:
        path, number = part.path, 1
        while path in taken:
            if part.format == "file":
                raise Conflict("path-taken", f"the dataset has a file {path!r} already", hint="add without --append")
            number += 1
            path = f"{part.path.removesuffix('.parquet')}-{number}.parquet"
        taken.add(path)
        joined.append(part if path == part.path else replace(part, path=path))
    return joined


def _before(store: Store, manifest: Manifest, until: int) -> Manifest:
    """The manifest without rows at or after a time; parts that lie before it stay as they are."""
    kept: list[Part] = []
    for part in manifest.parts:
        if part.time_max is not None and part.time_max >= until:
            rows = read_manifest(store, replace(manifest, parts=[part]), until=until)
            if rows.num_rows:
                kept.append(_stored_rows(store, part.path, rows, manifest.time_column))
        else:
            kept.append(part)
    return replace(manifest, parts=kept)


def _profile(store: Store, manifest: Manifest) -> dict[str, Any]:
    """The profile of all rows of a manifest."""
    return profiled(lambda: pieces_of(store, manifest), sum(part.rows or 0 for part in manifest.parts))


def _committed(
    store: Store,
    name: str,
    base: DatasetVersion | None,
    manifest: Manifest,
    profiled: dict[str, Any],
    origin: dict[str, Any],
    marks: Sequence[Mark],
) -> DatasetVersion | None:
    """Write the version and return it, or the one that has this content already; None where another came between."""
    digest = manifests.put(store, manifest)
    frames = bool(manifest.schema)
    held: Sequence[Part | Reference] = manifest.parts if manifest.reference is None else [manifest.reference]
    lows = [each.time_min for each in held if each.time_min is not None]
    highs = [each.time_max for each in held if each.time_max is not None]
    columns: list[Column] = schemas.columns_of(manifests.unpacked(manifest.schema)) if frames else []
    values = {
        "dataset": name,
        "version": (base.version if base else 0) + 1,
        "manifest": digest,
        "schema": msgspec.to_builtins(columns),
        "rows": sum(each.rows or 0 for each in held) if frames else None,
        "bytes": sum(each.bytes for each in held),
        "parts": manifest.reference.files if manifest.reference else len(manifest.parts),
        "time_column": manifest.time_column,
        "time_min": min(lows, default=None),
        "time_max": max(highs, default=None),
        "profile": profiled,
        "source": origin,
        "marks": msgspec.to_builtins(marks),
        "created_by": store.actor,
        "created_at": now_ms(),
    }
    with store.db.write("datasets.add") as tx:
        store.db.upsert(tx, datasets, {"name": name, "description": "", "created_at": now_ms()}, ["name"], update=[])
        tx.execute(sa.select(datasets.c.name).where(datasets.c.name == name).with_for_update())  # one at a time
        mine = versions.c.dataset == name
        same = tx.execute(sa.select(versions).where(mine, versions.c.manifest == digest)).mappings().first()
        if same is not None:
            return _version(store, same)
        newest = tx.execute(sa.select(sa.func.max(versions.c.version)).where(mine)).scalar()
        if (newest or 0) != (base.version if base else 0):
            return None
        tx.execute(sa.insert(versions).values(values))
    return typed.convert(values, DatasetVersion)
