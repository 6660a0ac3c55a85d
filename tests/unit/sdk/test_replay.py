"""Replay: what it refuses before anything is sent, and connections that the other side has closed."""

from __future__ import annotations

import math
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pyarrow as pa
import pytest

from stead.errors import InvalidInput
from stead.sdk.replay import IDLE_S, Totals, _Sender, replay


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_a_speed_is_more_than_nothing(speed: float) -> None:
    table = pa.table({"time": pa.array([0], pa.timestamp("ms")), "y": [1.0]})
    with pytest.raises(InvalidInput) as raised:
        replay(cast(Any, None), table, "m", gateway="", time_column="time", target="y", delay_ms=0, speed=speed)
    assert raised.value.code == "speed-invalid"


def test_a_time_without_rows_is_told() -> None:
    table = pa.table({"time": pa.array([0], pa.timestamp("ms")), "y": [1.0]})
    with pytest.raises(InvalidInput) as raised:
        replay(cast(Any, None), table, "m", gateway="", time_column="time", target="y", delay_ms=0, since=1)
    assert raised.value.code == "no-rows"


class Impatient(BaseHTTPRequestHandler):
    """Answers, and closes a connection that is silent for a moment."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_S / 2

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("x-stead-prediction-id", "1")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def test_no_request_goes_out_on_a_connection_that_was_silent_for_long() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Impatient)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sender, totals = _Sender(f"http://127.0.0.1:{server.server_port}", "m", 2), Totals(rows=4)
    sender.send([{}, {}], [0, 0], range(2), None, totals)
    time.sleep(IDLE_S + 0.2)
    sender.send([{}, {}], [0, 0], range(2), None, totals)
    assert (totals.answered, totals.first_error) == (4, None)
    sender.close()
    server.shutdown()
    server.server_close()
