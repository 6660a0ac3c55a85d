"""Swaps and deaths under load: one row a request, no retry by the client."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from gateway_process import Running, route, until

from stead import models, serving
from stead.errors import Failed
from stead.predictions import Logged
from stead.runtime import formats
from stead.runtime.recordlog import read_records
from stead.store import Store


class Load:
    """Clients that send one request after the other, each its own number, and keep what came back."""

    def __init__(self, running: Running, model: str, clients: int = 8) -> None:
        self.url = f"{running.url}/predict/{model}"
        self.sent: set[int] = set()
        self.answered: dict[int, tuple[str, int]] = {}
        """Number and the prediction id and version that answered it rightly."""
        self.failed: list[str] = []
        self.unreachable = 0
        self._ends = False
        self._threads = [threading.Thread(target=self._client, args=(n, clients)) for n in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True
        for thread in self._threads:
            thread.join()

    def reach(self, number: int) -> None:
        """Wait for that many further answers."""
        wanted = len(self.answered) + number
        until(lambda: len(self.answered) >= wanted, 60)

    def _client(self, number: int, step: int) -> None:
        with httpx.Client(timeout=60) as http:
            while not self._ends:
                self.sent.add(number)
                try:
                    answer = http.post(self.url, json={"row": {"x": number}})
                except httpx.TransportError:
                    self.unreachable += 1
                    time.sleep(0.01)
                else:
                    self._keep(number, answer)
                number += step

    def _keep(self, number: int, answer: httpx.Response) -> None:
        body = answer.json()
        if answer.status_code == 200 and body["predictions"] == [number * body["version"]]:
            self.answered[number] = (body["prediction_id"], body["version"])
        else:
            self.failed.append(f"{number}: {answer.status_code} {body}")


def logged(store: Store) -> list[Logged]:
    """Every record of the raw log, as it lies on the disk."""
    decode = msgspec.msgpack.Decoder(Logged).decode
    files = sorted(Path(store.root, "log", "predictions").rglob("*.log"))
    return [decode(record) for file in files for _, record in read_records(file)]


def numbers(records: list[Logged]) -> Counter[int]:
    return Counter(msgspec.json.decode(record.body)["row"]["x"] for record in records)


def test_five_swaps_under_load_lose_nothing(shop: Store, run: Callable[..., Running]) -> None:
    running = run(shop)
    serving.wait_applied(shop, route(shop, "times", (1, 1.0)), timeout_s=60)
    with Load(running, "times") as load:
        load.reach(50)
        for swap in range(5):
            version = 2 - swap % 2
            serving.wait_applied(shop, route(shop, "times", (version, 1.0)), timeout_s=30)
            answer = running.http.post("/predict/times", json={"row": {"x": 1}})
            assert answer.json()["version"] == version
            load.reach(50)
    assert load.failed == []
    assert load.unreachable == 0
    assert load.sent == load.answered.keys()
    assert {version for _, version in load.answered.values()} == {1, 2}
    records = [record for record in logged(shop) if record.id in {answer for answer, _ in load.answered.values()}]
    assert numbers(records) == Counter(load.sent)
    assert running.end() == 0


def test_five_killed_workers_under_load_lose_nothing(shop: Store, run: Callable[..., Running]) -> None:
    route(shop, "times", (1, 1.0))
    running = run(shop)
    until(lambda: len(running.workers()) == 2)
    with Load(running, "times") as load:
        for _ in range(5):
            load.reach(40)
            for _ in range(2):
                before = until(lambda: running.workers() if len(running.workers()) == 2 else None)
                os.kill(before[0], signal.SIGKILL)
                break
            until(lambda before=before: before[0] not in running.workers() and len(running.workers()) == 2, 60)
        load.reach(40)
    assert load.failed == []
    assert load.unreachable == 0
    assert load.sent == load.answered.keys()
    assert numbers(logged(shop)) == Counter(load.sent)
    assert running.row().stats["restarts"] >= 5


def test_the_only_worker_is_replaced_while_requests_wait(shop: Store, run: Callable[..., Running]) -> None:
    route(shop, "times", (1, 1.0))
    running = run(shop, workers=1)
    (worker,) = until(running.workers)
    with Load(running, "times") as load:
        load.reach(20)
        os.kill(worker, signal.SIGKILL)
        load.reach(50)
    assert load.failed == []
    assert load.sent == load.answered.keys()


def test_a_killed_gateway_has_logged_what_it_answered(shop: Store, run: Callable[..., Running]) -> None:
    route(shop, "times", (1, 1.0))
    running = run(shop)
    workers = until(lambda: running.workers() if len(running.workers()) == 2 else None)
    with Load(running, "times") as load:
        load.reach(100)
        running.kill()
        until(lambda: load.unreachable > 8)
        again = run(shop, port=running.port)
        load.reach(100)
    assert load.failed == []
    assert len(load.sent) == len(load.answered) + load.unreachable
    seen = numbers(logged(shop))
    assert load.answered.keys() <= seen.keys() <= load.sent
    assert set(seen.values()) == {1}
    assert [g.url for g in serving.gateways(shop)] == [again.url]
    until(lambda: not any(_lives(worker) for worker in workers))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "stead.runtime.worker" in Path(f"/proc/{pid}/cmdline").read_text() if Path("/proc").exists() else True


def test_terminating_the_gateway_drains_it(shop: Store, run: Callable[..., Running]) -> None:
    route(shop, "times", (1, 1.0))
    running = run(shop)
    until(running.workers)
    got: list[httpx.Response] = []
    with httpx.Client() as http:
        slow = threading.Thread(
            target=lambda: got.append(http.post(f"{running.url}/predict/times", json={"row": {"x": -4}}, timeout=30))
        )
        slow.start()
        until(lambda: re.search(r"stead_in_flight\{.*\} 1\n", running.http.get("/metrics").text))
        assert running.end() == 0
        slow.join()
    assert got[0].status_code == 200
    assert serving.gateways(shop, alive=False) == []


def test_a_request_that_kills_workers_fails_alone(shop: Store, run: Callable[..., Running]) -> None:
    route(shop, "times", (1, 1.0))
    running = run(shop)
    until(lambda: len(running.workers()) == 2)
    with Load(running, "times") as load:
        load.reach(20)
        answer = running.http.post("/predict/times", json={"row": {"x": -2}})
        load.reach(20)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "worker-died"
    assert load.failed == []


def test_a_model_that_hangs_is_given_up_and_its_worker_replaced(shop: Store, run: Callable[..., Running]) -> None:
    route(shop, "times", (1, 1.0))
    running = run(shop, predict_timeout_s=1, workers=1)
    (worker,) = until(running.workers)
    answer = running.http.post("/predict/times", json={"row": {"x": -3}})
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "predict-timeout"
    until(lambda: running.workers() and running.workers() != [worker])
    assert running.http.post("/predict/times", json={"row": {"x": 2}}).json()["predictions"] == [2.0]
    assert [record.status for record in logged(shop)] == [504, 200]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
def test_a_model_that_leaks_is_begun_anew_and_no_request_fails(shop: Store, run: Callable[..., Running]) -> None:
    route(shop, "times", (1, 1.0))
    running = run(shop, workers=1, memory_mb=1500)
    until(running.workers)
    for _ in range(12):
        answer = running.http.post("/predict/times", json={"row": {"x": -5}})
        assert (answer.status_code, answer.json().get("predictions")) == (200, [-5.0]), answer.text
    assert "no memory left" in running.log.read_text()
    until(lambda: running.row().stats["restarts"] >= 1)


def test_what_a_worker_prints_and_answers_has_no_secret(
    shop: Store, run: Callable[..., Running], tmp_path: Path
) -> None:
    (tmp_path / "word").write_text("hunter2-geheim\n")
    logged_model = models.get_version(shop, "times@2").logged_model
    told = models.register(shop, "times", logged_model, serving_env={"WORD": f"file:{tmp_path}/word"})
    route(shop, "times", (told.version, 1.0))
    running = run(shop, workers=1)
    until(running.workers)
    answer = running.http.post("/predict/times", json={"row": {"x": -6}})
    assert answer.status_code == 500 and "cannot reach **************@db" in answer.text
    until(lambda: "the word is ****" in running.log.read_text())
    assert "hunter2" not in running.log.read_text()


def test_too_many_waiting_are_told_to_come_again(shop: Store, run: Callable[..., Running]) -> None:
    route(shop, "times", (1, 1.0))
    running = run(shop, max_waiting=2, workers=1)
    until(running.workers)
    bodies: list[Any] = []

    def post() -> None:
        bodies.append(httpx.post(f"{running.url}/predict/times", json={"row": {"x": -4}}, timeout=30))

    threads = [threading.Thread(target=post) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = Counter(body.status_code for body in bodies)
    assert statuses[200] == 2
    refused = next(body for body in bodies if body.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "too-busy"


def test_clients_that_go_away_leave_nothing_behind(shop: Store, run: Callable[..., Running]) -> None:
    route(shop, "times", (1, 1.0))
    running = run(shop)
    until(running.workers)
    for _ in range(5):
        body = b'{"row": {"x": -4}}'
        with socket.create_connection(("127.0.0.1", running.port)) as one:
            one.sendall(
                b"POST /predict/times HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
        with socket.create_connection(("127.0.0.1", running.port)) as one:
            one.sendall(b"POST /predict/times HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert running.http.post("/predict/times", json={"row": {"x": 1}}).status_code == 200
    until(lambda: len(logged(shop)) == 6)
    until(lambda: running.row().stats["in_flight"] == 0)
    assert "Traceback" not in running.log.read_text()


def test_a_log_that_cannot_be_written_is_told_and_recovers(shop: Store, run: Callable[..., Running]) -> None:
    import resource

    route(shop, "times", (1, 1.0))
    running = run(shop)
    until(running.workers)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (65_536, resource.RLIM_INFINITY))
    row = {
        "row": {"x": 1},
    }
    answer = None
    for _ in range(1000):
        answer = running.http.post("/predict/times/versions/1", content=b'{"row": {"x": 1}}' + b" " * 4000)
        if answer.status_code != 200:
            break
    assert answer is not None
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "log-unwritable"
    assert answer.headers["retry-after"] == "1"
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert running.http.post("/predict/times", json=row).status_code == 200
    assert all(record.status == 200 for record in logged(shop))


def test_a_split_follows_its_shares_and_keeps_to_keys(shop: Store, run: Callable[..., Running]) -> None:
    route(shop, "times", (1, 0.75), (2, 0.25))
    running = run(shop)

    def version(**headers: str) -> int:
        return int(running.http.post("/predict/times", json={"row": {"x": 1}}, headers=headers).json()["version"])

    seen = Counter(version() for _ in range(400))
    assert 60 < seen[2] < 145
    for key in ("ada", "bob", "eve"):
        assert len({version(**{"X-Stead-Key": key}) for _ in range(5)}) == 1


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_answering(shop: Store, run: Callable[..., Running]) -> None:
    serving_env = {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}
    logged_model = models.get_version(shop, "times@2").logged_model
    broken = models.register(shop, "times", logged_model, serving_env=serving_env)
    running = run(shop)
    serving.wait_applied(shop, route(shop, "times", (1, 1.0)), timeout_s=60)
    route(shop, "times", (1, 1.0), warm=[broken.version])
    with pytest.raises(Failed, match="does not start") as told:
        serving.wait_loaded(shop, "times", broken.version, timeout_s=60)
    assert "Python" in told.value.message
    revision = route(shop, "times", (broken.version, 1.0))
    with pytest.raises(Failed, match="could not be loaded"):
        serving.wait_applied(shop, revision, timeout_s=60)
    assert running.http.post("/predict/times", json={"row": {"x": 3}}).json()["version"] == 1
    serving.wait_applied(shop, route(shop, "times", (2, 1.0)), timeout_s=30)
    assert running.http.post("/predict/times", json={"row": {"x": 3}}).json()["version"] == 2


def hanging(flag: str) -> Callable[[Any], Any]:
    """A model that hangs, also as it is loaded, while a file is there."""

    def predict(columns: Any) -> Any:
        import os
        import time

        while os.path.exists(flag):
            time.sleep(0.1)
        return list(columns["x"])

    return predict


def test_going_back_waits_for_no_version_that_hangs_as_it_is_loaded(
    shop: Store, run: Callable[..., Running], tmp_path: Path
) -> None:
    flag = tmp_path / "hangs"
    environment = models.get_logged_model(shop, models.get_version(shop, "times@1").logged_model).environment
    info = formats.save(hanging(str(flag)), tmp_path / "model", input_example={"x": [1.0]})
    hung = models.register(
        shop, "times", models.log_model(shop, tmp_path / "model", name="times", environment=environment, info=info).id
    )
    running = run(shop, predict_timeout_s=1)
    serving.wait_applied(shop, route(shop, "times", (1, 1.0)), timeout_s=60)
    serving.wait_applied(shop, route(shop, "times", (hung.version, 1.0), warm=[1]), timeout_s=60)
    until(lambda: len(running.workers()) == 2)  # it has moved to the workers of the environment
    flag.touch()
    for worker in running.workers():
        os.kill(worker, signal.SIGKILL)
    until(lambda: running.http.post("/predict/times", json={"row": {"x": 3}}).status_code == 504)
    serving.wait_applied(shop, route(shop, "times", (1, 1.0)), timeout_s=60)
    until(lambda: running.http.post("/predict/times", json={"row": {"x": 3}}).status_code == 200)
    route(shop, "times", (1, 1.0), warm=[hung.version])
    until(lambda: running.row().loaded.get(f"times@{hung.version}") == "loading")
    time.sleep(2)
    route(shop, "times", (1, 1.0), warm=[2])
    serving.wait_loaded(shop, "times", 2, timeout_s=20)
    until(lambda: len(running.workers()) == 2)


def test_a_kept_version_takes_over_in_the_processes_that_have_it(shop: Store, run: Callable[..., Running]) -> None:
    running = run(shop)
    serving.wait_applied(shop, route(shop, "times", (2, 1.0), warm=[1]), timeout_s=60)
    serving.wait_loaded(shop, "times", 1, timeout_s=30)
    workers = running.workers()
    serving.wait_applied(shop, route(shop, "times", (1, 1.0), warm=[2]), timeout_s=60)
    assert running.workers() == workers
    assert running.http.post("/predict/times", json={"row": {"x": 3}}).json()["version"] == 1
