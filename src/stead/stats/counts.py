"""Always-valid statements from counts alone: rates, rare errors in two arms, quantiles of latency, the split of traffic.

Everything here is exact at any number of rows and any number of looks, and needs no state but the counts. What it rests on is
Ville's inequality: a mixture of likelihood ratios against the truth exceeds 1/α with a chance of at most α, ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    estimate: float
    low: float
    high: float


def log_bernoulli(successes: int, rows: int, rate: Array, center: float, strength: float) -> Array:
    """Logarithm of the e-value against "each row is a success with chance `rate`", for each rate given.

    Likelihood of a Beta(center · strength, (1 − center) · strength) mixture over that of the rate: Robbins 1970, "Statistical
    methods related to the law of the iterated logarithm", Annals of Mathematical Statistics 41; Howard & Ramdas 2022,
    "Sequential estimation of quantiles", Bernoulli 28, section on the beta-binomial mixture.

    >>> log_bernoulli(8, 10, np.array([0.5, 0.8]), 0.5, 2).round(2).tolist()
    [0.73, -1.2]
    """
    a, b = center * strength, (1 - center) * strength
    misses = rows - successes
    mixture = _log_beta(a + successes, b + misses) - _log_beta(a, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = successes * np.log(rate) if successes else np.zeros(len(rate))
        miss = misses * np.log1p(-rate) if misses else np.zeros(len(rate))
    return np.asarray(mixture - hit - miss, dtype=np.float64)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def rate(successes: int, rows: int, *, alpha: float = 0.05, expected: float = 0.5, strength: float = 2.0) -> Interval:
    """The rate of something that happens or not, such as a failed request, in one arm: an exact confidence sequence.

    Rows independent, or at least with the same chance whatever came before. `expected` and `strength` (in rows) say where
    the interval is to be narrow, not what is true.

    >>> found = rate(4, 2000, expected=0.002, strength=500)
    >>> found.low < 0.002 < found.high < 0.007
    True
    """
    _check(successes, rows)
    if rows == 0:
        return Interval(math.nan, 0.0, 1.0)
    center, limit = successes / rows, -math.log(alpha)

    def inside(value: float) -> bool:
        return float(log_bernoulli(successes, rows, np.array([value]), expected, strength)[0]) < limit

    return Interval(center, _edge(inside, center, 0.0), _edge(inside, center, 1.0))


@dataclass(frozen=True)
class Step:
    """Counts of two arms while one share was in force: `share` of the requests goes to the first at random."""

    share: float
    failed: int
    rows: int
    other_failed: int
    other_rows: int


_BETS = np.geomspace(0.002, 0.95, 24)


def difference(steps: Sequence[Step], *, alpha: float = 0.05) -> Interval:
    """Rate of failures in the first arm minus that of the second: exact also for errors of .2 %, from the first request on.

    A request's ξ = (in first) · failed / share − (in second) · failed / (1 − share) has the difference of the rates as
    its mean (Horvitz & Thompson 1952, JASA 47) and stays within bounds, so a bettor who stakes a fixed part λ of the wealth on
    ξ > m or ξ < m multiplies it by 1 ± λ (ξ − m) a request (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by
    betting", JRSS B 86, section 4; two arms as in their section on sampling with known propensity). Wealth is the mean over a
    grid of stakes and both sides; m is outside the interval when wealth exceeds 1/α. With fixed stakes, wealth depends on
    the counts alone, and steps with other shares multiply. It needs the share that truly was in force (see `sample_ratio`), and
    requests that are sent one by one: a sticky key with many requests makes them dependent.

    >>> found = difference([Step(0.1, 15, 1500, 27, 13_500)])
    >>> round(found.estimate, 3), found.low > 0
    (0.008, True)
    """
    for step in steps:
        _check(step.failed, step.rows)
        _check(step.other_failed, step.other_rows)
        if not 0 < step.share < 1:
            raise ValueError(f"share must lie between 0 and 1, not {step.share}")
    rows, other = sum(step.rows for step in steps), sum(step.other_rows for step in steps)
    if not rows or not other:
        return Interval(math.nan, -1.0, 1.0)
    rates = (sum(step.failed for step in steps) / rows, sum(step.other_failed for step in steps) / other)
    limit = -math.log(alpha)

    def inside(value: float) -> bool:
        return log_difference(steps, value) < limit

    center = rates[0] - rates[1]
    # where wealth is least, so that the search starts inside the interval
    start = center if inside(center) else min(np.linspace(-1, 1, 401), key=lambda m: log_difference(steps, float(m)))
    return Interval(center, _edge(inside, float(start), -1.0), _edge(inside, float(start), 1.0))


def log_difference(steps: Sequence[Step], value: float) -> float:
    """Logarithm of the wealth of the bettors of `difference` against "the rates differ by `value`".

    >>> log_difference([Step(0.1, 15, 1500, 27, 13_500)], 0.0) > math.log(20)
    True
    """
    bets = []
    for sign in (1.0, -1.0):
        total = np.zeros(len(_BETS))
        stake = _BETS / max(_span(step, sign, value) for step in steps)
        for step in steps:
            calm = step.rows - step.failed + step.other_rows - step.other_failed
            total += calm * np.log1p(-sign * stake * value)
            total += step.failed * np.log1p(sign * stake * (1 / step.share - value))
            total += step.other_failed * np.log1p(sign * stake * (-1 / (1 - step.share) - value))
        bets.append(total)
    both = np.concatenate(bets)
    top = float(both.max())
    return top + math.log(float(np.exp(both - top).mean()))


def _span(step: Step, sign: float, value: float) -> float:
    """The most that a request may lose for a stake of one on this side."""
    return max(1 / (1 - step.share) + value, value) if sign > 0 else max(1 / step.share - value, -value)


def sample_ratio(steps: Sequence[tuple[Sequence[int], Sequence[float]]], *, strength: float = 100.0) -> float:
    """Always-valid p-value of "rows went to the arms by the shares": a small one means that the split or its log is broken.

    `steps` are (rows by arm, shares by arm), one for each setting of the shares. The e-value is a Dirichlet-multinomial mixture
    about the shares over the multinomial (Lindon & Malek 2022, "Anytime-valid inference for multinomial count data", NeurIPS,
    theorem 2); steps multiply, and p = min(1, 1/e). Alarm below .001 or so. Rows of one sticky key count once.

    >>> sample_ratio([((5010, 44_990), (0.1, 0.9))]), sample_ratio([((5600, 44_400), (0.1, 0.9))]) < 0.001
    (1.0, True)
    """
    total = 0.0
    for rows, shares in steps:
        if len(rows) != len(shares) or min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-9):
            raise ValueError(f"shares must be one for each arm and add up to 1, not {list(shares)}")
        if any(count and not share for count, share in zip(rows, shares, strict=True)):
            return 0.0
        total += math.lgamma(strength) - math.lgamma(strength + sum(rows))
        for count, share in zip(rows, shares, strict=True):
            if share:
                prior = strength * share
                total += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return min(1.0, math.exp(-min(total, 700.0)))


def ranks(rows: int, p: float, *, alpha: float = 0.05, tuned_for: float = 2000) -> tuple[int, int]:
    """Ranks (1 = smallest, `rows` = largest) between which the p-quantile lies at all looks; 0 or rows + 1: no bound yet.

    How many values are at most the true quantile is a count with chance p, so `log_bernoulli` about p bounds it (Howard &
    Ramdas 2022, as there). Independent rows; ties do no harm.

    >>> ranks(2000, 0.5), ranks(50, 0.99)
    ((933, 1068), (44, 51))
    """
    if rows <= 0:
        return 0, 1
    limit, strength = -math.log(alpha), tuned_for / 8
    chance = np.array([p])

    def outside(count: int) -> bool:
        return float(log_bernoulli(count, rows, chance, p, strength)[0]) >= limit

    middle = min(rows, max(0, round(p * rows)))
    low = _integer_edge(outside, middle, 0)
    high = _integer_edge(outside, middle, rows)
    return (0 if low is None else low + 1), (rows + 1 if high is None else high)


def quantile(values: Array, p: float, *, alpha: float = 0.05, tuned_for: float = 2000) -> Interval:
    """The p-quantile of the values seen so far, with an interval valid at every look; infinite where there is no bound yet.

    >>> found = quantile(np.random.default_rng(0).exponential(1, 5000), 0.95)
    >>> found.low < -math.log(0.05) < found.high
    True
    """
    ordered = np.sort(values)
    low, high = ranks(len(ordered), p, alpha=alpha, tuned_for=tuned_for)
    return Interval(
        float(ordered[max(0, math.ceil(p * len(ordered)) - 1)]) if len(ordered) else math.nan,
        float(ordered[low - 1]) if low >= 1 else -math.inf,
        float(ordered[high - 1]) if high <= len(ordered) else math.inf,
    )


def quantile_of_buckets(
    edges: Array, counts: NDArray[np.int64], p: float, *, alpha: float = 0.05, tuned_for: float = 2000
) -> Interval:
    """The same from a histogram: `counts[i]` values lie between `edges[i]` and `edges[i + 1]` (one edge more than counts).

    Ends of the interval are the outer edges of their buckets, so it only widens; the estimate is the upper edge.

    >>> quantile_of_buckets(np.array([0.0, 10.0, 20.0, 50.0, np.inf]), np.array([900, 800, 290, 10]), 0.95)
    Interval(estimate=50.0, low=20.0, high=50.0)
    """
    if len(edges) != len(counts) + 1:
        raise ValueError(f"{len(counts)} buckets need {len(counts) + 1} edges, not {len(edges)}")
    below = np.cumsum(counts)
    rows = int(below[-1]) if len(below) else 0
    if rows == 0:
        return Interval(math.nan, -math.inf, math.inf)
    low, high = ranks(rows, p, alpha=alpha, tuned_for=tuned_for)
    bucket = np.searchsorted(below, [max(low, 1), max(1, math.ceil(p * rows)), min(high, rows)])
    return Interval(
        float(edges[bucket[1] + 1]),
        float(edges[bucket[0]]) if low >= 1 else -math.inf,
        float(edges[bucket[2] + 1]) if high <= rows else math.inf,
    )


def _check(successes: int, rows: int) -> None:
    if not 0 <= successes <= rows:
        raise ValueError(f"{successes} of {rows} rows is no count")


def _edge(inside: Callable[[float], bool], start: float, end: float) -> float:
    """The last value inside between start (inside) and end, by bisection."""
    if inside(end):
        return end
    for _ in range(60):
        middle = (start + end) / 2
        start, end = (middle, end) if inside(middle) else (start, middle)
    return end


def _integer_edge(outside: Callable[[int], bool], middle: int, end: int) -> int | None:
    """The count nearest to `middle` that is outside, towards `end`; None when even the end is not."""
    if not outside(end):
        return None
    near, far = middle, end
    while abs(far - near) > 1:
        half = (near + far) // 2
        near, far = (near, half) if outside(half) else (half, far)
    return far
