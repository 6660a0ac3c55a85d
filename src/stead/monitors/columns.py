"""A column of a table as the values that histograms count: of training rows and of served ones alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stead.stats.histograms import Bins, Histogram, histogram

if TYPE_CHECKING:
    import pyarrow as pa

Values = Sequence[Any] | NDArray[Any]
OUTPUT = "output"


def values(column: pa.ChunkedArray[Any]) -> Values | None:
    """Numbers as floats with NaN for null, all else as a list; None for what is no column to watch: times, lists, structures."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.float64(), safe=False).to_numpy()
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.to_pylist()
    return None


def count(column: Values, bins: Bins) -> Histogram:
    """The histogram of served values. A column that had a text somewhere came as text: its numbers are numbers again.

    >>> from stead.stats.histograms import make_bins
    >>> count(["1.5", None, "n/a"], make_bins(np.arange(3.0))).counts[:2]
    (1, 1)
    """
    if bins.kind == "number" and isinstance(column, list):
        column = [_number(value) for value in column]
    return histogram(column, bins)


def outputs(numbers: pa.ChunkedArray[Any], texts: pa.ChunkedArray[Any]) -> Values:
    """What a model answered: numbers, or levels. Of two probabilities the second, of several the place of the largest."""
    if texts.null_count == len(texts) or numbers.null_count == 0:
        return numbers.to_numpy()
    return [
        n if n is not None or t is None else answered(msgspec.json.decode(t))
        for n, t in zip(numbers.to_pylist(), texts.to_pylist(), strict=True)
    ]


def answered(value: Any) -> Any:
    """
    >>> answered([0.2, 0.8]), answered([0.1, 0.7, 0.2]), answered("cat")
    (0.8, '1', 'cat')
    """
    if isinstance(value, (list, tuple, np.ndarray)) and len(value):
        return value[1] if len(value) == 2 else str(int(np.argmax(value)))
    return value


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
