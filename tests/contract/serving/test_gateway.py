"""What a gateway answers, and what it refuses."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
from gateway_process import COLUMNS, ROWS, Running, until

from stead import jobs, predictions, serving


def test_a_prediction_carries_its_id_and_version_and_is_logged(gateway: Running) -> None:
    answer = gateway.http.post(
        "/predict/flower",
        json={"row": ROWS[0]},
        headers={"X-Stead-Event-Time": "2012-01-01T00:00:00+00:00", "X-Stead-Key": "ada"},
    )
    body = answer.json()
    assert answer.status_code == 200
    assert body["predictions"] == [0]
    assert (body["model"], body["version"]) == ("flower", 1)
    assert answer.headers["x-stead-prediction-id"] == body["prediction_id"]
    assert answer.headers["x-stead-version"] == "1"
    logged = until(lambda: predictions.list_predictions(gateway.store, "flower", limit=1))[0]
    assert logged.id == body["prediction_id"]
    assert logged.event_time == 1325376000000
    assert logged.key == "ada"
    assert logged.features == ROWS[0]
    assert logged.output == 0


def test_without_an_event_time_it_is_the_models_clock_that_counts(gateway: Running) -> None:
    def stamped(headers: dict[str, str] | None = None) -> int:
        body = gateway.http.post("/predict/flower", json={"row": ROWS[0]}, headers=headers).json()
        found = until(lambda: predictions.list_predictions(gateway.store, "flower", limit=1))
        assert found[0].id == body["prediction_id"]
        return int(found[0].event_time)

    held = 1325376000000
    assert stamped() > held + 10**11
    jobs.hold_clock(gateway.store, "times", now=5, holder="other")
    jobs.hold_clock(gateway.store, "flower", now=held, holder="me")
    until(lambda: stamped() == held)
    jobs.hold_clock(gateway.store, "flower", now=held + 1, holder="me")
    until(lambda: stamped() == held + 1)
    assert stamped({"X-Stead-Event-Time": "77"}) == 77
    jobs.release_clock(gateway.store, "flower", holder="me")
    until(lambda: stamped() > held + 10**11)
    jobs.release_clock(gateway.store, "times", holder="other")


@pytest.mark.parametrize("time", ["--5", "999999999999999", "-99999999999999", "9999-12-31", "0001-01-01", "soon"])
def test_an_event_time_that_no_page_could_show_is_refused(gateway: Running, time: str) -> None:
    answer = gateway.http.post("/predict/times", json={"row": {"x": 1}}, headers={"x-stead-event-time": time})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "time-invalid"


def test_many_rows_are_answered_in_their_order(gateway: Running) -> None:
    rows = [{"x": float(number)} for number in range(200)]
    assert gateway.http.post("/predict/times", json={"rows": rows}).json()["predictions"] == [row["x"] for row in rows]


def test_a_named_version_answers_also_where_it_is_only_warm(gateway: Running) -> None:
    assert gateway.http.post("/predict/times/versions/2", json={"row": {"x": 4.0}}).json()["predictions"] == [8.0]
    answer = gateway.http.post("/predict/times/versions/3", json={"row": {"x": 4.0}})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "version-not-served"
    assert "1, 2" in answer.json()["error"]["hint"]


def test_explain_tells_outputs_and_libraries_as_the_worker_has_them(gateway: Running) -> None:
    told = gateway.http.post("/explain/flower/versions/1", json={"rows": ROWS}).json()
    assert told["outputs"] == [0, 2, 1]
    assert told["features"] is None
    assert told["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert "scikit-learn" in told["libraries"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/predict/flowr", b"{}", 404, "model-unknown"),
        ("/predict/flower", b'{"row": {"sepal_length": 1}}', 400, "schema-missing-column"),
        ("/predict/flower", b'{"rows": []}', 400, "rows-empty"),
        ("/predict/flower", b"{", 400, "body-invalid"),
        ("/predict/flower", b"[" * 50_000, 400, "body-invalid"),
        ("/predict/flower", b'{"row": {}, "extra": 1}', 400, "body-invalid"),
        ("/predict/flower", b'{"row": {"a": "' + b"x" * 120_000 + b'"}}', 413, "body-too-large"),
        ("/predict/flower", b"{" + b" " * 1_000_000, 413, "body-too-large"),
        ("/predict/times", b'{"row": {"x": -1}}', 500, "model-raised"),
        ("/predict/times/versions/x", b"{}", 400, "version-invalid"),
        ("/nowhere", b"{}", 405, "method-not-allowed"),
        ("/v2/repository/models/flower/load", b"{}", 403, "repository-closed"),
        ("/v2/repository/models/flower/unload", b"{}", 403, "repository-closed"),
        ("/v2/systemsharedmemory/region/x/register", b"{}", 403, "repository-closed"),
        ("/predict/..%2f..%2fetc", b"{}", 405, "method-not-allowed"),
        ("/labels", b'{"id": 1}', 400, "labels-invalid"),
        ("/labels", b'{"prediction_id": "%s", "value": 1, "tim": 5}' % (b"0" * 32), 400, "labels-invalid"),
        ("/labels", b'[{"prediction_id": "%s", "value": 1, "value": 2}]' % (b"0" * 32), 400, "key-repeated"),
        ("/labels", b'{"prediction_id": "%s", "value": ""}' % (b"0" * 32), 400, "label-value-invalid"),
        ("/labels", b'{"prediction_id": "%s", "value": {}}' % (b"0" * 32), 400, "label-value-invalid"),
        ("/labels", b'{"prediction_id": "%s", "value": 1, "event_time": "x"}' % (b"0" * 32), 400, "label-time-invalid"),
        ("/predict/times", b'{"row": {"x": 1, "x": 2}}', 400, "key-repeated"),
    ],
)
def test_what_cannot_be_is_refused_with_one_clear_error(
    gateway: Running, path: str, body: bytes, status: int, code: str
) -> None:
    answer = gateway.http.post(path, content=body)
    assert answer.status_code == status
    if path.startswith("/v2/"):
        assert "deployments only" in answer.json()["error"]
    else:
        assert answer.json()["error"]["code"] == code
        assert answer.json()["error"]["message"]


def test_a_null_where_none_may_be_names_column_and_row(gateway: Running) -> None:
    error = gateway.http.post("/predict/flower", json={"rows": [ROWS[0], ROWS[1] | {"petal_width": None}]}).json()[
        "error"
    ]
    assert error["code"] == "schema-null"
    assert error["details"] == {"column": "petal_width", "row": 1}


def test_only_the_bad_request_of_a_batch_fails(gateway: Running) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port)) as one:
        values = [1, 2, -1, 3, -1, 4]
        for value in values:  # in one write: they arrive together
            body = f'{{"row": {{"x": {value}}}}}'
            head = f"POST /predict/times HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            one.sendall((head + body).encode())
        received = b""
        while received.count(b"HTTP/1.1 ") < len(values) or not received.endswith(b"}"):
            received += one.recv(65536)
    statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"500" if value == -1 else b"200" for value in values]


def raw(gateway: Running, data: bytes) -> bytes:
    """The first bytes of the answer to something that no client library would send."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as one:
        try:
            one.sendall(data)
            return one.recv(65536)
        except ConnectionError:
            return b""


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"", b"400"),
        (b"Host: localhost\r\nHost: localhost\r\n", b"400"),
        (b"Host: evil.example\r\n", b"403"),
        (b"Host: localhost\r\nOrigin: http://evil.example\r\n", b"403"),
        (b"Host: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", b"400"),
        (b"Host: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n", b"400"),
        (b"Host: localhost\r\nX: " + b"a" * 40_000 + b"\r\n", b"431"),
        (b"Host: localhost\r\n" + b"X: 1\r\n" * 200, b"431"),
        (b"Host: localhost\r\n", b"200"),
        (b"Host: [::1]:7701\r\n", b"200"),
        (b"Host: 127.0.0.1:1\r\nOrigin: http://localhost:3000\r\n", b"200"),
    ],
)
def test_hosts_and_heads(gateway: Running, headers: bytes, status: bytes) -> None:
    assert raw(gateway, b"GET /ping HTTP/1.1\r\n" + headers + b"\r\n")[9:12] == status


def test_a_long_url_is_refused(gateway: Running) -> None:
    assert raw(gateway, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")[9:12] == b"414"


def test_memory_stays_flat_under_a_flood(gateway: Running) -> None:
    import psutil

    process = psutil.Process(gateway.process.pid)
    raw(gateway, b"GET / HTTP/1.1\r\nX: " + b"a" * 3_000_000)
    before = process.memory_info().rss
    for _ in range(10):
        raw(gateway, b"GET / HTTP/1.1\r\nX: " + b"a" * 3_000_000)
        raw(gateway, b"GET /" + b"a" * 3_000_000)
        raw(gateway, b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 300_000)
        raw(gateway, b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20_000)
        raw(
            gateway,
            b"POST /predict/times HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000\r\n\r\n" + b" " * 3_000_000,
        )
    assert process.memory_info().rss - before < 20_000_000
    assert gateway.http.get("/ping").status_code == 200


def test_metrics_are_prometheus_text(gateway: Running) -> None:
    gateway.http.post("/predict/times", json={"row": {"x": 1}})
    text = gateway.http.get("/metrics").text
    assert 'stead_predictions_total{model="times",version="1",status="200"}' in text
    assert 'le="+Inf"' in text
    assert "stead_workers{" in text
    for line in text.splitlines():
        assert line.startswith("# ") or len(line.rsplit(" ", 1)) == 2


def test_labels_are_taken_one_by_one_and_in_batches(gateway: Running) -> None:
    known = gateway.http.post("/predict/times", json={"rows": [{"x": 1}, {"x": 2}]}).json()["prediction_id"]
    one = gateway.http.post("/labels", json={"prediction_id": f"{known}.0", "value": 1.5})
    assert one.status_code == 200
    assert one.json()["accepted"] == 1
    many = [{"prediction_id": f"{known}.1", "value": 2}, {"prediction_id": "f" * 32, "value": 3}]
    assert gateway.http.post("/labels", json=many).json()["accepted"] == 2


def test_a_port_in_use_is_one_clear_error(gateway: Running) -> None:
    command = [sys.executable, "-m", "stead.processes", "gateway", "--port", str(gateway.port)]
    environ = {"STEAD_STORE": str(gateway.store.root), "PATH": ""}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: port {gateway.port} of 127.0.0.1 cannot be used")
    assert "hint: stead up --gateway-port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_listening_to_everybody_without_a_token_is_refused(gateway: Running) -> None:
    command = [sys.executable, "-m", "stead.processes", "gateway", "--port", "0", "--host", "0.0.0.0"]
    environ = {"STEAD_STORE": str(gateway.store.root), "PATH": ""}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "no token" in ended.stderr


def test_gateways_describe_themselves(gateway: Running) -> None:
    row = until(lambda: gateway.row() if gateway.row().stats["workers"] else None)
    assert row.loaded == {"flower@1": "ready", "times@1": "ready", "times@2": "ready"}
    assert set(row.followed) == {"flower", "times"}
    assert row.pid == gateway.process.pid
    assert len(row.stats["worker_pids"]) == 2
    assert serving.read_revision(gateway.store) == row.revision


def test_columns_may_be_sent_by_name(gateway: Running) -> None:
    columns = {name: [row[name] for row in ROWS] for name in COLUMNS}
    assert gateway.http.post("/predict/flower", json={"columns": columns}).json()["predictions"] == [0, 2, 1]
    assert gateway.http.post("/predict/flower", json={"rows": [list(row.values()) for row in ROWS]}).json()[
        "predictions"
    ] == [0, 2, 1]


def test_a_gateway_ends_with_its_starter(shop: object, run: Callable[..., Running]) -> None:
    import os

    running = run(shop)
    os.close(running.lifeline)
    running.lifeline = -1
    assert running.process.wait(20) == 0
