"""Parity through HTTP, the model really loaded in an environment that was really built."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stead import environments, gates, models
from stead.errors import Failed, Unreachable
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "environments"))
from local_package import make_package

FEATURES = """
import time
import stead_test_hours

def features(raw):
    return {
        "text": [f"row {n}" for n in raw["n"]],
        "hour": [stead_test_hours.hour(time.localtime(n * 3600)) for n in raw["n"]],
    }
"""
SAVE = """
import sys
from pathlib import Path
from stead.runtime.formats import save

def model(features):
    return [hour * 10.0 for hour in features["hour"]]

code = Path(sys.argv[1])
save(model, Path(sys.argv[2]), code=[code / "clocks.py"], features="clocks:features", golden_rows={"n": [0, 5, 30]})
"""
EXPLAIN = """
import json, sys
from pathlib import Path
from stead.errors import SteadError
from stead.runtime.formats import load, versions

try:
    predictor = load(Path(sys.argv[1]))
    rows = json.loads(sys.argv[2])
    columns = predictor.check({name: [row[name] for row in rows] for name in rows[0]})
    answer = {"features": predictor.features(columns), "outputs": list(predictor.predict(columns)),
              "libraries": versions(predictor.libraries), "python": "3"}
except SteadError as error:
    answer = error.as_dict()
print(json.dumps(answer))
"""


@contextmanager
def endpoint(answer: Callable[[str, list[Any]], tuple[int, Any]]) -> Iterator[str]:
    """A server that speaks as the gateway's /explain does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, told = answer(self.path, body["rows"])
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def lock(store: Store, tmp_path: Path, version: str, source: str) -> str:
    package = make_package(tmp_path / version, "stead_test_hours", version, source)
    return environments.lock(store, [str(package), "numpy", "cloudpickle"]).digest


def run(store: Store, environment: str, code: str, *arguments: str, **variables: str) -> str:
    """Run code as a job or worker would be: in the environment, with the runtime and nothing else of stead."""
    seen = environments.variables(extra={"PYTHONPATH": str(environments.runtime_path(store)), **variables})
    command = [str(environments.ensure(store, environment)), "-c", code, *arguments]
    done = subprocess.run(command, env=seen, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def serving(store: Store, ref: str) -> Iterator[str]:
    version = models.get_version(store, ref)
    folder = models.materialise(store, version.logged_model)

    def answer(path: str, rows: list[Any]) -> tuple[int, Any]:
        assert path == f"/explain/{version.model}/versions/{version.version}"
        told = json.loads(
            run(store, version.serving_environment, EXPLAIN, str(folder), json.dumps(rows), **version.serving_env)
        )
        return (400 if "error" in told else 200), told

    with endpoint(answer) as url:
        yield url


def test_training_and_serving_differ(store: Store, tmp_path: Path) -> None:
    trained = lock(store, tmp_path, "1.0", "def hour(t): return t.tm_hour\n")
    other = lock(store, tmp_path, "2.0", "def hour(t): return t.tm_hour + 1\n")
    bare = environments.lock(store, ["numpy", "cloudpickle"]).digest
    (tmp_path / "clocks.py").write_text(FEATURES)
    run(store, trained, SAVE, str(tmp_path), str(tmp_path / "model"))
    logged = models.log_model(store, tmp_path / "model", name="clocks", environment=trained)
    variants: list[dict[str, Any]] = [
        {},
        {"serving_environment": other},
        {"serving_env": {"TZ": "Asia/Tokyo"}},
        {"serving_environment": bare},
    ]
    for number, variant in enumerate(variants, 1):
        assert models.register(store, "clocks", logged.id, **variant).version == number
    verdicts = []
    for number in range(1, 5):
        with serving(store, f"clocks@{number}") as url:
            verdicts.append(gates.parity(store, f"clocks@{number}", gateway_url=url, deployment=number))
    same, library, zone, missing = verdicts
    assert (same.outcome, same.summary) == ("passed", "3 stored rows answer as in training")
    assert library.outcome == zone.outcome == missing.outcome == "failed"
    assert library.summary == (
        "the feature 'hour' is 1 in row 0, was 0 in training (3 of 3 rows differ); stead-test-hours is 2.0 here, was 1.0"
    )
    assert zone.summary == "the feature 'hour' is 9 in row 0, was 0 in training (3 of 3 rows differ)"
    assert "stead_test_hours" in missing.summary
    kept = gates.list_verdicts(store, "clocks")
    assert [(v.version, v.deployment, v.outcome) for v in kept] == [
        (4, 4, "failed"), (3, 3, "failed"), (2, 2, "failed"), (1, 1, "passed")
    ]  # fmt: skip
    assert gates.list_verdicts(store, "clocks", version=2)[0].evidence["libraries"] == {
        "stead-test-hours": ["1.0", "2.0"]
    }


def registered(store: Store, tmp_path: Path, golden: bool = True) -> str:
    text = store.blobs.put(f"x==1 --hash=sha256:{'0' * 64}\n".encode())
    made = environments.add(store, lock=text, python="3.11", platform="linux-x86_64")
    (tmp_path / "model" / "stead").mkdir(parents=True)
    (tmp_path / "model" / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    if golden:
        told = {"inputs": [[1.0, 2.0]], "features": None, "outputs": [3.0]}
        (tmp_path / "model" / "stead" / "golden.json").write_text(json.dumps(told))
    logged = models.log_model(store, tmp_path / "model", name="sum", environment=made.digest)
    return models.register(store, "sum", logged.id).ref


def test_rows_without_names(store: Store, tmp_path: Path) -> None:
    ref = registered(store, tmp_path)
    with endpoint(lambda _, rows: (200, {"features": None, "outputs": [sum(row) for row in rows]})) as url:
        assert gates.parity(store, ref, gateway_url=url).outcome == "passed"


def test_without_stored_rows_there_is_nothing_to_compare(store: Store, tmp_path: Path) -> None:
    ref = registered(store, tmp_path, golden=False)
    assert gates.parity(store, ref, gateway_url="http://127.0.0.1:9").outcome == "skipped"
    assert [verdict.outcome for verdict in gates.list_verdicts(store, "sum")] == ["skipped"]


def test_an_endpoint_that_cannot_be_asked_is_no_verdict(store: Store, tmp_path: Path) -> None:
    ref = registered(store, tmp_path)
    with pytest.raises(Unreachable) as raised:
        gates.parity(store, ref, gateway_url="http://127.0.0.1:9")
    assert raised.value.code == "gateway-unreachable"
    problem = {"error": {"code": "version-not-loaded", "message": "not loaded"}}
    with endpoint(lambda *_: (503, problem)) as url, pytest.raises(Failed) as failed:
        gates.parity(store, ref, gateway_url=url)
    assert failed.value.code == "version-not-loaded"
    assert gates.list_verdicts(store, "sum") == []
    problem = {"error": {"code": "schema-type", "message": "the column 'a' …", "details": {"column": "a"}}}
    with endpoint(lambda *_: (400, problem)) as url:
        verdict = gates.parity(store, ref, gateway_url=url)
    assert verdict.outcome == "failed"
    assert verdict.evidence["column"] == "a"
