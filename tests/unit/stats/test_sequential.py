"""Confidence sequences: against closed forms and published values, and by simulation of canaries with known truth."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from stead.stats.intervals import paired_difference
from stead.stats.sequential import (
    Paired,
    best_time,
    log_evidence,
    more_rows,
    observe_day,
    observe_days,
    paired,
    reach,
)

special = pytest.importorskip("scipy.special")


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.2])
def test_the_best_time_is_lamberts_and_truly_the_narrowest(alpha: float) -> None:
    assert best_time(alpha) == pytest.approx(-special.lambertw(-(alpha**2) / math.e, -1).real - 1)
    times = best_time(alpha) * np.array([0.8, 1.0, 1.25])
    # at a fixed number of rows, ρ alone changes the width
    widths = reach(times, alpha)
    assert widths[1] < min(widths[0], widths[2])


def test_many_degrees_of_freedom_are_the_normal_mixture() -> None:
    x = np.array([0.1, 1.0, 8.0, 300.0])
    assert reach(x, 0.05, 1e9) == pytest.approx(reach(x, 0.05), rel=1e-6)
    assert np.all(reach(x, 0.05, 30) > reach(x, 0.05))


def test_one_mean_as_another_library_has_it() -> None:
    """ville 0.1.0, AsymptoticCS(alpha=.05, t_opt=500), gives .8864563786449297 and 1.0723129097082595."""
    values = np.random.default_rng(7).exponential(1, 1000)
    mean, error, time = values.mean(), values.std(ddof=1) / math.sqrt(1000), best_time(0.05) * 1000 / 500
    width = error * float(reach(time, 0.05))
    assert (mean - width, mean + width) == pytest.approx((0.8864563786449297, 1.0723129097082595))
    assert width < error * float(reach(time, 0.05, 999)) < width + 3e-4  # Student's t a little wider


def test_the_interval_and_the_evidence_agree() -> None:
    rng = np.random.default_rng(1)
    found = paired(observe_days(Paired(), rng.normal(1, 2, 90), np.zeros(90), np.ones(90), np.arange(90)))
    normal = replace(found, df=math.inf)
    for each in (found, replace(normal, low=-1e9)):
        width = each.standard_error * float(reach(each.time, 0.05, each.df))
        assert log_evidence(each, each.estimate - width) == pytest.approx(math.log(20))
        assert log_evidence(each, each.estimate - 1.01 * width) > math.log(20)
    assert log_evidence(paired(Paired()), 1.0) == 0


def days(rng: np.random.Generator, number: int, effect: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    day = np.repeat(np.arange(number), 24)
    b = rng.gamma(4, 1, len(day))
    a = b + effect + np.repeat(rng.normal(0, 1, number), 24) + rng.normal(0, 1, len(day))
    return a, b, np.ones(len(day)), day


def test_nothing_is_decided_on_too_little() -> None:
    few = observe_days(Paired(), np.arange(6.0), np.zeros(6), np.ones(6), np.arange(6))
    for found in (paired(few), paired(Paired())):
        assert (found.low, found.high) == (-math.inf, math.inf)
        assert more_rows(found) == math.inf
    with pytest.raises(ValueError, match="alpha"):
        paired(observe_day(observe_day(few, 1.0, 1.0), 1.0, 1.0), alpha=5)


def test_paired_days_are_the_interval_of_one_look_made_wider() -> None:
    a, b, weight, day = days(np.random.default_rng(1), 28, 0.3)
    state = observe_days(Paired(), a[:240], b[:240], weight[:240], day[:240])
    found = paired(observe_days(state, a[240:], b[240:], weight[240:], day[240:]))
    once = paired_difference(a, b, weight, day)
    assert found.estimate == pytest.approx(once.difference)
    assert once.standard_error * 0.999 <= found.standard_error < 1.5 * once.standard_error
    assert found.low < once.low < once.high < found.high
    same = paired(observe_days(Paired(), b, b, weight, day))
    assert (same.low, same.high) == (0, 0)


def test_neighbouring_days_that_go_together_are_worth_less() -> None:
    """Mean factor of the variance at 200 days: AR 1 with .5 is worth a third of the days, alternating days no more than all."""
    rng = np.random.default_rng(10)

    def factor(phi: float) -> float:
        z = rng.normal(size=200)
        for i in range(1, 200):
            z[i] = phi * z[i - 1] + math.sqrt(1 - phi**2) * z[i]
        found = paired(observe_days(Paired(), z, np.zeros(200), np.ones(200), np.arange(200)))
        return found.standard_error**2 / (z.var(ddof=1) / 200)

    assert np.mean([factor(0.5) for _ in range(20)]) == pytest.approx(3, rel=0.2)
    assert np.mean([factor(-0.5) for _ in range(5)]) == pytest.approx(1)
    assert np.mean([factor(0.0) for _ in range(20)]) < 1.2


def test_paired_days_hold_at_every_look_and_have_power() -> None:
    """A look on each of 365 days, 2,000 streams: 4 % err (nominal 5 %); an effect of one sd of a day takes 17 days."""
    rng = np.random.default_rng(8)
    n = np.arange(1, 366)

    def first(effect: float, sims: int) -> np.ndarray:
        gaps = rng.normal(effect, 1, (sims, 365))
        sums, squares = gaps.cumsum(1), (gaps**2).cumsum(1)
        with np.errstate(all="ignore"):
            error = np.sqrt((squares - sums**2 / n) / (n - 1) / n)
        width = error * reach(best_time(0.05) * n / 21, 0.05, n - 1)
        out = (np.abs(sums / n) > width) & (n >= 7)
        return np.where(out.any(1), out.argmax(1) + 1, np.inf)

    assert np.isfinite(first(0.0, 2000)).mean() <= 0.05
    assert np.median(first(1.0, 500)) <= 20


def test_the_forecast_comes_true() -> None:
    rng = np.random.default_rng(9)
    early = paired(observe_days(Paired(), rng.normal(0, 1, 300), np.zeros(300), np.ones(300), np.arange(300)))
    width = early.high - early.estimate
    early = replace(early, estimate=0.1, low=0.1 - width, high=0.1 + width)
    wait = more_rows(early)
    assert 0 < wait < 20_000
    for rows, shown in ((0.9 * wait, False), (1.1 * wait, True)):
        factor = (early.rows + rows) / early.rows
        width = early.standard_error / math.sqrt(factor) * float(reach(early.time * factor, 0.05, early.df * factor))
        assert (width < 0.1) == shown
    assert more_rows(early, 0.1) == math.inf
    assert more_rows(early, 9.0) == 0


def test_a_day_is_a_row_of_numbers() -> None:
    state = observe_day(Paired(), 1, 24)
    assert Paired(**json.loads(json.dumps(asdict(state)))) == state
