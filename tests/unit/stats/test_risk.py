"""The risk test by simulation: streams that are healthy, and streams whose loss rose by a known part."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from stead.stats.risk import BETS, RiskReference, RiskState, evidence, replay, risk_reference, update_risk


def stream(rng: np.random.Generator, days: int, kind: str, cv: float) -> np.ndarray:
    """Daily losses about .3: independent, with days that hang together (AR 1, .4), or with a year's season of ±10 %."""
    z = rng.normal(size=days)
    if kind == "days that hang together":
        for i in range(1, days):
            z[i] = 0.4 * z[i - 1] + math.sqrt(1 - 0.16) * z[i]
    loss = 0.3 * np.exp(cv * z - cv * cv / 2)
    if kind == "season":
        loss *= 1 + 0.1 * np.sin(2 * np.pi * (np.arange(days) + rng.integers(365)) / 365)
    return loss


def watch(
    kind: str, *, cv: float, rise: float = 1.0, sims: int, days: int = 365, judged: int = 28
) -> tuple[float, float]:
    """False pages a year (or pages), and the median day of the first one."""
    rng = np.random.default_rng(4)
    pages, first = 0, []
    for _ in range(sims):
        loss = stream(rng, judged + days, kind, cv)
        reference = risk_reference(loss[:judged], np.ones(judged))
        states = replay(reference, ((rise * each, 1.0) for each in loss[judged:]))
        opened = [
            now.changed for before, now in zip([RiskState(), *states], states, strict=False) if now.open > before.open
        ]
        pages += len(opened)
        first.append(opened[0] if opened else math.inf)
    return pages / sims * 365 / days, float(np.median(first))


@pytest.mark.parametrize("kind", ["independent", "days that hang together", "season"])
@pytest.mark.parametrize("cv", [0.1, 0.25])
def test_a_healthy_stream_pages_at_most_once_a_model_year(kind: str, cv: float) -> None:
    """Measured on 150 model-years each: 0 to .04 without season, .3 to .6 with one of ±10 % that 28 days cannot know."""
    assert watch(kind, cv=cv, sims=12)[0] <= (1.0 if kind == "season" else 0.1)


def test_rises_are_found() -> None:
    """Days to notice, median: 20 % at a day's sd of 10 %: 40; 50 %: 14; doubled, at a day's sd of 25 %: 14; 10 % at 3 %: 47."""
    for cv, rise, days in ((0.1, 1.2, 60), (0.1, 1.5, 20), (0.25, 2.0, 20), (0.03, 1.1, 60)):
        assert watch("days that hang together", cv=cv, rise=rise, sims=9, days=130)[1] <= days


def test_at_the_bound_itself_it_keeps_its_word() -> None:
    """Mean time to a false alarm ≥ 1/α batches for losses whose mean is the bound."""
    rng = np.random.default_rng(6)
    reference = RiskReference(mean=0.5, bound=0.5, low=0.0, high=1.0, batch=1, block_sd=0.1, weight=1.0, days=28)
    waits = []
    for _ in range(12):
        state = RiskState()
        for loss in rng.random(400):
            state = update_risk(reference, state, loss, 1.0, alpha=1 / 50)
            if state.open:
                break
        waits.append(state.days)
    assert np.mean(waits) >= 50


def test_it_closes_when_the_loss_is_back_and_may_open_again() -> None:
    rng = np.random.default_rng(7)
    reference = risk_reference(stream(rng, 28, "", 0.1), np.ones(28))
    bad, good = 0.6 * np.exp(0.1 * rng.normal(size=30)), 0.3 * np.exp(0.1 * rng.normal(size=30))
    states = replay(reference, [(each, 1.0) for each in np.concatenate([good, bad, good, bad])])
    assert [states[i].open for i in (29, 59, 89, 119)] == [False, True, False, True]
    assert 60 < states[89].changed < 80


def test_it_can_be_stopped_and_resumed_at_any_day() -> None:
    rng = np.random.default_rng(8)
    days = stream(rng, 28, "days that hang together", 0.2)
    reference = RiskReference(**json.loads(json.dumps(asdict(risk_reference(days, np.ones(28))))))
    state = RiskState()
    for loss in 2 * days:
        row = json.loads(json.dumps(asdict(state)))
        state = update_risk(reference, RiskState(**{**row, "wealth": tuple(row["wealth"])}), loss, 1.0)
    assert state == replay(reference, [(2 * loss, 1.0) for loss in days])[-1]


def test_batches_grow_with_the_design_effect() -> None:
    rng = np.random.default_rng(9)
    slow = np.repeat(rng.normal(1, 0.2, 14), 6) + rng.normal(0, 0.02, 84)
    assert risk_reference(slow, np.ones(84), blocks=14).batch >= 5
    assert risk_reference(rng.normal(1, 0.2, 84), np.ones(84)).batch <= 2


def test_days_without_meaning_change_nothing() -> None:
    reference = risk_reference(np.linspace(0.9, 1.1, 28) * 24, np.full(28, 24.0))
    assert reference.mean == pytest.approx(1.0)
    state = update_risk(reference, RiskState(), 0.0, 0.0)
    state = update_risk(reference, state, math.nan, 3.0)
    assert (state.days, state.wealth, evidence(state)) == (2, (0.0,) * len(BETS), 0.0)


def test_days_count_by_their_weight() -> None:
    """Σ loss / Σ weight is held up, not the mean of daily ratios, which quiet days with large relative errors would rule."""
    rng = np.random.default_rng(2)
    weight = rng.gamma(0.5, 200, 84) + 1
    loss = 0.2 * weight + rng.gamma(2, 5, 84)
    reference = risk_reference(loss[:56], weight[:56])
    assert reference.mean == pytest.approx(loss[:56].sum() / weight[:56].sum())
    assert reference.bound < 1.6 * reference.mean < (loss[:56] / weight[:56]).mean()
    assert not replay(reference, zip(loss[56:], weight[56:], strict=True))[-1].open
    grown = replay(reference, [(0.9 * reference.mean * 1000 * day, 1000.0 * day) for day in range(1, 60)])
    assert not any(state.open for state in grown)


def test_one_terrible_day_is_not_a_rise() -> None:
    reference = risk_reference(np.random.default_rng(1).normal(1, 0.1, 28), np.ones(28))
    states = replay(reference, [(1.0, 1.0), (500.0, 1.0), (1.0, 1.0)])
    assert not any(state.open for state in states)


def test_references_of_all_kinds() -> None:
    with pytest.raises(ValueError, match="at least 8 days"):
        risk_reference(np.ones(7), np.ones(7))
    flat = risk_reference(np.zeros(28), np.ones(28))  # a model without any error so far
    assert not any(state.open for state in replay(flat, [(0.0, 1.0)] * 30))
    assert replay(flat, [(0.5, 1.0)] * 60)[-1].open
