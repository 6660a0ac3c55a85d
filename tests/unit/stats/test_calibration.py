"""Loss without labels: isotonic curves as scikit-learn has them, and windows whose true loss is known."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from stead.stats.calibration import (
    Estimator,
    Isotonic,
    apply_isotonic,
    estimate,
    fit_estimator,
    fit_isotonic,
    pava,
)
from stead.stats.losses import row_losses

Window = tuple[np.ndarray, np.ndarray]


def test_isotonic_regression_as_scikit_learn_has_it() -> None:
    rng = np.random.default_rng(0)
    x, weight = np.arange(300.0), rng.gamma(2, 1, 300)
    y = np.log1p(x) + rng.normal(0, 1, 300)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(x, y)
    assert pava(y, weight) == pytest.approx(IsotonicRegression().fit_transform(x, y, sample_weight=weight))
    at = np.linspace(-10, 310, 500)
    assert apply_isotonic(fit_isotonic(x, y), at) == pytest.approx(oracle.predict(at))
    ties = np.repeat(np.arange(30.0), 10)
    assert apply_isotonic(fit_isotonic(ties, y), ties) == pytest.approx(IsotonicRegression().fit_transform(ties, y))
    assert fit_isotonic(x, -y, increasing=None).y[0] > fit_isotonic(x, -y, increasing=None).y[-1]
    assert np.isnan(apply_isotonic(fit_isotonic(x[:0], y[:0]), x)).all()


def test_many_points_are_grouped_with_little_loss() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(60_000)
    y = (rng.random(60_000) < p**2).astype(float)
    curve = fit_isotonic(p, y)
    assert len(curve.x) < 1000
    assert np.abs(apply_isotonic(curve, p) - p**2).mean() < 0.01


def chances(rng: np.random.Generator, rows: int, hard: float = 1.0) -> Window:
    """A classifier that is too sure of itself; `hard` > 1 brings the true chances nearer to a half."""
    z = rng.normal(0, 2.5, rows) / hard
    return 1 / (1 + np.exp(-1.5 * z)), (rng.random(rows) < 1 / (1 + np.exp(-z))).astype(float)


def amounts(rng: np.random.Generator, rows: int, level: float = 1.0) -> Window:
    """A regression whose errors grow with the prediction."""
    p = level * rng.gamma(3, 10, rows)
    return p, p * (1 + rng.normal(0, 0.2 + 0.004 * p, rows))


def reference(make: object, loss: str, seed: int = 2) -> Estimator:
    assert callable(make)
    rng = np.random.default_rng(seed)
    predictions, labels = make(rng, 4000)
    return fit_estimator(loss, predictions, labels, np.repeat(np.arange(8), 500))


@pytest.mark.parametrize("loss", ["log_loss", "brier"])
def test_harder_rows_are_seen_and_measured(loss: str) -> None:
    known = reference(chances, loss)
    rng = np.random.default_rng(3)
    easy, (hard, labels) = chances(rng, 500)[0], chances(rng, 5000, hard=3.0)
    assert estimate(known, easy).state == "usual"
    found = estimate(known, hard)
    cost, weight = row_losses(loss, hard, labels)
    assert found.state == "alarm"
    assert found.value == pytest.approx(cost.sum() / weight.sum(), rel=0.06)


@pytest.mark.parametrize("loss", ["mae", "mse", "wape"])
def test_larger_amounts_cost_more(loss: str) -> None:
    known = reference(amounts, loss)
    assert known.kind == "number"
    rng = np.random.default_rng(4)
    assert estimate(known, amounts(rng, 500)[0]).state == "usual"
    predictions, labels = amounts(rng, 20_000, level=1.6)
    found, (cost, weight) = estimate(known, predictions), row_losses(loss, predictions, labels)
    assert found.value > 1.03 * found.usual
    assert found.value == pytest.approx(cost.sum() / weight.sum(), rel=0.35)  # beyond the reference it stays flat
    if loss == "mae":
        assert found.state == "alarm"


@pytest.mark.parametrize(
    ("make", "loss"), [(chances, "log_loss"), (chances, "brier"), (amounts, "wape"), (amounts, "mae")]
)
@pytest.mark.parametrize("rows", [50, 500])
def test_stable_windows_do_not_alarm(make: object, loss: str, rows: int) -> None:
    """None in 8 × 150 windows."""
    assert callable(make)
    known = reference(make, loss)
    rng = np.random.default_rng(5)
    assert not any(estimate(known, make(rng, rows)[0]).state == "alarm" for _ in range(150))


def test_levels() -> None:
    rng = np.random.default_rng(6)
    truth = rng.choice(["cat", "dog", "owl"], 4000, p=[0.6, 0.3, 0.1])
    guess = np.where(rng.random(4000) < np.where(truth == "owl", 0.5, 0.05), "dog", truth)
    known = fit_estimator("error", guess.tolist(), truth.tolist(), np.repeat(np.arange(8), 500))
    assert known.kind == "level"
    assert known.usual == pytest.approx((guess != truth).mean())
    assert estimate(known, ["cat"] * 500).state == "usual"
    found = estimate(known, ["dog"] * 400 + ["new"] * 100)
    assert found.state == "alarm"
    assert found.value == pytest.approx(0.8 * (truth[guess == "dog"] != "dog").mean() + 0.2 * (guess != truth).mean())


def test_more_than_two_classes_by_their_largest_chance() -> None:
    rng = np.random.default_rng(7)
    p = rng.dirichlet(np.full(3, 0.4), 3000)
    y = np.array([rng.choice(3, p=each) for each in p])
    known = fit_estimator("log_loss", p.tolist(), y.tolist(), np.repeat(np.arange(6), 500))
    assert known.kind == "number"
    assert estimate(known, p[:500].tolist()).state == "usual"
    assert estimate(known, [[0.34, 0.33, 0.33]] * 500).state == "alarm"
    pairs = fit_estimator("brier", [[1 - a, a] for a in p[:, 0]], (y == 0).astype(float), np.repeat(np.arange(6), 500))
    assert pairs.kind == "chance"


def test_what_it_cannot_know_is_unknown() -> None:
    known = reference(chances, "brier")
    p = chances(np.random.default_rng(8), 500)[0]
    assert estimate(known, p, distance=0.4).state == "unknown"
    assert estimate(known, p, distance=math.nan).state == "unknown"
    assert estimate(known, p, distance=0.1).state == "usual"
    assert estimate(known, p[:29]).state == "unknown"
    assert estimate(known, [None, "x"]).state == "unknown"


def test_it_is_a_row() -> None:
    for make, loss in ((chances, "brier"), (amounts, "wape")):
        known = reference(make, loss)
        row = json.loads(json.dumps(asdict(known), allow_nan=False))
        curves = {name: Isotonic(tuple(row[name]["x"]), tuple(row[name]["y"])) for name in ("cost", "heavy")}
        assert Estimator(**{**row, **curves, "levels": tuple(map(tuple, row["levels"]))}) == known


def test_few_blocks_make_it_careful() -> None:
    p, y = chances(np.random.default_rng(9), 400)
    known = fit_estimator("brier", p, y, np.zeros(400))
    assert known.between == known.usual
    assert estimate(known, np.full(400, 0.5)).state == "usual"
