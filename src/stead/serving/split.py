"""Which version answers a request: at random by share, or always the same one for the same key."""

from __future__ import annotations

import hashlib
import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from stead.serving.types import Arm


class Split:
    """The arms of a route, ready to choose from.

    A key goes to the arm with the highest score `share / -ln(u)`, u a hash of key and version (weighted rendezvous, Schindelhauer
    and Schomaker 2005): an arm that grows takes keys from the others and no key moves between arms that shrink alike.

    `salt`, the model's name, keeps the arms of different models independent.

    >>> split = Split([Arm(1, 0.9), Arm(2, 0.1)])
    >>> split.choose("ada") == split.choose("ada")
    True
    """

    def __init__(self, arms: Sequence[Arm], *, salt: str = "") -> None:
        self._salt = salt
        self.arms = tuple(arm for arm in arms if arm.share > 0)
        self._bounds = list(accumulate(arm.share for arm in self.arms))
        self._only = self.arms[0].version if len(self.arms) == 1 else None

    def choose(self, key: str | None = None) -> int | None:
        """The version that answers; None where the route has no arm."""
        if self._only is not None:
            return self._only
        if not self.arms:
            return None
        if key is not None:
            return max(self.arms, key=lambda arm: _score(f"{self._salt}\0{arm.version}\0{key}", arm.share)).version
        place = bisect_right(self._bounds, random.random())
        return self.arms[min(place, len(self.arms) - 1)].version


def _score(text: str, share: float) -> float:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return share / -math.log((int.from_bytes(digest, "little") + 0.5) / 2**64)
