"""Confidence sequences: against closed forms and published values, and by simulation of canaries with known truth."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from stead.stats.intervals import paired_difference
from stead.stats.sequential import (
    Arm,
    Bounds,
    Paired,
    arms,
    best_time,
    effective_rows,
    log_evidence,
    mean,
    merge,
    more_rows,
    observe,
    observe_day,
    observe_days,
    paired,
    reach,
)

special = pytest.importorskip("scipy.special")
Looks = tuple[np.ndarray, np.ndarray, np.ndarray]


def close(arm: Arm) -> list[object]:
    return [arm.rows, *(pytest.approx(each, abs=1e-9) for each in (arm.mean, arm.products))]


def parts(arm: Arm) -> list[object]:
    return [arm.rows, arm.mean, arm.products]


def test_arms_add_up_in_any_order_and_are_stored_as_a_row() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.gamma(2, 1, (3, size)) + 1e4 for size in (1, 40, 7)]
    first, second, third = (observe(Arm(), *each) for each in rows)
    whole = observe(Arm(), *np.concatenate(rows, axis=1))
    assert parts(merge(merge(third, first), second)) == close(whole)
    assert merge(Arm(), first) == first == merge(first, Arm()) == observe(first, np.array([]))
    covariance = np.cov(np.concatenate(rows, axis=1)) * 47
    assert whole.products == pytest.approx(covariance[np.triu_indices(3)])
    back = json.loads(json.dumps(asdict(whole)))
    assert Arm(back["rows"], tuple(back["mean"]), tuple(back["products"])) == whole


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
    found = mean(observe(Arm(), values), tuned_for=500)
    width = found.standard_error * float(reach(found.time, 0.05))
    assert (found.estimate - width, found.estimate + width) == pytest.approx((0.8864563786449297, 1.0723129097082595))
    assert found.low == pytest.approx(found.estimate - width, abs=3e-4)  # Student's t a little wider


def test_the_interval_and_the_evidence_agree() -> None:
    rng = np.random.default_rng(1)
    found = arms([(observe(Arm(), rng.normal(1, 2, 90)), observe(Arm(), rng.normal(0, 1, 500)))])
    normal = replace(found, df=math.inf)
    for each in (found, replace(normal, low=-1e9)):
        width = each.standard_error * float(reach(each.time, 0.05, each.df))
        assert log_evidence(each, each.estimate - width) == pytest.approx(math.log(20))
        assert log_evidence(each, each.estimate - 1.01 * width) > math.log(20)
    assert log_evidence(arms([]), 1.0) == 0


def bernoulli(rng: np.random.Generator, p: float, rows: np.ndarray) -> Arm:
    k, n = float(rng.binomial(rows, p)), int(rows)
    return Arm(n, (k / n, 1.0, 0.0), (k * (n - k) / n, 0, 0, 0, 0, 0))


def looks(canary: float, stable: float, *, share: float, sims: int, total: int, batch: int = 500) -> Looks:
    """Ends of the interval and the first look at which harm is shown, for many canaries at once."""
    rng = np.random.default_rng(5)
    n = rng.binomial(batch, share, (sims, total // batch))
    a, b = rng.binomial(n, canary).cumsum(1), rng.binomial(batch - n, stable).cumsum(1)
    n = n.cumsum(1)
    m = np.arange(1, total // batch + 1) * batch - n
    p, q = a / n, b / m
    error = np.sqrt(p * (1 - p) / (n - 1) + q * (1 - q) / (m - 1))
    time = best_time(0.05) * n * m / (n + m) / 250
    width = error * reach(time, 0.05, np.minimum(n, m) - 1)
    ready = (n >= 30) & (a > 0) & (b > 0)
    harm = ready & (p - q > width)
    first = np.where(harm.any(1), (harm.argmax(1) + 1) * batch, np.inf)
    return harm.any(1), first, ready & (np.abs(p - q) > width)


def test_the_simulated_look_is_the_function() -> None:
    rng = np.random.default_rng(5)
    a, b = bernoulli(rng, 0.2, np.array(120)), bernoulli(rng, 0.1, np.array(900))
    p, q = a.mean[0], b.mean[0]
    error = math.sqrt(p * (1 - p) / 119 + q * (1 - q) / 899)
    found = arms([(a, b)])
    assert found.standard_error == pytest.approx(error)
    width = error * float(reach(best_time(0.05) * effective_rows(120, 900) / 250, 0.05, 119))
    assert (found.low, found.high) == pytest.approx((p - q - width, p - q + width))


def test_a_good_version_is_rarely_rolled_back() -> None:
    """15 → 15 %, a look every 500 of 200,000 requests, a tenth of them canary: .7 % shown as harm, 3 % as any difference."""
    back, _, either = looks(0.15, 0.15, share=0.1, sims=1500, total=200_000)
    assert back.mean() <= 0.02
    assert either.any(1).mean() <= 0.05


def test_a_bad_version_is_caught_soon() -> None:
    assert np.median(looks(0.30, 0.15, share=0.1, sims=500, total=20_000)[1]) <= 2_000
    assert np.median(looks(0.20, 0.15, share=0.1, sims=500, total=40_000)[1]) <= 7_500
    assert np.median(looks(0.17, 0.15, share=0.1, sims=200, total=100_000)[1]) <= 40_000


def hours(rng: np.random.Generator, days: int, share: float, ratio: float) -> tuple[Arm, Arm, list[Bounds]]:
    """24 rows a day with hours and days that are hard or easy for both versions; a look every second day."""
    canary, stable, seen = Arm(), Arm(), []
    hard = np.tile(np.exp(0.6 * np.sin(np.arange(24) / 24 * 2 * np.pi)), days) * np.repeat(
        rng.gamma(9, 1 / 9, days), 24
    )
    champion, own = hard * rng.gamma(1.5, 0.2, days * 24), hard * rng.gamma(1.5, 0.2 * ratio, days * 24)
    loss = np.where(rng.random(days * 24) < 0.5, own, 0.5 * own + 0.5 * ratio * champion)  # versions err alike, partly
    sent = rng.random(days * 24) < share
    for day in range(0, days, 2):
        rows = np.arange(day * 24, day * 24 + 48)
        ours, theirs = rows[sent[rows]], rows[~sent[rows]]
        canary = observe(canary, loss[ours], None, champion[ours])
        stable = observe(stable, champion[theirs], None, champion[theirs])
        seen.append(arms([(canary, stable)], controlled=True))
    return canary, stable, seen


def test_a_small_canary_with_the_champions_error_beside() -> None:
    """25 % of 24 rows a day for 60 days: equal versions are rarely told apart, one twice as bad is found in ten days."""
    rng = np.random.default_rng(2)
    wrong = [any(not each.low <= 0 <= each.high for each in hours(rng, 60, 0.25, 1.0)[2]) for _ in range(20)]
    assert sum(wrong) <= 2  # 2 to 4 % over more streams
    first = [2 * [each.low > 0 for each in hours(rng, 30, 0.25, 2.0)[2]].index(True) + 2 for _ in range(8)]
    assert np.median(first) <= 10


def test_the_control_takes_the_common_noise_away() -> None:
    rng = np.random.default_rng(3)
    common = rng.gamma(1, 1, 2000)
    loss, sent = common + rng.normal(0.1, 0.1, 2000), rng.random(2000) < 0.2
    pair = [(observe(Arm(), loss[sent], None, common[sent]), observe(Arm(), common[~sent], None, common[~sent]))]
    assert arms(pair, controlled=True).standard_error < arms(pair).standard_error / 3
    assert arms(pair, controlled=True).estimate == pytest.approx(0.1, abs=0.05)


def test_a_season_that_moves_with_the_shares_is_no_difference() -> None:
    rng = np.random.default_rng(4)
    easy, hard = (rng.normal(0, 1, 4000), rng.normal(5, 1, 4000))
    steps = [
        (observe(Arm(), easy[:200]), observe(Arm(), easy[200:])),
        (observe(Arm(), hard[:2000]), observe(Arm(), hard[2000:])),
    ]
    pooled = [(merge(steps[0][0], steps[1][0]), merge(steps[0][1], steps[1][1]))]
    assert arms(pooled).low > 1
    assert arms(steps).low < 0 < arms(steps).high
    assert arms(steps).standard_error < 0.05


def test_ratios_of_losses_to_weights() -> None:
    rng = np.random.default_rng(6)
    weight = rng.gamma(2, 50, 1000)
    loss = 0.3 * weight * rng.gamma(2, 0.5, 1000)
    found = mean(observe(Arm(), loss, weight))
    assert found.estimate == pytest.approx(loss.sum() / weight.sum())
    by_row = paired_difference(loss, np.zeros(1000), weight, np.arange(1000))
    assert found.standard_error == pytest.approx(by_row.standard_error)


def test_nothing_is_decided_on_too_little() -> None:
    few, many = observe(Arm(), np.arange(29.0)), observe(Arm(), np.arange(500.0))
    flat = observe(Arm(), np.zeros(100))
    for found in (arms([(few, many)]), arms([]), arms([(flat, many)]), mean(few), mean(flat), paired(Paired())):
        assert (found.low, found.high) == (-math.inf, math.inf)
        assert more_rows(found) == math.inf
    with pytest.raises(ValueError, match="alpha"):
        mean(many, alpha=5)


def days(rng: np.random.Generator, number: int, effect: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    day = np.repeat(np.arange(number), 24)
    b = rng.gamma(4, 1, len(day))
    a = b + effect + np.repeat(rng.normal(0, 1, number), 24) + rng.normal(0, 1, len(day))
    return a, b, np.ones(len(day)), day


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
    early = arms([(observe(Arm(), rng.normal(0, 1, 300)), observe(Arm(), rng.normal(0, 1, 2700)))])
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
