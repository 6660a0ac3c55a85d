"""Logged requests and labels as Arrow tables: what compaction stores and reading joins.

Predictions, one row per predicted row and one for a failed request (`rows` 0), sorted by id:
`request row rows version event_time received_at latency_us status protocol key output output_number body`, then a column
`features.NAME` for each raw column that the request carried. `output` is JSON; `output_number` the same where it is a
number. `body` is kept only where it could not be read into columns.
Labels: `request row value value_number accepted event_time source`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from stead.errors import SteadError
from stead.predictions.tail import Answer, KeptLabel
from stead.runtime.protocols import decode

if TYPE_CHECKING:
    import pyarrow as pa

FEATURE = "features."
_json = msgspec.json.Encoder().encode


def narrow(answers: Sequence[Answer]) -> pa.Table:
    """Predictions of any models without their features, and with the column `model`."""
    import pyarrow as pa

    names = [*_fields(), "model"]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for answer in answers:
        for row in _rows(answer, None):
            for name, value in zip(names, (*row, answer.logged.model), strict=True):
                columns[name].append(value)
    types = {**_fields(), "model": pa.string()}
    return pa.table({name: pa.array(columns[name], types[name]) for name in names})


def wide(answers: Sequence[Answer]) -> pa.Table:
    """Predictions of one model with their features as columns."""
    import pyarrow as pa

    types = _fields()
    columns: dict[str, list[Any]] = {name: [] for name in types}
    features: dict[str, list[Any]] = {}
    written = 0
    for answer in sorted(answers, key=lambda a: a.logged.id):
        decoded = _features(answer)
        rows = _rows(answer, None if decoded is not None else answer.logged.body)
        for row in rows:
            for name, value in zip(types, row, strict=True):
                columns[name].append(value)
        for name, values in (decoded or {}).items():
            known = features.setdefault(name, [])
            known.extend([None] * (written - len(known)))
            known.extend(values)
        written += len(rows)
    for values in features.values():
        values.extend([None] * (written - len(values)))
    made = {name: pa.array(columns[name], types[name]) for name in types}
    return pa.table(made | {FEATURE + name: _array(values) for name, values in features.items()})


def labels(kept: Sequence[KeptLabel]) -> pa.Table:
    """Labels, sorted by id and then by when they were accepted."""
    import pyarrow as pa

    kept = sorted(kept, key=lambda label: (label.request, label.row, label.accepted))
    return pa.table(
        {
            "request": pa.array([label.request for label in kept], pa.string()),
            "row": pa.array([label.row for label in kept], pa.int32()),
            "value": pa.array([_json(label.value).decode() for label in kept], pa.string()),
            "value_number": pa.array([number(label.value) for label in kept], pa.float64()),
            "accepted": pa.array([label.accepted for label in kept], pa.int64()),
            "event_time": pa.array([label.event_time for label in kept], pa.int64()),
            "source": pa.array([label.source for label in kept], pa.string()),
        }
    )


def number(value: Any) -> float | None:
    """A value as a finite float, None where it is none.

    >>> number(True), number("1"), number(float("nan"))
    (1.0, None, None)
    """
    if not isinstance(value, (int, float)):
        return None
    try:
        made = float(value)
    except OverflowError:
        return None
    return made if math.isfinite(made) else None


def _fields() -> dict[str, pa.DataType]:
    import pyarrow as pa

    return {
        "request": pa.string(),
        "row": pa.int32(),
        "rows": pa.int32(),
        "version": pa.int32(),
        "event_time": pa.int64(),
        "received_at": pa.int64(),
        "latency_us": pa.int64(),
        "status": pa.int32(),
        "protocol": pa.string(),
        "key": pa.string(),
        "output": pa.string(),
        "output_number": pa.float64(),
        "body": pa.binary(),
    }


def _rows(answer: Answer, body: bytes | None) -> list[tuple[Any, ...]]:
    """The rows of a request, in the order of `_fields`."""
    log, outputs = answer
    n = 0 if outputs is None else len(outputs)
    shared = (n, log.version, log.event_time, log.received_at, log.latency_us, log.status, log.protocol, log.key)
    if outputs is None:
        return [(log.id, 0, *shared, None, None, body)]
    return [(log.id, row, *shared, _json(output).decode(), number(output), body) for row, output in enumerate(outputs)]


def _features(answer: Answer) -> dict[str, list[Any]] | None:
    """The columns of a request that was answered; None where it failed or its body does not fit its outputs."""
    log, outputs = answer
    if outputs is None:
        return None
    try:
        columns = decode(log.protocol, log.body, log.header_length)
    except (SteadError, LookupError, ValueError):
        return None
    if not isinstance(columns, dict):
        rows = [list(row) for row in columns]
        columns = {str(place): [row[place] for row in rows] for place in range(len(rows[0]) if rows else 0)}
    listed = {str(name): _listed(values) for name, values in columns.items()}
    return listed if all(len(values) == len(outputs) for values in listed.values()) else None


def _listed(values: Any) -> list[Any]:
    made = values.tolist() if hasattr(values, "tolist") else list(values)
    return made if isinstance(made, list) else [made]


def _array(values: list[Any]) -> pa.Array[Any]:
    """The values with the narrowest type that holds them all: numbers together as floats, a mixture as JSON text."""
    import pyarrow as pa

    try:
        array: pa.Array[Any] = pa.array(values)
        if not pa.types.is_null(array.type):
            return array
        return pa.array(values, pa.float64())
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    kept = [value for value in values if value is not None]
    if all(isinstance(value, (int, float)) for value in kept):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    texts = [value if isinstance(value, str) or value is None else _json(value).decode() for value in values]
    return pa.array(texts, pa.string())
