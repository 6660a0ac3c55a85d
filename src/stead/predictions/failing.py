"""Requests that failed, by day of event time: how many came, what they were answered, and some of them as they came."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from stead.predictions import frames
from stead.predictions.index import look
from stead.predictions.performance import DAY, SQL_DAY
from stead.predictions.reading import again, connect, paths, union
from stead.predictions.types import FailedDay, FailedRequest
from stead.store import Store

SAMPLES = 20
"""Refused requests of a day that are kept as they came."""


@again
def read_failures(store: Store, model: str, *, version: int, since: int, until: int) -> list[FailedDay]:
    """The days of since <= event time < until, milliseconds, on which requests to a version failed, in order."""
    bounds = (int(since), int(until))
    view = look(store, "predictions", models=[model], events=bounds)
    tail = frames.between(frames.of_raw(view.raw, "predictions"), "event_time", (bounds[0], bounds[1] - 1))
    samples: dict[int, list[FailedRequest]] = defaultdict(list)
    with connect() as con:
        union(con, "predictions", paths(store, view.stored), tail)
        mine = "p.model = $model and p.version = $version and p.event_time >= $since and p.event_time < $until"
        asked = {"model": model, "version": int(version), "since": bounds[0], "until": bounds[1]}
        found = con.sql(
            f"""select {SQL_DAY} as day, count(*), count(*) filter (p.rows = 0) as failed,
                histogram(p.status) filter (p.rows = 0) from predictions p
            where {mine} and p.row = 0 group by day having failed > 0 order by day""",
            params=asked,
        ).fetchall()
        if view.stored:
            kept = con.sql(
                f"""select {SQL_DAY} as day, p.status, p.protocol, p.body from predictions_stored p
                where {mine} and p.rows = 0 and p.status < 500 and p.body is not null
                qualify row_number() over (partition by day order by p.request) <= {SAMPLES}""",
                params=asked,
            ).fetchall()
            for day, *request in kept:
                samples[day].append(FailedRequest(*request))
    for raw in view.raw:
        for log, outputs in raw.records:
            here = outputs is None and log.status < 500 and (log.model, log.version) == (model, version)
            some = samples[log.event_time // DAY * DAY] if here and bounds[0] <= log.event_time < bounds[1] else None
            if some is not None and len(some) < SAMPLES:
                some.append(FailedRequest(log.status, log.protocol, log.body, log.header_length))
    return [FailedDay(day, requests, _plain(statuses), samples[day]) for day, requests, _, statuses in found]


def _plain(statuses: dict[Any, Any]) -> dict[int, int]:
    return {int(status): int(count) for status, count in sorted(statuses.items())}
