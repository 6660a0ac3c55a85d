"""How sure a share is."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(good: float, rows: float, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share: `good` of so many `rows` (Wilson 1927, Journal of the American Statistical Association 22).

    With weighted rows give their effective number (Kish 1965, Survey Sampling), (Σw)²/Σw², and that many times the weighted share.

    >>> low, high = wilson(14, 15)
    >>> round(low, 3), round(high, 3)
    (0.702, 0.988)
    """
    if not rows > 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, factor = good / rows, 1 + z * z / rows
    middle = (share + z * z / (2 * rows)) / factor
    reach = z / factor * math.sqrt(max(share * (1 - share) / rows + z * z / (4 * rows * rows), 0.0))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)
