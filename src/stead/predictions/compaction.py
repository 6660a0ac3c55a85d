"""From raw segments to Parquet in the blob store, and from many small segments to few.

A raw segment becomes one Parquet file a model (labels: one) and a row for each in `prediction_segments`, in one
transaction; only then the raw file goes. A raw file whose rows exist is only removed. So a kill -9 anywhere loses nothing
and doubles nothing: the worst that stays behind is a blob that nothing names. What was merged goes an hour later.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from stead.predictions import frames
from stead.predictions.index import StoredSegment, is_stored
from stead.predictions.segment import Kind, Sealed, raw_files, raw_paths, sealed
from stead.predictions.tables import progress, segments
from stead.predictions.tail import RawSegment, read_on
from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.store import Store, from_row, may_delete

if TYPE_CHECKING:
    import pyarrow as pa

KINDS: tuple[Kind, ...] = ("predictions", "labels", "shadows")
MERGE_AT = 16
"""So many segments of about one size become one."""
MERGED_ROWS = 1_000_000
KEPT_MS = 3_600_000
"""The bytes of merged segments are kept for so long: who began to read before the merge reads them to the end."""
ROW_GROUP = 65_536
ERASED = "erased"
"""In place of what a segment was merged into: its bytes are to be deleted, because somebody's rows were taken out of them."""


def compact(store: Store) -> int:
    """Store what sealed raw segments of this machine hold, and merge small ones; returns how many raw segments went.

    A segment whose writer lives is left alone. Safe beside other compactions; run it again after any failure.
    """
    done = 0
    for kind in KINDS:
        for path in raw_paths(store, kind):
            with raw_files(store), sealed(path) as segment:
                if segment is not None:
                    _compact_one(store, kind, segment)
                    done += 1
        _merge(store, kind)
    if done:
        _sweep(store)
        clear_erased(store)
    return done


def _compact_one(store: Store, kind: Kind, segment: Sealed) -> None:
    if not is_stored(store, segment.name):
        raw = RawSegment(segment.name)
        read_on(segment.path, raw, kind)
        tables = _tables(kind, raw.records)
        made = [_put(store, kind, segment.name, model, table) for model, table in tables.items()]
        if made:
            _commit(store, made, raw)
    segment.remove()


def _commit(store: Store, made: list[dict[str, Any]], raw: RawSegment) -> None:
    with store.db.write("predictions.compact") as tx:
        read = tx.execute(sa.select(progress.c.position).where(progress.c.segment == raw.name)).scalar()
        # where machines share the store, another one may have computed its days anew without what was raw here
        seen = store.db.is_sqlite and read is not None and read >= raw.position
        tx.execute(sa.delete(progress).where(progress.c.segment == raw.name))
        tx.execute(sa.insert(segments), [{**row, "seen": seen} for row in made])


def _tables(kind: Kind, records: Sequence[Any]) -> dict[str, pa.Table]:
    """By model ("" for labels) what a segment holds."""
    if kind == "labels":
        kept = sorted(records, key=lambda label: (label.request, label.row, label.accepted))
        return {"": frames.labels(kept)} if kept else {}
    by_model: dict[str, list[Any]] = defaultdict(list)
    for answer in records:
        by_model[answer.logged.model].append(answer)
    if kind == "shadows":  # the request's features lie with its answer
        return {
            model: frames.narrow(sorted(answers, key=lambda answer: answer.logged.id))
            for model, answers in sorted(by_model.items())
        }
    return {model: frames.wide(answers) for model, answers in sorted(by_model.items())}


def _put(store: Store, kind: Kind, name: str, model: str, table: pa.Table) -> dict[str, Any]:
    """Store a table, sorted by id, and return its row for `prediction_segments`, but `seen`."""
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", row_group_size=ROW_GROUP)
    requests = failed = 0
    if kind == "predictions":
        requests = int((table["row"].to_numpy() == 0).sum())
        failed = int((table["rows"].to_numpy() == 0).sum())
    events = [time for time in table["event_time"].to_pylist() if time is not None]
    return {
        "id": name,
        "model": model,
        "kind": kind,
        "digest": store.blobs.put(out.getvalue()),
        "rows": table.num_rows,
        "requests": requests,
        "failed": failed,
        "id_min": table["request"][0].as_py(),
        "id_max": table["request"][-1].as_py(),
        "event_min": min(events, default=None),
        "event_max": max(events, default=None),
        "merged_into": None,
        "created_at": now_ms(),
    }


def _merge(store: Store, kind: Kind) -> None:
    """Where a model has many segments of about one size, make one of them, so that reading opens few files."""
    for model, group in _mergeable(store, kind):
        table = _concatenated(store, group)
        row = _put(store, kind, f"merged-{new_id()}", model, table)
        key = (segments.c.model == model) & segments.c.id.in_([segment.id for segment in group])
        with suppress(_Overtaken), store.db.write("predictions.merge") as tx:
            still = sa.update(segments).where(key, segments.c.merged_into.is_(None)).values(merged_into=row["id"])
            if tx.execute(still).rowcount != len(group):
                raise _Overtaken
            tx.execute(sa.insert(segments).values({**row, "seen": True}))


def _sweep(store: Store) -> None:
    """Delete the bytes of segments that were merged a while ago. Their rows stay: they tell that a raw segment is stored."""
    whole, named = segments.alias(), segments.alias()
    query = (
        sa.select(segments.c.digest)
        .join(whole, sa.and_(whole.c.id == segments.c.merged_into, whole.c.model == segments.c.model))
        .where(segments.c.digest != "", whole.c.created_at < now_ms() - KEPT_MS)
        .where(segments.c.digest.not_in(sa.select(named.c.digest).where(named.c.merged_into.is_(None))))
        .limit(1000)
    )
    with store.db.read() as tx:
        merged = tx.execute(query).scalars().all()
    if not merged or not may_delete(store):
        return
    for digest in merged:
        store.blobs.delete(digest)
    with store.db.write("predictions.sweep") as tx:
        gone = sa.update(segments).where(segments.c.digest.in_(merged))
        tx.execute(gone.where(segments.c.merged_into.is_not(None)).values(digest=""))


def clear_erased(store: Store) -> None:
    """Delete the bytes that erasures left, and the notes of them."""
    noted = (segments.c.merged_into == ERASED) & (segments.c.digest != "")
    with store.db.read() as tx:
        digests = set(tx.execute(sa.select(segments.c.digest).where(noted)).scalars())
        here = segments.c.digest.in_(digests) & segments.c.merged_into.is_(None)
        named = set(tx.execute(sa.select(segments.c.digest).where(here)).scalars()) if digests else set()
    if not digests or not may_delete(store):
        return
    for digest in digests - named:
        store.blobs.delete(digest)
    with store.db.write("predictions.erase") as tx:
        tx.execute(sa.delete(segments).where(noted, segments.c.digest.in_(digests)))


class _Overtaken(Exception):
    """Another compaction merged some of the same segments; nothing is written."""


def _mergeable(store: Store, kind: Kind) -> list[tuple[str, list[StoredSegment]]]:
    open_ones = (
        segments.c.kind == kind,
        segments.c.merged_into.is_(None),
        segments.c.seen.is_(True),
        segments.c.rows < MERGED_ROWS // 2,
    )
    many = sa.select(segments.c.model).where(*open_ones).group_by(segments.c.model).having(sa.func.count() >= MERGE_AT)
    query = sa.select(segments).where(*open_ones, segments.c.model.in_(many)).order_by(segments.c.id_min)
    tiers: dict[tuple[str, int], list[StoredSegment]] = defaultdict(list)
    with store.db.read() as tx:
        for row in tx.execute(query).mappings():
            segment = from_row(row, StoredSegment)
            tiers[segment.model, segment.rows.bit_length() // 4].append(segment)
    groups = []
    for (model, _), members in tiers.items():
        rows, group = 0, []
        for member in members:
            if rows + member.rows > MERGED_ROWS:
                break
            rows += member.rows
            group.append(member)
        if len(group) >= MERGE_AT or (len(group) < len(members) and len(group) > 1):
            groups.append((model, group))
    return groups


def _concatenated(store: Store, group: list[StoredSegment]) -> pa.Table:
    """The rows of all, sorted by id, with types that hold them all."""
    from stead.predictions.reading import connect, paths

    order = "request, row, accepted" if group[0].kind == "labels" else "request, row"
    with connect() as con:
        con.read_parquet(paths(store, group), union_by_name=True).create_view("parts")
        table: pa.Table = con.sql(f"select * from parts order by {order}").to_arrow_table()
        return table
