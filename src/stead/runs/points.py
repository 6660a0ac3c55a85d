"""Points of a metric: packed in blocks, in short as a summary, thinned for a chart. Arrays in, arrays out.

A block is three columns one after the other, little endian: int64 steps, int64 times in ms, float64 values.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stead.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

POINT = 24
_ONE = struct.Struct("<qqd")
FEW = 64
"""Below this many points plain Python is quicker than arrays."""


@dataclass
class Columns:
    """Points of one key in the order in which they came."""

    steps: list[int]
    times: list[int]
    values: list[float]

    def __len__(self) -> int:
        return len(self.values)


@dataclass
class Summary:
    """Last by (step, time), least and greatest; `last`, `min` and `max` are None where they are NaN or there is none."""

    n: int
    last: float | None
    last_step: int
    last_at: int
    min: float | None = None
    min_step: int | None = None
    max: float | None = None
    max_step: int | None = None

    def joined(self, later: Summary) -> Summary:
        """The summary of both stretches; at a tie of step and time the later one is last."""
        first = (self.last_step, self.last_at) > (later.last_step, later.last_at)
        end = self if first else later
        low = _better(self.min, self.min_step, later.min, later.min_step, 1)
        high = _better(self.max, self.max_step, later.max, later.max_step, -1)
        return Summary(self.n + later.n, end.last, end.last_step, end.last_at, *low, *high)


def pack(points: Columns) -> bytes:
    """
    >>> unpack(pack(Columns([1, 2], [10, 20], [0.5, float("inf")])))
    Columns(steps=[1, 2], times=[10, 20], values=[0.5, inf])
    """
    n = len(points.values)
    if n == 1:
        return _ONE.pack(points.steps[0], points.times[0], points.values[0])
    return struct.pack(f"<{n}q{n}q{n}d", *points.steps, *points.times, *points.values)


def unpack(data: bytes) -> Columns:
    n = len(data) // POINT
    flat = struct.unpack(f"<{n}q{n}q{n}d", data)
    return Columns(list(flat[:n]), list(flat[n : 2 * n]), list(flat[2 * n :]))


def concatenate(blocks: Sequence[bytes]) -> bytes:
    """Several blocks as one, without looking at the numbers.

    >>> one, two = pack(Columns([1], [10], [0.5])), pack(Columns([2], [20], [0.25]))
    >>> unpack(concatenate([one, two])).values
    [0.5, 0.25]
    """
    columns: list[list[bytes]] = [[], [], []]
    for block in blocks:
        third = len(block) // 3
        for number, column in enumerate(columns):
            column.append(block[number * third : (number + 1) * third])
    return b"".join(b"".join(column) for column in columns)


def checked(steps: bytes, times: bytes, values: bytes) -> bytes:
    """The block of three packed columns. Raises InvalidInput (`points-invalid`) where their lengths differ."""
    if not len(steps) == len(times) == len(values) or len(steps) % 8:
        raise InvalidInput("points-invalid", "steps, times and values must be packed columns of one length")
    return steps + times + values


def summary_of(points: Columns) -> Summary:
    """
    >>> summary_of(Columns([0, 1, 2], [5, 6, 7], [3.0, float("nan"), 1.0]))
    Summary(n=3, last=1.0, last_step=2, last_at=7, min=1.0, min_step=2, max=3.0, max_step=0)
    """
    if len(points.values) > FEW:
        return summary_of_block(pack(points))
    made: Summary | None = None
    for step, at, value in zip(points.steps, points.times, points.values, strict=True):
        known = None if value != value else value  # NaN differs from itself
        low = None if known is None else step
        one = Summary(1, known, step, at, known, low, known, low)
        made = one if made is None else made.joined(one)
    if made is None:
        raise InvalidInput("points-invalid", "a metric without points")
    return made


def summary_of_block(block: bytes) -> Summary:
    """The same from a packed block, by arrays."""
    import numpy as np

    steps, times, values = arrays(block)
    if not len(steps):
        raise InvalidInput("points-invalid", "a metric without points")
    newest = np.flatnonzero(steps == steps.max())
    newest = newest[times[newest] == times[newest].max()]
    end = int(newest[-1])
    made = Summary(len(steps), _plain(values[end]), int(steps[end]), int(times[end]))
    known = ~np.isnan(values)
    if known.any():
        low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
        made.min, made.min_step = float(values[low]), int(steps[low])
        made.max, made.max_step = float(values[high]), int(steps[high])
    return made


def arrays(block: bytes) -> tuple[Ints, Ints, Floats]:
    """Steps, times and values of a block, without a copy."""
    import numpy as np

    n = len(block) // POINT
    ints = np.frombuffer(block, "<i8", 2 * n)
    return ints[:n], ints[n:], np.frombuffer(block, "<f8", n, 16 * n)


def ordered(block: bytes) -> tuple[Ints, Ints, Floats]:
    """Steps, times and values by step, then time, then as they came."""
    import numpy as np

    steps, times, values = arrays(block)
    if len(steps) > 1 and not bool(np.all(steps[1:] > steps[:-1])):
        order = np.lexsort((times, steps))
        return steps[order], times[order], values[order]
    return steps, times, values


def thin(steps: Ints, values: Floats, buckets: int) -> Any:
    """Positions to draw: of each bucket of equal width in steps the least, the greatest and the first NaN; and both ends.

    `steps` must ascend. A chart of these looks as one of all points: no peak and no gap is lost.

    >>> import numpy as np
    >>> thin(np.arange(8), np.array([0, 9, 1, 1, 1, 1, -5, 1.0]), 2).tolist()
    [0, 1, 4, 6, 7]
    """
    import numpy as np

    n = len(steps)
    if n <= 2 * buckets:
        return np.arange(n)
    edges = np.linspace(float(steps[0]), float(steps[-1]), buckets + 1)[1:-1]
    starts = np.unique(np.concatenate(([0], np.searchsorted(steps, edges))))
    starts = starts[starts < n]
    sizes = np.diff(np.append(starts, n))
    chosen = [np.array([0, n - 1])]
    for of in (np.fmin, np.fmax):
        found = np.flatnonzero(values == np.repeat(of.reduceat(values, starts), sizes))
        chosen.append(_first_each(found, starts))
    chosen.append(_first_each(np.flatnonzero(np.isnan(values)), starts))
    return np.unique(np.concatenate(chosen))


def _first_each(positions: Any, starts: Any) -> Any:
    """Of ascending positions the first in each bucket."""
    import numpy as np

    _, first = np.unique(np.searchsorted(starts, positions, side="right"), return_index=True)
    return positions[first]


def _better(
    a: float | None, a_step: int | None, b: float | None, b_step: int | None, sign: int
) -> tuple[float | None, int | None]:
    if b is None or (a is not None and sign * a <= sign * b):
        return a, a_step
    return b, b_step


def _plain(value: Any) -> float | None:
    number = float(value)
    return None if number != number else number
