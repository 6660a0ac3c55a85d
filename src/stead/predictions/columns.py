"""What was asked and answered, as columns: for looking at data, where labels do not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stead.predictions import frames
from stead.predictions.index import look
from stead.predictions.reading import connect, view_predictions
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


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
    with connect() as con:
        view_predictions(con, store, view.stored, frames.wide(answers))
        dropped = ", ".join(name for name in frames.FIELDS if name != "event_time")
        table: pa.Table = con.sql(
            f"""select p.event_time, p.output_number as output, p.output as output_json, p.* exclude (event_time, {dropped})
            from predictions p
            where p.rows > 0 and p.version = {int(version)} and p.event_time >= {bounds[0]} and p.event_time < {bounds[1]}
            order by p.event_time, p.request, p.row"""
        ).to_arrow_table()
        return table
