"""Means of bounded numbers: wealth grows only against what is false, and a stored state goes on where it stopped."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from stead.stats.betting import Bettor, bet, bettor, bounded_mean, log_wealth


def test_it_can_be_stopped_and_resumed_at_any_row() -> None:
    values = np.random.default_rng(0).random(5000)
    whole = bet(bettor(), values)
    state = bettor()
    for part in np.array_split(values, 7):
        row = json.loads(json.dumps(asdict(bet(state, part))))
        state = Bettor(**{**row, "above": tuple(row["above"]), "below": tuple(row["below"])})
    assert state.above == pytest.approx(whole.above)
    assert (state.rows, state.total) == (5000, pytest.approx(whole.total))
    assert bet(whole, np.array([])) == whole


def test_by_hand() -> None:
    """Two rows against a mean of .5: λ₁ = min(√(2 ln 40 / (.25 ln 2)), 1) = 1, and so on."""
    state = bet(bettor(size=1), np.array([1.0, 0.0]))
    mean = (0.5 + 1) / 2
    second = min(math.sqrt(2 * math.log(40) / ((0.25 + (1 - mean) ** 2) * math.log(3))), 1.0)
    assert state.above[0] == pytest.approx(math.log(1.5) + math.log(1 - second * 0.5))


@pytest.mark.parametrize("truth", ["beta", "rare"])
def test_the_truth_stays_inside_at_every_look(truth: str) -> None:
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(60):
        values = rng.beta(0.4, 1.6, 1500) if truth == "beta" else (rng.random(1500) < 0.02).astype(float)
        mean = 0.2 if truth == "beta" else 0.02
        state = bettor()
        seen = []
        for part in np.array_split(values, 15):
            state = bet(state, part)
            seen.append(bounded_mean(state))
        missed += any(not each.low <= mean <= each.high for each in seen)
    assert missed <= 3
    assert seen[-1].high - seen[-1].low < 0.1


def test_evidence_against_a_bound() -> None:
    state = bet(bettor(), (np.random.default_rng(2).random(2000) < 0.1).astype(float))
    assert log_wealth(state, 0.05) > math.log(20) > log_wealth(state, 0.12)
    found = bounded_mean(state)
    assert 0.05 < found.low < 0.1 < found.high < 0.15
    assert (bounded_mean(bettor()).low, bounded_mean(bettor()).high) == (0, 1)


def test_only_numbers_between_0_and_1() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        bet(bettor(), np.array([0.5, 1.5]))
