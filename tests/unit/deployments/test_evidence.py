"""The loss guard of a canary by simulation: equal versions on rows that go together stay, a bad one goes soon at any traffic."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from stead.deployments.evidence import BLOCK, DAY, LEAST_BLOCKS, Paired, beyond_own, block_of, harm, turned

HOUR = DAY // 24


def taken_back(found: Paired, looks: np.ndarray, *, margin: float = 0.0) -> int | None:
    """After how many rows harm is shown, at looks from 30 rows in the arm on."""
    for now in looks.tolist():
        block = block_of(now)
        n = int(np.searchsorted(found.time, now // block * block))
        if found.arm[:n].sum() >= 30:
            seen = Paired(*(each[:n] for each in (found.first, found.second, found.weight, found.time, found.arm)), 0)
            if harm(seen, margin, block).low > 0:
                return n
    return None


def hours(rng: np.random.Generator, days: int, phi: float) -> Paired:
    """24 rows a day; the versions' losses differ by AR 1 around nothing, a quarter of the rows is the new one's."""
    gaps = rng.normal(size=days * 24) * math.sqrt(1 - phi**2)
    gaps[0] /= math.sqrt(1 - phi**2)
    for n in range(1, len(gaps)):
        gaps[n] += phi * gaps[n - 1]
    time = np.arange(len(gaps)) * HOUR
    return Paired(np.full(len(gaps), 5.0), 5.0 + gaps, np.ones(len(gaps)), time, rng.random(len(gaps)) < 0.25, 0)


def errors(rng: np.random.Generator, rows: int, usual: float, new: float) -> Paired:
    """Right or wrong, 2,000 rows an hour, a tenth of them the new version's."""
    time = np.sort(rng.integers(0, rows * HOUR // 2000, rows))
    wrong = [(rng.random(rows) < rate).astype(float) for rate in (usual, new)]
    return Paired(wrong[0], wrong[1], np.ones(rows), time, rng.random(rows) < 0.1, 0)


def times(
    number: int, make: Callable[[np.random.Generator], Paired], look: Callable[[Paired], np.ndarray]
) -> list[float]:
    rng = np.random.default_rng(1)
    return [taken_back(found, look(found)) or math.inf for found in (make(rng) for _ in range(number))]


def test_blocks_are_half_a_day_or_twenty_to_forty() -> None:
    assert block_of(10 * DAY) == block_of(365 * DAY) == BLOCK == 12 * HOUR
    for span in np.geomspace(HOUR / 10, 10 * DAY, 50).tolist():
        assert LEAST_BLOCKS <= span / block_of(int(span)) <= 2 * LEAST_BLOCKS + 1
    assert block_of(-DAY) == block_of(0) >= 5000


def test_equal_versions_whose_neighbouring_rows_go_together_stay() -> None:
    """AR .8, a look at each of 30 midnights: `benchmarks/honesty.py` has the share by more sims; rows as the unit: every third goes."""
    for phi in (0.0, 0.8):
        found = times(40, lambda rng, phi=phi: hours(rng, 30, phi), lambda _: DAY * np.arange(1, 31))  # type: ignore[misc]
        assert np.isfinite(found).sum() <= 2


def test_a_version_that_turns_bad_is_found_whenever_it_does() -> None:
    """Twice the loss from the third, the eighth or the fifteenth day on: half are found within four days; over all rows after 14 or never."""
    rng = np.random.default_rng(5)
    for begins in (3, 7, 14):
        late = []
        for _ in range(10):
            n = np.arange(30 * 24)
            usual = 0.05 * np.where(n % 24 < 6, 0.5, 1.2) * rng.gamma(2, 0.5, len(n))
            new = usual * (1 + 0.1 * rng.normal(size=len(n))) * np.where(n >= begins * 24, 2, 1)
            made = (usual, new, np.ones(len(n)), n * HOUR, rng.random(len(n)) < 0.25)
            found = [d for d in range(2, 30) if turned(Paired(*(each[: d * 24] for each in made), 0), d * DAY)]
            late.append(found[0] - begins if found else math.inf)
        assert np.median(late) <= 4 and min(late) > 0


def test_equal_versions_do_not_turn() -> None:
    """AR .8, a look at each of 40 midnights."""
    rng = np.random.default_rng(6)
    shown = 0
    for _ in range(20):
        found = hours(rng, 40, 0.8)
        parts = (found.first, found.second, found.weight, found.time, found.arm)
        shown += any(turned(Paired(*(each[: d * 24] for each in parts), 0), d * DAY) for d in range(2, 41))
    assert shown == 0


def by_500(found: Paired) -> np.ndarray:
    return found.time[499::500] + 1


def test_thousands_of_rows_an_hour_show_a_bad_version_at_once() -> None:
    """15 → 30 % wrong, a tenth of the requests: found within 2,000 requests; 15 → 15 % is not taken back."""
    assert np.median(times(20, lambda rng: errors(rng, 4000, 0.15, 0.30), by_500)) <= 2000
    assert np.isfinite(times(150, lambda rng: errors(rng, 8000, 0.15, 0.15), by_500)).sum() <= 3


def found_by_its_own(rng: np.random.Generator, times_own: float, days: int = 14) -> float:
    """The day on which a version that loses so many times its offline .2 is found; nights lose twice as much, hours go together."""
    night = np.arange(days * 24) % 24 < 6
    weight = np.where(night, 20.0, 100.0)
    waves = np.zeros(days * 24)
    for n in range(1, len(waves)):
        waves[n] = 0.9 * waves[n - 1] + rng.normal() * math.sqrt(1 - 0.9**2)
    level = times_own * 0.2 * np.where(night, 2.0, 1.0) * weight.sum() / (np.where(night, 2.0, 1.0) * weight).sum()
    loss = level * weight * np.abs(rng.normal(size=len(waves))) * math.sqrt(math.pi / 2) * np.exp(0.4 * waves - 0.08)
    time = np.arange(len(waves)) * HOUR
    for day in range(1, days + 1):
        seen = time < day * DAY
        part = Paired(loss[seen], loss[seen], weight[seen], time[seen], np.ones(seen.sum(), dtype=bool), 0)
        bounds = beyond_own(0.2, part, day * DAY)
        if bounds is not None and bounds.low > 0:
            return day
    return math.inf


def test_a_version_far_above_its_own_offline_result_is_found_and_a_season_is_not() -> None:
    rng = np.random.default_rng(3)
    assert sum(found_by_its_own(rng, 2) < math.inf for _ in range(60)) <= 2
    found = [found_by_its_own(rng, 5) for _ in range(30)]
    assert np.median(found) <= 7 and sum(day < math.inf for day in found) >= 28
