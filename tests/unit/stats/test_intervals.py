"""Intervals hold what they promise: against scipy as oracle, and in simulation with rows that depend within a day."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from stead.stats.intervals import Difference, beta_fraction, paired_difference, t_cdf, t_quantile

stats = pytest.importorskip("scipy.stats")
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.mark.parametrize("df", [1, 2, 6, 27, 364, 100_000])
def test_students_t_as_scipy_has_it(df: int) -> None:
    for t in (-40.0, -3.0, -0.1, 0.0, 0.5, 2.0, 9.0, 200.0):
        assert t_cdf(t, df) == pytest.approx(stats.t.cdf(t, df), rel=1e-9, abs=1e-14)
    for p in (0.001, 0.025, 0.5, 0.9, 0.975, 0.9995):
        assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-8, abs=1e-9)
    assert (t_cdf(math.inf, df), t_cdf(-math.inf, df)) == (1.0, 0.0)


def test_incomplete_beta_as_scipy_has_it() -> None:
    for a, b in ((0.5, 0.5), (1, 3), (30, 2), (200, 0.5)):
        for x in (0.0, 0.01, 0.3, 0.7, 0.999, 1.0):
            assert beta_fraction(a, b, x) == pytest.approx(stats.beta.cdf(x, a, b), rel=1e-9, abs=1e-14)


def test_with_equal_days_it_is_the_paired_t_test_on_their_means() -> None:
    a, b, weight, day = days(np.random.default_rng(3), 20, effect=0.1)
    found = paired_difference(a, b, weight, day)
    means = (a - b).reshape(20, 24).mean(axis=1)
    oracle = stats.ttest_1samp(means, 0)
    assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)), rel=1e-9)
    assert (found.rows, found.clusters) == (480, 20)
    assert found.difference == pytest.approx(found.a - found.b)


def days(rng: np.random.Generator, number: int, *, effect: float = 0.0, within: float = 1.0) -> Rows:
    """24 rows a day; the difference has a part that the whole day shares (`within` its sd) and one of each row."""
    day = np.repeat(np.arange(number), 24)
    b = np.abs(rng.normal(2, 1, number * 24))
    a = b + effect + np.repeat(rng.normal(0, within, number), 24) + rng.normal(0, 1, number * 24)
    return a, b, np.ones(len(day)), day


def uneven(rng: np.random.Generator, number: int, *, effect: float = 0.0) -> Rows:
    """WAPE on days of 1 to 47 rows, busy days with larger errors."""
    size = rng.integers(1, 48, number)
    day = np.repeat(np.arange(number), size)
    busy = np.repeat(rng.gamma(4, 25, number), size)
    weight = busy * rng.gamma(9, 1 / 9, len(day))
    b = 0.3 * weight * rng.gamma(2, 0.5, len(day))
    gap = effect + np.repeat(rng.normal(0, 0.1, number), size) + rng.normal(0, 0.1, len(day))
    return b + busy * gap, b, weight, day


def simulate(make: Callable[[np.random.Generator], Rows], level: float = 0.95, times: int = 1500) -> list[Difference]:
    rng = np.random.default_rng(11)
    return [paired_difference(*make(rng), level=level) for _ in range(times)]


@pytest.mark.parametrize("number", [7, 28, 90])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_coverage_with_rows_that_depend_within_a_day(number: int, level: float) -> None:
    found = simulate(lambda rng: days(rng, number, effect=0.4), level)
    covered = np.mean([each.low <= 0.4 <= each.high for each in found])
    assert covered == pytest.approx(level, abs=3.5 * math.sqrt(level * (1 - level) / len(found)))


def test_false_alarms_with_uneven_days() -> None:
    found = simulate(lambda rng: uneven(rng, 28))
    alarms = np.mean([each.p_value < 0.05 for each in found])
    assert 0.03 <= alarms <= 0.08  # a few heavy days make it slightly liberal
    assert all((each.p_value < 0.05) == (not each.low <= 0 <= each.high) for each in found)


def test_rows_taken_as_independent_would_alarm_far_too_often() -> None:
    rng = np.random.default_rng(5)
    alarms = []
    for _ in range(300):
        a, b, weight, _ = days(rng, 28)
        alarms.append(paired_difference(a, b, weight, np.arange(len(a))).p_value < 0.05)
    assert np.mean(alarms) > 0.5


def test_power() -> None:
    """An effect of three standard errors is found about 83 times in 100 with 28 days (t with 27 degrees of freedom)."""
    se = math.sqrt((1 + 1 / 24) / 28)
    found = simulate(lambda rng: days(rng, 28, effect=3 * se), times=800)
    expected = 1 - stats.nct.cdf(t_quantile(0.975, 27), 27, 3)
    assert np.mean([each.p_value < 0.05 for each in found]) == pytest.approx(expected, abs=0.05)


def test_one_day_says_nothing() -> None:
    found = paired_difference(np.array([1.0, 2.0]), np.array([2.0, 3.0]), np.ones(2), np.zeros(2))
    assert (found.low, found.high, found.p_value, found.clusters) == (-math.inf, math.inf, 1.0, 1)
    assert found.difference == -1


def test_equal_versions_and_constant_differences() -> None:
    loss, day = np.arange(1.0, 11), np.repeat(np.arange(5), 2)
    same = paired_difference(loss, loss, np.ones(10), day)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    better = paired_difference(loss - 1, loss, np.ones(10), day)
    assert (better.difference, better.p_value) == (-1, 0)


def test_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="no weight"):
        paired_difference(np.ones(2), np.ones(2), np.zeros(2), np.arange(2))
    with pytest.raises(ValueError, match="level"):
        paired_difference(np.ones(2), np.ones(2), np.ones(2), np.arange(2), level=95)
    with pytest.raises(ValueError, match="p must"):
        t_quantile(1.0, 3)


def test_neighbouring_days_that_go_together_are_worth_less() -> None:
    """28 days, AR 1 with .5, no effect, nominal 5 %: days taken as independent err in a fifth or more of the times."""
    rng, alarms = np.random.default_rng(6), np.zeros(2)
    for _ in range(400):
        gaps = rng.normal(size=28)
        for n in range(1, 28):
            gaps[n] = 0.5 * gaps[n - 1] + math.sqrt(0.75) * gaps[n]
        for way in (0, 1):
            found = paired_difference(gaps, np.zeros(28), np.ones(28), np.arange(28), neighbours=bool(way))
            alarms[way] += found.p_value < 0.05
    assert alarms[0] / 400 > 0.15 and alarms[1] / 400 < 0.12
