"""Losses by name: what a prediction cost, row by row, so that any set of rows adds up.

Each loss gives a row a loss and a weight; the loss of a set of rows is Σ loss / Σ weight. Rows for which a loss has no
meaning (a text where a number is needed, a probability outside [0, 1]) get weight 0 and loss 0.

| name | loss of a row | weight | source |
|---|---|---|---|
| `wape` | abs(y − p) | abs(y) | Kolassa & Schütz 2007, "Advantages of the MAD/MEAN ratio over the MAPE", Foresight 6 |
| `mae` | abs(y − p) | 1 | |
| `mse` | (y − p)² | 1 | |
| `error` | 1 where p ≠ y, else 0 | 1 | |
| `log_loss` | −ln p(y), p cut at 1e-15 | 1 | Good 1952, "Rational decisions", JRSS B 14 |
| `brier` | (p − y)², or Σₖ (pₖ − [k = y])² over more than two classes | 1 | Brier 1950, Monthly Weather Review 78 |

`log_loss` and `brier` take the probability of the positive class and labels 0 and 1, or a list of probabilities by
class and the class's number as label; a list of two is its second element, as scikit-learn counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SMALLEST = 1e-15


def row_losses(name: str, predictions: Sequence[Any] | Array, labels: Sequence[Any] | Array) -> tuple[Array, Array]:
    """Loss and weight of each row.

    >>> loss, weight = row_losses("wape", [90.0, 30.0], [100.0, 20.0])
    >>> float(loss.sum() / weight.sum())
    0.16666666666666666
    >>> row_losses("error", ["cat", "dog"], ["cat", "cat"])[0].tolist()
    [0.0, 1.0]
    """
    if len(predictions) != len(labels):
        raise ValueError(f"{len(predictions)} predictions and {len(labels)} labels")
    return _LOSSES[name](predictions, labels)


def numbers(values: Sequence[Any] | Array) -> Array:
    """Values as floats, NaN where a value is no number."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return values.astype(np.float64)
    return np.array([float(v) if isinstance(v, (int, float, np.number)) else np.nan for v in values], dtype=np.float64)


LARGEST = 1e100
"""A loss or weight beyond it is no measurement: sums of such numbers are infinite and would hide every other row."""


def _masked(loss: Array, weight: Array) -> tuple[Array, Array]:
    defined = (np.abs(loss) < LARGEST) & (np.abs(weight) < LARGEST)
    return np.where(defined, loss, 0.0), np.where(defined, weight, 0.0)


def _wape(predictions: Any, labels: Any) -> tuple[Array, Array]:
    p, y = numbers(predictions), numbers(labels)
    return _masked(np.abs(y - p), np.abs(y))


def _mae(predictions: Any, labels: Any) -> tuple[Array, Array]:
    p, y = numbers(predictions), numbers(labels)
    return _masked(np.abs(y - p), np.ones(len(y)))


def _mse(predictions: Any, labels: Any) -> tuple[Array, Array]:
    p, y = numbers(predictions), numbers(labels)
    with np.errstate(over="ignore"):
        return _masked((y - p) ** 2, np.ones(len(y)))


def _error(predictions: Any, labels: Any) -> tuple[Array, Array]:
    if isinstance(predictions, np.ndarray) and isinstance(labels, np.ndarray) and predictions.ndim == 1:
        p, y = numbers(predictions), numbers(labels)
        return _masked(np.where(np.isnan(p) | np.isnan(y), np.nan, p != y), np.ones(len(p)))
    loss = np.array([_wrong(p, y) for p, y in zip(predictions, labels, strict=True)], dtype=np.float64)
    return _masked(loss, np.ones(len(loss)))


def _wrong(prediction: Any, label: Any) -> float:
    if _missing(prediction) or _missing(label):
        return np.nan
    if isinstance(prediction, (list, tuple, np.ndarray)):
        return float(int(np.argmax(prediction)) != label) if len(prediction) else np.nan
    return float(prediction != label)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _log_loss(predictions: Any, labels: Any) -> tuple[Array, Array]:
    chance = _by_class(predictions, labels, lambda p, y: p[y] if 0 <= y < len(p) else np.nan)
    if chance is None:
        p, y = _probabilities(predictions, labels)
        chance = np.where(y == 1, p, 1 - p)
    return _masked(-np.log(np.clip(chance, SMALLEST, 1.0)), np.ones(len(chance)))


def _brier(predictions: Any, labels: Any) -> tuple[Array, Array]:
    def distance(p: Array, y: int) -> float:
        if not 0 <= y < len(p):
            return np.nan
        return float((1 - p[1] if y else p[1]) ** 2) if len(p) == 2 else float(((p - np.eye(len(p))[y]) ** 2).sum())

    loss = _by_class(predictions, labels, distance)
    if loss is None:
        p, y = _probabilities(predictions, labels)
        loss = (p - y) ** 2
    return _masked(loss, np.ones(len(loss)))


def _probabilities(predictions: Any, labels: Any) -> tuple[Array, Array]:
    p, y = numbers(predictions), numbers(labels)
    return np.where((p >= 0) & (p <= 1) & ((y == 0) | (y == 1)), p, np.nan), y


def _by_class(predictions: Any, labels: Any, of: Callable[[Array, int], float]) -> Array | None:
    """Rows of class probabilities, one by one; None where predictions are single numbers."""
    if isinstance(predictions, np.ndarray) and predictions.dtype.kind in "fiub":
        return None
    if not any(isinstance(p, (list, tuple, np.ndarray)) for p in predictions):
        return None
    found = []
    for prediction, label in zip(predictions, numbers(labels), strict=True):
        p = np.atleast_1d(numbers(prediction)) if isinstance(prediction, (list, tuple, np.ndarray)) else np.empty(0)
        fit = len(p) > 0 and np.all((p >= 0) & (p <= 1)) and label == np.floor(label)
        found.append(of(p, int(label)) if fit else np.nan)
    return np.array(found, dtype=np.float64)


_LOSSES: dict[str, Callable[[Any, Any], tuple[Array, Array]]] = {
    "wape": _wape,
    "mae": _mae,
    "mse": _mse,
    "error": _error,
    "log_loss": _log_loss,
    "brier": _brier,
}
