"""How far two versions' outputs are apart, held against how far outputs of rows drawn at random are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def apart(first: Array, second: Array) -> tuple[Array, Array]:
    """By row: the distance of both outputs on it, and what the row adds to the mean distance of outputs on rows drawn at random.

    That mean is over all pairs of rows; a row's part is its first-order projection, p + q − C with p and q the mean distances from its either
    output to the other version's outputs, and C the mean of all (Hoeffding 1948, Annals of Mathematical Statistics 19), so that sums by block
    of rows have the right spread.

    Σ of the one over Σ of the other is 0 for equal versions and about 1 where the second says nothing of what the first does on the
    same row: constant, in another unit, shuffled. Growth or a season that a stale version has missed leaves it well below.

    >>> x = np.random.default_rng(0).gamma(4, 25, 1000)
    >>> for other in (1.5 * x, np.full(1000, 100.0), x / 1000, np.roll(x, 1)):
    ...     same, any_row = apart(x, other)
    ...     print(round(float(same.sum() / any_row.sum()), 2))
    0.63
    1.0
    1.0
    0.99
    """
    if not len(first):
        return first, second
    from_first, from_second = _distance(first, second), _distance(second, first)
    return np.abs(second - first), from_first + from_second - from_first.mean()


def _distance(points: Array, others: Array) -> Array:
    """Mean of abs(point − other) over the others, for each point; sorted once."""
    others = np.sort(others)
    sums = np.concatenate([[0.0], np.cumsum(others)])
    below = np.searchsorted(others, points)
    n = len(others)
    return np.asarray((points * (2 * below - n) + sums[n] - 2 * sums[below]) / n, dtype=np.float64)
