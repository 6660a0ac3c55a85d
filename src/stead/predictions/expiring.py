"""Letting old predictions go, with their labels and what was scored aside, by whole days.

A request is old when its event time is, on its model's clock, and it came so long ago: a year that is replayed today stays.
A label whose prediction never came is old when it came so long ago.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa

from stead import jobs
from stead.predictions.index import StoredSegment, find, look
from stead.predictions.rewriting import take_out
from stead.predictions.tables import segments
from stead.runtime.clock import now_ms
from stead.store import Store

DAY = 86_400_000
NS = 1_000_000
"""In a millisecond: when a label was accepted is kept to the nanosecond."""


class Expired(NamedTuple):
    """Old requests of one file of the log."""

    model: str
    """Empty for labels without a prediction: nobody knows whose they are."""
    requests: set[Any]
    bytes: int
    """About so much of the file is theirs."""


def find_expired(store: Store, *, age_ms: int) -> Iterator[Expired]:
    """The requests that are older than an age, file by file. What is still in a raw segment is young."""
    with store.db.read() as tx:
        known = tx.execute(sa.select(segments.c.model).where(segments.c.kind == "predictions").distinct()).scalars()
        names = sorted(known)
    came_before = _day(now_ms() - age_ms)
    for model in names:
        before = _day(jobs.model_now(store, model) - age_ms)
        for segment in look(store, "predictions", models=[model], events=(-(1 << 62), before)).stored:
            if (found := _old(store, segment, before, came_before)).requests:
                yield found
    if (orphans := _orphans(store, came_before)).requests:
        yield orphans


def expire(store: Store, *, age_ms: int) -> int:
    """Take the requests that are older than an age out of the log; how many. Raises Conflict (`erase-waits`)."""
    gone = 0
    for found in find_expired(store, age_ms=age_ms):
        take_out(store, found.model, found.requests)
        gone += len(found.requests)
    return gone


def _day(moment: int) -> int:
    return moment // DAY * DAY


def _old(store: Store, segment: StoredSegment, before: int, came_before: int) -> Expired:
    import pyarrow.compute
    import pyarrow.parquet as pq

    pc: Any = pyarrow.compute
    path = store.blobs.path(segment.digest)
    table = pq.read_table(path, columns=["request", "event_time", "received_at"])
    old = table.filter(pc.and_(pc.less(table["event_time"], before), pc.less(table["received_at"], came_before)))
    share = old.num_rows / max(1, table.num_rows)
    return Expired(segment.model, set(old["request"].to_pylist()), int(path.stat().st_size * share))


def _orphans(store: Store, came_before: int) -> Expired:
    """Requests that old labels name and that the log does not know, of all files at once: one may be named in several."""
    import pyarrow.compute
    import pyarrow.parquet as pq

    pc: Any = pyarrow.compute
    unknown: set[Any] = set()
    size = 0
    for segment in look(store, "labels", models=[""]).stored:
        path = store.blobs.path(segment.digest)
        table = pq.read_table(path, columns=["request", "accepted"])
        named: list[Any] = table.filter(pc.less(table["accepted"], came_before * NS))["request"].unique().to_pylist()
        found = {request for request, place in zip(named, find(store, named), strict=True) if place is None}
        size += int(path.stat().st_size * len(found) / max(1, table.num_rows))
        unknown |= found
    return Expired("", unknown, size)
