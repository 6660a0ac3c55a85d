"""The loss to expect without labels: what predictions like these cost on the reference.

For chances the labels themselves are expected, calibrated on the reference (confidence-based performance estimation); for numbers the
loss is expected given the prediction; for levels given the level. It sees that rows have become harder, never that the answer to the
same rows has changed, so it stands beside the labelled loss and falls silent where the rows are unlike the reference's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stead.stats.histograms import level_of
from stead.stats.losses import SMALLEST, numbers, row_losses

Array = NDArray[np.float64]
Predictions = Sequence[Any] | NDArray[Any]
TOLERANCE = 0.10
ERRORS = 4.0
FAR = 0.35
"""Importance-weighted Jensen–Shannon distance beyond which the reference says nothing about the rows (`drift.weighted_distance`)."""
_LEAST = 30
_GROUPS = 512


@dataclass(frozen=True)
class Isotonic:
    """A curve that only rises (or only falls): knots, straight between them, flat outside."""

    x: tuple[float, ...]
    y: tuple[float, ...]


def pava(y: Array, weight: Array) -> Array:
    """The non-decreasing sequence nearest to y by weighted least squares: pool adjacent violators.

    Barlow, Bartholomew, Bremner & Brunk 1972, Statistical Inference under Order Restrictions; Best & Chakravarti 1990,
    Mathematical Programming 47.

    >>> pava(np.array([1.0, 3.0, 2.0, 4.0]), np.ones(4)).tolist()
    [1.0, 2.5, 2.5, 4.0]
    """
    means: list[float] = []
    weights: list[float] = []
    sizes: list[int] = []
    for value, heavy in zip(y.tolist(), weight.tolist(), strict=True):
        size = 1
        while means and means[-1] >= value:
            before, much = means.pop(), weights.pop()
            value = (value * heavy + before * much) / (heavy + much)
            heavy += much
            size += sizes.pop()
        means.append(value)
        weights.append(heavy)
        sizes.append(size)
    return np.repeat(np.array(means), np.array(sizes, dtype=np.int64))


def fit_isotonic(x: Array, y: Array, *, increasing: bool | None = True, least: int = 1) -> Isotonic:
    """Isotonic regression of y on x; equal x first become one, then at most 512 groups of about `least` rows or more, so that the ends
    do not rest on a few rows. `increasing` None takes the better way.

    >>> fit_isotonic(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.5])).y
    (0.0, 0.75, 0.75)
    """
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if not len(x):
        return Isotonic((), ())
    points, group = np.unique(x, return_inverse=True)
    groups = max(1, min(_GROUPS, len(x) // least))
    if len(points) > groups:
        edges = np.quantile(x, np.linspace(0, 1, groups + 1))[1:-1]
        _, group = np.unique(np.searchsorted(edges, x, side="right"), return_inverse=True)
    weight = np.bincount(group).astype(np.float64)
    at, value = np.bincount(group, weights=x) / weight, np.bincount(group, weights=y) / weight
    rising, falling = pava(value, weight), -pava(-value, weight)
    if increasing is None:
        increasing = bool((weight * (rising - value) ** 2).sum() <= (weight * (falling - value) ** 2).sum())
    fitted = rising if increasing else falling
    turn = np.ones(len(fitted), dtype=bool)
    turn[1:-1] = (fitted[1:-1] != fitted[:-2]) | (fitted[1:-1] != fitted[2:])
    return Isotonic(tuple(at[turn].tolist()), tuple(fitted[turn].tolist()))


def apply_isotonic(curve: Isotonic, x: Array) -> Array:
    """The curve's values at x; NaN stays NaN, and all are NaN without knots.

    >>> apply_isotonic(Isotonic((0.0, 1.0), (0.0, 10.0)), np.array([-1.0, 0.5, 2.0])).tolist()
    [0.0, 5.0, 10.0]
    """
    if not curve.x:
        return np.full(len(x), np.nan)
    return np.asarray(np.interp(x, curve.x, curve.y), dtype=np.float64)


@dataclass(frozen=True)
class Estimator:
    """What predictions cost on the reference; one row."""

    loss: str
    kind: Literal["chance", "number", "level"]
    cost: Isotonic
    """chance: of the positive class given the stated one; number: the row's loss given the prediction or the largest chance."""
    heavy: Isotonic
    """number: the row's weight."""
    levels: tuple[tuple[str, float, float], ...]
    """level: (level, loss, weight) of a row; the last, "", for all others."""
    usual: float
    """The estimate on the reference itself."""
    between: float
    """Standard error of an estimate for one block, from blocks estimated by all others; the whole estimate with too few blocks."""


def fit_estimator(loss: str, predictions: Predictions, labels: Predictions, block: NDArray[Any]) -> Estimator:
    """The estimator from the rows of the reference and the block of time that each belongs to (eight or more, as long as windows).

    >>> rng = np.random.default_rng(0)
    >>> p = rng.beta(2, 2, 4000)
    >>> y = (rng.random(4000) < p).astype(float)
    >>> found = fit_estimator("brier", p, y, np.repeat(np.arange(8), 500))
    >>> found.kind, round(found.usual, 2)
    ('chance', 0.19)
    """
    whole = _fit(loss, predictions, labels)
    usual = _mean(*_expected(whole, predictions))
    gaps = []
    for one in np.unique(block):
        inside = np.flatnonzero(block == one)
        outside = np.flatnonzero(block != one)
        if len(inside) < _LEAST or len(outside) < _LEAST:
            continue
        own = _take(predictions, inside)
        guess = _mean(*_expected(_fit(loss, _take(predictions, outside), _take(labels, outside)), own))
        gaps.append(guess - _mean(*row_losses(loss, own, _take(labels, inside))))
    known = [gap for gap in gaps if math.isfinite(gap)]
    between = math.sqrt(sum(gap**2 for gap in known) / len(known)) if len(known) > 1 else abs(usual)
    return Estimator(whole.loss, whole.kind, whole.cost, whole.heavy, whole.levels, usual, between)


@dataclass(frozen=True)
class Estimate:
    value: float
    usual: float
    limit: float
    """An estimate above is an alarm."""
    standard_error: float
    state: Literal["usual", "alarm", "unknown"]
    reason: str = ""


def estimate(
    estimator: Estimator,
    predictions: Predictions,
    *,
    distance: float | None = None,
    tolerance: float = TOLERANCE,
    far: float = FAR,
) -> Estimate:
    """The loss to expect on a window of predictions, and whether that is an alarm.

    Chances: Σₖ P(y = k | p) · loss(p, k) with P from the isotonic curve (Guo et al. 2017, "On calibration of modern neural networks", ICML;
    Garg et al. 2022, "Leveraging unlabeled data to predict out-of-distribution performance", ICLR, on what cannot be seen so). Alarm when
    the estimate is above the reference's by more than the tolerance and 4 standard errors, of the rows and of whole blocks. Unknown with
    fewer than thirty rows or when `distance` is beyond `far`.

    >>> rng = np.random.default_rng(0)
    >>> p = rng.choice([0.05, 0.95], 4000)
    >>> y = (rng.random(4000) < p).astype(float)
    >>> known = fit_estimator("brier", p, y, np.repeat(np.arange(8), 500))
    >>> estimate(known, p[:500]).state, estimate(known, np.full(500, 0.5)).state
    ('usual', 'alarm')
    """
    cost, weight = _expected(estimator, predictions)
    value = _mean(cost, weight)
    rows = int((weight > 0).sum())
    if rows < _LEAST:
        return Estimate(value, estimator.usual, math.inf, math.inf, "unknown", f"{rows} predictions are too few")
    spread = math.sqrt(float(((cost - value * weight) ** 2).sum())) / float(weight.sum())
    error = math.hypot(spread, estimator.between)
    limit = estimator.usual + max(tolerance * abs(estimator.usual), ERRORS * error)
    if distance is not None and not distance <= far:
        return Estimate(value, estimator.usual, limit, error, "unknown", "the rows are unlike the reference's")
    return Estimate(value, estimator.usual, limit, error, "alarm" if value > limit else "usual")


def _fit(loss: str, predictions: Predictions, labels: Predictions) -> Estimator:
    nothing = Isotonic((), ())
    cost, weight = row_losses(loss, predictions, labels)
    used = weight > 0
    chance = _chances(predictions) if loss in ("log_loss", "brier") else None
    if chance is not None:
        curve = fit_isotonic(chance[used], numbers(labels)[used], least=_LEAST)
        return Estimator(loss, "chance", curve, nothing, (), 0.0, 0.0)
    score = _scores(predictions) if loss != "error" or _lists(predictions) else None
    if score is not None:
        costs, weights = (
            fit_isotonic(score[used], each[used], increasing=None, least=_LEAST) for each in (cost, weight)
        )
        return Estimator(loss, "number", costs, weights, (), 0.0, 0.0)
    names = np.array([level_of(prediction) for prediction in predictions])
    found = []
    for name in sorted(set(names[used].tolist())):
        rows = used & (names == name)
        if rows.sum() >= _LEAST:
            found.append((name, float(cost[rows].mean()), float(weight[rows].mean())))
    if used.any():
        found.append(("", float(cost[used].mean()), float(weight[used].mean())))
    return Estimator(loss, "level", nothing, nothing, tuple(found), 0.0, 0.0)


def _expected(estimator: Estimator, predictions: Predictions) -> tuple[Array, Array]:
    """Expected loss and weight of each row; 0 and 0 where the prediction has no meaning."""
    if estimator.kind == "chance":
        chance = _chances(predictions)
        stated = np.full(len(predictions), np.nan) if chance is None else chance
        true = apply_isotonic(estimator.cost, stated)
        if estimator.loss == "brier":
            cost = true * (1 - stated) ** 2 + (1 - true) * stated**2
        else:
            cut = np.clip(stated, SMALLEST, 1 - SMALLEST)
            cost = -true * np.log(cut) - (1 - true) * np.log1p(-cut)
        weight = np.ones(len(cost))
    elif estimator.kind == "number":
        score = _scores(predictions)
        cost, weight = apply_isotonic(estimator.cost, score), apply_isotonic(estimator.heavy, score)
    else:
        table = {name: (cost, weight) for name, cost, weight in estimator.levels}
        other = table.get("", (math.nan, math.nan))
        both = np.array([table.get(level_of(prediction), other) for prediction in predictions]).reshape(-1, 2)
        cost, weight = both[:, 0], both[:, 1]
    known = np.isfinite(cost) & np.isfinite(weight)
    return np.where(known, cost, 0.0), np.where(known, weight, 0.0)


def _lists(predictions: Predictions) -> bool:
    if isinstance(predictions, np.ndarray) and predictions.dtype != object:
        return predictions.ndim == 2
    return any(isinstance(each, (list, tuple, np.ndarray)) for each in predictions)


def _chances(predictions: Predictions) -> Array | None:
    """The chance of the second of two classes; None when there are more."""
    if not _lists(predictions):
        p = numbers(predictions)
    elif all(len(each) == 2 for each in predictions if isinstance(each, (list, tuple, np.ndarray))):
        p = numbers([each[1] if isinstance(each, (list, tuple, np.ndarray)) else each for each in predictions])
    else:
        return None
    return np.where((p >= 0) & (p <= 1), p, np.nan)


def _scores(predictions: Predictions) -> Array:
    """The prediction itself, or the largest of its chances."""
    if not _lists(predictions):
        return numbers(predictions)
    return numbers(
        [max(each) if isinstance(each, (list, tuple, np.ndarray)) and len(each) else None for each in predictions]
    )


def _take(values: Predictions, rows: NDArray[np.int64]) -> Predictions:
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]


def _mean(cost: Array, weight: Array) -> float:
    total = float(weight.sum())
    return float(cost.sum()) / total if total else math.nan
