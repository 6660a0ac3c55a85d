"""Logged requests and labels as Arrow tables: what compaction stores and reading joins.

Predictions, one row per predicted row and one for a failed request (`rows` 0), sorted by id:
`FIELDS`, then a column `features.NAME` for each raw column that the request carried. `output` is JSON; `output_number` the
same where it is a number. `body` is kept only where it could not be read into columns.
Labels, sorted by id and then by when they were accepted: `request row value value_number accepted event_time source`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from stead.errors import SteadError
from stead.predictions.segment import Kind
from stead.predictions.tail import Answer, KeptLabel, RawSegment
from stead.runtime.protocols import decode

if TYPE_CHECKING:
    import pyarrow as pa

FEATURE = "features."
FIELDS = (
    *("request", "row", "rows", "model", "version", "event_time", "received_at", "latency_us", "status"),
    *("protocol", "key", "named", "output", "output_number", "body"),
)
"""Columns of predictions before the features."""
_CHUNKS = 64
_json = msgspec.json.Encoder().encode


def narrow(answers: Sequence[Answer]) -> pa.Table:
    """Predictions without their features, in the order given; `body` is left out too."""
    return _table(answers, [None] * len(answers))


def wide(answers: Sequence[Answer]) -> pa.Table:
    """Predictions with their features as columns, sorted by id."""
    import pyarrow as pa

    answers = sorted(answers, key=lambda answer: answer.logged.id)
    features: dict[str, list[Any]] = {}
    bodies: list[bytes | None] = []
    written = 0
    for answer in answers:
        decoded = _features(answer)
        for name, values in (decoded or {}).items():
            known = features.get(name)
            if known is None:
                known = features[name] = []
            if len(known) < written:
                known.extend([None] * (written - len(known)))
            known.extend(values)
        bodies.append(answer.logged.body if decoded is None else None)
        written += _count(answer)
    for values in features.values():
        values.extend([None] * (written - len(values)))
    table = _table(answers, bodies)
    columns: dict[str, Any] = {FEATURE + name: _array(values) for name, values in features.items()}
    return pa.table({**{name: table[name] for name in table.column_names}, **columns})


def of_raw(raw: Sequence[RawSegment], kind: Kind) -> pa.Table:
    """What raw segments hold, narrow, in any order; a segment is turned into a table once and later extended."""
    import pyarrow as pa

    return pa.concat_tables([_extended(segment, kind) for segment in raw] or [_made(kind, [])])


def between(table: pa.Table, column: str, ends: tuple[Any, Any]) -> pa.Table:
    """The rows of a table with ends[0] <= column <= ends[1].

    >>> import pyarrow
    >>> between(pyarrow.table({"n": [3, 1, 2]}), "n", (2, 3))["n"].to_pylist()
    [3, 2]
    """
    import pyarrow.compute as pc

    values: Any = table[column]
    return table.filter(pc.and_(pc.greater_equal(values, ends[0]), pc.less_equal(values, ends[1])))


def _extended(segment: RawSegment, kind: Kind) -> pa.Table:
    import pyarrow as pa

    table: pa.Table | None
    done, table = segment.cache.get("table", (0, None))
    if table is None or len(segment.records) > done:
        more = _made(kind, segment.records[done:])
        table = more if table is None else pa.concat_tables([table, more])
        if table.column(0).num_chunks > _CHUNKS:
            table = table.combine_chunks()
        segment.cache["table"] = (max(done, len(segment.records)), table)
    return table


def _made(kind: Kind, records: Sequence[Any]) -> pa.Table:
    return labels(records) if kind == "labels" else narrow(records)


def labels(kept: Sequence[KeptLabel]) -> pa.Table:
    """Labels in the order given."""
    import pyarrow as pa

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


def _count(answer: Answer) -> int:
    """Rows of the table that a request gets: one for each output, one for a failed request."""
    return len(answer.outputs) if answer.outputs else 1


def _table(answers: Sequence[Answer], bodies: Sequence[bytes | None]) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    logs = [answer.logged for answer in answers]
    made: dict[str, Any] = {
        "request": pa.array([log.id for log in logs], pa.string()),
        "model": pa.array([log.model for log in logs], pa.string()),
        "rows": pa.array([len(answer.outputs) if answer.outputs else 0 for answer in answers], pa.int32()),
        "version": pa.array([log.version for log in logs], pa.int32()),
        "event_time": pa.array([log.event_time for log in logs], pa.int64()),
        "received_at": pa.array([log.received_at for log in logs], pa.int64()),
        "latency_us": pa.array([log.latency_us for log in logs], pa.int64()),
        "status": pa.array([log.status for log in logs], pa.int32()),
        "protocol": pa.array([log.protocol for log in logs], pa.string()),
        "key": pa.array([log.key for log in logs], pa.string()),
        "named": pa.array([log.named for log in logs], pa.bool_()),
        "body": pa.array(bodies, pa.binary()),
    }
    counts = np.array([_count(answer) for answer in answers], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    total = int(counts.sum())
    if total > len(answers):
        place = pa.array(np.repeat(np.arange(len(answers)), counts))
        made = {name: column.take(place) for name, column in made.items()}
    outputs = [output for answer in answers for output in (answer.outputs or (None,))]
    made["row"] = pa.array((np.arange(total) - np.repeat(starts, counts)).astype(np.int32))
    made["output"] = pa.array([None if o is None else _json(o).decode() for o in outputs], pa.string())
    made["output_number"] = pa.array([number(output) for output in outputs], pa.float64())
    return pa.table({name: made[name] for name in FIELDS})


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
    listed = {str(name): values if type(values) is list else _listed(values) for name, values in columns.items()}
    n = len(outputs)
    for values in listed.values():
        if len(values) != n:
            return None
    return listed


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
