"""What was asked and answered, as columns: for looking at data, where labels do not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stead.predictions import frames
from stead.predictions.index import look
from stead.predictions.reading import again, connect, view_predictions
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


@again
def read_columns(store: Store, model: str, *, version: int, since: int, until: int) -> pa.Table:
    """Rows that a version answered, by event time; `since` <= event time < `until`, milliseconds. Failed requests are left out.

    Columns: event_time, `output` (number, null where it is none), `output_json` as it was, and `features.NAME` for each raw column.
    """
    bounds = (int(since), int(until))
    view = look(store, "predictions", models=[model], events=bounds)
    answers = [
        answer
        for raw in view.raw
        for answer in raw.records
        if bounds[0] <= (log := answer.logged).event_time < bounds[1] and log.version == version and log.model == model
    ]
    tail = frames.wide(answers)
    if not view.stored:
        return _of_tail(tail)
    with connect() as con:
        view_predictions(con, store, view.stored, tail)
        dropped = ", ".join(name for name in frames.FIELDS if name != "event_time")
        table: pa.Table = con.sql(
            f"""select p.event_time, p.output_number as output, p.output as output_json, p.* exclude (event_time, {dropped})
            from predictions p
            where p.rows > 0 and p.version = {int(version)} and p.event_time >= {bounds[0]} and p.event_time < {bounds[1]}
            order by p.event_time, p.request, p.row"""
        ).to_arrow_table()
        return table


def _of_tail(tail: pa.Table) -> pa.Table:
    """What is not yet Parquet needs no question to a database: this is asked for each day of a replay."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tail = tail.filter(pc.greater(tail["rows"], pa.scalar(0)))
    tail = tail.sort_by([("event_time", "ascending"), ("request", "ascending"), ("row", "ascending")])
    features: dict[str, Any] = {name: tail[name] for name in tail.column_names if name.startswith(frames.FEATURE)}
    first = {"event_time": tail["event_time"], "output": tail["output_number"], "output_json": tail["output"]}
    return pa.table({**first, **features})
