"""How sure a difference is: two versions on the same rows, with rows of one day taken as dependent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Loss of `a` minus loss of `b` on the same rows: below 0, `a` is better."""

    a: float
    b: float
    difference: float
    low: float
    high: float
    """Ends of the confidence interval of the difference; infinite with fewer than two clusters."""
    level: float
    standard_error: float
    p_value: float
    """Of no difference, two-sided."""
    rows: int
    clusters: int


def paired_difference(
    loss_a: Array, loss_b: Array, weight: Array, cluster: NDArray[Any], *, level: float = 0.95, neighbours: bool = False
) -> Difference:
    """The difference of two losses Σ loss / Σ weight on the same rows, and its uncertainty.

    `loss_a`, `loss_b` and `weight` come from `losses.row_losses`; give only rows that both versions answered and whose
    weights agree. `cluster` tells which rows belong together, as a rule the day of event time.

    The difference is a ratio of sums over clusters, D = Σ d_g / Σ w_g with d_g the cluster's summed loss difference. Its
    variance is estimated from the clusters alone, G / (G − 1) · Σ (d_g − D w_g)² / (Σ w_g)², and the interval takes Student's
    t with G − 1 degrees of freedom. That is the cluster-robust variance of a mean (Liang & Zeger 1986, Biometrika 73; Cameron
    & Miller 2015, Journal of Human Resources 50, section VI on few clusters), linearised for a ratio (Cochran 1977, Sampling
    Techniques, section 6.4); with clusters of equal weight it is the paired t test on day means.

    It assumes that clusters are independent of one another, or, with `neighbours`, that each goes together with the one before and after it:
    then the variance is `inflation` times as large and the degrees of freedom are as many times fewer. It assumes further that no few
    of them carry most of the weight, and that one looks once: a test at every new day needs a sequential method. With
    fewer than about seven clusters it is honest but wide.

    >>> day = np.repeat(np.arange(10), 24)
    >>> noise = np.random.default_rng(1).normal(size=240)
    >>> found = paired_difference(np.abs(noise), np.abs(noise) + 0.5 + 0.1 * noise, np.ones(240), day)
    >>> round(found.difference, 2), found.high < 0, found.clusters
    (-0.49, True, 10)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    total = float(weight.sum())
    if total <= 0:
        raise ValueError("the rows have no weight")
    _, group = np.unique(cluster, return_inverse=True)
    group = group.reshape(-1)
    gaps = np.bincount(group, weights=loss_a - loss_b)
    weights = np.bincount(group, weights=weight)
    clusters = len(gaps)
    difference = float(gaps.sum()) / total
    error, low, high, p = math.nan, -math.inf, math.inf, 1.0
    if clusters >= 2:
        residuals = gaps - difference * weights
        squares = float((residuals**2).sum())
        factor = inflation(squares, float(residuals[1:] @ residuals[:-1]), clusters) if neighbours else 1.0
        error = math.sqrt(factor * clusters / (clusters - 1) * squares) / total
        df = max(clusters / factor - 1, 1.0)
        reach = t_quantile((1 + level) / 2, df) * error
        low, high = difference - reach, difference + reach
        p = _two_sided(difference, error, df)
    return Difference(
        a=float(loss_a.sum()) / total,
        b=float(loss_b.sum()) / total,
        difference=difference,
        low=low,
        high=high,
        level=level,
        standard_error=error,
        p_value=p,
        rows=len(weight),
        clusters=clusters,
    )


def inflation(squares: float, lagged: float, number: int) -> float:
    """How many times larger the variance of a mean is since neighbours go together: (1 + r)/(1 − r), r ≥ 0 their correlation.

    `squares` = Σ eᵢ² of the `number` residuals in order, `lagged` = Σ eᵢ eᵢ₋₁. The factor is that of AR 1 (Bayley & Hammersley 1946, JRSS
    Supplement 8). An estimated r is too low by about (1 + 4 r)/n (Marriott & Pope 1954, Biometrika 41), which is added; at most .9.

    >>> inflation(1.0, 0.0, 1000) < 1.01, round(inflation(1.0, 0.5, 1000), 2)
    (True, 3.02)
    """
    if squares <= 0:
        return 1.0
    r = lagged / squares
    r = min(max(r + (1 + 4 * r) / number, 0.0), 0.9)
    return (1 + r) / (1 - r)


def _two_sided(difference: float, error: float, df: float) -> float:
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return beta_fraction(df / 2, 0.5, df / (df + (difference / error) ** 2))


def t_cdf(t: float, df: float) -> float:
    """P(T ≤ t) of Student's t with `df` degrees of freedom (Abramowitz & Stegun 26.7.1).

    >>> round(t_cdf(2.228, 10), 4)
    0.975
    """
    if math.isinf(t):
        return 1.0 if t > 0 else 0.0
    tail = 0.5 * beta_fraction(df / 2, 0.5, df / (df + t * t))
    return 1 - tail if t >= 0 else tail


@lru_cache(maxsize=256)
def t_quantile(p: float, df: float) -> float:
    """The t with P(T ≤ t) = p, by bisection to 1e-12.

    >>> round(t_quantile(0.975, 27), 4)
    2.0518
    """
    if not 0 < p < 1:
        raise ValueError(f"p must lie between 0 and 1, not {p}")
    if p < 0.5:
        return -t_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        low, high = high, high * 2
    while high - low > 1e-12 * max(1.0, high):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def beta_fraction(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22, Lentz's method).

    >>> round(beta_fraction(2, 3, 0.4), 4)
    0.5248
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_fraction(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    result = d
    for m in range(1, 1000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away(1 + step * d, tiny)
            c = _away(1 + step / c, tiny)
            result *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * result


def _away(value: float, tiny: float) -> float:
    return tiny if value == 0 else value


def chi_square_tail(x: float, df: float) -> float:
    """P(X > x) of χ² with `df` degrees of freedom: the regularised upper incomplete gamma function Q(df/2, x/2).

    By its series below the middle (DLMF 8.11.4) and its continued fraction above (DLMF 8.9.2, Lentz's method).

    >>> round(chi_square_tail(18.307, 10), 4)
    0.05
    """
    a, z = df / 2, x / 2
    if z <= 0:
        return 1.0
    front = math.exp(a * math.log(z) - z - math.lgamma(a + 1))
    if z < a + 1:
        term, total, k = 1.0, 1.0, 0
        while term > 1e-17 * total:
            k += 1
            term *= z / (a + k)
            total += term
        return max(0.0, 1 - front * total)
    tiny = 1e-300
    b = z + 1 - a
    c, d = 1 / tiny, 1 / b
    result = d
    for k in range(1, 10_000):
        step = -k * (k - a)
        b += 2
        d = 1 / _away(step * d + b, tiny)
        c = _away(b + step / c, tiny)
        result *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * a * result
