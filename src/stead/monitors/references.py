"""What a version is held against, made once: its time-ordered hold-out, and what it served first.

The loss is held against both: a hold-out may lie in a season that excuses anything, and the first days served may be bad already.
Columns are held against the hold-out, and against what is served first where there is none. Bins come from all rows that the version learned from, so that what it has seen in training is not unseen; how much days differ
from one another comes from the hold-out alone. Rows are not kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from stead import models, predictions
from stead.monitors.columns import OUTPUT, answered, count, outputs, values
from stead.monitors.packing import Columns, pack, unpack
from stead.monitors.tables import references as table
from stead.predictions import DayLoss
from stead.runtime import typed
from stead.runtime.clock import now_ms
from stead.stats.calibration import Estimator, fit_estimator
from stead.stats.drift import ColumnReference, column_reference
from stead.stats.histograms import Bins, make_bins, merge_histograms
from stead.stats.losses import row_losses
from stead.stats.risk import BLOCKS, RiskReference, risk_reference
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

DAY = 86_400_000
WEEK = 7
MONDAY = 4 * DAY
"""Windows of a week begin on Mondays; 1970-01-05 was the first one."""
FEATURE = "features."
FIRST_LABELLED = 28
"""Days with labels that its loss is held against later, beside the hold-out."""
FIRST_SERVED, FIRST_ROWS, LAST_SERVED = 7, 500, 28
"""Days of served rows that do: at least 7 and 500 rows, and no more than 28 days."""
QUICK_ROWS = 100
"""Rows that a window of the quick look for nulls and the like is to have."""
ALWAYS_NEW = 0.5
"""Share of the newest rows with a new level from which on a new level says nothing."""
MOST_ROWS = 200_000
"""Rows that bins are made from; the newest."""
NAMES = {"hold-out": "hold-out", "served": f"first {FIRST_LABELLED} labelled days"}
"""What a loss is held against, by the source of the reference."""


LOSSES = {"loss": "hold-out", "first-loss": "served"}
"""Kinds of rows that hold a reference of the loss, and what each is made from."""


@dataclass(frozen=True)
class LossReference:
    risk: RiskReference
    source: str
    """`hold-out` or `served`."""
    tested_from: int
    """Days before made the reference."""


@dataclass(frozen=True)
class ColumnsReference:
    """The reference of the raw columns and of the output, as histograms of days; windows of any length are sums."""

    bins: dict[str, Bins]
    window: int
    """Days of a window that drift and units are judged on."""
    quick: int
    """Days of a window that nulls, types and levels are judged on."""
    slow: dict[str, ColumnReference]
    fast: dict[str, ColumnReference]
    source: str
    tested_from: int


@dataclass(frozen=True)
class EstimateReference:
    """What predictions cost in the hold-out: the loss to expect where no labels have come."""

    estimator: Estimator
    source: str
    tested_from: int


@dataclass(frozen=True)
class References:
    """What a version is held against so far."""

    losses: tuple[LossReference, ...] = ()
    """Of its hold-out, of what it served first, or both."""
    columns: ColumnsReference | None = None
    estimate: EstimateReference | None = None
    """Of its hold-out; None without one, or where the loss has no meaning on its predictions alone."""

    @property
    def whole(self) -> bool:
        """Whether nothing is to come any more: after the first days served no hold-out does."""
        return self.columns is not None and any(each.source == "served" for each in self.losses)


def load(store: Store, model: str, version: int) -> References:
    """Those of a version that are made already; they never change, so they are read once."""
    mine = (table.c.model == model) & (table.c.version == version)
    with store.db.read() as tx:
        keys = {
            row.kind: (store.db.url, model, version, row.kind, row.made_at)
            for row in tx.execute(sa.select(table.c.kind, table.c.made_at).where(mine))
        }
        for kind, key in keys.items():
            if key not in _known:
                row: Any = tx.execute(sa.select(table).where(mine, table.c.kind == kind)).mappings().one()
                while len(_known) >= MOST_KNOWN:
                    _known.pop(next(iter(_known)), None)
                _known[key] = _made(row)
    losses = tuple(_known[keys[kind]] for kind in LOSSES if kind in keys)
    return References(losses, _known.get(keys.get("columns")), _known.get(keys.get("estimate")))


MOST_KNOWN = 256
_known: dict[Any, Any] = {}


def made(known: References, rows: Sequence[Mapping[str, Any]]) -> References:
    """The references with those in `rows`, which are rows of the table."""
    found = {row["kind"]: _made(row) for row in rows}
    losses = (*known.losses, *(found[kind] for kind in LOSSES if kind in found))
    return References(losses, found.get("columns", known.columns), found.get("estimate", known.estimate))


def _made(row: Mapping[str, Any]) -> Any:
    since = row["tested_from"] or 0
    if row["kind"] in LOSSES:
        return LossReference(typed.convert(row["value"]["risk"], RiskReference), row["source"], since)
    if row["kind"] == "estimate":
        return EstimateReference(typed.convert(row["value"], Estimator), row["source"], since)
    plain = row["value"]
    bins = {name: typed.convert(each, Bins) for name, each in plain["bins"].items()}
    units, window, quick = unpack(row["packed"]), plain["window"], plain["quick"]

    def blocks(days: int) -> dict[str, ColumnReference]:
        joined = [units[start : start + days] for start in range(0, len(units) - days + 1, days)] or [units]
        return {
            name: column_reference(bins[name], [merge_histograms([unit[name] for unit in part]) for part in joined])
            for name in bins
        }

    return ColumnsReference(bins, window, quick, blocks(window), blocks(quick), row["source"], since)


def make(
    store: Store,
    model: models.Model,
    version: int,
    known: References,
    served: Sequence[DayLoss],
    labelled: Sequence[DayLoss],
) -> list[dict[str, Any]]:
    """Rows of `monitor_references` that can be made now and are not there yet.

    `served` are the version's days that are over, `labelled` those of them whose labels are in.
    """
    info = models.get_logged_model(store, models.get_version(store, f"{model.name}@{version}").logged_model).info
    judged = info.get("judged_on") or {}
    found: dict[str, dict[str, Any] | None] = {}
    sources = {each.source for each in known.losses}
    if "hold-out" not in sources:
        found["loss"] = _tried(lambda: _held_out_loss(store, model.loss, judged))
        found["estimate"] = found["loss"] and _tried(lambda: _held_out_estimate(store, model.loss, judged))
    if "served" not in sources:
        found["first-loss"] = _served_loss(labelled)
    if known.columns is None:
        of_columns = _tried(lambda: _held_out_columns(store, judged))
        found["columns"] = of_columns or _served_columns(store, model, version, served)
    same = {"packed": None, "model": model.name, "version": version, "made_at": now_ms()}
    return [{**same, "kind": kind, **row} for kind, row in found.items() if row is not None]


def _tried(make: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """A hold-out that cannot be read as rows in time is none: what is served first stands in for it."""
    import pyarrow as pa

    try:
        return make()
    except (pa.ArrowException, KeyError, ValueError):
        return None


def keep(store: Store, tx: sa.Connection, rows: list[dict[str, Any]]) -> None:
    """Once: another agent's is left as it is."""
    for row in rows:
        store.db.upsert(tx, table, row, ["model", "version", "kind"], update=[])


def _held_out_loss(store: Store, measure: str, judged: dict[str, Any]) -> dict[str, Any] | None:
    table = _holdout(store, judged)
    if table is None:
        return None
    loss, weight = row_losses(measure, _listed(table["prediction"]), _listed(table["target"]))
    _, place = np.unique(_times(table["time"]) // DAY, return_inverse=True)
    rows = np.bincount(place)
    whole = rows >= np.median(rows) / 2  # the first and the last day may be pieces
    sums: list[Any] = [np.bincount(place, weights=each)[whole] for each in (loss, weight)]
    if int((sums[1] > 0).sum()) < BLOCKS:
        return None
    return {"source": "hold-out", "value": {"risk": asdict(risk_reference(sums[0], sums[1]))}, "tested_from": 0}


def _held_out_estimate(store: Store, measure: str, judged: dict[str, Any]) -> dict[str, Any] | None:
    """What predictions cost, in blocks as long as the windows of the columns."""
    table = _holdout(store, judged)
    if table is None:
        return None
    days = _times(table["time"]) // DAY
    length = int(days.max() - days.min()) + 1
    blocks = (days - days.min()) // _window(length)
    found = fit_estimator(measure, _listed(table["prediction"]), _listed(table["target"]), blocks)
    if not (math.isfinite(found.usual) and math.isfinite(found.between)):
        return None
    return {"source": "hold-out", "value": asdict(found), "tested_from": 0}


def _served_loss(labelled: Sequence[DayLoss]) -> dict[str, Any] | None:
    days = [day for day in labelled if day.weight_sum > 0][:FIRST_LABELLED]
    if len(days) < FIRST_LABELLED:
        return None
    sums = np.array([[day.loss_sum for day in days], [day.weight_sum for day in days]])
    value = {"risk": asdict(risk_reference(sums[0], sums[1]))}
    return {"source": "served", "value": value, "tested_from": days[-1].day + DAY}


def _held_out_columns(store: Store, judged: dict[str, Any]) -> dict[str, Any] | None:
    """Histograms of the last rows in time, those that the time-ordered hold-out judged."""
    import pyarrow.parquet as pq

    held = _holdout(store, judged)
    if held is None or not store.blobs.has(judged["rows"]):
        return None
    rows = pq.read_table(store.blobs.path(judged["rows"]))
    learned = rows.slice(max(0, rows.num_rows - MOST_ROWS))
    test = rows.slice(rows.num_rows - held.num_rows)
    skipped = {judged["time"], judged["target"]}
    columns = {
        FEATURE + name: (of_all, of_test)
        for name in rows.column_names
        if name not in skipped
        and (of_all := values(learned[name])) is not None
        and (of_test := values(test[name])) is not None
    }
    predicted = _listed(held["prediction"])
    columns[OUTPUT] = (predicted, predicted)
    return _counted(columns, _times(test[judged["time"]]), "hold-out", 0)


def _served_columns(
    store: Store, model: models.Model, version: int, served: Sequence[DayLoss]
) -> dict[str, Any] | None:
    some: list[DayLoss] = []
    for day in served:
        if day.predictions:
            some.append(day)
        rows = sum(each.predictions for each in some)
        if len(some) >= LAST_SERVED or (len(some) >= FIRST_SERVED and rows >= FIRST_ROWS):
            break
    else:
        return None
    end = some[-1].day + DAY
    got = predictions.read_columns(store, model.name, version=version, since=some[0].day, until=end)
    found = served_values(got, model.settings.get("time"))
    columns = {name: (each, each) for name, each in found.items()}
    return _counted(columns, got["event_time"].to_numpy(), "served", end)


def served_values(got: pa.Table, time: str | None) -> dict[str, Any]:
    """Columns of served rows that can be watched, and the output."""
    found: dict[str, Any] = {}
    for name in got.column_names:
        if name.startswith(FEATURE) and name != FEATURE + (time or ""):
            read = values(got[name])
            if read is not None:
                found[name] = read
    found[OUTPUT] = outputs(got["output"], got["output_json"])
    return found


def _counted(columns: dict[str, Any], times: Any, source: str, tested_from: int) -> dict[str, Any] | None:
    """`columns` by name: the values that make the bins, and those that are counted, at `times`."""
    if not len(times):
        return None
    order = np.argsort(times, kind="stable")
    times = times[order]
    days = times // DAY
    length = int(days[-1] - days[0]) + 1
    units = days - days[0] if length >= BLOCKS else np.arange(len(times)) * BLOCKS // len(times)
    bins = {name: _bins(made, len(counted)) for name, (made, counted) in columns.items()}
    parts: list[Columns] = []
    for unit in range(int(units[-1]) + 1):
        low, high = np.searchsorted(units, [unit, unit + 1])
        part = order[low:high]
        parts.append({name: count(_some(counted, part), bins[name]) for name, (_, counted) in columns.items()})
    a_day = len(times) / max(len(np.unique(days)), 1)
    window = _window(length)
    quick = min(window, max(1, -int(-QUICK_ROWS // a_day)))
    value = {"bins": {name: asdict(each) for name, each in bins.items()}, "window": window, "quick": quick}
    return {"source": source, "value": value, "packed": pack(parts), "tested_from": tested_from}


def _window(days: int) -> int:
    """Days of a window, so that a reference of so many days has enough of them."""
    return max(1, min(WEEK, days // BLOCKS))


def _holdout(store: Store, judged: dict[str, Any]) -> pa.Table | None:
    """Rows of the time-ordered hold-out, or None."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    digest = judged.get("holdouts")
    if not digest or not judged.get("time") or not store.blobs.has(digest):
        return None
    found = pq.read_table(store.blobs.path(digest))
    if "time" not in found.column_names:
        return None
    found = found.filter(pc.equal(found["split"], pa.scalar("time")))
    return found if found.num_rows else None


def _bins(values: Any, held: int) -> Bins:
    """Bins that expect as many new levels as the newest rows have over the earlier ones: dates and numbers of orders are always new."""
    bins = make_bins(values)
    if bins.kind == "number":
        return bins
    start = len(values) - (held if held < len(values) else len(values) // 5)
    known = {str(value) for value in values[:start]}
    later = [str(value) for value in values[start:] if value is not None]
    new = sum(value not in known for value in later) / max(len(later), 1)
    return replace(bins, novelty=1.0 if new > ALWAYS_NEW else max(bins.novelty, new))


def _some(values: Any, places: Any) -> Any:
    return [values[place] for place in places] if isinstance(values, list) else values[places]


def _times(column: Any) -> Any:
    """Milliseconds since 1970."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_integer(kind):
        return column.to_numpy()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = pc.strptime(pc.utf8_slice_codeunits(column, 0, 10), format="%Y-%m-%d", unit="ms")
    zone = kind.tz if pa.types.is_timestamp(kind) else None
    return column.cast(pa.timestamp("ms", tz=zone), safe=False).cast(pa.int64()).to_numpy()


def _listed(column: pa.ChunkedArray[Any]) -> Any:
    read = values(column)
    return [answered(value) for value in column.to_pylist()] if read is None else read
