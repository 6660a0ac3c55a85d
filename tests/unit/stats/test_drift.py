"""Drift and breaks: against scipy, and on streams that are stable, seasonal, drifted or broken by construction."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from stead.stats.breaks import breaks, volume_break
from stead.stats.drift import (
    ColumnReference,
    Drift,
    Note,
    column_reference,
    distance,
    drift,
    overdispersion,
    update_note,
    weighted_distance,
)
from stead.stats.histograms import Histogram, histogram, make_bins
from stead.stats.intervals import chi_square_tail

scipy_stats = pytest.importorskip("scipy.stats")
spatial = pytest.importorskip("scipy.spatial.distance")
Columns = dict[str, np.ndarray]


@pytest.mark.parametrize("df", [1, 3, 35, 200])
def test_chi_square_as_scipy_has_it(df: int) -> None:
    for x in (0.0, 0.01, 1.0, 0.9 * df, df, 1.1 * df, df + 30.0, 500.0):
        assert chi_square_tail(x, df) == pytest.approx(scipy_stats.chi2.sf(x, df), rel=1e-9, abs=1e-14)


def test_the_distance_as_scipy_has_it() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.multinomial(500, rng.dirichlet(np.ones(12))) for _ in range(2))
    a[3] = b[3] = 0  # the slot that is joined with the one before
    found = distance(Histogram(tuple(a.tolist())), Histogram(tuple(b.tolist())))
    assert found == pytest.approx(spatial.jensenshannon(a, b, base=2))
    assert math.isnan(distance(Histogram((0, 0)), Histogram((1, 1))))


def columns(rng: np.random.Generator, rows: int, *, shift: float = 0.0) -> Columns:
    """Twenty columns, one of them with 600 levels; `shift` moves the first."""
    heavy = 1 / np.arange(1, 601) ** 1.1
    found = {f"normal {i}": rng.normal(0, 1, rows) for i in range(8)}
    found |= {f"skewed {i}": rng.gamma(0.5, 1, rows) for i in range(5)}
    found |= {f"count {i}": rng.poisson(3, rows) for i in range(3)}
    found |= {"hour": rng.integers(0, 24, rows), "flag": rng.integers(0, 2, rows)}
    found["few"] = rng.choice(["a", "b", "c"], rows, p=[0.9, 0.09, 0.01])
    found["many"] = rng.choice(600, rows, p=heavy / heavy.sum()).astype(str)
    found["normal 0"] += shift
    return found


def references(blocks: list[Columns]) -> dict[str, ColumnReference]:
    found = {}
    for name in blocks[0]:
        bins = make_bins(np.concatenate([block[name] for block in blocks]))
        found[name] = column_reference(bins, [histogram(block[name], bins) for block in blocks])
    return found


def watch(rows: int, windows: int, *, shift: float = 0.0) -> tuple[list[bool], np.ndarray, int]:
    """Whether the note was open after each window, all p-values, and the number of breaks."""
    rng = np.random.default_rng(2)
    reference = references([columns(rng, rows) for _ in range(8)])
    note, opened, p, broken, before = Note(), [], [], 0, None
    for _ in range(windows):
        seen = {name: histogram(each, reference[name].bins) for name, each in columns(rng, rows, shift=shift).items()}
        found = {name: drift(each, reference[name]) for name, each in seen.items()}
        note = update_note(note, found)
        opened.append(note.open)
        p.extend(each.p_value for each in found.values())
        broken += sum(len(breaks(seen[n], reference[n], before=before[n] if before else None)) for n in seen)
        before = seen
    return opened, np.array(p), broken


@pytest.mark.parametrize("rows", [5000, 168])
def test_stable_rows_are_no_drift(rows: int) -> None:
    """60 windows × 20 columns: no note and no break at 5,000 or 168 rows; p under .01 in 0 and .4 % (κ makes them large)."""
    opened, p, broken = watch(rows, 30)
    assert not any(opened)
    assert broken == 0
    assert (p < 0.01).mean() <= 0.01


@pytest.mark.parametrize("rows", [5000, 168])
def test_a_column_that_moves_half_a_standard_deviation_is_a_note_at_once(rows: int) -> None:
    opened, _, broken = watch(rows, 4, shift=0.6)
    assert opened[1]
    assert broken == 0


def test_overdispersion_takes_weather_for_usual() -> None:
    """Days differ, rows of a day are alike: without κ every window would drift."""
    rng = np.random.default_rng(3)

    def week() -> np.ndarray:
        return np.repeat(rng.normal(0, 1, 7), 24) + rng.normal(0, 0.2, 168)

    blocks = [week() for _ in range(12)]
    bins = make_bins(np.concatenate(blocks))
    reference = column_reference(bins, [histogram(block, bins) for block in blocks])
    blind = ColumnReference(bins, reference.blocks, reference.whole, 0.0)
    windows = [histogram(week(), bins) for _ in range(40)]
    assert np.mean([drift(each, blind).p_value < 0.001 for each in windows]) > 0.9
    assert np.mean([drift(each, reference).p_value < 0.001 for each in windows]) <= 0.1
    assert overdispersion(reference.blocks) > 10 / 168
    assert overdispersion([Histogram((5, 5))]) == 0


def test_a_note_closes_when_the_drift_is_gone_and_is_a_row_of_numbers() -> None:
    same, far = {"x": Drift(0.02, 1.0, 9, 500)}, {"x": Drift(0.3, 1e-40, 9, 500)}
    note = Note()
    for _ in range(20):
        note = update_note(note, far)
    opened = note
    for _ in range(8):
        note = update_note(Note(**json.loads(json.dumps(asdict(note)))), same)
    assert (opened.open, opened.changed) == (True, 1)
    assert (note.open, note.changed) == (False, 27)
    assert update_note(note, {}) == note


def test_false_notes_come_no_more_often_than_promised() -> None:
    """Uniform p, the worst case: at least 1/α windows between notes on average."""
    rng = np.random.default_rng(4)
    waits = []
    for _ in range(12):
        note = Note()
        while not note.open and note.windows < 600:
            note = update_note(note, {"x": Drift(0.2, float(rng.random()), 9, 500)}, alpha=1 / 50)
        waits.append(note.windows)
    assert np.mean(waits) >= 50


def test_trifles_and_few_rows_are_no_evidence() -> None:
    rng = np.random.default_rng(5)
    bins = make_bins(rng.normal(0, 1, 100_000))
    blocks = [histogram(rng.normal(0, 1, 20_000), bins) for _ in range(8)]
    reference = column_reference(bins, blocks)
    trifle = drift(histogram(rng.normal(0.05, 1, 100_000), bins), reference)
    assert trifle.distance < 0.08 and trifle.p_value == 1
    assert drift(histogram(rng.normal(5, 1, 29), bins), reference).p_value == 1


def test_importance() -> None:
    assert math.isnan(weighted_distance({"a": 0.5}, {"b": 1.0}))
    assert weighted_distance({"a": 0.5, "b": math.nan}, {"a": 1.0, "b": 1.0}) == 0.5


YEARS = 2 * 364


def weather(rng: np.random.Generator, days: int, start: int) -> np.ndarray:
    """Hourly °C over days: a season of ±11, a day's swing of ±4, weather that lasts for days (sd 3.5)."""
    day = np.arange(start, start + days)
    slow = np.empty(days)
    slow[0] = 0
    for i in range(1, days):
        slow[i] = 0.75 * slow[i - 1] + rng.normal(0, 3.5 * math.sqrt(1 - 0.75**2))
    hour = np.arange(24)
    return (12 + 11 * np.sin(2 * np.pi * day / 364) + slow)[:, None] + 4 * np.sin(2 * np.pi * (hour - 9) / 24)


def scale_breaks(rng: np.random.Generator, start: int, *, unit: bool) -> list[int]:
    """Weeks with a break in two years after eight weeks of reference; with `unit`, °F from week 30 on."""
    celsius = weather(rng, 56 + YEARS, start).reshape(-1, 168)
    if unit:
        celsius[38:] = celsius[38:] * 1.8 + 32
    bins = make_bins(celsius[:8].ravel())
    reference = column_reference(bins, [histogram(week, bins) for week in celsius[:8]])
    before, found = reference.blocks[-1], []
    for i, week in enumerate(celsius[8:]):
        now = histogram(week, bins)
        if breaks(now, reference, before=before):
            found.append(i)
        else:
            before = now
    return found


def test_a_season_is_no_break_and_a_unit_is_one() -> None:
    """40 two-year streams of hourly weather: no false scale break in 4,160 weeks; °F is found in its first week in 92 %."""
    rng = np.random.default_rng(6)
    starts = range(0, 364, 91)
    assert sum(len(scale_breaks(rng, start, unit=False)) for start in starts) <= 1
    found = [scale_breaks(rng, start, unit=True)[:1] for start in starts]
    assert sum(each == [30] for each in found) >= 3


def test_shares_that_jump() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(0, 1, 4000)
    bins = make_bins(values)
    reference = column_reference(bins, [histogram(part, bins) for part in np.split(values, 8)])
    holes = values[:500].copy()
    holes[:40] = np.nan
    assert [each.kind for each in breaks(histogram(holes, bins), reference)] == ["null"]
    assert not breaks(histogram(holes[30:500], bins), reference)  # 2.1 %
    texts = [*holes[100:].tolist(), *["1,5"] * 60]
    assert [each.kind for each in breaks(histogram(texts, bins), reference)] == ["type"]
    assert [each.kind for each in breaks(histogram(np.full(100, 0.3), bins), reference)] == ["constant"]
    assert breaks(histogram([None] * 20, bins), reference) == []


def test_new_levels() -> None:
    rng = np.random.default_rng(8)
    blocks = [rng.choice(["a", "b"], 300).tolist() for _ in range(8)]
    bins = make_bins([each for block in blocks for each in block])
    reference = column_reference(bins, [histogram(block, bins) for block in blocks])
    (found,) = breaks(histogram(["a"] * 180 + ["A"] * 20, bins), reference)
    assert (found.kind, found.value, found.usual) == ("unseen", 0.1, 0.0)
    assert breaks(histogram(["a"] * 196 + ["A"] * 4, bins), reference) == []


def test_volume() -> None:
    usual = np.array([168, 168, 167, 168, 166, 168])
    assert volume_break(60, usual).kind == "few-rows"  # type: ignore[union-attr]
    assert volume_break(500, usual).kind == "many-rows"  # type: ignore[union-attr]
    assert volume_break(110, usual) is None
    assert volume_break(0, np.array([3, 0, 2, 0, 1])) is None
    assert volume_break(5, np.array([9, 9])) is None
