"""A candidate beside the champion on the same rows of the last 28 days, none of which either has learned from."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stead import datasets, models
from stead.errors import NotFound, SteadError
from stead.jobs import JobCancelled
from stead.pipelines import Candidate
from stead.stats.losses import row_losses
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

DAY = 86_400_000
ROUNDING = 1e-9
"""Errors below this share of the value are none: two exact models do not differ."""


@dataclass(frozen=True)
class Recent:
    """What the candidate's twin said of the last 28 days."""

    rows: pa.Table
    """The raw rows, with the target."""
    target: list[Any]
    prediction: list[Any]
    time: NDArray[np.int64]
    """Milliseconds since 1970, by row."""


@dataclass(frozen=True)
class Beside:
    """Losses by row of those rows that both can be judged on."""

    rows: pa.Table
    challenger: NDArray[np.float64]
    champion: NDArray[np.float64]
    weight: NDArray[np.float64]
    day: NDArray[np.int64]
    left_out: int
    """Rows that the champion has learned from, and its twin has not answered either."""
    by_twin: int
    """Rows that the champion's twin stands for it, since it has learned from them itself."""


def find_champion(store: Store, model: str) -> models.Version | None:
    """The version that answers now."""
    try:
        return models.get_version(store, f"{model}@champion")
    except NotFound:
        return None


def recent(store: Store, rows: str, holdouts: str) -> Recent | None:
    """The split `recent` of a training with its raw rows; None where its history is shorter than twice 28 days."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = _table(store, holdouts)
    if not {"row", "time"} <= set(found.column_names):
        return None
    found = found.filter(pc.equal(found["split"], pa.scalar("recent")))
    if not found.num_rows:
        return None
    time = found["time"].cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_numpy()
    raw = _table(store, rows).take(found["row"])
    return Recent(raw, found["target"].to_pylist(), found["prediction"].to_pylist(), time)


def beside(store: Store, candidate: Candidate, champion: models.Version) -> Beside | str:
    """Both on the same rows, or why that cannot be.

    Rows that the champion has learned from would flatter it: there its own twin, made when it was trained, stands for it.
    """
    mine = recent(store, candidate.rows, candidate.holdouts)
    if mine is None:
        return "there are no 56 days of rows in time: 28 to learn from and 28 to judge on"
    info = models.get_logged_model(store, champion.logged_model).info
    seen = _learned(store, info, mine.time)
    answers: list[Any] = [None] * len(mine.target)
    if not seen.all():
        places = np.flatnonzero(~seen)
        try:
            given = candidate.answers(champion, _blob(store, mine.rows.take(places)))
        except JobCancelled:
            raise
        except SteadError as error:
            return f"{champion.ref} cannot answer these rows: {error.message}"
        for place, value in zip(places.tolist(), given.tolist(), strict=True):
            answers[place] = value
    by_twin = _twin(store, info, mine, seen, answers) if seen.any() else 0
    kept = np.array([answer is not None for answer in answers])
    judged = np.flatnonzero(kept).tolist()
    loss = candidate.spec.loss
    truth = [mine.target[place] for place in judged]
    first, weight = _losses(loss, [mine.prediction[place] for place in judged], truth)
    second, other = _losses(loss, [answers[place] for place in judged], truth)
    both = (weight > 0) & (other > 0)
    used = np.flatnonzero(kept)[both]
    return Beside(
        mine.rows.take(used), first[both], second[both], weight[both], mine.time[used] // DAY,
        int((~kept).sum()), by_twin,
    )  # fmt: skip


def _losses(loss: str, predictions: list[Any], truth: list[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    found, weight = row_losses(loss, predictions, truth)
    if loss in ("wape", "mae", "mse"):
        size = np.abs(np.array(truth, dtype=np.float64)) ** (2 if loss == "mse" else 1)
        found = np.where(found < ROUNDING * (1 + size), 0.0, found)
    return found, weight


def _learned(store: Store, info: dict[str, Any], time: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which moments lie where a version learned; none where it does not say."""
    learned = info.get("trained_on")
    if not learned:
        return np.zeros(len(time), dtype=bool)
    last = (datasets.get_version(store, learned["dataset"]).time_max or 0) + 1
    until = min(learned["until"] or last, last)
    return np.asarray((time >= (learned["since"] or 0)) & (time < until))


def _twin(store: Store, info: dict[str, Any], mine: Recent, seen: NDArray[np.bool_], answers: list[Any]) -> int:
    """Fill in what the champion's twin said of the very same rows; returns how many there were."""
    judged = info.get("judged_on") or {}
    if not judged.get("holdouts") or not all(store.blobs.has(judged[name]) for name in ("rows", "holdouts")):
        return 0
    its = recent(store, judged["rows"], judged["holdouts"])
    if its is None or its.rows.column_names != mine.rows.column_names:
        return 0
    known = dict(zip(_contents(its.rows), its.prediction, strict=True))
    places = np.flatnonzero(seen)
    filled = 0
    for place, content in zip(places.tolist(), _contents(mine.rows.take(places)), strict=True):
        if content in known:
            answers[place] = known[content]
            filled += 1
    return filled


def _contents(rows: pa.Table) -> list[tuple[Any, ...]]:
    columns = [[None if value != value else value for value in rows[name].to_pylist()] for name in rows.column_names]
    return list(zip(*columns, strict=True))


def _table(store: Store, digest: str) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(io.BytesIO(store.blobs.get(digest)))


def _blob(store: Store, rows: pa.Table) -> str:
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(rows, out)
    return store.blobs.put(out.getvalue())
