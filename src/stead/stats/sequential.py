"""Differences that may be looked at as often as one likes: confidence sequences for means, arms and paired days.

An interval of `intervals.py` holds at one look. The intervals here hold at all looks together: the chance that the truth is
ever outside is at most `alpha`, so a canary may be judged after every batch. All of them are one formula,
estimate ± standard error × `reach`, over states that add up and can be stored as one row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stead.stats.intervals import inflation

Array = NDArray[np.float64]
LEAST_ROWS = 30
"""In each arm, before anything is decided: with fewer the asymptotic sequence errs too often (4 % → 2.5 % on 24 rows a day)."""
TUNED_ROWS = 250
"""Rows of an arm (harmonic, see `effective_rows`), or rows that both versions scored, at which the interval is narrowest."""
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
    """What was observed, in the unit of the sequence: rows of both arms, or days."""
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
class Arm:
    """Sums over the rows that one version answered: of (loss, weight, control), their means and centred products.

    Loss and weight are those of `losses.row_losses`; the control is any other number known for the row whichever version
    answered it, as a rule the champion's own loss on the same row. Arms add up (`merge`) in any order.
    """

    rows: int = 0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    products: tuple[float, float, float, float, float, float] = (0.0,) * 6
    """Upper triangle, by rows: loss·loss, loss·weight, loss·control, weight·weight, weight·control, control·control."""


_UPPER = np.triu_indices(3)


def observe(arm: Arm, loss: Array, weight: Array | None = None, control: Array | None = None) -> Arm:
    """The arm with more rows; each array has one number a row.

    >>> arm = observe(Arm(), np.array([0.0, 1.0, 1.0]))
    >>> arm = observe(arm, np.array([0.0]))
    >>> arm.rows, arm.mean[0], arm.products[0]
    (4, 0.5, 1.0)
    """
    rows = len(loss)
    if rows == 0:
        return arm
    columns = np.stack(
        [loss, np.ones(rows) if weight is None else weight, np.zeros(rows) if control is None else control]
    )
    mean = columns.mean(axis=1)
    centred = columns - mean[:, None]
    return merge(arm, _arm(rows, mean, centred @ centred.T))


def merge(a: Arm, b: Arm) -> Arm:
    """Both arms' rows together (Chan, Golub & LeVeque 1983, American Statistician 37: pairwise update of moments).

    >>> merge(observe(Arm(), np.array([1.0])), observe(Arm(), np.array([3.0]))).mean[0]
    2.0
    """
    if a.rows == 0 or b.rows == 0:
        return b if a.rows == 0 else a
    rows = a.rows + b.rows
    gap = np.array(b.mean) - np.array(a.mean)
    products = _matrix(a) + _matrix(b) + np.outer(gap, gap) * (a.rows * b.rows / rows)
    return _arm(rows, np.array(a.mean) + gap * (b.rows / rows), products)


def _arm(rows: int, mean: Array, products: Array) -> Arm:
    first, second, third = (float(each) for each in mean)
    ll, lw, lc, ww, wc, cc = (float(each) for each in products[_UPPER])
    return Arm(rows, (first, second, third), (ll, lw, lc, ww, wc, cc))


def _matrix(arm: Arm) -> Array:
    square = np.zeros((3, 3))
    square[_UPPER] = arm.products
    return np.asarray(square + np.triu(square, 1).T, dtype=np.float64)


def _ratios(arm: Arm) -> tuple[float, float, Array]:
    """Loss and control per weight, and the 2 × 2 variance of both (delta method: Cochran 1977, section 6.4)."""
    loss, weight, control = arm.mean
    of_loss, of_control = loss / weight, control / weight
    turn = np.array([[1.0, -of_loss, 0.0], [0.0, -of_control, 1.0]])
    covariance = turn @ _matrix(arm) @ turn.T / (arm.rows - 1) / arm.rows / weight**2
    return of_loss, of_control, np.asarray(covariance, dtype=np.float64)


def mean(arm: Arm, *, alpha: float = 0.05, tuned_for: float = TUNED_ROWS, least: int = LEAST_ROWS) -> Bounds:
    """The loss Σ loss / Σ weight of one arm, to hold against a fixed number such as the version's own offline result.

    An asymptotic confidence sequence (see `reach`): rows independent, more than two moments, and a guarantee that becomes
    exact from a late start on; hence `least`. Infinite while all rows are alike: no spread yet is not no spread.

    >>> losses = np.random.default_rng(0).exponential(0.3, 400)
    >>> found = mean(observe(Arm(), losses))
    >>> found.low < 0.3 < found.high
    True
    """
    if arm.rows < max(least, 2) or arm.mean[1] <= 0:
        return _nothing(arm.rows, alpha)
    value, _, covariance = _ratios(arm)
    error = math.sqrt(max(covariance[0, 0], 0.0))
    return _bounds(value, error, arm.rows, arm.rows / tuned_for, arm.rows - 1, alpha, spread=True)


def effective_rows(a: float, b: float) -> float:
    """What two arms are worth to their difference: n₁n₂ / (n₁ + n₂), near the smaller one's rows.

    >>> effective_rows(100, 900)
    90.0
    """
    return a * b / (a + b) if a + b else 0.0


def arms(
    steps: Sequence[tuple[Arm, Arm]],
    *,
    controlled: bool = False,
    alpha: float = 0.05,
    tuned_for: float = TUNED_ROWS,
    least: int = LEAST_ROWS,
) -> Bounds:
    """Loss of the first arm minus loss of the second, of rows sent to one or the other at random.

    `steps` has a pair of arms for each share that the rollout had, compared step by step, so that a season that changes along
    with the shares cannot pass for a difference; they are joined with weights W = n₁n₂/(n₁ + n₂) (Mantel & Haenszel 1959,
    JNCI 22; Cochran 1954, Biometrics 10). In information time the joined difference is a Brownian motion also when shares are unequal and change
    (Jennison & Turnbull 1997, JASA 92), which is what the asymptotic sequence of `reach` needs; ρ is tuned to W. Degrees of
    freedom: those of the smaller arm, the cautious choice.

    `controlled` takes β × the difference of the controls away, β from both arms so that the variance is least (Deng, Xu, Kohavi & Walker
    2013, CUPED, WSDM; Lin 2013, Annals of Applied Statistics 7). With losses far apart or rows few take `paired` days of a shadow instead.

    Infinite with fewer than `least` rows in either arm or no spread in one; rare errors belong to `rates.difference`.

    >>> rng = np.random.default_rng(0)
    >>> canary, stable = observe(Arm(), rng.normal(1.3, 1, 200)), observe(Arm(), rng.normal(1.0, 1, 1800))
    >>> found = arms([(canary, stable)])
    >>> round(found.estimate, 2), found.low > 0
    (0.35, True)
    """
    used = [(a, b) for a, b in steps if min(a.rows, b.rows) >= 2 and min(a.mean[1], b.mean[1]) > 0]
    rows = sum(a.rows + b.rows for a, b in steps)
    smaller = min(sum(a.rows for a, _ in used), sum(b.rows for _, b in used)) if used else 0
    if smaller < max(least, 2):
        return _nothing(rows, alpha)
    weights = np.array([effective_rows(a.rows, b.rows) for a, b in used])
    gaps, spreads = np.zeros(2), np.zeros((2, 2))
    flat = False
    for share, (a, b) in zip(weights / weights.sum(), used, strict=True):
        (loss_a, control_a, spread_a), (loss_b, control_b, spread_b) = _ratios(a), _ratios(b)
        gaps += share * np.array([loss_a - loss_b, control_a - control_b])
        spreads += share**2 * (spread_a + spread_b)
        flat = flat or min(spread_a[0, 0], spread_b[0, 0]) <= 0
    beta = spreads[0, 1] / spreads[1, 1] if controlled and spreads[1, 1] > 0 else 0.0
    error = math.sqrt(max(spreads[0, 0] - 2 * beta * spreads[0, 1] + beta**2 * spreads[1, 1], 0.0))
    if flat and (len(used) == 1 or error == 0):
        return _nothing(rows, alpha)
    freedom = smaller - len(used) - (1 if controlled else 0)
    estimate = float(gaps[0] - beta * gaps[1])
    return _bounds(estimate, error, rows, float(weights.sum()) / tuned_for, freedom, alpha, spread=True)


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
    return _bounds(value, error, days, worth / tuned_for, worth - 1, alpha, spread=False)


def more_rows(bounds: Bounds, target: float = 0.0) -> float:
    """How many more rows (or days) until the interval excludes `target`, should the present estimate be the truth.

    0 when it does already, infinite when the estimate is `target` or nothing is known yet. The standard error is taken to fall with √n.

    >>> arm = observe(Arm(), np.tile([0.0, 1.0, 0.0, 0.0], 100))
    >>> found = mean(arm)
    >>> found.high > 0.3, more_rows(found, 0.3), more_rows(found, 0.25)
    (True, 325, inf)
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


def _bounds(value: float, error: float, rows: int, relative: float, df: float, alpha: float, *, spread: bool) -> Bounds:
    if spread and error <= 0:
        return _nothing(rows, alpha)
    time = best_time(alpha) * relative
    width = error * float(reach(time, alpha, df)) if error > 0 else 0.0
    return Bounds(value, value - width, value + width, error, alpha, rows, time, df)


def _nothing(rows: int, alpha: float) -> Bounds:
    return Bounds(math.nan, -math.inf, math.inf, math.inf, alpha, rows, 0.0, 0.0)
