"""The signal `proxy`: what the champion's age costs, measured by two tiny models on the rows that it answered.

One tiny model is frozen with the champion, on the rows that the champion learned from; one is fitted anew every week on the
last twelve months. Both are scored on each new labelled day (`stats.proxy`), and the sum of their gap is what a retraining
would have saved. Rows before the service began come from the model's dataset, later ones from the log with its labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import sqlalchemy as sa

from stead import datasets, deployments, models, predictions
from stead.config import duration_ms
from stead.errors import SteadError
from stead.policies.tables import proxies
from stead.policies.types import Standing
from stead.stats import proxy
from stead.store import Store, from_row

if TYPE_CHECKING:
    import pyarrow as pa

DAY = 86_400_000
WINDOW = 365 * DAY
WEEK = 7 * DAY
LEAST = 100
"""Rows without which a tiny model says nothing."""
CLASSES = ("error", "log_loss", "brier")


@dataclass(frozen=True)
class Watched:
    """The proxy pair of a model as it stands: for which champion, up to which day, and both tiny models."""

    model: str
    champion: int
    seen: int
    """Days of event time before this one are counted, milliseconds."""
    refreshed: int
    usual: float
    """Average loss of the frozen copy per weight: the unit of the price."""
    pair: proxy.Pair
    frozen: proxy.Tiny
    fresh: proxy.Tiny


@dataclass(frozen=True)
class _Rows:
    columns: Mapping[str, Sequence[Any]]
    labels: Sequence[Any]
    times: np.ndarray[Any, Any]


def watched(store: Store, model: str) -> Watched | None:
    """The proxy pair of a model; None where it was never looked at."""
    with store.db.read() as tx:
        row = tx.execute(sa.select(proxies).where(proxies.c.model == model)).mappings().first()
    return None if row is None else from_row(row, Watched)


def observe_proxy(store: Store, standing: Standing, live: deployments.Deployment, *, now: int) -> Watched | None:
    """Count the days that are over since the last look; None where there is too little to fit."""
    model = models.get_model(store, standing.model)
    delay = duration_ms(str(model.settings.get("label_delay") or "0h"))
    end = (now - delay) // DAY * DAY
    state = watched(store, model.name)
    if state is None or state.champion != live.version or state.seen > end:  # a replay of the past took the clock
        state = _begin(store, model, live, end)
        if state is None:
            return None
    elif state.seen >= end:
        return state
    days = [day.day for day in predictions.performance(store, model.name, since=state.seen, until=end)]
    while state.seen < end:  # a week at a time, each scored by the copy that was fresh before it
        until = min(end, state.seen + WEEK)
        coming = next((day for day in days if day >= state.seen), end)
        if coming >= until:  # weeks, or years, without a row teach nothing
            until = min(end, coming)
            state = replace(state, seen=until, refreshed=until)
            continue
        state = _score(store, model, state, until)
        if state.seen - state.refreshed >= WEEK:
            state = _refresh(store, model, state)
    with store.db.write("policies.proxy") as tx:
        store.db.upsert(tx, proxies, msgspec.to_builtins(state), ["model"])
    return state


def _begin(store: Store, model: models.Model, live: deployments.Deployment, end: int) -> Watched | None:
    """A pair for a new champion: the frozen copy learns from the rows that the champion learned from."""
    version = models.get_version(store, f"{model.name}@{live.version}")
    trained: dict[str, Any] = models.get_logged_model(store, version.logged_model).info.get("trained_on") or {}
    if not trained.get("dataset"):
        return None
    rows = _of_dataset(store, model, str(trained["dataset"]), trained.get("since"), trained.get("until"))
    if rows is None or len(rows.labels) < LEAST:
        return None
    tiny = proxy.fit_tiny(rows.columns, rows.labels, classes=model.loss in CLASSES)
    loss, weight = proxy.tiny_losses(tiny, rows.columns, rows.labels, model.loss)
    if not weight.sum() > 0 or not loss.sum() > 0:
        return None
    begun = live.event_time if live.event_time is not None else live.created_at
    seen = min(begun // DAY * DAY + DAY, end)
    return Watched(model.name, live.version, seen, seen, float(loss.sum() / weight.sum()), proxy.Pair(), tiny, tiny)


def _score(store: Store, model: models.Model, state: Watched, until: int) -> Watched:
    rows = _served(store, model, state.seen, until)
    pair = state.pair
    days = rows.times // DAY * DAY
    for day in range(state.seen, until, DAY):
        mine = np.flatnonzero(days == day).tolist()
        frozen = fresh = weight = 0.0
        if len(mine):
            columns = {name: [values[i] for i in mine] for name, values in rows.columns.items()}
            labels = [rows.labels[i] for i in mine]
            loss, weights = proxy.tiny_losses(state.frozen, columns, labels, model.loss)
            frozen, weight = float(loss.sum()), float(weights.sum())
            fresh = float(proxy.tiny_losses(state.fresh, columns, labels, model.loss)[0].sum())
        pair = proxy.update_pair(pair, frozen, fresh, weight, state.usual)
    return replace(state, pair=pair, seen=until)


def _refresh(store: Store, model: models.Model, state: Watched) -> Watched:
    """The fresh copy learns from the last twelve months; it stays as it was where they have too few rows."""
    since = state.seen - WINDOW
    served = _served(store, model, since, state.seen)
    first = int(served.times[0]) if len(served.times) else state.seen
    before = _of_dataset(store, model, str(model.settings.get("dataset") or model.name), since, first)
    columns = {
        name: [*(before.columns.get(name, ()) if before else ()), *served.columns.get(name, ())]
        for name in (served.columns or (before.columns if before else {}))
        if before is None or not served.columns or name in before.columns
    }
    labels = [*(before.labels if before else ()), *served.labels]
    if len(labels) < LEAST:
        return replace(state, refreshed=state.seen)
    fresh = proxy.fit_tiny(columns, labels, classes=model.loss in CLASSES)
    return replace(state, fresh=fresh, refreshed=state.seen)


def _served(store: Store, model: models.Model, since: int, until: int) -> _Rows:
    """Answered rows with their labels."""
    table = predictions.read(store, model.name, since=since, until=until)
    labels = [None if text is None else msgspec.json.decode(text) for text in table["label_json"].to_pylist()]
    known = [place for place, label in enumerate(labels) if label is not None]
    times = table["event_time"].to_numpy()[known]
    start = len("features.")
    raw = {name[start:]: _listed(table[name]) for name in table.column_names if name.startswith("features.")}
    columns = {name: [values[i] for i in known] for name, values in raw.items()}
    return _Rows(_timed(model, columns, times), [labels[i] for i in known], times)


def _listed(column: pa.ChunkedArray[Any]) -> list[Any]:
    """The values of a column; numbers ten times as quickly as by `to_pylist`."""
    import pyarrow as pa

    plain = column.null_count == 0 and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
    return column.to_numpy().tolist() if plain else column.to_pylist()


def _of_dataset(store: Store, model: models.Model, ref: str, since: int | None, until: int | None) -> _Rows | None:
    """Rows of a dataset version with their target; None where there is none."""
    time, target = model.settings.get("time"), model.settings.get("target")
    if not time or not target:
        return None
    try:
        table = datasets.read(store, ref, since=since, until=until)
    except SteadError:
        return None
    if table.num_rows == 0 or str(target) not in table.column_names:
        return None
    import pyarrow as pa

    times = table[str(time)].cast(pa.timestamp("ms")).cast(pa.int64()).to_numpy()
    columns = {name: _listed(table[name]) for name in table.column_names if name != target}
    return _Rows(_timed(model, columns, times), _listed(table[str(target)]), times)


def _timed(model: models.Model, columns: dict[str, Any], times: np.ndarray[Any, Any]) -> dict[str, Sequence[Any]]:
    """The columns with hour and weekday in the place of the time itself, which no tiny model can use."""
    kept = {name: values for name, values in columns.items() if name != model.settings.get("time")}
    return kept | {"hour of day": (times // 3_600_000 % 24).tolist(), "day of week": (times // DAY % 7).tolist()}
