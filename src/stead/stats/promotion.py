"""May a challenger take the champion's place? Two questions, by where the challenger comes from.

A refresh of the same recipe on newer data must not be worse than a margin: newer is usually better, and asking for more than that keeps stale
champions. A changed recipe must be better, and because one can propose a recipe every week, all of them together have one error budget
for the year. Both see loss by row on the same rows, with rows of one day taken as dependent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stead.stats.intervals import Difference, paired_difference
from stead.stats.sequential import Bounds, Paired, log_evidence, paired

Array = NDArray[np.float64]
MARGIN = 0.05
"""A refresh is shown not to be worse by more than this share: half of it keeps too many stale champions (docs/statistics.md)."""
NEAR = 0.02
"""So much worse a refresh may be by the estimate: else a model could decay by steps within the margin."""
LEAST_DAYS = 14
EACH_DAYS = 26
"""Days on each of which a refresh has to hold the margin, where a trend hides how sure their mean is: days at the margin that go
together by .9 lie below it on so many in a row with a chance of 4.9 % (400,000 simulated), by .8 of .8 %."""
YEARLY_ALPHA = 0.05
_WEEK = 168
_HOUR_MS = 3_600_000
_THURSDAY = 72


@dataclass(frozen=True)
class RefreshVerdict:
    verdict: Literal["pass", "refuse", "undecided"]
    relative: float
    """The challenger's loss over the champion's, minus 1: below 0 it is better."""
    low: float
    high: float
    """Ends of its interval; each holds by itself with chance 1 − alpha."""
    excess: Difference
    """Loss of the challenger minus (1 + margin) × loss of the champion, with its interval."""
    each: bool
    """Whether it held the margin on every single day, and these are `EACH_DAYS` or more."""


def judge_refresh(
    challenger: Array,
    champion: Array,
    weight: Array,
    day: NDArray[Any],
    *,
    margin: float = MARGIN,
    least_days: int = LEAST_DAYS,
    alpha: float = 0.05,
) -> RefreshVerdict:
    """Is the refreshed version's loss within `margin` of the champion's? Arrays by row, of rows that both answered.

    A non-inferiority test (Wellek 2010, Testing Statistical Hypotheses of Equivalence and Noninferiority, chapter 2) of the
    ratio of the losses: Σ (challenger − (1 + margin) champion), clustered by day, neighbouring days taken to go together, one-sided
    Student's t (`intervals.paired_difference`). pass: the upper end is not above the margin, or it was held on each of `EACH_DAYS` or more, so
    that a version worse than it passes with chance `alpha` at most; refuse: the estimate is above `NEAR`, or above the margin where that is less; undecided else, or with fewer
    than `least_days` days. For one look: who looks again on more days should take `judge_change` or divide `alpha`.

    >>> day = np.repeat(np.arange(28), 24)
    >>> old = np.random.default_rng(0).gamma(2, 0.15, len(day))
    >>> [judge_refresh(share * old, old, np.ones(len(day)), day).verdict for share in (0.9, 1.01, 1.04)]
    ['pass', 'pass', 'refuse']
    """
    excess = paired_difference(challenger, (1 + margin) * champion, weight, day, level=1 - 2 * alpha, neighbours=True)
    own, other = excess.a, excess.b / (1 + margin)
    relative, low, high = 0.0, 0.0, 0.0
    if other > 0:
        relative, low, high = own / other - 1, excess.low / other + margin, excess.high / other + margin
    elif own > 0:
        relative = low = high = math.inf
    each = excess.clusters >= EACH_DAYS and _on_each(challenger - (1 + margin) * champion, day)
    verdict: Literal["pass", "refuse", "undecided"] = "undecided"
    if excess.clusters >= least_days:
        if relative > min(NEAR, margin):
            verdict = "refuse"
        elif high <= margin or each:
            verdict = "pass"
    return RefreshVerdict(verdict, relative, low, high, excess, each)


def _on_each(excess: Array, day: NDArray[Any]) -> bool:
    """Whether the excess of every day lies below 0."""
    _, group = np.unique(day, return_inverse=True)
    return bool((np.bincount(group.reshape(-1), weights=excess) < 0).all())


@dataclass(frozen=True)
class Budget:
    """Chances of promoting recipes that are no better, over a year; one row. Start a new one each year."""

    alpha: float = YEARLY_ALPHA
    challengers: int = 0


def spend(budget: Budget) -> tuple[Budget, float]:
    """The budget after one more challenger, and the error that this one may make: α / (k (k + 1)) for the k-th, which adds up to α.

    Alpha spending over a sequence of tests without an end (Foster & Stine 2008, "α-investing", JRSS B 70, whose wealth is
    never earned back here). Evidence needed grows with ln k only. Spend when a recipe is proposed, not when its days are read.

    >>> budget, first = spend(Budget())
    >>> first, spend(budget)[1]
    (0.025, 0.008333333333333333)
    """
    k = budget.challengers + 1
    return Budget(budget.alpha, k), budget.alpha / (k * (k + 1))


@dataclass(frozen=True)
class ChangeVerdict:
    verdict: Literal["better", "worse", "undecided"]
    evidence: float
    """Logarithm of the e-value against "no difference"."""
    bounds: Bounds
    """Loss of the challenger minus loss of the champion."""


def judge_change(state: Paired, alpha: float, *, least_days: int = LEAST_DAYS) -> ChangeVerdict:
    """Is the changed recipe better? `state` has the days of this challenger since it was proposed (`sequential.observe_day`).

    The evidence is carried on from week to week, and may be read on any day: the always-valid interval of `sequential.paired`. It is two-sided at 2α,
    of which only the good side promotes; errors of both sides being alike, that is α. `alpha` is what `spend` gave to this challenger.

    >>> from stead.stats.sequential import observe_day
    >>> state = Paired()
    >>> for gap in np.random.default_rng(0).normal(-1.0, 0.5, 28):
    ...     state = observe_day(state, gap, 24.0)
    >>> judge_change(state, 0.025).verdict
    'better'
    """
    bounds = paired(state, alpha=min(2 * alpha, 0.5), least=least_days)
    verdict: Literal["better", "worse", "undecided"] = "undecided"
    if bounds.high < 0:
        verdict = "better"
    elif bounds.low > 0:
        verdict = "worse"
    return ChangeVerdict(verdict, log_evidence(bounds), bounds)


@dataclass(frozen=True)
class SeasonalMean:
    """A simple model to show beside: the mean label by hour of the week (0 = Monday, 0 h)."""

    means: tuple[float, ...]


def hour_of_week(time_ms: NDArray[np.int64], *, offset_ms: int = 0) -> NDArray[np.int64]:
    """Hour of the week, 0 to 167, of times in ms since 1970 UTC, shifted by the offset of local time.

    >>> hour_of_week(np.array([0, 4 * 24 * 3_600_000])).tolist()
    [72, 0]
    """
    return np.asarray(((time_ms + offset_ms) // _HOUR_MS + _THURSDAY) % _WEEK, dtype=np.int64)


def seasonal_mean(hour: NDArray[np.int64], label: Array, *, prior: float = 2.0) -> SeasonalMean:
    """Means of the labels by hour of the week, each drawn by `prior` rows towards its hour of the day, and that towards all.

    Shrinkage as in Efron & Morris 1975, JASA 70, with fixed weight, so that hours without rows have a mean too.

    >>> found = seasonal_mean(np.array([0, 0, 24]), np.array([1.0, 3.0, 8.0]), prior=0.001)
    >>> [round(found.means[hour], 1) for hour in (0, 24, 48, 1)]
    [2.0, 8.0, 4.0, 4.0]
    """
    known = np.isfinite(label)
    hour, label = hour[known], label[known]
    if not len(label):
        return SeasonalMean((math.nan,) * _WEEK)
    whole = float(label.mean())
    day_sum, day_rows = np.bincount(hour % 24, label, 24), np.bincount(hour % 24, minlength=24)
    by_hour = (day_sum + prior * whole) / (day_rows + prior)
    week_sum, week_rows = np.bincount(hour, label, _WEEK), np.bincount(hour, minlength=_WEEK)
    means = (week_sum + prior * by_hour[np.arange(_WEEK) % 24]) / (week_rows + prior)
    return SeasonalMean(tuple(means.tolist()))


def predict_seasonal(model: SeasonalMean, hour: NDArray[np.int64]) -> Array:
    """The model's answer for each hour of the week.

    >>> predict_seasonal(SeasonalMean((1.0,) * 168), np.array([5, 6])).tolist()
    [1.0, 1.0]
    """
    return np.array(model.means)[hour]
