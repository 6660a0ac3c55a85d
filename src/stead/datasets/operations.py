"""Adding dataset versions and finding them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from stead.config import checked_name
from stead.datasets import manifests, profile, schemas, sources
from stead.datasets.manifests import Manifest
from stead.datasets.marking import key_values
from stead.datasets.rows import read_manifest
from stead.datasets.tables import dataset_versions as versions
from stead.datasets.tables import datasets
from stead.datasets.types import Column, DatasetVersion, Mark, Part
from stead.errors import Conflict, InvalidInput, NotFound, did_you_mean
from stead.runtime.clock import now_ms
from stead.store import Row, Store, from_row

if TYPE_CHECKING:
    import pyarrow as pa

TRIES = 100
LARGE = 8 << 20
ROW_GROUP, LARGE_GROUP, GROUP_BYTES = 262_144, 1 << 20, 256 << 20


def add(
    store: Store,
    name: str,
    source: Path | pa.Table | Sequence[Path],
    *,
    append: bool = False,
    time_column: str | None = None,
    origin: dict[str, Any] | None = None,
    replace_since: int | None = None,
    upon: int | None = None,
) -> DatasetVersion:
    """Store a table, files or a folder as the next version of a dataset; what is the same content is the same version.

    Parquet and CSV become tables (types as pyarrow infers them), everything else is kept as it is; a folder is tables only
    where all its files are. With `append` the parts of the newest version come first, by reference: nothing of them is read
    or stored again, and the columns must agree. `time_column` gives the event time of a row and is inherited by appends.
    `origin` says where it comes from. With `replace_since` (ms) the rows from then on are left out of what is appended to: the new ones
    take their place. `upon` is the newest version that the rows were chosen for, 0 for none. Nothing is changed where anything is wrong.

    Raises InvalidInput (`schema-column`, `schema-type`, `time-…`, `path-…`, `frame-unreadable`, `dataset-…`), NotFound (`source-missing`),
    Conflict (`dataset-changed`) where another version came after `upon`, or (`source-changed`) a file changed meanwhile.
    """
    checked_name(name)
    found = sources.given(source)
    said = {"path": str(source)} if isinstance(source, (str, Path)) else {}
    return _add(store, name, found, append, time_column, said | (origin or {}), replace_since, upon)


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
    found = [sources.Given(sources.checked_path(path), store.blobs.path(files[path])) for path in sorted(files)]
    if not found:
        raise InvalidInput("dataset-empty", "there are no files to add")
    return _add(store, name, found, append, time_column, origin or {})


def get_version(store: Store, ref: str, *, with_parts: bool = False) -> DatasetVersion:
    """`demand@3`, or `demand` for the newest. Raises NotFound (`dataset-unknown`, `dataset-version-unknown`), InvalidInput (`ref-invalid`)."""
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
    parts = manifests.get(store, row["manifest"]).parts if with_parts else []
    return from_row(row, DatasetVersion, part_list=[msgspec.to_builtins(part) for part in parts])


@dataclass(frozen=True)
class _News:
    """What an addition brings: parts whose bytes are stored, and for frames their tables."""

    parts: list[Part]
    tables: list[pa.Table]
    schema: pa.Schema | None
    time_column: str | None


def _add(
    store: Store,
    name: str,
    found: Sequence[sources.Given],
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
        start = manifests.get(store, base.manifest) if base is not None and append else None
        if start is not None and replace_since is not None:
            start = _before(store, start, replace_since)
        news = _prepared(store, found, start, time_column, base.ref if base else name)
        sources.check_unchanged(found)
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
        upon = base if append and replace_since is None else None
        profiled = _profile(store, upon, manifest, news, whole=replace_since is not None)
        marks = base.marks if base is not None and append else []
        made = _committed(store, name, base, manifest, profiled, origin, marks)
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
        manifest = manifests.get(store, base.manifest)
        schema = manifests.unpacked(manifest.schema) if manifest.schema else None
        value = next(key_values(key, schema.field(column).type), None) if schema and column in schema.names else None
        if value is None:
            return None
        parts = []
        for part in manifest.parts:
            rows = read_manifest(store, replace(manifest, parts=[part]))
            kept = rows.filter(pc.fill_null(pc.not_equal(rows[column], value), True))
            same = kept.num_rows == rows.num_rows
            given = sources.Given(part.path, None, kept)
            parts.append(part if same else _stored(store, [_drafted(given, kept, manifest.time_column)])[0])
        if parts == manifest.parts:
            return None
        manifest = replace(manifest, parts=parts)
        origin = {"kind": "erasure", "key": digest, "of": base.version}
        origin |= {"until": base.source["until"]} if "until" in base.source else {}
        marks = [mark for mark in base.marks if mark.key != digest]
        profiled = profile.profile_of(read_manifest(store, manifest))
        if made := _committed(store, name, base, manifest, profiled, origin, marks):
            return made
    raise _busy(name)


def _newest(store: Store, name: str) -> DatasetVersion | None:
    query = sa.select(versions).where(versions.c.dataset == name).order_by(versions.c.version.desc()).limit(1)
    with store.db.read() as tx:
        row = tx.execute(query).mappings().first()
    return None if row is None else _version(store, row)


def _prepared(
    store: Store, found: Sequence[sources.Given], start: Manifest | None, time_column: str | None, whose: str
) -> _News:
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
        return _News(_stored(store, [_drafted_file(each) for each in found]), [], None, None)
    tables = [sources.load(each) for each in found]
    if start is not None:
        wanted = manifests.unpacked(start.schema)
    else:
        wanted = schemas.common([(each.path, table.schema) for each, table in zip(found, tables, strict=True)])
        whose = found[0].path
    tables = [schemas.fitted(t, wanted, each.path, whose) for each, t in zip(found, tables, strict=True)]
    if time_column is not None and time_column not in wanted.names:
        raise InvalidInput(
            "time-column-unknown",
            f"there is no column {time_column!r}",
            hint=did_you_mean(time_column, wanted.names) or f"columns: {', '.join(wanted.names)}",
        )
    drafts = [_drafted(each, table, time_column) for each, table in zip(found, tables, strict=True)]
    return _News(_stored(store, drafts), tables, tables[0].schema, time_column)


Draft = tuple[Part, bytes | Path]
"""A part whose bytes are not stored yet, so that it has no digest, and where they are."""


def _stored(store: Store, drafts: Sequence[Draft]) -> list[Part]:
    kept = {place: (digest, size) for place, digest, size in store.blobs.keep([thing for _, thing in drafts])}
    return [replace(part, digest=kept[n][0], bytes=kept[n][1]) for n, (part, _) in enumerate(drafts)]


def _drafted_file(each: sources.Given) -> Draft:
    assert each.file is not None
    return Part(each.path, "", 0, "file"), each.file


def _drafted(each: sources.Given, table: pa.Table, time_column: str | None) -> Draft:
    import pyarrow.compute as pc

    low = high = None
    if time_column is not None and table.num_rows:
        ends: Any = pc.min_max(sources.times_ms(table[time_column], time_column, each.path))
        low, high = ends["min"].as_py(), ends["max"].as_py()
    part = Part(each.path, "", 0, "parquet", table.num_rows, low, high)
    if each.file is not None and sources.as_it_is(each, table.schema):
        return part, each.file
    stem = each.path
    for suffix in sources.FRAMES:
        stem = stem.removesuffix(suffix)
    return replace(part, path=f"{stem}.parquet"), _parquet(table)


def _parquet(table: pa.Table) -> bytes:
    """The bytes of a table; a large one cut by content and in few row groups, so that most of it stays the same when rows come in between."""
    import pyarrow.parquet as pq

    out = io.BytesIO()
    large = table.nbytes >= LARGE
    group = max(LARGE_GROUP, GROUP_BYTES * table.num_rows // table.nbytes) if large else ROW_GROUP
    pq.write_table(table, out, compression="zstd", row_group_size=group, use_content_defined_chunking=large)
    return out.getvalue()


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
        joined.append(replace(part, path=path))
    return joined


def _before(store: Store, manifest: Manifest, until: int) -> Manifest:
    """The manifest without rows at or after a time; parts that lie before it stay as they are."""
    kept: list[Part] = []
    for part in manifest.parts:
        if part.time_max is not None and part.time_max >= until:
            rows = read_manifest(store, replace(manifest, parts=[part]), until=until)
            if rows.num_rows:
                kept += _stored(store, [_drafted(sources.Given(part.path, None, rows), rows, manifest.time_column)])
        else:
            kept.append(part)
    return replace(manifest, parts=kept)


def _profile(
    store: Store, base: DatasetVersion | None, manifest: Manifest, news: _News, *, whole: bool
) -> dict[str, Any]:
    import pyarrow as pa

    if news.schema is None:
        return {}
    if whole:
        return profile.profile_of(read_manifest(store, manifest))
    table = pa.concat_tables(news.tables)
    if base is None:
        return profile.profile_of(table)
    rows = (base.rows or 0) + table.num_rows
    if profile.worn(base.profile, rows):
        return profile.profile_of(read_manifest(store, manifest))
    return profile.merge(base.profile, profile.profile_of(table, base.profile))


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
    lows = [part.time_min for part in manifest.parts if part.time_min is not None]
    highs = [part.time_max for part in manifest.parts if part.time_max is not None]
    columns: list[Column] = schemas.columns_of(manifests.unpacked(manifest.schema)) if frames else []
    values = {
        "dataset": name,
        "version": (base.version if base else 0) + 1,
        "manifest": digest,
        "schema": msgspec.to_builtins(columns),
        "rows": sum(part.rows or 0 for part in manifest.parts) if frames else None,
        "bytes": sum(part.bytes for part in manifest.parts),
        "parts": len(manifest.parts),
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
    return msgspec.convert(values, DatasetVersion)
