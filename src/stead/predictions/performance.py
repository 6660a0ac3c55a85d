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
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from stead.models import list_models
from stead.predictions import frames
from stead.predictions.index import StoredSegment, View, days_of, find, look, look_unseen
from stead.predictions.reading import FEW, connect, newest_raw, paths, view_labels_of, view_predictions
from stead.predictions.segment import Kind
from stead.predictions.tables import performance as table
from stead.predictions.tables import progress, segments
from stead.predictions.types import DayLoss
from stead.runtime.clock import now_ms
from stead.store import Store, from_row

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from stead.store.database import Row

DAY = 86_400_000
DEFAULT_LOSS = "mae"
"""For predictions of a model that the registry does not know."""
SQL_DAY = f"p.event_time - ((p.event_time % {DAY}) + {DAY}) % {DAY}"
TRIES = 5
NAMED = 200
"""Up to so many models are asked for by name."""
ROWS_AT_ONCE = 1_000_000
_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
_REFRESHES = ""
KINDS: tuple[Kind, ...] = ("predictions", "shadows", "labels")
ROLES: tuple[tuple[Kind, str], ...] = (("predictions", ""), ("shadows", "shadow"))


def performance(
    store: Store, model: str, *, since: int | None = None, until: int | None = None, role: str | None = ""
) -> list[DayLoss]:
    """Realised loss by day and version as of the last refresh; days from that of `since` to before `until`, milliseconds.

    Of the rows that a version answered, those that it scored aside (`role` "shadow"), or both by role (None).
    """
    query = sa.select(table).where(table.c.model == model).order_by(table.c.day, table.c.version, table.c.role)
    if role is not None:
        query = query.where(table.c.role == role)
    if since is not None:
        query = query.where(table.c.day >= since // DAY * DAY)
    if until is not None:
        query = query.where(table.c.day < until)
    with store.db.read() as tx:
        rows = tx.execute(query).mappings().all()
    return [_day_loss(row) for row in rows]


def recent_performance(store: Store, *, days: int) -> dict[str, list[DayLoss]]:
    """`performance` of every model over the last `days` of its own time, in one question; models without any are not in it."""
    newest = sa.select(table.c.model, sa.func.max(table.c.day).label("last")).group_by(table.c.model).subquery()
    query = sa.select(table).join(newest, newest.c.model == table.c.model)
    query = query.where(table.c.day > newest.c.last - days * DAY).order_by(table.c.model, table.c.day, table.c.version)
    found: dict[str, list[DayLoss]] = {}
    with store.db.read() as tx:
        for row in tx.execute(query).mappings():
            found.setdefault(row["model"], []).append(_day_loss(row))
    return found


def changed_days(store: Store, model: str, *, after: int) -> tuple[int, list[DayLoss]]:
    """How many refreshes there were, and the answered days of a model that those behind number `after` computed, in order."""
    query = sa.select(table).where(table.c.model == model, table.c.refresh > after, table.c.role == "")
    with store.db.read() as tx:
        last = tx.execute(sa.select(progress.c.position).where(progress.c.segment == _REFRESHES)).scalar()
        rows = tx.execute(query.order_by(table.c.day, table.c.version)).mappings().all()
    return last or 0, [_day_loss(row) for row in rows]


def last_refresh(store: Store, model: str) -> int:
    """The number of the last refresh that computed a day of a model; 0 where none did."""
    with store.db.read() as tx:
        return tx.execute(sa.select(sa.func.max(table.c.refresh)).where(table.c.model == model)).scalar() or 0


def changed_models(tx: sa.Connection, marks: sa.Table) -> set[str]:
    """Models of which a day before `closed` was computed anew behind refresh `refresh`: columns of `marks`, a row a `model`."""
    here = (table.c.model == marks.c.model) & (table.c.refresh > marks.c.refresh) & (table.c.day < marks.c.closed)
    return set(tx.execute(sa.select(marks.c.model).where(sa.exists().where(here))).scalars())


def refreshed_in(tx: sa.Connection, model: str, *, since: int, until: int) -> int:
    """Number of the last refresh that computed a day from that of `since` to before `until`; 0 where none did."""
    inside = (table.c.model == model) & (table.c.day >= since // DAY * DAY) & (table.c.day < until)
    return int(tx.execute(sa.select(sa.func.max(table.c.refresh)).where(inside)).scalar() or 0)


def _day_loss(row: Row) -> DayLoss:
    return from_row(row, DayLoss, loss=row["loss_sum"] / row["weight_sum"] if row["weight_sum"] > 0 else None)


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
    predictions, shadows, labels = look_unseen(store, KINDS)
    touched: dict[str, Days] = dict(_touched(store, (predictions, shadows), labels, positions))
    if rebuild is not None:
        touched[rebuild] = None
    measures = _measures(store, touched)
    for name, (measure, kept) in measures.items():
        if kept not in (None, measure):
            touched[name] = None
    fresh = _compute(store, touched, {name: measure for name, (measure, _) in measures.items()})
    read = {raw.name: raw.position for raw in (*predictions.raw, *shadows.raw, *labels.raw)}
    news = {name: position for name, position in read.items() if positions.get(name, 0) != position}
    stored = sorted({segment.id for segment in (*predictions.stored, *shadows.stored, *labels.stored)})
    if touched or news or stored:
        _write(store, began, touched, fresh, news, stored)


def _progress(store: Store) -> tuple[int, dict[str, int]]:
    """How many refreshes there were, and how far each raw segment is read."""
    with store.db.read() as tx:
        positions = {row.segment: row.position for row in tx.execute(sa.select(progress))}
    return positions.pop(_REFRESHES, 0), positions


def _touched(store: Store, scored: Sequence[View], labels: View, positions: Mapping[str, int]) -> dict[str, set[int]]:
    """By model the days that new predictions, new shadows and new labels belong to."""
    touched: dict[str, set[int]] = defaultdict(set)
    for view in scored:
        for raw in view.raw:
            for answer in raw.after(positions.get(raw.name, 0)):
                touched[answer.logged.model].add(_day(answer.logged.event_time))
        for segment in view.stored:
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


def _measures(store: Store, names: Iterable[str]) -> dict[str, tuple[str, str | None]]:
    """By model the loss that it is judged by, and the one that its rows of `performance_days` were computed with."""
    wanted = list(names)
    if not wanted:
        return {}
    losses = {model.name: model.loss for model in list_models(store)}
    with store.db.read() as tx:
        kept = {
            name: tx.execute(sa.select(table.c.measure).where(table.c.model == name).limit(1)).scalar()
            for name in wanted
        }
    return {name: (losses.get(name, DEFAULT_LOSS), kept[name]) for name in wanted}


def _compute(store: Store, touched: Mapping[str, Days], measures: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of `performance_days` for the touched days, some models at a time."""
    return [row for kind, role in ROLES for row in _compute_role(store, touched, measures, kind, role)]


def _compute_role(
    store: Store, touched: Mapping[str, Days], measures: Mapping[str, str], kind: Kind, role: str
) -> list[dict[str, Any]]:
    if not touched:
        return []
    view = look(store, kind, models=touched if len(touched) <= NAMED else None)
    if not view.raw and not view.stored:
        return []
    tail = _touching(frames.of_raw(view.raw, kind), touched)
    stored: dict[str, list[StoredSegment]] = defaultdict(list)
    for segment in view.stored:
        if segment.model in touched and _holds(segment, touched[segment.model]):
            stored[segment.model].append(segment)
    rows: list[dict[str, Any]] = []
    names: list[str] = []
    for place, name in enumerate(sorted(touched), 1):
        names.append(name)
        chosen = [segment for each in names for segment in stored[each]]
        if place == len(touched) or sum(segment.rows for segment in chosen) >= ROWS_AT_ONCE:
            if chosen or len(tail):
                found = _load(store, chosen, tail, {each: touched[each] for each in names})
                for each in names:
                    rows += _by_day(each, measures[each], found.of(each), role)
            names = []
    return rows


def _touching(tail: pa.Table, touched: Mapping[str, Days]) -> pa.Table:
    """The rows of a tail that may belong to touched days."""
    days = [day for some in touched.values() for day in some or ()]
    if not days or None in touched.values():
        return tail
    return frames.between(tail, "event_time", (min(days), max(days) + DAY - 1))


def _holds(segment: StoredSegment, days: Days) -> bool:
    first, last = segment.event_min, segment.event_max
    if days is None or first is None or last is None:
        return True
    return any(day <= last and day + DAY > first for day in days)


@dataclass(frozen=True)
class _Rows:
    """Predicted rows and failed requests, column by column; output and label as numbers, else as what their JSON says."""

    model: np.ndarray[Any, Any]
    day: np.ndarray[Any, Any]
    version: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]
    labelled: np.ndarray[Any, Any]
    table: pa.Table

    def of(self, model: str) -> _Rows:
        import numpy as np

        start, end = (int(np.searchsorted(self.model, model, side)) for side in _SIDES)
        cut = slice(start, end)
        return _Rows(
            model=self.model[cut],
            day=self.day[cut],
            version=self.version[cut],
            rows=self.rows[cut],
            labelled=self.labelled[cut],
            table=self.table.slice(start, end - start),
        )

    @property
    def output(self) -> list[Any] | np.ndarray[Any, Any]:
        return _values(self.table["output_number"], self.table["output"])

    @property
    def label(self) -> list[Any] | np.ndarray[Any, Any]:
        return _values(self.table["value_number"], self.table["label"])


def _load(store: Store, stored: Sequence[StoredSegment], tail: pa.Table, touched: Mapping[str, Days]) -> _Rows:
    """All rows of the touched days with their newest labels, sorted by model and id."""
    import numpy as np

    got = _join(store, stored, tail, touched)
    return _Rows(
        model=np.array(got["model"].to_pylist(), dtype=str),
        day=got["day"].to_numpy(),
        version=got["version"].to_numpy(),
        rows=got["rows"].to_numpy(),
        labelled=got["labelled"].to_numpy(),
        table=got,
    )


def _join(store: Store, stored: Sequence[StoredSegment], tail: pa.Table, touched: Mapping[str, Days]) -> pa.Table:
    import pyarrow as pa

    if not stored and len(tail) <= FEW and (found := _join_few(store, tail, touched)) is not None:
        return found
    some = [(name, day) for name, days in touched.items() if days is not None for day in days]
    whole = [name for name, days in touched.items() if days is None]
    with connect() as con:
        view_predictions(con, store, stored, tail)
        names, days = pa.array([name for name, _ in some], pa.string()), pa.array([day for _, day in some], pa.int64())
        con.register("days", pa.table({"model": names, "day": days}))
        con.register("whole", pa.table({"model": pa.array(whole, pa.string())}))
        con.execute(
            f"""create table mine as select model, request, row, rows, version, {SQL_DAY} as day, output_number,
                case when output_number is null then output end as output
            from predictions p
            where model in (select model from whole) or (model, {SQL_DAY}) in (select (model, day) from days)"""
        )
        view_labels_of(con, store, "mine")
        got: pa.Table = con.sql(
            """select m.*, l.value_number, case when l.value_number is null then l.value end as label,
                l.value is not null as labelled
            from mine m left join labels l on m.request = l.request and m.row = l.row and m.rows > 0
            order by m.model, m.request, m.row"""
        ).to_arrow_table()
    return got


def _join_few(store: Store, tail: pa.Table, touched: Mapping[str, Days]) -> pa.Table | None:
    """The same of a few rows and labels that are raw still, for a tenth of the work; None where labels are stored."""
    import pyarrow as pa
    import pyarrow.compute as pc

    places: Any = zip(tail["model"].to_pylist(), tail["event_time"].to_pylist(), strict=True)
    placed: list[Any] = [(touched.get(model, set()), _day(time)) for model, time in places]
    mine = tail.append_column("day", pa.array([day for _, day in placed], pa.int64()))
    mine = mine.filter(pa.array([days is None or day in days for days, day in placed], pa.bool_()))
    mine = mine.sort_by([(name, "ascending") for name in ("model", "request", "row")])
    columns: list[Any] = [mine[name].to_pylist() for name in ("request", "row", "rows")]
    newest = newest_raw(store, columns[0])
    if newest is None:
        return None
    known = [newest.get((request, row)) if rows else None for request, row, rows in zip(*columns, strict=True)]
    texts = [None if each is None or each["value_number"] is not None else each["value"] for each in known]
    only_text: Any = pc.if_else(pc.is_null(mine["output_number"]), mine["output"], pa.scalar(None, pa.string()))
    return (
        mine.set_column(mine.column_names.index("output"), "output", only_text)
        .append_column("value_number", pa.array([each and each["value_number"] for each in known], pa.float64()))
        .append_column("label", pa.array(texts, pa.string()))
        .append_column("labelled", pa.array([each is not None for each in known], pa.bool_()))
    )


def _values(as_number: Any, as_json: Any) -> list[Any] | np.ndarray[Any, Any]:
    """Numbers as an array with NaN for null; a list with what the JSON says where any value is none."""
    import msgspec

    from stead.stats.losses import numbers

    if as_json.null_count == len(as_json):
        return numbers(as_number.to_numpy())
    pairs = zip(as_number.to_pylist(), as_json.to_pylist(), strict=True)
    return [n if t is None else msgspec.json.decode(t) for n, t in pairs]


def _by_day(model: str, measure: str, rows: _Rows, role: str) -> list[dict[str, Any]]:
    """Add up by day and version."""
    import numpy as np

    from stead.stats.losses import numbers, row_losses

    if not len(rows.day):
        return []
    keys, group = np.unique(np.stack([rows.day, rows.version]), axis=1, return_inverse=True)
    group = group.reshape(-1)

    def total(values: Any) -> Any:
        return np.bincount(group, weights=np.nan_to_num(values), minlength=keys.shape[1])

    output, label = rows.output, rows.label
    loss, weight = row_losses(measure, output, label)
    predicted = rows.rows > 0
    sums = {
        "predictions": total(predicted).astype(int),
        "failed": total(~predicted).astype(int),
        "labelled": total(rows.labelled).astype(int),
        "loss_sum": total(np.where(rows.labelled, loss, 0.0)),
        "weight_sum": total(np.where(rows.labelled, weight, 0.0)),
        "prediction_sum": total(numbers(output)),
        "label_sum": total(numbers(label)),
    }
    now = now_ms()
    return [
        {"model": model, "day": int(day), "version": int(version), "role": role, "measure": measure, "updated_at": now}
        | {name: values[place].item() for name, values in sums.items()}
        for place, (day, version) in enumerate(keys.T)
    ]


def _write(
    store: Store,
    began: int,
    touched: Mapping[str, Days],
    fresh: Sequence[dict[str, Any]],
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
        if fresh:
            tx.execute(sa.insert(table), [{**row, "refresh": began + 1} for row in fresh])
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
