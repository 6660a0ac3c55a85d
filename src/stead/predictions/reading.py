"""Reading the log: Parquet in the store and the live tail of raw segments as one, through DuckDB."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from stead.errors import Failed, InvalidInput, NotFound
from stead.predictions import frames
from stead.predictions.index import StoredSegment, look
from stead.predictions.segment import Kind
from stead.predictions.tail import Answer, is_prediction_id, request_and_row
from stead.predictions.types import Counts, Prediction
from stead.runtime.ids import first_id
from stead.store import Store, checked_limit, duckdb_for

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

P = ParamSpec("P")
T = TypeVar("T")
MOST = 10_000
FEW = 2000
"""Rows up to which Python joins what is raw sooner than a database begins."""
_LAST_ID = "g"
"""Above every id."""
_ID = "case when p.rows > 1 then p.request || '.' || p.row else p.request end"


def connect() -> AbstractContextManager[DuckDBPyConnection]:
    """An empty DuckDB in memory. Raises Failed (`log-unreadable`) where a query fails."""
    return duckdb_for(lambda error: Failed("log-unreadable", f"the log of predictions could not be read: {error}"))


GONE = "No files found"
"""How DuckDB begins to say that a file is not there."""
LOOKS = 3


def again(reads: Callable[P, T]) -> Callable[P, T]:
    """Look again where a file that was listed is gone: erasing writes files of the log anew while others read."""

    @wraps(reads)
    def reading(*args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(LOOKS - 1):
            try:
                return reads(*args, **kwargs)
            except Failed as error:
                if error.code != "log-unreadable" or GONE not in error.message:
                    raise
        return reads(*args, **kwargs)

    return reading


def paths(store: Store, stored: Sequence[StoredSegment]) -> list[str]:
    """Local files of stored segments."""
    return [str(store.blobs.path(segment.digest)) for segment in stored]


def view_predictions(con: DuckDBPyConnection, store: Store, stored: Sequence[StoredSegment], tail: pa.Table) -> None:
    """Make the view `predictions`: one row a predicted row, one for a failed request."""
    union(con, "predictions", paths(store, stored), tail)


def view_labels(con: DuckDBPyConnection, store: Store, ids: tuple[str, str] | None = None) -> None:
    """Make `labels`, newest for each row: request, row, value, value_number, accepted. With `ids` only those between."""
    view = look(store, "labels", ids=ids)
    tail = frames.of_raw(view.raw, "labels")
    union(con, "all_labels", paths(store, view.stored), tail if ids is None else frames.between(tail, "request", ids))
    newest = "arg_max({'value': value, 'value_number': value_number}, accepted)"
    inside = f"where request between '{ids[0]}' and '{ids[1]}'" if ids else ""
    con.execute(
        f"""create view labels as
        select request, row, newest.value as value, newest.value_number as value_number, accepted
        from (select request, row, {newest} as newest, max(accepted) as accepted from all_labels {inside} group by all)"""
    )


def view_labels_of(con: DuckDBPyConnection, store: Store, table: str) -> None:
    """`view_labels` for the requests that a table has."""
    low, high = con.sql(f"select min(request), max(request) from {table}").fetchall()[0]
    view_labels(con, store, (low or "", high or ""))


def newest_raw(store: Store, requests: Collection[str]) -> dict[tuple[str, int], dict[str, Any]] | None:
    """By request and row the newest label of some requests, where all of theirs are raw still: no database is asked. Else None."""
    if not requests:
        return {}
    ends = (min(requests), max(requests))
    view = look(store, "labels", ids=ends)
    if view.stored:
        return None
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    for label in frames.between(frames.of_raw(view.raw, "labels"), "request", ends).to_pylist():
        key = (label["request"], label["row"])
        if key not in newest or label["accepted"] > newest[key]["accepted"]:
            newest[key] = label
    return newest


def union(con: DuckDBPyConnection, name: str, files: list[str], table: pa.Table) -> None:
    """Make a view of Parquet files and a table, columns by name."""
    con.register(f"{name}_tail", table)
    if files:
        con.read_parquet(files, union_by_name=True).create_view(f"{name}_stored")
        con.execute(f"create view {name} as select * from {name}_stored union all by name select * from {name}_tail")
    else:
        con.execute(f"create view {name} as select * from {name}_tail")


@again
def counts(store: Store, model: str) -> Counts:
    """How much of a model is logged and labelled, exact at this moment. Unknown labels are counted over all models."""
    view = look(store, "predictions")
    with connect() as con:
        view_labels(con, store)
        view_predictions(con, store, view.stored, frames.of_raw(view.raw, "predictions"))
        mine = "p.model = $model"
        found = con.sql(
            f"""select count(*) filter ({mine} and row = 0), count(*) filter ({mine} and rows > 0),
                count(*) filter ({mine} and rows = 0),
                (select count(*) from labels semi join (from predictions p where {mine} and p.rows > 0) p
                    on labels.request = p.request and labels.row = p.row),
                (select count(*) from labels anti join predictions p
                    on labels.request = p.request and labels.row = p.row and p.rows > 0)
            from predictions p""",
            params={"model": model},
        )
        return Counts(*found.fetchall()[0])


@again
def list_predictions(
    store: Store,
    model: str,
    *,
    limit: int = 100,
    before: str | None = None,
    version: int | None = None,
    since: int | None = None,
    until: int | None = None,
) -> list[Prediction]:
    """Predictions and failed requests of a model, newest first, with their newest labels.

    `before` is the id of the last prediction of the page before; `since` <= event time < `until`, milliseconds.
    Raises InvalidInput (`limit-invalid`, `prediction-id-invalid`).
    """
    checked_limit(limit, MOST)
    page = _Page(model, limit, _position(before), version, since, until)
    view = look(store, "predictions", models=[model], events=None if since is None and until is None else page.events)
    answers = [answer for raw in view.raw for answer in raw.records if page.fits(answer)]
    newest = sorted(answers, key=lambda answer: answer.logged.id, reverse=True)[: limit + 1]
    left = sorted(view.stored, key=lambda segment: segment.id_max, reverse=True)
    taken: list[StoredSegment] = []
    wanted = limit
    with connect() as con:
        while True:
            while left and sum(segment.rows for segment in taken) < wanted:
                taken.append(left.pop(0))
            rows = page.rows(con, store, taken, newest)
            oldest = rows[-1]["request"] if len(rows) == limit else ""
            overlapping = [segment for segment in left if segment.id_max >= oldest]
            if not overlapping:
                known = _labels_of(con, store, rows)
                return [_prediction(row, model, known.get((row["request"], row["row"]))) for row in rows]
            wanted = max(wanted * 4, sum(segment.rows for segment in taken) + 1)


@again
def get_prediction(store: Store, prediction_id: str) -> Prediction:
    """One prediction by its id, with its newest label; `ID` alone is the first row of a request with several.

    Raises NotFound (`prediction-unknown`), InvalidInput (`prediction-id-invalid`).
    """
    request, row = _position(prediction_id) or ("", 0)
    view = look(store, "predictions", ids=(request, request))
    answers = [answer for raw in view.raw for answer in raw.records if answer.logged.id == request]
    with connect() as con:
        view_predictions(con, store, view.stored, frames.wide(answers))
        found = con.sql(
            f"select p.*, {_ID} as id from predictions p where request = $request and row = $row",
            params={"request": request, "row": row},
        )
        rows = found.to_arrow_table().to_pylist()
        if not rows:
            raise NotFound(
                "prediction-unknown", f"no prediction {prediction_id} is logged", hint="stead predictions list MODEL"
            )
        label = _labels_of(con, store, rows).get((request, row))
        return _prediction(rows[0], rows[0]["model"], label)


@again
def read(store: Store, model: str, *, since: int | None = None, until: int | None = None) -> pa.Table:
    """Predicted rows of a model with their newest labels, by event time; `since` <= event time < `until`, milliseconds.

    Columns: id, version, event_time, received_at, latency_us, status, protocol, key; `output` and `label` as numbers (null where
    they are none), `output_json` and `label_json` as they were; label_at; and `features.NAME` for each raw column.
    Failed requests are left out.
    """
    bounds = _bounds(since, until)
    view = look(store, "predictions", models=[model], events=None if since is None and until is None else bounds)
    answers = [
        answer
        for raw in view.raw
        for answer in raw.records
        if answer.logged.model == model and bounds[0] <= answer.logged.event_time < bounds[1]
    ]
    tail = frames.wide(answers)
    if (
        not view.stored
        and len(answers) <= FEW
        and (known := newest_raw(store, [each.logged.id for each in answers])) is not None
    ):
        return _of_few(tail, known)
    with connect() as con:
        view_predictions(con, store, view.stored, tail)
        con.execute(
            f"""create table mine as select * from predictions
            where model = $model and rows > 0 and event_time >= {bounds[0]} and event_time < {bounds[1]}""",
            {"model": model},
        )
        view_labels_of(con, store, "mine")
        table: pa.Table = con.sql(
            f"""select {_ID} as id, p.version, p.event_time, p.received_at, p.latency_us, p.status, p.protocol, p.key,
                p.output_number as output, p.output as output_json,
                l.value_number as label, l.value as label_json, l.accepted // 1000000 as label_at,
                p.* exclude (request, row, rows, model, version, event_time, received_at, latency_us, status, protocol, key,
                    named, output, output_number, body)
            from mine p left join labels l on p.request = l.request and p.row = l.row
            order by p.event_time, p.request, p.row"""
        ).to_arrow_table()
        return table


def _of_few(tail: pa.Table, known: Mapping[tuple[str, int], Mapping[str, Any]]) -> pa.Table:
    """What `read` gives, of rows and labels that are raw."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tail = tail.filter(pc.greater(tail["rows"], pa.scalar(0)))
    tail = tail.sort_by([(name, "ascending") for name in ("event_time", "request", "row")])
    keys: list[Any] = list(zip(tail["request"].to_pylist(), tail["row"].to_pylist(), strict=True))
    single = [rows == 1 for rows in tail["rows"].to_pylist()]
    labels = [known.get(key) for key in keys]
    names = ("version", "event_time", "received_at", "latency_us", "status", "protocol", "key")
    return pa.table(
        {
            "id": pa.array(
                [one if alone else f"{one}.{row}" for (one, row), alone in zip(keys, single, strict=True)], pa.string()
            ),
            **{name: tail[name] for name in names},
            "output": tail["output_number"],
            "output_json": tail["output"],
            "label": pa.array([each and each["value_number"] for each in labels], pa.float64()),
            "label_json": pa.array([each and each["value"] for each in labels], pa.string()),
            "label_at": pa.array([each and each["accepted"] // 1_000_000 for each in labels], pa.int64()),
            **{name: tail[name] for name in tail.column_names if name.startswith(frames.FEATURE)},
        }
    )


@again
def read_scores(store: Store, model: str, *, since: int, until: int) -> pa.Table:
    """Each row with what every version made of it, answered or scored aside; `since` <= event time < `until`, milliseconds.

    Columns: request, row, event_time, received_at, key, version, role ("" or "shadow"), status, latency_us, `output` and `label` as
    numbers (null where they are none), `output_json` and `label_json` as they were. Failed requests have row 0 and no output.
    """
    bounds = (int(since), int(until))
    with connect() as con:
        _view_scores(con, store, model, bounds)
        names = "request, row, rows, event_time, received_at, key, version, status, latency_us, output_number as output, output as output_json"
        mine = f"where model = $model and event_time >= {bounds[0]} and event_time < {bounds[1]}"
        con.execute(
            f"""create table scores as select {names}, '' as role from answered {mine}
            union all select {names}, 'shadow' as role from aside {mine}""",
            {"model": model},
        )
        view_labels_of(con, store, "scores")
        table: pa.Table = con.sql(
            """select s.* exclude (rows), l.value_number as label, l.value as label_json
            from scores s left join labels l on s.request = l.request and s.row = l.row and s.rows > 0
            order by s.event_time, s.request, s.row, s.role, s.version"""
        ).to_arrow_table()
        return table


@again
def read_pairs(store: Store, model: str, first: int, second: int, *, since: int, until: int, came: int = 0) -> pa.Table:
    """Rows that two versions both scored, whichever answered; `since` <= event time < `until`, milliseconds.

    `came` is the moment of the wall clock from which on they came: a replay may pass the same event times again.
    Columns: event_time, answered (the version that did), `first`, `second` and `label` as numbers, and the same with
    `_json` as they were; `label_json` is null while the row has no label. By event time.
    """
    bounds = (int(since), int(until))
    with connect() as con:
        _view_scores(con, store, model, bounds)
        mine = f"where model = $model and rows > 0 and event_time >= {bounds[0]} and event_time < {bounds[1]}"
        mine += f" and received_at >= {int(came)}"
        con.execute(
            f"""create table pairs as with scores as (
                select request, row, event_time, version, output_number, output, version as answered from answered {mine}
                union all select request, row, event_time, version, output_number, output, null from aside {mine})
            select request, row, any_value(event_time) as event_time, any_value(answered) as answered,
                any_value(output_number) filter (version = $first) as first,
                any_value(output) filter (version = $first) as first_json,
                any_value(output_number) filter (version = $second) as second,
                any_value(output) filter (version = $second) as second_json
            from scores where version in ($first, $second) group by request, row""",
            {"model": model, "first": first, "second": second},
        )
        view_labels_of(con, store, "pairs")
        table: pa.Table = con.sql(
            """select p.* exclude (request, row), l.value_number as label, l.value as label_json
            from pairs p left join labels l on p.request = l.request and p.row = l.row
            where first_json is not null and second_json is not null
            order by p.event_time, p.request, p.row"""
        ).to_arrow_table()
        return table


def _view_scores(con: DuckDBPyConnection, store: Store, model: str, bounds: tuple[int, int]) -> None:
    """Make the views `answered` and `aside`: what versions of a model answered, and what they scored while another did."""
    views: tuple[tuple[str, Kind], ...] = (("answered", "predictions"), ("aside", "shadows"))
    for name, kind in views:
        view = look(store, kind, models=[model], events=bounds)
        tail = frames.between(frames.of_raw(view.raw, kind), "event_time", (bounds[0], bounds[1] - 1))
        union(con, name, paths(store, view.stored), tail)


@again
def read_requests(store: Store, model: str, *, came: int) -> pa.Table:
    """The requests that came from a moment of the wall clock on and named no version, answered or failed.

    Columns: version, status, latency_us, received_at, event_time, first (of its key, or without one).
    """
    view = look(store, "predictions", models=[model], ids=(first_id(int(came)), _LAST_ID))
    with connect() as con:
        view_predictions(con, store, view.stored, frames.of_raw(view.raw, "predictions"))
        table: pa.Table = con.sql(
            f"""select version, status, latency_us, received_at, event_time,
                row_number() over (partition by coalesce(key, request) order by request) = 1 as first from predictions
            where model = $model and row = 0 and received_at >= {int(came)} and named is not true""",
            params={"model": model},
        ).to_arrow_table()
        return table


@again
def read_asides(store: Store, model: str, *, came: int) -> pa.Table:
    """What versions scored aside of the requests that came from a moment of the wall clock on, well or not.

    Columns: version, status, received_at, event_time.
    """
    view = look(store, "shadows", models=[model], ids=(first_id(int(came)), _LAST_ID))
    with connect() as con:
        union(con, "aside", paths(store, view.stored), frames.of_raw(view.raw, "shadows"))
        table: pa.Table = con.sql(
            f"""select version, status, received_at, event_time from aside
            where model = $model and row = 0 and received_at >= {int(came)}""",
            params={"model": model},
        ).to_arrow_table()
        return table


class _Page(NamedTuple):
    """One page of a list: its conditions, in Python for the tail and in SQL for what is stored."""

    model: str
    limit: int
    before: tuple[str, int] | None
    version: int | None
    since: int | None
    until: int | None

    @property
    def events(self) -> tuple[int, int]:
        return _bounds(self.since, self.until)

    def fits(self, answer: Answer) -> bool:
        log = answer.logged
        return (
            log.model == self.model
            and (self.version is None or log.version == self.version)
            and (self.before is None or log.id <= self.before[0])
            and self.events[0] <= log.event_time < self.events[1]
        )

    def rows(
        self, con: DuckDBPyConnection, store: Store, stored: Sequence[StoredSegment], answers: Sequence[Answer]
    ) -> list[dict[str, Any]]:
        con.execute("drop view if exists predictions")
        con.execute("drop view if exists predictions_stored")
        view_predictions(con, store, stored, frames.wide(answers))
        conditions = [f"p.event_time >= {self.events[0]} and p.event_time < {self.events[1]}"]
        if self.version is not None:
            conditions.append(f"p.version = {int(self.version)}")
        if self.before is not None:
            conditions.append(f"(p.request, p.row) < ('{self.before[0]}', {self.before[1]})")
        found = con.sql(
            f"""select p.*, {_ID} as id from predictions p
            where {" and ".join(conditions)} order by p.request desc, p.row desc limit {self.limit}"""
        )
        rows: list[dict[str, Any]] = found.to_arrow_table().to_pylist()
        return rows


def _labels_of(
    con: DuckDBPyConnection, store: Store, rows: list[dict[str, Any]]
) -> dict[tuple[str, int], tuple[str, int]]:
    """By request and row the newest label as JSON, and when it was accepted in milliseconds."""
    if not rows:
        return {}
    requests = sorted({row["request"] for row in rows})
    view_labels(con, store, (requests[0], requests[-1]))
    found = con.sql(
        "select request, row, value, accepted // 1000000 from labels where request in (select unnest(?))",
        params=[requests],
    ).fetchall()
    return {(request, row): (value, accepted) for request, row, value, accepted in found}


def _prediction(row: dict[str, Any], model: str, label: tuple[str, int] | None) -> Prediction:
    unread = row["rows"] == 0 or row["body"] is not None
    start = len(frames.FEATURE)
    features = {name[start:]: value for name, value in row.items() if name.startswith(frames.FEATURE)}
    return Prediction(
        id=row["id"],
        model=model,
        version=row["version"],
        event_time=row["event_time"],
        received_at=row["received_at"],
        latency_us=row["latency_us"],
        status=row["status"],
        key=row["key"],
        features=None if unread else features,
        output=None if row["output"] is None else json.loads(row["output"]),
        label=None if label is None else json.loads(label[0]),
        label_at=None if label is None else label[1],
    )


def _position(before: str | None) -> tuple[str, int] | None:
    if before is None:
        return None
    if not is_prediction_id(before):
        raise InvalidInput("prediction-id-invalid", f"{before!r} is no prediction id")
    return request_and_row(before)


def _bounds(since: int | None, until: int | None) -> tuple[int, int]:
    return (-(1 << 62) if since is None else int(since)), (1 << 62 if until is None else int(until))
