"""Requests and labels for the tests of the log: one row an hour, or several, through the public doors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from stead.predictions import Label, Logged, PredictionLog, add_labels, seal_labels
from stead.runtime.clock import now_ms, to_ms
from stead.runtime.ids import new_id
from stead.store import Store

START = to_ms("2012-01-01")
HOUR = 3_600_000
DAY = 24 * HOUR


def request(
    outputs: Sequence[Any] | None,
    *,
    model: str = "bikes",
    version: int = 1,
    at: int = START,
    rows: Sequence[dict[str, Any]] | None = None,
    body: bytes | None = None,
) -> Logged:
    """One logged request; `outputs` None for a failed one."""
    rows = rows if rows is not None else [{"hour": place, "place": "north"} for place in range(len(outputs or [0]))]
    given = {"row": rows[0]} if len(rows) == 1 else {"rows": list(rows)}
    return Logged(
        id=new_id(),
        model=model,
        version=version,
        event_time=at,
        received_at=now_ms(),
        latency_us=900,
        status=200 if outputs is not None else 400,
        protocol="stead",
        key=None,
        header_length=0,
        body=json.dumps(given).encode() if body is None else body,
        outputs=b"" if outputs is None else msgspec.msgpack.encode(list(outputs)),
    )


def hours(number: int, *, first: int = 0, **fields: Any) -> list[Logged]:
    """One request an hour; each predicts 100 and the hour's number."""
    return [request([100.0 + n], at=START + n * HOUR, **fields) for n in range(first, first + number)]


def log(store: Store, requests: Sequence[Logged], *, writer: str = "gateway-1") -> list[str]:
    """Write requests as a gateway does, seal the file, and return their ids."""
    made = PredictionLog(store, writer)
    made.append(requests)
    made.close()
    return [each.id for each in requests]


def label(store: Store, ids: Sequence[str], values: Sequence[Any]) -> int:
    """Label, seal, and return how many were unknown."""
    receipt = add_labels(store, [Label(one, value) for one, value in zip(ids, values, strict=True)])
    seal_labels(store)
    assert receipt.accepted == len(ids)
    return receipt.unknown
