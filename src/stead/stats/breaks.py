"""What breaks in data: shares that jump, units that change, columns that stand still, rows that stop coming.

A break is abrupt. Seasons move slowly from one window to the next, so changes of scale are held against the change from block to
block that the reference shows, not against the reference's level: out of range alone is usually season.

On the hourly weather, air, traffic, power and bike columns of four public sets (22,617 column-weeks, references of eight weeks), the scale
rule opened 22 times without a planted change: once for a real fault (0 K), 21 times falsely, .05 a column and year. It found °F in 92 %, a
thousandfold in 99 %, a hundredth in 87 % of trials in the first week. Its constants were set while looking at these sets. Miles for
kilometres it mostly leaves to the drift note. Levels that come with a season (snow) are reported as unseen, and are not a fault.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stead.stats.drift import ColumnReference, known_rows, share
from stead.stats.histograms import NULL, SPECIAL, UNSEEN, WRONG, Histogram, moments

POINTS = 0.03
ERRORS = 5.0
_LEAST = 30
_TIMES = 4.0
"""A jump must be this many times the largest one between neighbouring blocks of the reference …"""
_SHIFT = 1.0
"""… and at least one standard deviation of the reference, or"""
_STRETCH = math.log(2)
"""a factor of two in the standard deviation."""
_SPARSE = 0.5
"""A number that is one value half of the time (rain, snow) has no scale to judge: a dry week is no break."""


@dataclass(frozen=True)
class Break:
    kind: str
    """"null", "type", "unseen", "scale", "constant", "few-rows" or "many-rows"."""
    value: float
    """Share of the rows, or for scale the mean in the reference's standard deviations, or the number of rows."""
    usual: float
    limit: float
    """What `value` would have had to stay within."""


def breaks(window: Histogram, reference: ColumnReference, *, before: Histogram | None = None) -> list[Break]:
    """What is broken in a column's window. `before` is the last window that was not broken; without it scale is not judged.

    A share (null, wrong type, unseen level) breaks when it is up by more than 3 points and 5 standard errors, the sd between blocks
    included. The share of unseen levels is held against what the reference leads one to expect: `Bins.novelty`, and the rows of each
    block whose level no other block has.

    >>> from stead.stats.drift import column_reference
    >>> from stead.stats.histograms import histogram, make_bins
    >>> rng = np.random.default_rng(0)
    >>> bins = make_bins(rng.normal(15, 5, 800))
    >>> reference = column_reference(bins, [histogram(rng.normal(15, 5, 100), bins) for _ in range(8)])
    >>> fahrenheit = histogram(rng.normal(59, 9, 100), bins)
    >>> [each.kind for each in breaks(fahrenheit, reference, before=reference.blocks[-1])]
    ['scale']
    """
    if window.rows < _LEAST:
        return []
    kinds = [("null", NULL), ("type", WRONG)] + ([("unseen", UNSEEN)] if reference.bins.kind == "level" else [])
    found = [each for kind, slot in kinds if (each := _share_break(kind, slot, window, reference)) is not None]
    counts = reference.whole.counts[SPECIAL:]
    if reference.bins.kind == "number" and max(counts) < _SPARSE * max(known_rows(reference.whole), 1):
        scale = _constant(window, reference) or (_scale(window, before, reference) if before is not None else None)
        if scale is not None:
            found.append(scale)
    return found


def _share_break(kind: str, slot: int, window: Histogram, reference: ColumnReference) -> Break | None:
    value = share(window, slot)
    if kind == "unseen":
        blocks = _novelties(reference.blocks)
        expected = max([reference.bins.novelty, float(np.mean(blocks)) if blocks else 0.0])
    else:
        blocks = [share(block, slot) for block in reference.blocks if block.rows >= _LEAST]
        expected = share(reference.whole, slot)
    between = float(np.var(blocks, ddof=1)) * (1 + 1 / len(blocks)) if len(blocks) > 1 else 0.0
    pooled = (value * window.rows + expected * reference.whole.rows) / max(window.rows + reference.whole.rows, 1)
    chance = pooled * (1 - pooled) * (1 / window.rows + 1 / max(reference.whole.rows, 1))
    limit = expected + max(POINTS, ERRORS * math.sqrt(chance + between))
    return Break(kind, value, expected, limit) if value > limit else None


def _novelties(blocks: Sequence[Histogram]) -> list[float]:
    """Of each block, the share of rows whose level no other block has: what is new in a week when the weather changes."""
    counts = np.array([block.counts[SPECIAL:] for block in blocks], dtype=np.float64)
    alone = (counts > 0).sum(axis=0) == 1
    return [
        float(own[alone].sum()) / block.rows for own, block in zip(counts, blocks, strict=True) if block.rows >= _LEAST
    ]


def _scale(window: Histogram, before: Histogram, reference: ColumnReference) -> Break | None:
    """A jump of mean or spread from the window before, far beyond those between blocks and to where no block was."""
    if min(known_rows(window), known_rows(before)) < _LEAST:
        return None
    blocks = np.array([_place(block) for block in reference.blocks if known_rows(block) >= _LEAST])
    if len(blocks) < 3:
        return None
    now, then = np.array(_place(window)), np.array(_place(before))
    floors = np.array([_SHIFT, _STRETCH])
    limits = np.maximum(floors, _TIMES * np.abs(np.diff(blocks, axis=0)).max(axis=0))
    beyond = np.maximum(now - blocks.max(axis=0), blocks.min(axis=0) - now)
    for i, value in enumerate(np.abs(now - then)):
        if value > limits[i] and beyond[i] > floors[i] / 2:
            return Break("scale", float(now[0]), float(then[0]), float(limits[0]))
    return None


def _place(found: Histogram) -> tuple[float, float]:
    mean, spread = moments(found)
    return mean, math.log(max(spread, 1e-3))


def _constant(window: Histogram, reference: ColumnReference) -> Break | None:
    """A number that no longer varies though it did in every block: a sensor or a join that stands still."""
    if known_rows(window) < _LEAST:
        return None
    spread = moments(window)[1]
    usual = min((moments(block)[1] for block in reference.blocks if known_rows(block) >= _LEAST), default=0.0)
    return Break("constant", spread, usual, 0.05) if usual > 0.05 and spread < 0.002 else None


def volume_break(rows: int, usual: NDArray[np.int64]) -> Break | None:
    """Too few or too many rows in a window, against the row counts of the reference's windows of the same length.

    Broken when rows are outside mean ± 5 sd (of the windows, at least a Poisson's) and under half or over twice the mean.

    >>> volume_break(0, np.array([20, 25, 24, 22])).kind, volume_break(18, np.array([20, 25, 24, 22]))
    ('few-rows', None)
    """
    if len(usual) < 3:
        return None
    mean = float(np.mean(usual))
    reach = ERRORS * max(float(np.std(usual, ddof=1)), math.sqrt(mean))
    low, high = min(mean - reach, mean / 2), max(mean + reach, 2 * mean)
    if rows < low or (rows == 0 and int(np.min(usual)) > 0):
        return Break("few-rows", float(rows), mean, max(low, 1.0))
    return Break("many-rows", float(rows), mean, high) if rows > high else None
