"""Differences that may be looked at as often as one likes: confidence sequences for two versions on the same rows.

An interval of `intervals.py` holds at one look. The intervals here hold at all looks together: the chance that the truth is
ever outside is at most `alpha`, so a canary may be judged after every batch. All of them are one formula,
estimate ± standard error × `reach`, over states that add up and can be stored as one row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stead.stats.intervals import inflation

Array = NDArray[np.float64]
LEAST_ROWS = 30
"""Before anything is decided."""
TUNED_ROWS = 250
"""Rows that both versions scored, at which the interval is narrowest."""
TUNED_DAYS = 21


@dataclass(frozen=True)
class Bounds:
    """An estimate and its always-valid interval; infinite while the evidence is too little to say anything."""

    estimate: float
    low: float
    high: float
    standard_error: float
    alpha: float
    rows: int
    """Days, or other blocks of time, that were observed."""
    time: float
    """Intrinsic time of the mixture: observations over those it is tuned for, times a constant."""
    df: float
    """Degrees of freedom of the standard error."""


@lru_cache(maxsize=64)
def best_time(alpha: float) -> float:
    """The intrinsic time x = n ρ² at which the normal mixture's interval is narrowest, −W₋₁(−α²/e) − 1.

    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence
    sequences", Annals of Statistics 52, appendix on optimising ρ; solved by iteration.

    >>> round(best_time(0.05), 3)
    8.212
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    y = 10.0
    for _ in range(200):
        y = 1 - 2 * math.log(alpha) + math.log(y)
    return y - 1


def reach(time: float | Array, alpha: float, df: float | Array = math.inf) -> Array:
    """Half the interval's width in standard errors, at intrinsic time x (shape of `time` and `df`).

    With known variance √(2 (1 + 1/x) ln(√(1 + x) / α)): Robbins' normal mixture, two-sided, as in Theorem 2.2 of
    Waudby-Smith et al. 2024. With a variance estimated from ν degrees of freedom it is the t mixture, which is exact for
    normal values and infinite while too few of them can say anything at `alpha`: √(ν (K − 1) / (1 − K/(1 + x))) with
    K = ((1 + x) / α²)^(1/(ν + 1)), from Lai 1976, "On confidence sequences", Annals of Statistics 4; Wang & Ramdas 2025,
    "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance", Sequential Analysis 44.

    >>> float(reach(best_time(0.05), 0.05).round(3)), float(reach(best_time(0.05), 0.05, 29).round(3))
    (3.035, 3.264)
    >>> float(reach(0.5, 0.05, 2))
    inf
    """
    x, v = np.asarray(time, dtype=np.float64), np.asarray(df, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_k = (np.log1p(x) - 2 * math.log(alpha)) / (v + 1)
        room = -np.expm1(log_k - np.log1p(x))
        student = np.sqrt(v * np.expm1(log_k) / room)
        normal = np.sqrt((1 + 1 / x) * (np.log1p(x) - 2 * math.log(alpha)))
    student = np.where((room > 0) & (v > 0), student, np.inf)
    return np.asarray(np.where(np.isinf(v), normal, student), dtype=np.float64)


def log_evidence(bounds: Bounds, value: float = 0.0) -> float:
    """Logarithm of the e-value against "the truth is `value`": over ln(1/α) exactly when the interval excludes it.

    The mixture likelihood ratio behind `reach` (sources there). It may be read at any time, and 1/e is an always-valid p.

    >>> days = Paired()
    >>> for gap in (1.0, 1.2, 0.9, 1.1, 1.0, 0.8, 1.0, 1.1):
    ...     days = observe_day(days, gap, 1.0)
    >>> found = paired(days)
    >>> log_evidence(found) > math.log(20), found.low > 0
    (True, True)
    """
    if bounds.standard_error == 0:
        return 0.0 if bounds.estimate == value else math.inf
    if not math.isfinite(bounds.standard_error) or not math.isfinite(bounds.high):
        return 0.0
    x, v = bounds.time, bounds.df
    square = ((bounds.estimate - value) / bounds.standard_error) ** 2
    if math.isinf(v):
        return square * x / (2 * (1 + x)) - math.log1p(x) / 2
    return (v + 1) / 2 * (math.log1p(square / v) - math.log1p(square / v / (1 + x))) - math.log1p(x) / 2


@dataclass(frozen=True)
class Paired:
    """Sums over days of two versions that answered the same rows: d, the day's summed loss difference, and w, its weight."""

    days: int = 0
    gap: float = 0.0
    weight: float = 0.0
    gap_gap: float = 0.0
    gap_weight: float = 0.0
    weight_weight: float = 0.0
    last_gap: float = 0.0
    last_weight: float = 0.0
    lag_gap_gap: float = 0.0
    """Products of a day with the day before, for the correlation of neighbours; of gap and weight, the sum of both ways."""
    lag_gap_weight: float = 0.0
    lag_weight_weight: float = 0.0


def observe_day(state: Paired, gap: float, weight: float) -> Paired:
    """The state with one more complete day: `gap` = Σ (loss a − loss b) of its rows, `weight` = Σ weight.

    >>> observe_day(Paired(), -2.0, 24.0).days
    1
    """
    gap, weight = float(gap), float(weight)
    return Paired(
        state.days + 1,
        state.gap + gap,
        state.weight + weight,
        state.gap_gap + gap * gap,
        state.gap_weight + gap * weight,
        state.weight_weight + weight * weight,
        gap,
        weight,
        state.lag_gap_gap + gap * state.last_gap,
        state.lag_gap_weight + gap * state.last_weight + weight * state.last_gap,
        state.lag_weight_weight + weight * state.last_weight,
    )


def observe_days(state: Paired, loss_a: Array, loss_b: Array, weight: Array, day: NDArray[Any]) -> Paired:
    """The state with the days of these rows, all of them complete and none seen before.

    >>> rows = np.ones(48)
    >>> observe_days(Paired(), 0.9 * rows, rows, rows, np.repeat([1, 2], 24)).days
    2
    """
    _, group = np.unique(day, return_inverse=True)
    group = group.reshape(-1)
    gaps, weights = np.bincount(group, weights=loss_a - loss_b), np.bincount(group, weights=weight)
    for each, heavy in zip(gaps, weights, strict=True):
        state = observe_day(state, float(each), float(heavy))
    return state


def paired(state: Paired, *, alpha: float = 0.05, tuned_for: float = TUNED_DAYS, least: int = 7) -> Bounds:
    """Loss of `a` minus loss of `b` on the same rows, valid at every new day; the day is the unit.

    `intervals.paired_difference` made sequential: its cluster-robust error with G − 1 degrees of freedom, and the t mixture
    of `reach`. Exact for independent, normal day differences of equal weight; nearly so else. Where neighbouring days go together the
    variance is larger and the days are worth as much less (`intervals.inflation`). Any block of time may stand for the day. Needs `least` of them.

    >>> state = Paired()
    >>> for gap in np.random.default_rng(1).normal(-0.5, 0.4, 20):
    ...     state = observe_day(state, gap * 24, 24.0)
    >>> found = paired(state)
    >>> round(found.estimate, 2), found.high < 0, found.rows
    (-0.49, True, 20)
    """
    days = state.days
    if days < max(least, 2) or state.weight <= 0:
        return _nothing(days, alpha)
    value = state.gap / state.weight
    residual = state.gap_gap - 2 * value * state.gap_weight + value**2 * state.weight_weight
    residual = residual if residual > 1e-12 * state.gap_gap else 0.0
    lagged = state.lag_gap_gap - value * state.lag_gap_weight + value**2 * state.lag_weight_weight
    factor = inflation(residual, lagged, days)
    error = math.sqrt(factor * days / (days - 1) * residual) / state.weight
    worth = days / factor
    time = best_time(alpha) * worth / tuned_for
    width = error * float(reach(time, alpha, worth - 1)) if error > 0 else 0.0
    return Bounds(value, value - width, value + width, error, alpha, days, time, worth - 1)


def more_rows(bounds: Bounds, target: float = 0.0) -> float:
    """How many more rows (or days) until the interval excludes `target`, should the present estimate be the truth.

    0 when it does already, infinite when the estimate is `target` or nothing is known yet. The standard error is taken to fall with √n.

    >>> rows = np.ones(100)
    >>> found = paired(observe_days(Paired(), np.tile([0.0, 1.0, 0.0, 0.0], 25), 0 * rows, rows, np.arange(100)))
    >>> found.high > 0.3, more_rows(found, 0.3), more_rows(found, 0.25)
    (True, 807, inf)
    """
    if not bounds.low <= target <= bounds.high:
        return 0.0
    gap = abs(bounds.estimate - target)
    if not gap > 0 or not math.isfinite(bounds.standard_error):
        return math.inf

    def excluded(factor: float) -> bool:
        width = float(reach(bounds.time * factor, bounds.alpha, bounds.df * factor))
        return gap > bounds.standard_error / math.sqrt(factor) * width

    high = 1.0
    while not excluded(high):
        high *= 2
        if high > 1e9:
            return math.inf
    low = high / 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if excluded(middle) else (middle, high)
    return math.ceil((high - 1) * bounds.rows)


def _nothing(rows: int, alpha: float) -> Bounds:
    return Bounds(math.nan, -math.inf, math.inf, math.inf, alpha, rows, 0.0, 0.0)
