"""The mean of numbers between 0 and 1, held to account at every row: exact for few rows, skewed ones and rare ones.

For a mean with a margin between arms see `sequential` and `counts`; this one bounds a single stream of bounded losses, say Brier
or an error rate, against a fixed number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stead.stats.counts import Interval

Array = NDArray[np.float64]
_CUT = 0.5
_AT_ONCE = 4096


@dataclass(frozen=True)
class Bettor:
    """One row of numbers: what was seen, and the wealth of the bets against each candidate mean."""

    alpha: float
    rows: int
    total: float
    spread: float
    """Σ (x − running mean)², the running mean including x."""
    above: tuple[float, ...]
    """Logarithm of the wealth of bets that the mean is above each candidate."""
    below: tuple[float, ...]


def bettor(*, alpha: float = 0.05, size: int = 99) -> Bettor:
    """Before the first row; `size` candidates between 0 and 1, equally spaced: the interval's resolution.

    >>> bettor(size=3).above
    (0.0, 0.0, 0.0)
    """
    return Bettor(alpha, 0, 0.0, 0.0, (0.0,) * size, (0.0,) * size)


def bet(state: Bettor, values: Array) -> Bettor:
    """The state after more rows, each between 0 and 1, in order.

    The hedged capital process of Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86,
    theorem 3, with their predictable plug-in stakes λ = √(2 ln(2/α) / (σ̂² t ln(t + 1))) cut to half of what could be lost. It
    assumes that, whatever came before, the next row has the same mean (or one on the same side of the candidate).

    >>> state = bet(bettor(), np.array([0.0, 1.0, 0.5]))
    >>> state.rows, state.total
    (3, 1.5)
    """
    if len(values) and not (np.min(values) >= 0 and np.max(values) <= 1):
        raise ValueError("values must lie between 0 and 1")
    for start in range(0, len(values), _AT_ONCE):
        state = _bet(state, np.asarray(values[start : start + _AT_ONCE], dtype=np.float64))
    return state


def _bet(state: Bettor, x: Array) -> Bettor:
    t = state.rows + np.arange(1, len(x) + 1)
    sums = state.total + np.cumsum(x)
    spreads = state.spread + np.cumsum((x - (0.5 + sums) / (t + 1)) ** 2)
    before = np.concatenate([[state.spread], spreads[:-1]])
    stake = np.sqrt(2 * math.log(2 / state.alpha) / ((0.25 + before) * np.log(t + 1)))
    mean = _candidates(len(state.above))
    gap = x[:, None] - mean
    up = np.log1p(np.minimum(stake[:, None], _CUT / mean) * gap).sum(axis=0)
    down = np.log1p(-np.minimum(stake[:, None], _CUT / (1 - mean)) * gap).sum(axis=0)
    return Bettor(
        state.alpha,
        int(t[-1]),
        float(sums[-1]),
        float(spreads[-1]),
        tuple((np.array(state.above) + up).tolist()),
        tuple((np.array(state.below) + down).tolist()),
    )


def _candidates(size: int) -> Array:
    return np.arange(1, size + 1) / (size + 1)


def bounded_mean(state: Bettor) -> Interval:
    """The interval of the mean, valid at every row: candidates whose bets, half on each side, have not won 1/α, and one step more.

    >>> rng = np.random.default_rng(0)
    >>> found = bounded_mean(bet(bettor(), rng.beta(2, 8, 1000)))
    >>> found.low, round(found.estimate, 3), found.high
    (0.18, 0.192, 0.21)
    """
    mean = _candidates(len(state.above))
    limit = math.log(2 / state.alpha)
    low = mean[np.array(state.above) >= limit]
    high = mean[np.array(state.below) >= limit]
    return Interval(
        state.total / state.rows if state.rows else math.nan,
        float(low.max()) if len(low) else 0.0,
        float(high.min()) if len(high) else 1.0,
    )


def log_wealth(state: Bettor, value: float) -> float:
    """Logarithm of the wealth against "the mean is at most `value`", an e-value at any time (candidate just above `value`).

    >>> log_wealth(bet(bettor(), np.full(100, 0.5)), 0.3) > math.log(20)
    True
    """
    mean = _candidates(len(state.above))
    return state.above[min(int(np.searchsorted(mean, value - 1e-12)), len(mean) - 1)]
