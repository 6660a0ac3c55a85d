"""Statements from counts alone: closed forms, another library's figures, and simulations with known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stead.stats.counts import (
    _BETS,
    Interval,
    Step,
    difference,
    log_bernoulli,
    log_difference,
    quantile,
    quantile_of_buckets,
    ranks,
    rate,
    sample_ratio,
)

stats = pytest.importorskip("scipy.stats")


def test_the_mixture_is_the_beta_binomial() -> None:
    found = log_bernoulli(7, 30, np.array([0.1, 0.4]), 0.2, 10)
    for value, log in zip((0.1, 0.4), found, strict=True):
        assert log == pytest.approx(stats.betabinom.logpmf(7, 30, 2, 8) - stats.binom.logpmf(7, 30, value))
    assert log_bernoulli(0, 5, np.array([0.0]), 0.5, 2)[0] < 0
    assert log_bernoulli(1, 5, np.array([0.0]), 0.5, 2)[0] == math.inf


def test_a_rate_has_the_ends_where_the_evidence_is_enough() -> None:
    found = rate(12, 400)
    for end in (found.low, found.high):
        assert log_bernoulli(12, 400, np.array([end]), 0.5, 2)[0] == pytest.approx(math.log(20), abs=1e-6)
    exact = stats.binomtest(12, 400).proportion_ci(0.95)
    assert found.low < exact.low < exact.high < found.high
    assert rate(0, 50).low == 0
    assert rate(50, 50).high == 1
    assert (rate(0, 0).low, rate(0, 0).high) == (0, 1)
    with pytest.raises(ValueError, match="no count"):
        rate(5, 4)


def wealth(failed: np.ndarray, other: np.ndarray, calm: np.ndarray, share: float) -> np.ndarray:
    """log_difference at 0 for many canaries at once."""
    bets = []
    for sign, span in ((1.0, 1 / (1 - share)), (-1.0, 1 / share)):
        stake = (_BETS / span)[:, None, None]
        bets.append(failed * np.log1p(sign * stake / share) + other * np.log1p(-sign * stake / (1 - share)) + 0 * calm)
    both = np.concatenate(bets)
    return np.logaddexp.reduce(both, axis=0) - math.log(len(both))


def test_the_simulated_wealth_is_the_function() -> None:
    one = log_difference([Step(0.1, 15, 1500, 27, 13_500)], 0.0)
    assert wealth(*(np.array([[n]]) for n in (15, 27, 14_958)), 0.1)[0, 0] == pytest.approx(one)


def first_alarm(canary: float, stable: float, *, share: float = 0.1, sims: int = 400, looks: int = 400) -> np.ndarray:
    """Requests until harm is shown, with a look every 500."""
    rng = np.random.default_rng(3)
    n = rng.binomial(500, share, (sims, looks))
    failed, other = rng.binomial(n, canary).cumsum(1), rng.binomial(500 - n, stable).cumsum(1)
    n, total = n.cumsum(1), np.arange(1, looks + 1) * 500
    harm = (wealth(failed, other, total - failed - other, share) > math.log(20)) & (failed / n > other / (total - n))
    return np.where(harm.any(1), (harm.argmax(1) + 1) * 500, np.inf)


@pytest.mark.parametrize("truth", [0.002, 0.15])
def test_equal_error_rates_are_rarely_called_harm(truth: float) -> None:
    """A look every 500 of 200,000 requests, a tenth to the canary: 1.3 and .7 % (nominal 5 % for both sides together)."""
    assert np.isfinite(first_alarm(truth, truth, sims=300)).mean() <= 0.02


def test_rare_errors_are_found() -> None:
    """.2 → 1 % at the median after 7,500 requests, .2 → 5 % after 1,000, 15 → 30 % after 1,500."""
    assert np.median(first_alarm(0.01, 0.002, looks=80)) <= 9_000
    assert np.median(first_alarm(0.05, 0.002, looks=80)) <= 1_500
    assert np.median(first_alarm(0.30, 0.15, looks=80)) <= 2_000


def test_the_difference_has_the_ends_where_the_wealth_is_enough() -> None:
    steps = [Step(0.05, 3, 1000, 30, 19_000), Step(0.5, 40, 10_000, 15, 10_000)]
    found = difference(steps)
    assert found.low < found.estimate < found.high
    for end in (found.low, found.high):
        assert log_difference(steps, end) == pytest.approx(math.log(20), abs=1e-4)
    assert difference([steps[1]]).low > 0
    assert difference([Step(0.1, 0, 0, 0, 30)]).high == 1


def test_the_true_difference_is_covered() -> None:
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(60):
        first = rng.binomial(1, 0.2, 3000) == 1
        bad = rng.random(3000) < np.where(first, 0.03, 0.01)
        sums = [np.cumsum(each) for each in (bad & first, first, bad & ~first, ~first)]
        seen = [Step(0.2, *(int(each[n - 1]) for each in sums)) for n in (100, 300, 1000, 3000)]
        missed += any(log_difference([step], 0.02) >= math.log(20) for step in seen)
    assert missed <= 5


def test_no_failures_say_little() -> None:
    found = difference([Step(0.1, 0, 30, 0, 270)])
    assert found.low < 0 < 0.1 < found.high


def test_sample_ratio() -> None:
    null = stats.dirichlet_multinomial([10, 90], 1000).logpmf([120, 880]) - stats.multinomial.logpmf(
        [120, 880], 1000, [0.1, 0.9]
    )
    assert sample_ratio([((120, 880), (0.1, 0.9))]) == pytest.approx(min(1, math.exp(-null)))
    assert sample_ratio([((0, 10), (0.0, 1.0))]) == 1
    assert sample_ratio([((1, 10), (0.0, 1.0))]) == 0
    assert sample_ratio([]) == 1
    with pytest.raises(ValueError, match="add up"):
        sample_ratio([((1, 1), (0.5, 0.6))])


def test_sample_ratio_over_many_looks() -> None:
    rng = np.random.default_rng(6)
    alarms, found = 0, 0
    for _ in range(60):
        fair, broken = rng.binomial(500, 0.1, 200).cumsum(), rng.binomial(500, 0.11, 200).cumsum()
        total = np.arange(1, 201) * 500
        alarms += any(sample_ratio([((a, n - a), (0.1, 0.9))]) < 0.05 for a, n in zip(fair, total, strict=True))
        found += sample_ratio([((broken[-1], total[-1] - broken[-1]), (0.1, 0.9))]) < 0.001
    assert alarms <= 3
    assert found >= 58


@pytest.mark.parametrize("p", [0.5, 0.95, 0.99])
def test_quantiles_at_every_look(p: float) -> None:
    """200 streams, 40 looks up to 20,000 values: the true quantile of a heavy tail stays inside in at least 95 %."""
    rng = np.random.default_rng(7)
    at = [500 * k for k in range(1, 41)]
    bounds = np.array([ranks(n, p) for n in at])
    below = (rng.random((200, at[-1])) <= p).cumsum(1)[:, np.array(at) - 1]  # values at most the true quantile
    inside = (below >= bounds[:, 0]) & (below < bounds[:, 1])
    assert (~inside).any(1).mean() <= 0.05
    share = np.diff(bounds[-1])[0] / at[-1]
    assert share <= 12 * math.sqrt(p * (1 - p) / at[-1])


def test_quantiles_of_few_values_and_of_ties() -> None:
    assert quantile(np.array([]), 0.5).high == math.inf
    assert quantile(np.ones(20), 0.99) == Interval(1.0, 1.0, math.inf)
    assert quantile(np.ones(20_000), 0.99) == Interval(1.0, 1.0, 1.0)


def test_buckets_only_widen() -> None:
    values = np.random.default_rng(8).exponential(20, 9000)
    edges = np.concatenate([[0.0], np.geomspace(0.1, 500, 60), [np.inf]])
    exact, coarse = quantile(values, 0.95), quantile_of_buckets(edges, np.histogram(values, edges)[0], 0.95)
    assert coarse.low <= exact.low <= exact.high <= coarse.high
    assert coarse.high < 1.4 * exact.high
    assert quantile_of_buckets(edges, np.zeros(61, dtype=np.int64), 0.5).low == -math.inf
    with pytest.raises(ValueError, match="edges"):
        quantile_of_buckets(edges, np.zeros(3, dtype=np.int64), 0.5)
