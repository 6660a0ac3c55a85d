"""Losses against scikit-learn as oracle, and rows where they have no meaning."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from stead.config import LOSSES
from stead.stats.losses import row_losses


def total(name: str, predictions: object, labels: object) -> float:
    loss, weight = row_losses(name, predictions, labels)  # type: ignore[arg-type]
    return float(loss.sum() / weight.sum())


RNG = np.random.default_rng(2)
Y = RNG.gamma(3, 10, 500)
P = Y + RNG.normal(0, 5, 500)
CLASS = RNG.integers(0, 2, 500)
CHANCE = np.clip(RNG.random(500), 0.01, 0.99)


def test_numbers_as_scikit_learn_counts_them() -> None:
    assert total("mae", P, Y) == pytest.approx(metrics.mean_absolute_error(Y, P))
    assert total("mse", P, Y) == pytest.approx(metrics.mean_squared_error(Y, P))
    assert total("wape", P, Y) == pytest.approx(np.abs(Y - P).sum() / Y.sum())


def test_probabilities_as_scikit_learn_counts_them() -> None:
    assert total("log_loss", CHANCE, CLASS) == pytest.approx(metrics.log_loss(CLASS, CHANCE))
    assert total("brier", CHANCE, CLASS) == pytest.approx(metrics.brier_score_loss(CLASS, CHANCE))
    both = [[1 - p, p] for p in CHANCE]
    assert total("log_loss", both, CLASS) == pytest.approx(metrics.log_loss(CLASS, CHANCE))
    assert total("brier", both, CLASS) == pytest.approx(metrics.brier_score_loss(CLASS, CHANCE))


def test_more_than_two_classes() -> None:
    classes, chances = RNG.integers(0, 3, 200), RNG.dirichlet(np.ones(3), 200)
    assert total("log_loss", chances.tolist(), classes) == pytest.approx(metrics.log_loss(classes, chances))
    wanted = ((chances - np.eye(3)[classes]) ** 2).sum(axis=1).mean()
    assert total("brier", chances.tolist(), classes) == pytest.approx(wanted)
    assert total("error", chances.tolist(), classes.tolist()) == pytest.approx(
        (chances.argmax(axis=1) != classes).mean()
    )


def test_errors_of_texts_numbers_and_truths() -> None:
    assert row_losses("error", ["cat", 1, True, 1.0, "1"], ["dog", 1.0, 1, True, 1])[0].tolist() == [1, 0, 0, 0, 1]
    assert row_losses("error", np.array([1.0, 2.0, np.nan]), np.array([1.0, 1.0, 1.0]))[1].tolist() == [1, 1, 0]


@pytest.mark.parametrize("name", LOSSES)
def test_rows_without_a_meaning_have_no_weight(name: str) -> None:
    loss, weight = row_losses(name, [None, float("nan"), 0.0], [1.0, 1.0, 1.0])
    assert weight[:2].tolist() == [0, 0]
    assert loss[:2].tolist() == [0, 0]
    assert weight[2] == 1
    assert all(len(part) == 0 for part in row_losses(name, [], []))


def test_texts_where_numbers_are_needed_and_chances_that_are_none() -> None:
    assert row_losses("mae", ["x", 2.0], [1.0, 1.0])[1].tolist() == [0, 1]
    assert row_losses("brier", [1.5, 0.5, 0.5], [1, 1, 7])[1].tolist() == [0, 1, 0]
    assert row_losses("log_loss", [[0.2, 0.8], 0.5, [0.5, 0.5]], [7, 1, 0.5])[1].tolist() == [0, 0, 0]
    assert row_losses("log_loss", [0.0], [1])[0][0] == pytest.approx(34.5, abs=0.1)


def test_a_true_value_of_zero_has_loss_but_no_weight() -> None:
    loss, weight = row_losses("wape", [3.0, 10.0], [0.0, 10.0])
    assert (loss.tolist(), weight.tolist()) == ([3, 0], [0, 10])


def test_as_many_labels_as_predictions() -> None:
    with pytest.raises(ValueError, match="2 predictions and 1 labels"):
        row_losses("mae", [1, 2], [1])


@pytest.mark.parametrize("name", ["wape", "mae", "mse"])
def test_a_number_beyond_measure_does_not_hide_the_others(name: str) -> None:
    loss, weight = row_losses(name, [1.0, 2.0, 1.0], [1e308, 2.5, -1e308])
    assert weight[1] > 0 and weight[[0, 2]].tolist() == [0, 0]
    assert np.isfinite(loss.sum() / weight.sum())
