"""A column as a histogram of integers: made once against a reference's bins, merged by adding, exact in any order.

The slots of a histogram: `null`, `wrong` (a value of another type), `low` and `high` (outside the reference's range) or `other` and `unseen`
(levels beyond the top ones; levels that the reference did not have), then the bins or levels themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 32
LEVELS = 30
REMEMBERED = 2000
"""Levels that are known as seen; with more, nothing is called unseen."""
_UNIT = 1_000_000
_FURTHEST = 1000.0
_LARGEST = 1e150
"""Whose square still is a number."""

NULL, WRONG, LOW, HIGH = 0, 1, 2, 3
OTHER, UNSEEN = 2, 3
SPECIAL = 4
Values = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True)
class Bins:
    """How a column is counted; made from the reference and stored with it."""

    kind: str
    """"number" or "level"."""
    edges: tuple[float, ...] = ()
    """Numbers: quantiles of the reference, from its smallest to its largest value; or each value, where they are few."""
    center: float = 0.0
    scale: float = 1.0
    levels: tuple[str, ...] = ()
    """Levels with a slot of their own, most frequent first."""
    seen: tuple[str, ...] = ()
    """Other levels of the reference; empty when there are too many to remember."""
    novelty: float = 0.0
    """Share of rows with a level never seen before that the reference itself leads one to expect."""

    @property
    def slots(self) -> int:
        return SPECIAL + (max(len(self.edges) - 1, 1) if self.kind == "number" else len(self.levels))


@dataclass(frozen=True)
class Histogram:
    """Counts by slot, and of the numbers Σ z and Σ z² in millionths, z = (value − center) / scale cut to ±1000."""

    counts: tuple[int, ...]
    total: int = 0
    squares: int = 0

    @property
    def rows(self) -> int:
        return sum(self.counts)


def make_bins(values: Values, *, kind: str | None = None) -> Bins:
    """Bins of a reference column: quantiles of numbers, the most frequent levels of anything else (truths too).

    `kind` "number" or "level" overrides what the values look like. The expected share of new levels is Good's (Good 1953, Biometrika
    40): levels seen once, over rows.

    >>> make_bins(np.arange(101.0)).edges[:3], make_bins(["a", "b", "a", None]).levels
    ((0.0, 3.0, 6.0), ('a', 'b'))
    """
    if kind is None:
        kind = "number" if looks_numeric(values) else "level"
    if kind == "number":
        numbers = numbers_of(values)[0]
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return Bins("number", (0.0, 0.0))
        distinct = np.unique(numbers)
        few = len(distinct) <= BINS  # a bin each, the last one by its edge twice
        quantiles = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1), method="inverted_cdf"))
        edges = np.append(distinct, distinct[-1]) if few else quantiles
        tame = np.clip(numbers, -_LARGEST, _LARGEST)
        spread, center = float(tame.std()), float(tame.mean())
        scale = spread if spread > 0 else max(abs(center), 1.0)
        return Bins("number", tuple(edges.tolist()), center, scale)
    found = _levels(values)
    order = sorted(found, key=lambda level: (-found[level], level))
    top, rest = order[:LEVELS], order[LEVELS:]
    rows = sum(found.values())
    once = sum(1 for count in found.values() if count == 1)
    novelty = once / rows if rows and len(order) <= REMEMBERED else 1.0 if rows else 0.0
    return Bins("level", levels=tuple(top), seen=tuple(rest) if len(order) <= REMEMBERED else (), novelty=novelty)


def histogram(values: Values, bins: Bins) -> Histogram:
    """Counts of a column's values; NaN, None and NaT are null.

    >>> bins = make_bins(np.arange(101.0))
    >>> histogram([50.0, None, -1.0, 100.0, "n/a"], bins).counts[:4]
    (1, 1, 1, 0)
    """
    if bins.kind == "number":
        return _number_histogram(values, bins)
    counts = [0] * bins.slots
    slot = {level: SPECIAL + i for i, level in enumerate(bins.levels)}
    many = bins.novelty >= 1.0
    seen = frozenset(bins.seen)
    found = _levels(values)
    counts[NULL] = len(values) - sum(found.values())
    for level, count in found.items():
        counts[slot.get(level, OTHER if many or level in seen else UNSEEN)] += count
    return Histogram(tuple(counts))


def _number_histogram(values: Values, bins: Bins) -> Histogram:
    numbers, wrong = numbers_of(values)
    known = numbers[~np.isnan(numbers)]
    edges = np.array(bins.edges)
    inside = (known >= edges[0]) & (known <= edges[-1])
    slot = np.clip(np.searchsorted(edges, known[inside], side="right") - 1, 0, max(len(edges) - 2, 0))
    counts = np.zeros(bins.slots, dtype=np.int64)
    counts[SPECIAL:] = np.bincount(slot, minlength=bins.slots - SPECIAL)
    counts[NULL], counts[WRONG] = len(numbers) - len(known) - wrong, wrong
    counts[LOW], counts[HIGH] = int((known < edges[0]).sum()), int((known > edges[-1]).sum())
    with np.errstate(over="ignore"):
        z = np.clip((known - bins.center) / bins.scale, -_FURTHEST, _FURTHEST)
    total, squares = np.rint(z * _UNIT).astype(np.int64), np.rint(z * z * _UNIT).astype(np.int64)
    return Histogram(tuple(counts.tolist()), int(total.sum()), int(squares.sum()))


def merge_histograms(parts: Sequence[Histogram]) -> Histogram:
    """The histogram of all rows together, of histograms with the same bins.

    >>> one = histogram([1.0, 2.0], make_bins(np.arange(5.0)))
    >>> merge_histograms([one, one]).rows
    4
    """
    if not parts:
        raise ValueError("no histograms to merge")
    counts = np.array([part.counts for part in parts], dtype=np.int64).sum(axis=0)
    return Histogram(tuple(counts.tolist()), sum(part.total for part in parts), sum(part.squares for part in parts))


def moments(found: Histogram) -> tuple[float, float]:
    """Mean and standard deviation of the numbers, in standard deviations of the reference about its mean; NaN without any.

    >>> values = np.arange(101.0)
    >>> moments(histogram(2 * values + 100, make_bins(values)))
    (5.1449..., 2.0000...)
    """
    rows = found.rows - found.counts[NULL] - found.counts[WRONG]
    if rows <= 0:
        return math.nan, math.nan
    mean = found.total / _UNIT / rows
    return mean, math.sqrt(max(found.squares / _UNIT / rows - mean**2, 0.0))


def looks_numeric(values: Values) -> bool:
    """Whether most values that are not null are numbers; truths are none.

    >>> looks_numeric([1, None, 2.5, "n/a"]), looks_numeric([True, False])
    (True, False)
    """
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return values.dtype.kind in "fiu"
    known = [value for value in values if not is_null(value)]
    numbers = sum(isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in known)
    return numbers > len(known) / 2


def numbers_of(values: Values) -> tuple[NDArray[np.float64], int]:
    """Values as floats, NaN where they are no numbers, and how many of those are not null but something else.

    >>> numbers_of([1, None, "x"])
    (array([ 1., nan, nan]), 1)
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return values.astype(np.float64), 0
    known = np.full(len(values), np.nan)
    wrong = 0
    for i, value in enumerate(values):
        if isinstance(value, (int, float, np.number, np.bool_)):
            known[i] = value
        elif not is_null(value):
            wrong += 1
    return known, wrong


def _levels(values: Values) -> Counter[str]:
    if isinstance(values, np.ndarray) and values.dtype.kind in "iubUS":
        levels, counts = np.unique(values, return_counts=True)
        return Counter({level_of(level): int(count) for level, count in zip(levels.tolist(), counts, strict=True)})
    return Counter(level_of(value) for value in values if not is_null(value))


def level_of(value: Any) -> str:
    """A level as text; 1, 1.0 and True are one level, since files write them each way.

    >>> level_of(1.0), level_of(True), level_of("a")
    ('1', '1', 'a')
    """
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def is_null(value: Any) -> bool:
    """None, NaN or NaT.

    >>> is_null(None), is_null(math.nan), is_null(0)
    (True, True, False)
    """
    return value is None or bool(value != value)
