"""The proxy pair: the tiny model is the ridge that it says it is, and a retrain falls due when age really costs."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from stead.stats.proxy import Encoding, Pair, Tiny, fit_tiny, judge_pair, predict_tiny, tiny_losses, update_pair


def stored(model: Tiny) -> Tiny:
    """As it comes back from a row of a table."""
    row = json.loads(json.dumps(asdict(model)))
    encodings = tuple(Encoding(**{**each, "levels": tuple(each["levels"])}) for each in row["encodings"])
    return Tiny(encodings, tuple(row["classes"]), tuple(map(tuple, row["weights"])), row["rows"])


def test_it_is_scikit_learns_ridge() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 2, (500, 3)), rng.normal(0, 1, 500)
    y = y + x @ [1.0, -2.0, 0.0]
    model = stored(fit_tiny({f"x{i}": x[:, i] for i in range(3)}, y, every=1))
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    oracle = Ridge(alpha=1.0).fit(z, y)
    assert predict_tiny(model, {f"x{i}": x[:, i] for i in range(3)}) == pytest.approx(oracle.predict(z))


def test_mixed_columns_with_holes_new_levels_and_other_types() -> None:
    rng = np.random.default_rng(1)
    rows = 2000
    columns = {
        "hour": rng.integers(0, 24, rows).astype(float),
        "size": rng.normal(0, 1, rows).tolist(),
        "kind": [None if i % 9 == 0 else "ab"[i % 2] for i in range(rows)],
        "name": [f"n{i}" for i in range(rows)],
        "empty": [None] * rows,
    }
    y = 10 * (columns["hour"] > 11) + 3 * np.array([kind == "a" for kind in columns["kind"]])  # type: ignore[operator]
    model = stored(fit_tiny(columns, y))
    assert 450 < model.rows < 550
    assert len(model.weights[0]) == 24 + 1 + 2 + 32 + 1
    answers = predict_tiny(model, columns)
    assert np.abs(answers - y).mean() < 0.4
    odd = {"hour": [12.0, 99.0, None], "size": [1e12, "x", None], "kind": ["a", "new", None]}
    assert np.all(np.isfinite(predict_tiny(model, odd)))


def test_classes() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, 3000)
    two = np.where(x + rng.normal(0, 0.5, 3000) > 0, "late", "in time")
    model = stored(fit_tiny({"x": x}, two.tolist(), classes=True))
    loss, weight = tiny_losses(model, {"x": x}, [*two.tolist()[:-2], None, "unknown"], "error")
    assert 0.05 < loss.sum() / weight.sum() < 0.15
    assert weight[-2:].tolist() == [0, 0]
    three = rng.integers(0, 3, 3000)
    model = stored(fit_tiny({"x": three + 0.1 * x}, three.tolist(), classes=True, every=1))
    assert predict_tiny(model, {"x": [0.0, 1.0, 2.0]}).shape == (3, 3)
    loss, weight = tiny_losses(model, {"x": three + 0.1 * x}, three.tolist(), "log_loss")
    assert loss.sum() / weight.sum() < 0.5


def test_labels_without_meaning_are_left_out() -> None:
    model = fit_tiny({"x": np.arange(100.0)}, [None if i % 2 else float(i) for i in range(100)], every=1)
    assert model.rows == 50
    assert np.isfinite(predict_tiny(fit_tiny({"x": []}, []), {"x": [1.0]}))[0]


def live(growth: float, price: float, *, days: int = 365) -> list[int]:
    """Days of the retrains over a year after a year of history; the level grows by `growth` a year, evenly."""
    rng = np.random.default_rng(3)
    whole = 365 + days
    day, hour = np.repeat(np.arange(whole), 24), np.tile(np.arange(24.0), whole)
    hard = np.repeat(rng.gamma(16, 1 / 16, whole), 24)
    y = (
        100
        * (1 + growth * day / 365)
        * (1 + 0.8 * np.sin(hour / 24 * 6.283))
        * (1 + 0.3 * hard * rng.normal(size=len(day)))
    )

    def take(first: int, last: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        part = slice(first * 24, last * 24)
        return {"hour": hour[part]}, y[part]

    def fit(at: int) -> tuple[Tiny, float]:
        model = fit_tiny(*take(at - 90, at))
        loss, weight = tiny_losses(model, *take(at - 90, at), "wape")
        return model, float(loss.sum() / weight.sum())

    (frozen, usual), state, due = fit(365), Pair(), []
    fresh = frozen
    for now in range(365, whole):
        if now % 7 == 0:
            fresh, _ = fit(now)
        (old, weight), (new, _) = (tiny_losses(model, *take(now, now + 1), "wape") for model in (frozen, fresh))
        state = update_pair(Pair(**json.loads(json.dumps(asdict(state)))), old.sum(), new.sum(), weight.sum(), usual)
        if judge_pair(state, price=price).due:
            due.append(now - 365)
            frozen, usual = fit(now + 1)
            fresh, state = frozen, Pair()
    return due


def test_what_does_not_age_is_rarely_retrained_and_what_ages_is() -> None:
    """Retrains in a year at a price of a day: none when stable, four when the level doubles (WAPE .24); fewer when dear."""
    assert len(live(0.0, 1.0)) <= 1
    aging = live(1.0, 1.0)
    assert 3 <= len(aging) <= 8
    assert min(np.diff(aging)) >= 28
    assert len(live(1.0, 10.0)) < len(aging)


def test_days_that_are_hard_for_both_cancel_out() -> None:
    state = Pair()
    for day in range(100):
        hard = 5.0 if day % 3 == 0 else 1.0
        state = update_pair(state, 10 * hard, 10 * hard, 100.0, 0.1)
    assert (state.owed, state.days) == (0, 100)
    state = update_pair(state, 20.0, 10.0, 100.0, 0.1)
    assert state.owed == pytest.approx(1)
    assert update_pair(state, 0.0, 0.0, 0.0, 0.1).owed == state.owed
    found = judge_pair(state, price=0.25)
    assert (found.due, found.prices, found.rest) == (True, pytest.approx(4), 0)
    with pytest.raises(ValueError, match="price"):
        judge_pair(state, price=0)
