"""When two answers count as the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

RELATIVE = 1e-9
"""Floats this near are the same: another processor, memory layout or number of threads moves a result by 1e-15, JSON
carries a double exactly, and whatever is really different (a library, a time zone, a unit) moves it by far more."""
ABSOLUTE = 1e-12
"""Near zero, where the rest of a sum that cancels has no relative meaning."""


class Tolerance(NamedTuple):
    """How near two floats are to count as the same: to one another, or where both are near zero."""

    relative: float = RELATIVE
    absolute: float = ABSOLUTE


EXACT = Tolerance()
SINGLE = 1e-6
"""For a model that computes in single precision, whose last digits move with the processor."""


def near(outputs: Sequence[Any], relative: float = SINGLE) -> Tolerance:
    """So near to each answer, or by a millionth of the largest: what single precision leaves of a difference of large numbers.

    >>> near([[0.5, -2.0], None, "x"]) == Tolerance(1e-6, 2e-6)
    True
    """
    return Tolerance(relative, max(SINGLE * _largest(outputs), ABSOLUTE))


def _largest(values: Any) -> float:
    if isinstance(values, (list, tuple)):
        return max(map(_largest, values), default=0.0)
    return abs(values) if isinstance(values, float) and math.isfinite(values) else 0.0


def same(then: Any, now: Any, within: Tolerance = EXACT) -> bool:
    """Whether two values are the same: texts and whole numbers exactly, floats nearly, missing equals missing.

    >>> same(1.0, 1.0 + 1e-12), same(3, 4), same(None, float("nan")), same([0.1, 0.9], [0.1, 0.9])
    (True, False, True, True)
    """
    if isinstance(then, (list, tuple)) and isinstance(now, (list, tuple)):
        return len(then) == len(now) and all(same(a, b, within) for a, b in zip(then, now, strict=True))
    if _missing(then) or _missing(now):
        return _missing(then) and _missing(now)
    if isinstance(then, bool) or isinstance(now, bool):
        return type(then) is type(now) and then == now
    if isinstance(then, float) or isinstance(now, float):
        if not isinstance(then, (int, float)) or not isinstance(now, (int, float)):
            return False
        return math.isclose(then, now, rel_tol=within.relative, abs_tol=within.absolute)
    return bool(then == now)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
