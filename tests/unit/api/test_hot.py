"""The hot route takes journals as the SDK sends them, and the same records come by name as JSON."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import httpx
import msgspec
import pytest

from stead import runs
from stead.api import Remote
from stead.api.tokens import create_token
from stead.errors import Conflict, Forbidden, InvalidInput, NotFound
from stead.runtime import journal as j
from stead.runtime.ids import new_id
from stead.sdk.sender import deliver
from stead.store import Store

AT = 1_700_000_000_000

Connect = Callable[..., Remote]


def test_records_arrive_as_they_are(store: Store, url: str, remote: Connect) -> None:
    caller, run_id = remote(url), new_id()
    block = struct.pack("<2q", 5, 6), struct.pack("<2q", AT, AT), struct.pack("<2d", math.nan, math.inf)
    records: list[j.Record] = [j.Started(AT, "p", "n"), j.Points(AT, "a", *block), j.Metrics(AT, 0, {"a": -math.inf})]
    assert deliver(caller, run_id, "w", 1, records) == 3
    assert deliver(caller, run_id, "w", 1, records) == 3
    (series,) = runs.series(store, [run_id], "a")
    assert (series.steps, series.values) == ([0, 5, 6], [-math.inf, None, math.inf])
    with pytest.raises(Conflict):
        deliver(caller, run_id, "w", 9, [j.Beat(AT)])
    with pytest.raises(NotFound):
        deliver(caller, new_id(), "w", 1, [j.Beat(AT)])
    with pytest.raises(InvalidInput, match="were not stored first"):
        deliver(caller, run_id, "w", 4, [j.File(AT, "a", "f", 1)])
    caller.close()


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", msgspec.msgpack.encode({"a": 1}), msgspec.msgpack.encode([1, 2, 3, 4])]
)
def test_a_body_that_is_none_is_refused(url: str, body: bytes) -> None:
    answer = httpx.post(f"{url}/api/hot/deliver", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "record-invalid")


def test_it_takes_a_token_that_may_write(store: Store, url: str, remote: Connect) -> None:
    reading = create_token(store, "reader", role="read").secret
    writing = create_token(store, "writer", role="write").secret
    records: list[j.Record] = [j.Started(AT, "p", "n")]
    for token in ("", "stead-nonsense", reading):
        caller = remote(url, token)
        with pytest.raises(Forbidden):
            deliver(caller, new_id(), "w", 1, records)
        caller.close()
    caller = remote(url, writing)
    assert deliver(caller, new_id(), "w", 1, records) == 1
    caller.close()


def test_by_name_as_json(store: Store, url: str, remote: Connect) -> None:
    caller, run_id = remote(url), new_id()
    records = [j.Started(AT, "p", "n"), j.Metrics(AT, 0, {"a": 1.0}), j.Points(AT, "b", bytes(8), bytes(8), bytes(8))]
    assert caller.call("runs.deliver", run_id=run_id, writer="w", first=1, records=records).seq == 3
    assert caller.call("runs.get_run", run_id=run_id).metrics["b"].last == 0.0
    page = caller.call("runs.list_runs", filter="metrics.a = 1", order="metrics.a", limit=1)
    assert [run.id for run in page.runs] == [run_id]
    assert caller.call("runs.series", run_ids=[run_id], key="a")[0].values == [1.0]
    runs.log(store, run_id, metrics={"c": -math.inf}, at=AT)
    assert caller.call("runs.series", run_ids=[run_id], key="c")[0].values == [-math.inf]
    assert caller.call("runs.get_run", run_id=run_id).metrics["c"].max == -math.inf
    assert caller.call("runs.compare", run_ids=[run_id, run_id]).names == ["n", "n"]
    with pytest.raises(InvalidInput, match="at character 11"):
        caller.call("runs.list_runs", filter="metrics.a ! 1")
    caller.close()
