"""Realised loss by day of event time and version, kept so that a page only reads a table.

A refresh looks at what the log has gained since the last one, finds the days that it touches (a late label touches the
day of its prediction, however long ago) and computes those days anew from the log. The rows and how far the log was
read are written in one transaction, so a kill -9 leaves either the old state or the new one. Looking twice at the same
records is harmless, so whatever is in doubt is looked at again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from stead.models.tables import models
from stead.predictions.index import StoredSegment, View, days_of, find, look
from stead.predictions.reading import connect, paths, view_labels, view_predictions
from stead.predictions.tables import performance as table
from stead.predictions.tables import progress, segments
from stead.predictions.types import DayLoss
from stead.runtime.clock import now_ms
from stead.store import Store, from_row

if TYPE_CHECKING:
    import numpy as np

DAY = 86_400_000
DEFAULT_LOSS = "mae"
"""For predictions of a model that the registry does not know."""
_SQL_DAY = f"p.event_time - ((p.event_time % {DAY}) + {DAY}) % {DAY}"
TRIES = 5
_REFRESHES = ""


def performance(store: Store, model: str, *, since: int | None = None, until: int | None = None) -> list[DayLoss]:
    """Realised loss by day and version as of the last refresh; days from that of `since` to before `until`, milliseconds."""
    query = sa.select(table).where(table.c.model == model).order_by(table.c.day, table.c.version)
    if since is not None:
        query = query.where(table.c.day >= since // DAY * DAY)
    if until is not None:
        query = query.where(table.c.day < until)
    with store.db.read() as tx:
        rows = tx.execute(query).mappings().all()
    return [
        from_row(row, DayLoss, loss=row["loss_sum"] / row["weight_sum"] if row["weight_sum"] > 0 else None)
        for row in rows
    ]


def refresh_performance(store: Store, *, model: str | None = None) -> None:
    """Bring `performance` up to the log. With `model`, compute all days of that model anew.

    Safe beside other refreshes: the one that is overtaken starts again.
    """
    for _ in range(TRIES):
        with suppress(_Overtaken):
            _refresh(store, model)
            return


class _Overtaken(Exception):
    """Another refresh has written since this one began to look."""


Days = set[int] | None
"""Days of event time to compute anew; None for all."""


def _refresh(store: Store, rebuild: str | None) -> None:
    began, positions = _progress(store)
    predictions, labels = look(store, "predictions", unseen=True), look(store, "labels", unseen=True)
    touched: dict[str, Days] = dict(_touched(store, predictions, labels, positions))
    for name in touched:
        if _measure_changed(store, name):
            touched[name] = None
    if rebuild is not None:
        touched[rebuild] = None
    fresh = {name: _compute(store, name, days) for name, days in touched.items()}
    read = {raw.name: raw.position for raw in (*predictions.raw, *labels.raw)}
    news = {name: position for name, position in read.items() if positions.get(name, 0) != position}
    stored = sorted({segment.id for segment in (*predictions.stored, *labels.stored)})
    if touched or news or stored:
        _write(store, began, touched, fresh, news, stored)


def _progress(store: Store) -> tuple[int, dict[str, int]]:
    """How many refreshes there were, and how far each raw segment is read."""
    with store.db.read() as tx:
        positions = {row.segment: row.position for row in tx.execute(sa.select(progress))}
    return positions.pop(_REFRESHES, 0), positions


def _touched(store: Store, predictions: View, labels: View, positions: Mapping[str, int]) -> dict[str, set[int]]:
    """By model the days that new predictions and new labels belong to."""
    touched: dict[str, set[int]] = defaultdict(set)
    for raw in predictions.raw:
        for answer in raw.after(positions.get(raw.name, 0)):
            touched[answer.logged.model].add(_day(answer.logged.event_time))
    for segment in predictions.stored:
        touched[segment.model] |= days_of(store, segment, DAY)
    requests = {label.request for raw in labels.raw for label in raw.after(positions.get(raw.name, 0))}
    requests |= _labelled(store, labels.stored)
    for place in find(store, list(requests)):
        if place is not None:
            touched[place.model].add(_day(place.event_time))
    return touched


def _labelled(store: Store, stored: Sequence[StoredSegment]) -> set[str]:
    import pyarrow.parquet as pq

    found: set[str] = set()
    for path in paths(store, stored):
        requests: Any = pq.read_table(path, columns=["request"])["request"]
        found.update(requests.to_pylist())
    return found


def _day(time: int) -> int:
    return time // DAY * DAY


def _measure(store: Store, model: str) -> str:
    with store.db.read() as tx:
        return str(tx.execute(sa.select(models.c.loss).where(models.c.name == model)).scalar() or DEFAULT_LOSS)


def _measure_changed(store: Store, model: str) -> bool:
    with store.db.read() as tx:
        kept = tx.execute(sa.select(table.c.measure).where(table.c.model == model).limit(1)).scalar()
    return kept is not None and kept != _measure(store, model)


@dataclass(frozen=True)
class _Rows:
    """The predicted rows and failed requests of some days, column by column; label and output as numbers and else as JSON."""

    day: np.ndarray[Any, Any]
    version: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]
    output: list[Any] | np.ndarray[Any, Any]
    label: list[Any] | np.ndarray[Any, Any]
    labelled: np.ndarray[Any, Any]


def _compute(store: Store, model: str, days: Days) -> list[dict[str, Any]]:
    """Rows of `performance_days` for a model."""
    events = None if days is None else (min(days), max(days) + DAY)
    view = look(store, "predictions", model=model, events=events)
    answers = [
        answer
        for raw in view.raw
        for answer in raw.records
        if answer.logged.model == model and (days is None or _day(answer.logged.event_time) in days)
    ]
    stored = [segment for segment in view.stored if days is None or _holds(segment, days)]
    ids = [answer.logged.id for answer in answers]
    ids += [end for segment in stored for end in (segment.id_min, segment.id_max)]
    if not ids:
        return []
    measure = _measure(store, model)
    rows = _load(store, stored, answers, days, (min(ids), max(ids)))
    return _by_day(model, measure, rows)


def _holds(segment: StoredSegment, days: Iterable[int]) -> bool:
    first, last = segment.event_min, segment.event_max
    return first is None or last is None or any(day <= last and day + DAY > first for day in days)


def _load(
    store: Store, stored: Sequence[StoredSegment], answers: Sequence[Any], days: Days, ids: tuple[str, str]
) -> _Rows:
    import pyarrow as pa

    with connect() as con:
        view_predictions(con, store, stored, answers, features=False)
        view_labels(con, store, ids)
        only = ""
        if days is not None:
            con.register("days", pa.table({"day": pa.array(sorted(days), pa.int64())}))
            only = f"semi join days d on {_SQL_DAY} = d.day"
        got = con.sql(
            f"""select {_SQL_DAY} as day, p.version, p.rows, p.output_number, l.value_number,
                case when p.output_number is null then p.output end as output,
                case when l.value_number is null then l.value end as label, l.value is not null as labelled
            from (select * from predictions p {only}) p
            left join labels l on p.request = l.request and p.row = l.row and p.rows > 0
            order by p.request, p.row"""
        ).to_arrow_table()
    return _Rows(
        day=got["day"].to_numpy(),
        version=got["version"].to_numpy(),
        rows=got["rows"].to_numpy(),
        output=_values(got["output_number"], got["output"]),
        label=_values(got["value_number"], got["label"]),
        labelled=got["labelled"].to_numpy(),
    )


def _values(as_number: Any, as_json: Any) -> list[Any] | np.ndarray[Any, Any]:
    """Numbers as an array with NaN for null; a list with what the JSON says where any value is none."""
    import msgspec

    from stead.stats.losses import numbers

    if as_json.null_count == len(as_json):
        return numbers(as_number.to_numpy())
    pairs = zip(as_number.to_pylist(), as_json.to_pylist(), strict=True)
    return [n if t is None else msgspec.json.decode(t) for n, t in pairs]


def _by_day(model: str, measure: str, rows: _Rows) -> list[dict[str, Any]]:
    """Add up by day and version."""
    import numpy as np

    from stead.stats.losses import numbers, row_losses

    keys, group = np.unique(np.stack([rows.day, rows.version]), axis=1, return_inverse=True)
    group = group.reshape(-1)

    def total(values: Any) -> Any:
        return np.bincount(group, weights=np.nan_to_num(values), minlength=keys.shape[1])

    loss, weight = row_losses(measure, rows.output, rows.label)
    predicted = rows.rows > 0
    sums = {
        "predictions": total(predicted).astype(int),
        "failed": total(~predicted).astype(int),
        "labelled": total(rows.labelled).astype(int),
        "loss_sum": total(np.where(rows.labelled, loss, 0.0)),
        "weight_sum": total(np.where(rows.labelled, weight, 0.0)),
        "prediction_sum": total(numbers(rows.output)),
        "label_sum": total(numbers(rows.label)),
    }
    now = now_ms()
    return [
        {"model": model, "day": int(day), "version": int(version), "measure": measure, "updated_at": now}
        | {name: values[place].item() for name, values in sums.items()}
        for place, (day, version) in enumerate(keys.T)
    ]


def _write(
    store: Store,
    began: int,
    touched: Mapping[str, Days],
    fresh: Mapping[str, list[dict[str, Any]]],
    read: Mapping[str, int],
    stored: Sequence[str],
) -> None:
    with store.db.write("predictions.performance") as tx:
        store.db.upsert(tx, progress, {"segment": _REFRESHES, "position": 0}, ["segment"], update=[])
        mine = (progress.c.segment == _REFRESHES) & (progress.c.position == began)
        if tx.execute(sa.update(progress).where(mine).values(position=began + 1)).rowcount != 1:
            raise _Overtaken
        for model, days in touched.items():
            gone = sa.delete(table).where(table.c.model == model)
            listed = [None] if days is None else [sorted(days)[i : i + 500] for i in range(0, len(days), 500)]
            for some in listed:
                tx.execute(gone if some is None else gone.where(table.c.day.in_(some)))
            if fresh[model]:
                tx.execute(sa.insert(table), fresh[model])
        _remember(store, tx, read, stored)


def _remember(store: Store, tx: sa.Connection, read: Mapping[str, int], stored: Sequence[str]) -> None:
    """Note how far the log is read. A raw segment may have become Parquet meanwhile; then it is looked at once more."""
    done = set(tx.execute(sa.select(segments.c.id).where(segments.c.id.in_(list(read)))).scalars()) if read else set()
    store.db.upsert(
        tx,
        progress,
        [{"segment": name, "position": position} for name, position in read.items() if name not in done],
        ["segment"],
    )
    for start in range(0, len(stored), 500):
        tx.execute(sa.update(segments).where(segments.c.id.in_(stored[start : start + 500])).values(seen=True))
