from __future__ import annotations

from collections import Counter

import pytest

from stead.serving import Arm
from stead.serving.split import Split

KEYS = [f"person-{number}" for number in range(20_000)]


@pytest.mark.parametrize("shares", [(1.0,), (0.9, 0.1), (0.5, 0.3, 0.2), (0.0, 1.0)])
def test_shares_are_kept_at_random_and_by_key(shares: tuple[float, ...]) -> None:
    split = Split([Arm(number, share) for number, share in enumerate(shares, 1)], salt="bikes")
    for counts in (Counter(split.choose() for _ in KEYS), Counter(split.choose(key) for key in KEYS)):
        for number, share in enumerate(shares, 1):
            assert counts[number] / len(KEYS) == pytest.approx(share, abs=0.015)


def test_a_growing_arm_only_takes_keys() -> None:
    before = Split([Arm(1, 0.6), Arm(2, 0.3), Arm(3, 0.1)])
    after = Split([Arm(1, 0.4), Arm(2, 0.2), Arm(3, 0.4)])
    moves = Counter((before.choose(key), after.choose(key)) for key in KEYS)
    assert all(old == new or new == 3 for old, new in moves)
    assert moves[3, 3] / len(KEYS) == pytest.approx(0.1, abs=0.015)


def test_keys_fall_differently_for_each_model() -> None:
    one, other = (Split([Arm(1, 0.5), Arm(2, 0.5)], salt=salt) for salt in ("bikes", "air"))
    assert sum(one.choose(key) == other.choose(key) for key in KEYS) / len(KEYS) == pytest.approx(0.5, abs=0.02)


def test_a_route_without_arms_has_no_answer() -> None:
    assert Split([]).choose() is None
    assert Split([]).choose("ada") is None
