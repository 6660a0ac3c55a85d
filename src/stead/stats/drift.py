"""Has a column, or what the model answers, changed since the reference? A note for the model's page, and what truly breaks.

The reference is kept as histograms of at least eight blocks of time, as long as the windows that will be held against them: how much blocks
differ from one another tells what is usual for the column. A changed distribution is a note; a share of nulls, a new type, a unit or a
volume that jumps is a break. Prediction drift is the same on the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stead.stats.histograms import NULL, OTHER, SPECIAL, UNSEEN, WRONG, Bins, Histogram, merge_histograms
from stead.stats.intervals import chi_square_tail

Array = NDArray[np.float64]
FLOOR = 0.08
"""Of the distance: less is a trifle, however sure."""
NOTE_ALPHA = 1 / 100
_EXPECTED = 10
_LEAST = 30


@dataclass(frozen=True)
class ColumnReference:
    bins: Bins
    blocks: tuple[Histogram, ...]
    whole: Histogram
    overdispersion: float
    """κ: how much more than chance the column's blocks differ, see `overdispersion`."""


@dataclass(frozen=True)
class Drift:
    distance: float
    """Jensen–Shannon distance of window and reference, 0 to 1."""
    p_value: float
    """Of a window like the reference's blocks; 1 when the distance is under the floor or the rows are too few."""
    df: int
    rows: int


@dataclass(frozen=True)
class Note:
    """Where the note of one model stands; one row."""

    windows: int = 0
    wealth: float = 0.0
    """Logarithm of the CUSUM of e-values; the note opens at ln(1/α) and closes at 0."""
    open: bool = False
    changed: int = 0
    """Window number (from 1) at which it opened or closed last; 0 = never."""


def divergence(a: Array, b: Array) -> float:
    """Jensen–Shannon divergence of two count vectors of the same slots, in nats (Lin 1991, IEEE Trans. Information Theory 37).

    >>> round(divergence(np.array([10, 0]), np.array([0, 30])) / math.log(2), 6)
    1.0
    """
    if not a.sum() or not b.sum():
        return math.nan
    p, q = a / a.sum(), b / b.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.nansum(np.where(p > 0, p * np.log(p / middle), 0) + np.where(q > 0, q * np.log(q / middle), 0)) / 2
    return max(float(found), 0.0)


def distance(a: Histogram, b: Histogram) -> float:
    """Jensen–Shannon distance √(D / ln 2), between 0 (the same) and 1 (nothing in common); NaN without rows.

    Endres & Schindelin 2003, "A new metric for probability distributions", IEEE Trans. Information Theory 49.

    >>> distance(Histogram((5, 5)), Histogram((50, 50)))
    0.0
    """
    return distance_of(_slots(a), _slots(b))


def distance_of(a: Array, b: Array) -> float:
    """`distance` of two count vectors of the same slots.

    >>> distance_of(np.array([10, 0]), np.array([0, 30]))
    1.0
    """
    found = divergence(a, b)
    return math.sqrt(found / math.log(2)) if found == found else math.nan


def _slots(found: Histogram) -> Array:
    """Counts with the third and fourth slot as one: bins made from the reference itself leave it no unseen level."""
    counts = np.array(found.counts, dtype=np.float64)
    if len(counts) > UNSEEN:
        counts[OTHER] += counts[UNSEEN]
        counts[UNSEEN] = 0
    return counts


def _grouped(a: Histogram, b: Histogram) -> tuple[Array, Array]:
    """Neighbouring slots joined until each expects ten rows in the smaller of both: χ² is good from five on (Cochran 1954, Biometrics 10)."""
    first, second = _slots(a), _slots(b)
    pooled = (first + second) * (min(a.rows, b.rows) / max(a.rows + b.rows, 1))
    group = np.empty(len(pooled), dtype=np.int64)
    current, held = 0, 0.0
    for slot, expected in enumerate(pooled):
        if held >= _EXPECTED:
            current, held = current + 1, 0.0
        group[slot] = current
        held += expected
    if held < _EXPECTED and current:
        group[group == current] = current - 1
    groups = int(group.max()) + 1
    joined = np.eye(groups)[group]
    return first @ joined, second @ joined


def overdispersion(blocks: Sequence[Histogram]) -> float:
    """κ ≥ 0 such that a block differs from the others by D ≈ (df/8)(1/n + 1/m + κ) on average, plus one standard error.

    Of each block against all others, D being (df/8)(1/n + 1/m) when rows are independent (the second-order expansion of D is χ²/8:
    Lin 1991; Read & Cressie 1988, Goodness-of-Fit Statistics). What is more comes from time: seasons, weekdays, weather.

    >>> overdispersion([Histogram((50, 50))] * 8)
    0.0
    """
    blocks = [block for block in blocks if block.rows >= _LEAST]
    if len(blocks) < 2:
        return 0.0
    found = []
    for i, block in enumerate(blocks):
        rest = merge_histograms([*blocks[:i], *blocks[i + 1 :]])
        ours, theirs = _grouped(block, rest)
        df = max(len(ours) - 1, 1)
        found.append(8 * divergence(ours, theirs) / df - 1 / block.rows - 1 / rest.rows)
    return max(0.0, float(np.mean(found) + np.std(found, ddof=1) / math.sqrt(len(found))))


def column_reference(bins: Bins, blocks: Sequence[Histogram]) -> ColumnReference:
    """The reference of one column from the histograms of its blocks of time, in order.

    >>> column_reference(Bins("level", levels=("a",)), [Histogram((0, 0, 0, 0, 40))] * 8).whole.rows
    320
    """
    return ColumnReference(bins, tuple(blocks), merge_histograms(blocks), overdispersion(blocks))


def drift(window: Histogram, reference: ColumnReference, *, floor: float = FLOOR) -> Drift:
    """How far a window is from the reference, and how unlikely that is for a window like its blocks.

    8 D / (1/n + 1/m + κ) is χ² with df = groups of slots − 1 when nothing changed. With fewer than thirty rows it says nothing.

    >>> blocks = [Histogram((0, 0, 0, 0, 50, 50))] * 8
    >>> reference = column_reference(Bins("level", levels=("a", "b")), blocks)
    >>> drift(Histogram((0, 0, 0, 0, 90, 10)), reference).p_value < 1e-6
    True
    """
    rows, base = window.rows, reference.whole.rows
    far = distance(window, reference.whole)
    ours, theirs = _grouped(window, reference.whole)
    df = len(ours) - 1
    if min(rows, base) < _LEAST or df < 1 or not far >= floor:
        return Drift(far, 1.0, max(df, 0), rows)
    statistic = 8 * divergence(ours, theirs) / (1 / rows + 1 / base + reference.overdispersion)
    return Drift(far, chi_square_tail(statistic, df), df, rows)


def update_note(state: Note, drifts: Mapping[str, Drift], *, alpha: float = NOTE_ALPHA) -> Note:
    """The note after one more window of all columns.

    The smallest p times the number of columns (Bonferroni) becomes an e-value by ½ p^(−½) (Vovk & Wang 2021, "E-values: calibration,
    combination and applications", Annals of Statistics 49), and those a CUSUM with threshold 1/α: at least 1/α windows between false
    notes on average (Shin, Ramdas & Rinaldo 2024, NEJSDS 2), provided that windows are like blocks. An open note closes when its
    wealth is spent: after about seven windows without drift.

    >>> state = Note()
    >>> for p in (0.5, 1e-8, 1e-8):
    ...     state = update_note(state, {"x": Drift(0.2, p, 10, 500)})
    >>> state.open, state.changed
    (True, 2)
    """
    if not drifts:
        return state
    p = min(1.0, max(min(each.p_value for each in drifts.values()) * len(drifts), 1e-300))
    limit = -math.log(alpha)
    wealth = min(max(state.wealth, 0.0) + math.log(0.5) - math.log(p) / 2, limit)
    state = replace(state, windows=state.windows + 1, wealth=wealth)
    if state.open:
        return state if wealth > 0 else replace(state, open=False, changed=state.windows)
    return replace(state, open=True, changed=state.windows) if wealth >= limit else state


def weighted_distance(distances: Mapping[str, float], importance: Mapping[str, float]) -> float:
    """Σ importance · distance / Σ importance over the columns that have both; NaN when none has.

    >>> round(weighted_distance({"a": 0.5, "b": 0.1}, {"a": 3, "b": 1}), 3)
    0.4
    """
    both = [name for name in distances if importance.get(name, 0) > 0 and distances[name] == distances[name]]
    total = sum(importance[name] for name in both)
    return sum(importance[name] * distances[name] for name in both) / total if total else math.nan


def share(found: Histogram, slot: int) -> float:
    """Part of the rows in a slot.

    >>> share(Histogram((1, 0, 0, 0, 3)), NULL)
    0.25
    """
    return found.counts[slot] / found.rows if found.rows else 0.0


def known_rows(found: Histogram) -> int:
    """Rows that are neither null nor of the wrong type.

    >>> known_rows(Histogram((1, 2, 0, 0, 3)))
    3
    """
    return found.rows - found.counts[NULL] - found.counts[WRONG]


def parts(found: Histogram, bins: Bins) -> list[tuple[str, int]]:
    """Slots with names, for drawing the distributions of window and reference side by side.

    >>> parts(Histogram((0, 0, 1, 0, 3)), Bins("level", levels=("a",)))[-2:]
    [('unseen', 0), ('a', 3)]
    """
    special = ["null", "wrong type", *(["below", "above"] if bins.kind == "number" else ["other", "unseen"])]
    if bins.kind == "number":
        edges = bins.edges
        named = [f"{a:.6g} … {b:.6g}" for a, b in pairwise(edges)] or [f"{edges[0]:.6g}"]
    else:
        named = list(bins.levels)
    return list(zip([*special, *named], found.counts[: SPECIAL + len(named)], strict=True))
