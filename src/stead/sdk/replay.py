"""Replay: a table's rows through the real endpoint in event-time order, labels after their delay, on the model's clock.

While it runs, the model's clock stands where the replay is; it waits while a job that was triggered at an event time runs,
and while stead makes a move that needs no more rows.
"""

from __future__ import annotations

import http.client
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from stead.errors import InvalidInput, NotFound
from stead.runtime.ids import new_id

if TYPE_CHECKING:
    import pyarrow as pa

    from stead.api import Caller

LABELS_A_CALL = 5_000
CIRCLE_S = 60.0
"""A loop that has not moved for so long is not waited for any more."""
IDLE_S = 1.0
"""A connection that was silent for longer may be closed on the other side: servers wait five seconds, or fewer."""
STILL_S = 0.1
"""Between looks while a job runs, which needs the processor, or a person is asked."""
SHORT_S = 0.01
"""Between looks while the loop turns."""
BEAT_S = 1.0
"""Between signs of life at one tick."""


@dataclass
class Totals:
    """What a replay did."""

    rows: int
    sent: int = 0
    answered: int = 0
    failed: int = 0
    labels: int = 0
    clock: int = 0
    first_error: str | None = None
    seconds: float = 0.0
    waiting: bool = False
    """Whether its clock stands still because a version waits for a person."""


def read_table(caller: Caller, source: str) -> pa.Table:
    """A Parquet or CSV file, or a dataset version (`demand@3`). Raises NotFound, InvalidInput."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    path = Path(source)
    if path.suffix in (".parquet", ".csv"):
        if not path.is_file():
            raise NotFound("file-missing", f"there is no file {source}")
        try:
            return pyarrow.parquet.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
        except (ValueError, OSError) as error:
            raise InvalidInput("table-invalid", f"{source} cannot be read: {error}") from None
    if path.is_file():
        raise InvalidInput("table-invalid", f"{source} is neither .parquet nor .csv")
    import io

    version = caller.call("datasets.get_version", ref=source, with_parts=True)
    parts = [pyarrow.parquet.read_table(io.BytesIO(caller.get_blob(part.digest))) for part in version.part_list]
    return pa.concat_tables(parts, promote_options="default")


def replay(
    caller: Caller,
    table: pa.Table,
    model: str,
    *,
    gateway: str,
    time_column: str,
    target: str | None,
    delay_ms: int,
    since: int | None = None,
    until: int | None = None,
    tick_ms: int = 86_400_000,
    speed: float | None = None,
    connections: int = 24,
    wait_for_people: bool = False,
    on_progress: Callable[[Totals], None] | None = None,
) -> Totals:
    """Send each row at its event time and each label `delay_ms` after it. Raises InvalidInput (`column-missing`, `speed-invalid`, `no-rows`), Conflict (`clock-held`).

    `speed` is event time over wall time (3600: an hour a second); None is as fast as it goes. The rows of a tick go out
    side by side, a label in the first tick that begins when it is due. With `wait_for_people` the clock stands still while a
    version of the model waits for approval.
    """
    if speed is not None and not speed > 0:
        raise InvalidInput("speed-invalid", f"--speed is event time over wall time, more than 0, not {speed:g}")
    rows, times = _in_order(table, time_column, target, since, until)
    totals = Totals(rows=len(times))
    if not times:
        raise InvalidInput(
            "no-rows", "the table has no rows in that time", hint="stead data show NAME tells what its rows cover"
        )
    holder = f"replay-{new_id()[-12:]}"
    due: list[tuple[int, dict[str, Any]]] = []
    started = time.monotonic()
    sender = _Sender(gateway, model, connections, str(caller.settings.token))
    try:
        position = 0
        tick = first_tick = times[0] // tick_ms * tick_ms
        end_tick = max(times[-1] // tick_ms * tick_ms + tick_ms, until or 0)
        while True:
            totals.labels += _send_labels(caller, due, tick)
            totals.clock = tick
            end = position == len(times) and not due and tick >= end_tick
            for totals.waiting in _moves(caller, model, tick, holder, wait_for_people=wait_for_people, end=end):
                if totals.waiting and on_progress:
                    on_progress(totals)
            totals.waiting = False
            first = position
            while position < len(times) and times[position] < tick + tick_ms:
                position += 1
            for at, label in sender.send(rows, times, range(first, position), target, totals):
                due.append((at + delay_ms, label))
            totals.seconds = time.monotonic() - started
            if on_progress:
                on_progress(totals)
            if position < len(times):
                tick += tick_ms
                if not due:
                    tick = max(tick, times[position] // tick_ms * tick_ms)
            elif due:  # nothing left to send: on to the labels
                tick = max(tick + tick_ms, -(-due[0][0] // tick_ms) * tick_ms)
            elif tick < end_tick:
                tick = end_tick
            else:
                break
            if speed:
                time.sleep(max(0.0, started + (tick - first_tick) / 1000 / speed - time.monotonic()))
    finally:
        sender.close()
        caller.call("jobs.release_clock", model=model, holder=holder)
        totals.seconds = time.monotonic() - started
    return totals


def _in_order(
    table: pa.Table, time_column: str, target: str | None, since: int | None, until: int | None
) -> tuple[list[dict[str, Any]], list[int]]:
    """Rows and their times in event-time order, between the bounds."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    for column in filter(None, (time_column, target)):
        if column not in table.column_names:
            raise InvalidInput(
                "column-missing", f"the table has no column {column!r}", hint=f"it has {', '.join(table.column_names)}"
            )
    stamps: Any = table.column(time_column)
    if pa.types.is_string(stamps.type):
        stamps = pc.strptime(stamps, format="%Y-%m-%d %H:%M:%S", unit="ms", error_is_null=True)
    stamps = stamps.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    if stamps.null_count:
        raise InvalidInput("time-invalid", f"{stamps.null_count} rows of the table have no time in {time_column!r}")
    times = stamps.to_numpy()
    kept = np.ones(len(times), bool)
    if since is not None:
        kept &= times >= since
    if until is not None:
        kept &= times < until
    places = np.flatnonzero(kept)
    places = places[np.argsort(times[places], kind="stable")]
    return table.take(places).to_pylist(), times[places].tolist()


def _send_labels(caller: Caller, due: list[tuple[int, dict[str, Any]]], now: int) -> int:
    ready = [label for at, label in due if at <= now]
    due[:] = [(at, label) for at, label in due if at > now]
    for start in range(0, len(ready), LABELS_A_CALL):
        caller.call("predictions.add_labels", labels=_as_labels(ready[start : start + LABELS_A_CALL]))
    return len(ready)


def _as_labels(plain: list[dict[str, Any]]) -> list[Any]:
    from stead.predictions import Label

    return [Label(**label) for label in plain]


def _moves(caller: Caller, model: str, tick: int, holder: str, *, wait_for_people: bool, end: bool) -> Iterator[bool]:
    """Take the clock to a tick: pauses until the loop that watches and decides has done what is to be done there.

    Each pause says whether a person is waited for, who may take any time; a loop that does not move may not. Where no loop
    takes the clock on, it is set.
    """
    started = told = time.monotonic()
    alive = _tell(caller, model, tick, holder)
    while True:
        now = time.monotonic()
        if now - told > BEAT_S:
            alive, told = _tell(caller, model, tick, holder), now
        found = caller.call("fleet.follows", model=model, end=end)
        asks = wait_for_people and found.waiting
        if found.running or asks:
            started = now
        elif found.settled or not alive:
            return
        elif now - started > CIRCLE_S:
            caller.call("jobs.hold_clock", model=model, now=tick, holder=holder)
            return
        yield asks
        time.sleep(STILL_S if found.running or asks else SHORT_S)


def _tell(caller: Caller, model: str, tick: int, holder: str) -> bool:
    """Tell where the clock shall be, and that this replay goes on; whether there is a loop that takes it there."""
    alive = bool(caller.call("jobs.agent_alive"))
    if alive:
        caller.call("jobs.move_clock", model=model, to=tick, holder=holder)
    else:
        caller.call("jobs.hold_clock", model=model, now=tick, holder=holder)
    return alive


class _Sender:
    """A few kept-alive connections, each in a thread of its own; a request is tried once."""

    def __init__(self, gateway: str, model: str, connections: int, token: str = "") -> None:
        parts = urlsplit(gateway)
        self.address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.path = f"/predict/{model}"
        self.headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self.pool = ThreadPoolExecutor(connections, thread_name_prefix="replay")
        self.free: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
        for _ in range(connections):
            self.free.put(http.client.HTTPConnection(*self.address, timeout=60))
        self.encode = msgspec.json.Encoder().encode
        self.sent_at = time.monotonic()

    def send(
        self, rows: list[dict[str, Any]], times: list[int], wanted: range, target: str | None, totals: Totals
    ) -> list[tuple[int, dict[str, Any]]]:
        """Send rows side by side; the labels of those that were answered."""
        if time.monotonic() - self.sent_at > IDLE_S:
            self._hang_up()
        labels = []
        for number, prediction_id, error in self.pool.map(lambda n: self._one(rows[n], times[n], n, target), wanted):
            totals.sent += 1
            if prediction_id is None:
                totals.failed += 1
                totals.first_error = totals.first_error or error
                continue
            totals.answered += 1
            if target is not None and rows[number][target] is not None:
                label = {"prediction_id": prediction_id, "value": rows[number][target], "event_time": times[number]}
                labels.append((times[number], label))
        self.sent_at = time.monotonic()
        return labels

    def _one(self, row: dict[str, Any], at: int, number: int, target: str | None) -> tuple[int, str | None, str | None]:
        body = self.encode({"row": {name: value for name, value in row.items() if name != target}})
        connection = self.free.get()
        try:
            connection.request("POST", self.path, body, self.headers | {"x-stead-event-time": str(at)})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 200:
                return number, answer.headers["x-stead-prediction-id"], None
            return number, None, f"{answer.status}: {text[:300].decode('utf-8', 'replace')}"
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return number, None, f"{type(error).__name__}: {error}"
        finally:
            self.free.put(connection)

    def _hang_up(self) -> None:
        """Close what the gateway closes by itself: a request on it would be lost. The next one connects anew."""
        for _ in range(self.free.qsize()):
            connection = self.free.get()
            connection.close()
            self.free.put(connection)

    def close(self) -> None:
        self.pool.shutdown()
        self._hang_up()
