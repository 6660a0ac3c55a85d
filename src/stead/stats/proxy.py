"""When is a retrain worth its price? A tiny model frozen with the champion, and one refreshed every week, on the same new rows.

Hard and easy days hit both alike, so what the frozen one loses more is what age costs. The gaps are summed, floored at zero, in units of
the price of a retrain; two prices lost are a reason to retrain. The tiny model is a ridge regression on one row in four.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stead.stats.histograms import is_null, level_of, looks_numeric, numbers_of
from stead.stats.losses import row_losses

Array = NDArray[np.float64]
Columns = Mapping[str, Sequence[Any] | NDArray[Any]]
EVERY = 4
PRICES = 2.0
REST_DAYS = 28
FEW = 32
WIDEST = 400
_RIDGE = 1.0
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Encoding:
    """How one column becomes numbers: standardised (no levels) or one for each level, all others and null at zero."""

    name: str
    mean: float = 0.0
    scale: float = 1.0
    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tiny:
    """A ridge regression; small enough for one row of a table."""

    encodings: tuple[Encoding, ...]
    classes: tuple[str, ...]
    """Of the labels; empty for numbers."""
    weights: tuple[tuple[float, ...], ...]
    """By output: one for numbers and for two classes, else one for each class; the intercept last."""
    rows: int


def fit_tiny(
    columns: Columns, labels: Sequence[Any] | NDArray[Any], *, every: int = EVERY, classes: bool = False
) -> Tiny:
    """A ridge regression on one row in `every`: Hoerl & Kennard 1970, Technometrics 12, with penalty 1 on standardised columns.

    Columns of numbers with more than 32 values are standardised; those with fewer, and all others, get one weight a level, of at
    most 32 levels each and 400 in all. With `classes` the labels are levels, fitted as 0 and 1 by least squares.

    >>> hour = np.tile(np.arange(24.0), 40)
    >>> model = fit_tiny({"hour": hour}, 5 + 3 * (hour == 8), every=1)
    >>> predict_tiny(model, {"hour": [8.0, 9.0]}).round(1).tolist()
    [7.9, 5.0]
    """
    labels = np.asarray(labels, dtype=object if classes else None)
    # by the golden ratio, so that no hour or weekday is left out as every fourth row of the day would
    keep = np.flatnonzero(np.arange(len(labels)) * _GOLDEN % 1 < 1 / every)
    keep = np.array([row for row in keep if not is_null(labels[row])], dtype=np.int64)
    sample = {name: _take(values, keep) for name, values in columns.items()}
    if classes:
        texts = [level_of(label) for label in labels[keep]]
        names = tuple(sorted(set(texts)))[:FEW]
        target = np.array([[float(text == name) for name in names] for text in texts]).reshape(len(keep), len(names))
        target = target[:, 1:] if len(names) == 2 else target
    else:
        names, target = (), numbers_of(labels[keep])[0][:, None]
        known = np.isfinite(target[:, 0])
        sample, target = {name: _take(values, np.flatnonzero(known)) for name, values in sample.items()}, target[known]
    encodings = _encodings(sample)
    x = _encode(encodings, sample, len(target))
    center = target.mean(axis=0) if len(target) else np.zeros(target.shape[1])
    middle = x.mean(axis=0) if len(target) else np.zeros(x.shape[1])
    z = x - middle
    solved = (
        np.linalg.solve(z.T @ z + _RIDGE * np.eye(x.shape[1]), z.T @ (target - center)) if x.shape[1] else z.T @ target
    )
    intercept = center - middle @ solved
    weights = tuple((*solved[:, i].tolist(), float(intercept[i])) for i in range(target.shape[1]))
    return Tiny(encodings, names, weights, len(target))


def predict_tiny(model: Tiny, columns: Columns) -> Array:
    """Its answers: a number a row; with classes the chance of the second of two, or a row of chances, cut to [.001, .999].

    >>> predict_tiny(fit_tiny({"x": [1.0, 2.0]}, ["a", "b"], every=1, classes=True), {"x": [1.0, 2.0]}).shape
    (2,)
    """
    rows = len(next(iter(columns.values()))) if columns else 0
    x = _encode(model.encodings, columns, rows)
    weights = np.array(model.weights)
    answers = x @ weights[:, :-1].T + weights[:, -1]
    if model.classes:
        answers = np.clip(answers, 0.001, 0.999)
        if len(model.classes) > 2:
            answers = answers / answers.sum(axis=1, keepdims=True)
    return np.asarray(answers[:, 0] if answers.shape[1] == 1 else answers, dtype=np.float64)


def tiny_losses(model: Tiny, columns: Columns, labels: Sequence[Any] | NDArray[Any], loss: str) -> tuple[Array, Array]:
    """Loss and weight of each row (`losses.row_losses`); for classes always the Brier score, which moves before errors do.

    >>> model = fit_tiny({"x": np.arange(50.0)}, 2 * np.arange(50.0), every=1)
    >>> bool(tiny_losses(model, {"x": [10.0]}, [20.0], "mae")[0][0] < 1)
    True
    """
    answers = predict_tiny(model, columns)
    if not model.classes:
        return row_losses(loss if loss in ("mae", "mse", "wape") else "mse", answers, labels)
    index = {name: i for i, name in enumerate(model.classes)}
    numbers = [float(index.get(level_of(label), -1)) if not is_null(label) else None for label in labels]
    return row_losses("brier", answers if answers.ndim == 1 else answers.tolist(), numbers)


@dataclass(frozen=True)
class Pair:
    """Where the proxy pair of one model stands; one row beside the two tiny models."""

    owed: float = 0.0
    """What age has cost since the last retrain, floored at zero, in days of average loss."""
    days: int = 0
    """Days since the last retrain."""
    frozen: float = 0.0
    weight: float = 0.0
    """Loss and weight of the frozen copy since the last retrain: with `fresh` shown as evidence."""
    fresh: float = 0.0


def update_pair(state: Pair, frozen: float, fresh: float, weight: float, usual: float) -> Pair:
    """The state after one more day: the summed losses of both copies on its rows, their weight, and the usual loss of a row's weight.

    `usual` is the average loss per weight that a day is priced in: as a rule the frozen copy's on the window it was fitted for (the gap
    is the tiny models', and so is its unit). A day of average loss is `usual` × the day's own weight, so busy days count no more.

    >>> state = update_pair(Pair(), 130.0, 100.0, 10.0, 10.0)
    >>> round(state.owed, 6), update_pair(state, 50.0, 100.0, 10.0, 10.0).owed
    (0.3, 0.0)
    """
    if not weight > 0 or not usual > 0:
        return replace(state, days=state.days + 1)
    frozen, fresh, weight = float(frozen), float(fresh), float(weight)
    owed = max(0.0, state.owed + (frozen - fresh) / (float(usual) * weight))
    return Pair(owed, state.days + 1, state.frozen + frozen, state.weight + weight, state.fresh + fresh)


@dataclass(frozen=True)
class Worth:
    due: bool
    prices: float
    """What age has cost so far, in prices of a retrain."""
    rest: int
    """Days until a retrain is allowed again."""
    gap: float
    """Loss of the frozen copy over that of the fresh one since the last retrain, minus 1."""


def judge_pair(state: Pair, *, price: float, threshold: float = PRICES, rest_days: int = REST_DAYS) -> Worth:
    """Is a retrain due? `price` is what one costs, in days of an average day's loss (computing, checking, risk).

    A rent-or-buy rule (Karlin, Manasse, Rudolph & Sleator 1988, Algorithmica 3: buy when the rent paid equals the price), with a threshold of two
    prices and four weeks of rest, which cost least on held-out years of single models and hardly matter between half a price and eight.
    After a retrain start a new `Pair`, with a frozen copy fitted on what the new champion was.

    >>> judge_pair(Pair(owed=2.5, days=30), price=1.0).due, judge_pair(Pair(owed=2.5, days=20), price=1.0).rest
    (True, 8)
    """
    if not price > 0:
        raise ValueError(f"price must be above 0, not {price}")
    prices, rest = state.owed / price, max(0, rest_days - state.days)
    return Worth(prices > threshold and not rest, prices, rest, state.frozen / state.fresh - 1 if state.fresh else 0.0)


def _encodings(columns: Columns) -> tuple[Encoding, ...]:
    found: list[Encoding] = []
    left = WIDEST
    for name, values in columns.items():
        if left <= 0:
            break
        if looks_numeric(values):
            numbers = numbers_of(values)[0]
            known = np.clip(numbers[np.isfinite(numbers)], -1e150, 1e150)
            if len(np.unique(known)) > FEW:
                found.append(Encoding(name, float(known.mean()), max(float(known.std()), 1e-12)))
                left -= 1
                continue
        texts = [level_of(value) for value in values if not is_null(value)]
        levels, counts = (
            np.unique(np.array(texts, dtype=str), return_counts=True) if texts else (np.empty(0), np.empty(0))
        )
        order = np.lexsort((levels, -counts))[: min(FEW, left)]
        found.append(Encoding(name, levels=tuple(levels[order].tolist())))
        left -= max(len(order), 1)
    return tuple(encoding for encoding in found if encoding.levels or encoding.scale != 1.0 or encoding.mean != 0.0)


def _encode(encodings: Sequence[Encoding], columns: Columns, rows: int) -> Array:
    parts = [np.zeros((rows, 0))]
    for encoding in encodings:
        values = columns.get(encoding.name, [None] * rows)
        if not encoding.levels:
            z = np.clip((numbers_of(values)[0] - encoding.mean) / encoding.scale, -10, 10)
            parts.append(np.where(np.isnan(z), 0.0, z)[:, None])
            continue
        slot = {level: i for i, level in enumerate(encoding.levels)}
        hot = np.zeros((rows, len(slot) + 1))
        hot[np.arange(rows), [len(slot) if is_null(v) else slot.get(level_of(v), len(slot)) for v in values]] = 1
        parts.append(hot[:, :-1])
    return np.concatenate(parts, axis=1)


def _take(values: Sequence[Any] | NDArray[Any], rows: NDArray[np.int64]) -> Sequence[Any] | NDArray[Any]:
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
