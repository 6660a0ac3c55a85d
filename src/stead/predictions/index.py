"""Which segments there are, and where a prediction id is found: fast enough to ask for every batch of labels."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from stead.predictions.segment import Kind
from stead.predictions.tables import segments
from stead.predictions.tail import RawSegment, logged_now, tail
from stead.store import Store, from_row

if TYPE_CHECKING:
    import numpy as np

CACHED_BYTES = 256 << 20


@dataclass(frozen=True)
class StoredSegment:
    """A row of `prediction_segments`: Parquet in the store, made from one raw segment or merged from many."""

    id: str
    model: str
    kind: str
    digest: str
    rows: int
    requests: int
    failed: int
    id_min: str
    id_max: str
    event_min: int | None
    event_max: int | None
    seen: bool
    merged_into: str | None
    created_at: int


class Found(NamedTuple):
    """The request that a label or a look-up names."""

    model: str
    rows: int
    event_time: int


class View(NamedTuple):
    """The log at one moment: each record is in exactly one of both."""

    raw: list[RawSegment]
    stored: list[StoredSegment]


def look(
    store: Store,
    kind: Kind,
    *,
    models: Collection[str] | None = None,
    ids: tuple[str, str] | None = None,
    events: tuple[int, int] | None = None,
) -> View:
    """All raw segments, and the stored ones of some models, that may hold requests from `ids[0]` to `ids[1]`, or since <= t < until."""
    conditions: list[sa.ColumnElement[bool]] = []
    if models is not None:
        conditions.append(segments.c.model.in_(list(models)))
    if ids is not None:
        conditions += [segments.c.id_min <= ids[1], segments.c.id_max >= ids[0]]
    if events is not None:
        conditions += [segments.c.event_min < events[1], segments.c.event_max >= events[0]]
    return _look(store, (kind,), conditions)[0]


def look_unseen(store: Store, kinds: Sequence[Kind]) -> list[View]:
    """By kind all raw segments, and the stored ones that no refresh has seen."""
    return _look(store, kinds, [segments.c.seen.is_(False)])


def _look(store: Store, kinds: Sequence[Kind], conditions: Sequence[sa.ColumnElement[bool]]) -> list[View]:
    """The raw ones are read first: what is compacted meanwhile is found in the store, and one statement tells both which
    are wanted and which of the raw ones are there already.
    """
    raw = {kind: tail(store, kind) for kind in kinds}
    wanted = sa.and_(segments.c.kind.in_(kinds), segments.c.merged_into.is_(None), *conditions)
    names = [segment.name for some in raw.values() for segment in some]
    query = (
        sa.select(segments, sa.case((wanted, 1), else_=0).label("wanted"))
        .where(sa.or_(wanted, segments.c.id.in_(names)))
        .order_by(segments.c.id_min)
    )
    with store.db.read() as tx:
        rows = tx.execute(query).mappings().all()
    there = {row["id"] for row in rows}
    stored = [from_row(row, StoredSegment) for row in rows if row["wanted"]]
    return [
        View([each for each in raw[kind] if each.name not in there], [each for each in stored if each.kind == kind])
        for kind in kinds
    ]


def is_stored(store: Store, name: str) -> bool:
    """Whether the rows of a raw segment are in the store."""
    with store.db.read() as tx:
        return tx.execute(sa.select(segments.c.id).where(segments.c.id == name).limit(1)).first() is not None


def find(store: Store, requests: Sequence[str]) -> list[Found | None]:
    """For each request id where it was logged; None for those that are not known (yet)."""
    found: dict[str, Found | None] = dict.fromkeys(requests)
    for logged in logged_now(store):
        for request in requests:
            if (answer := logged.get(request)) is not None:
                found[request] = Found(answer.logged.model, len(answer.outputs or ()), answer.logged.event_time)
    missing = sorted(request for request, place in found.items() if place is None)
    if missing:
        _find_stored(store, missing, found)
    return [found[request] for request in requests]


def _find_stored(store: Store, missing: list[str], found: dict[str, Found | None]) -> None:
    """Segments made from one raw segment lie in the same range of ids, one a model: they are searched as one."""
    import numpy as np

    wanted = np.array(missing, dtype="S32")
    together: dict[str, list[StoredSegment]] = defaultdict(list)
    for segment in look(store, "predictions", ids=(missing[0], missing[-1])).stored:
        together[segment.id].append(segment)
    for members in together.values():
        known = _arrays(store, members)
        places = np.searchsorted(known.requests, wanted)
        places[places == len(known.requests)] = 0
        for position in np.flatnonzero(known.requests[places] == wanted):
            place = places[position]
            model = members[known.members[place]].model
            found[missing[position]] = Found(model, int(known.rows[place]), int(known.event_times[place]))


class Arrays(NamedTuple):
    """The requests of stored segments, sorted by id: which of the segments has it, rows, event time."""

    requests: np.ndarray[Any, Any]
    members: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]
    event_times: np.ndarray[Any, Any]


_lock = threading.Lock()
_cache: OrderedDict[tuple[str, ...], Arrays] = OrderedDict()


def _arrays(store: Store, members: Sequence[StoredSegment]) -> Arrays:
    """By content, so what is cached never goes stale."""
    key = tuple(segment.digest for segment in members)
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    made = _read_arrays(store, key)
    with _lock:
        _cache[key] = made
        while len(_cache) > 1 and sum(arrays.requests.nbytes for arrays in _cache.values()) > CACHED_BYTES:
            _cache.popitem(last=False)
    return made


def _read_arrays(store: Store, digests: Sequence[str]) -> Arrays:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["request", "row", "rows", "event_time"]
    tables = [pq.read_table(store.blobs.path(digest), columns=columns) for digest in digests]
    table = pa.concat_tables(tables)
    members = np.repeat(np.arange(len(tables)), [each.num_rows for each in tables])
    first = np.flatnonzero(table["row"].to_numpy() == 0)
    requests = np.array(table["request"].to_pylist(), dtype="S32")[first]
    order = np.argsort(requests, kind="stable")
    picked = first[order]
    return Arrays(
        requests[order], members[picked], table["rows"].to_numpy()[picked], table["event_time"].to_numpy()[picked]
    )


def days_of(store: Store, segment: StoredSegment, day: int) -> set[int]:
    """The days of event time, each `day` milliseconds long, that a stored segment of predictions has rows of."""
    import numpy as np

    return {int(start) * day for start in np.unique(_arrays(store, [segment]).event_times // day)}
