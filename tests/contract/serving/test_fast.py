"""The fast path of a version through real workers and a real gateway: found, compared, taken, and let go."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

from stead import deployments, environments, gates, jobs, ledger, models, predictions, serving
from stead.api.undoing import undo
from stead.cli import cli
from stead.config import load_settings
from stead.errors import Conflict, NotFound
from stead.processes.handlers import handlers
from stead.runtime import formats
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from gateway_process import COLUMNS, ROWS, Running, opened

pytestmark = pytest.mark.timeout(300)
FEATURES = "import pandas as pd\n\n\ndef features(raw):\n    return raw.assign(area=raw['petal_length'] * raw['petal_width'])\n"


@pytest.fixture(scope="module")
def place(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Running]]:
    """A store and a gateway. `petal` is a forest with features, two versions; `line` is too quick to gain much."""
    root = tmp_path_factory.mktemp("fast")
    shutil.copytree(workshop, root / "store", ignore=shutil.ignore_patterns("environments"))
    (root / "store" / "environments").symlink_to(workshop / "environments")
    store = opened(root / "store")
    environment = models.get_logged_model(store, models.get_version(store, "times@1").logged_model).environment
    table, target = load_iris(return_X_y=True, as_frame=True)
    table.columns = COLUMNS
    (root / "petals.py").write_text(FEATURES)
    made = table.assign(area=table["petal_length"] * table["petal_width"])
    for name, model in (
        ("petal", RandomForestRegressor(40, random_state=0)),
        ("petal", RandomForestRegressor(30, random_state=1)),
        ("line", LinearRegression()),
    ):
        folder = root / f"{name}-{time.monotonic_ns()}"
        info = formats.save(
            model.fit(made, target), folder, features="petals:features", code=[root / "petals.py"],
            golden_rows=table[::10], training=table,
        )  # fmt: skip
        logged = models.log_model(store, folder, name=name, environment=environment, info=info)
        models.register(store, name, logged.id)
    gateway = Running(store, root / "log")
    yield store, gateway
    gateway.kill()
    store.close()


def work(store: Store, kind: str) -> jobs.Job:
    """Do jobs until one of this kind is done."""
    while True:
        done = jobs.work(store, handlers(load_settings()), owner="test")
        assert done is not None
        if done.kind == kind:
            return jobs.get_job(store, done.id)


def ask(gateway: Running, model: str) -> tuple[list[float], int]:
    answer = gateway.http.post(f"/predict/{model}", json={"rows": ROWS})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    return told["predictions"], told["version"]


def libraries(gateway: Running, model: str, version: int) -> dict[str, str]:
    """What the process that answers has."""
    answer = gateway.http.post(f"/explain/{model}/versions/{version}", json={"rows": ROWS})
    return dict(answer.json()["libraries"])


def until_fast(gateway: Running, model: str, version: int, fast: bool = True) -> None:
    deadline = time.monotonic() + 60
    while ("onnxruntime" in libraries(gateway, model, version)) != fast:
        assert time.monotonic() < deadline, gateway.log.read_text()[-2000:]
        time.sleep(0.1)


def test_a_version_goes_its_fast_path_by_itself(place: tuple[Store, Running]) -> None:
    store, gateway = place
    deployments.deploy(store, "petal", version=1)
    assert work(store, "deploy").state == "succeeded"
    usual, version = ask(gateway, "petal")
    assert version == 1
    assert "onnxruntime" not in libraries(gateway, "petal", 1)
    assert gates.accelerate_idle(store) is None  # it has just begun to answer
    queued = gates.accelerate_idle(store, settled_ms=0)
    assert queued is not None and (queued.model, queued.payload["version"]) == ("petal", 1)
    assert gates.accelerate_idle(store, settled_ms=0) is None  # something is to be done
    predictions.compact(store)

    failed: list[Any] = []
    ended = threading.Event()

    def going_on() -> None:
        while not ended.wait(0.01):  # all the time it would take the processor from what it waits for
            answer = gateway.http.post("/predict/petal", json={"rows": ROWS})
            if answer.status_code != 200 or answer.json()["predictions"] != pytest.approx(usual, rel=1e-9):
                failed.append(answer.text)

    asking = threading.Thread(target=going_on)
    asking.start()
    done = work(store, "accelerate")
    until_fast(gateway, "petal", 1)
    ended.set()
    asking.join()
    assert failed == []
    assert done.result is not None and done.result["state"] == "ready", done.result
    path = serving.get_fast_path(store, "petal", 1)
    assert path is not None and path.environment is not None
    assert path.evidence["golden"] == 15
    assert path.evidence["logged"] > 0  # what was asked a moment ago
    assert path.evidence["worst"] < 1e-12  # trees in double precision
    assert path.evidence["speedup"] >= gates.accelerating.WORTH
    assert path.evidence["after_ms"] < path.evidence["before_ms"]
    assert f"{path.evidence['speedup']:.1f} × as soon" in path.said
    packages = environments.get(store, path.environment).packages
    assert {"onnxruntime", "pandas", "numpy"} <= packages.keys()  # what its features import stays
    assert not {"scikit-learn", "scipy"} & packages.keys()
    shown = CliRunner().invoke(cli, ["models", "show", "petal@1"], env={"STEAD_STORE": str(store.root)})
    assert f"its fast path, {path.said}" in shown.output
    entry = ledger.list_entries(store, model="petal", limit=1)[0]
    assert (entry.action, entry.subject) == ("path.changed", "petal@1")
    undo(store, entry.id)
    until_fast(gateway, "petal", 1, fast=False)
    assert ask(gateway, "petal")[0] == pytest.approx(usual, rel=1e-12)
    serving.set_fast(store, "petal", 1, True)
    until_fast(gateway, "petal", 1)


def test_the_next_deployment_takes_it_and_parity_asks_it(place: tuple[Store, Running]) -> None:
    store, gateway = place
    gates.accelerate(store, "petal@2")
    assert work(store, "accelerate").state == "succeeded"
    with pytest.raises(Conflict, match="is not loaded"):
        serving.set_fast(store, "petal", 2, True)
    deployments.deploy(store, "petal", version=2)
    assert work(store, "deploy").state == "succeeded"
    assert "onnxruntime" in libraries(gateway, "petal", 2)
    verdict = next(each for each in gates.list_verdicts(store, "petal", version=2) if each.gate == "parity")
    assert verdict.outcome == "passed"
    assert verdict.evidence["path"] == "fast"
    assert verdict.summary == "15 stored rows answer as in training, by its fast path within 1e-05"
    assert gates.accelerate_idle(store, settled_ms=0) is None  # it was tried
    deployments.rollback(store, "petal")
    assert ask(gateway, "petal")[1] == 1
    deployments.deploy(store, "petal", version=2, fast=False)
    assert work(store, "deploy").state == "succeeded"
    assert "onnxruntime" not in libraries(gateway, "petal", 2)
    assert ask(gateway, "petal")[1] == 2


def test_one_that_differs_at_the_endpoint_is_served_as_before(place: tuple[Store, Running]) -> None:
    store, gateway = place
    other = serving.get_fast_path(store, "petal", 1)
    mine = serving.get_fast_path(store, "petal", 2)
    assert other is not None and mine is not None
    deployments.rollback(store, "petal", to=1)
    if serving.get_route(store, "petal").arms[0].version != 1:  # type: ignore[union-attr]
        work(store, "deploy")
    files = mine.files | {name: other.files[name] for name in ("model.onnx", "stead/model.json")}
    with store.db.write("serving.fast") as tx:
        serving.keep_fast_path(store, tx, replace(mine, files=files))
    deployments.deploy(store, "petal", version=2)
    assert work(store, "deploy").state == "succeeded"
    assert ask(gateway, "petal")[1] == 2
    assert "onnxruntime" not in libraries(gateway, "petal", 2)
    found = serving.get_fast_path(store, "petal", 2)
    assert found is not None
    assert found.state == "different"
    assert found.said.startswith("the prediction is ")
    verdicts = [each.outcome for each in gates.list_verdicts(store, "petal", version=2) if each.gate == "parity"]
    assert sorted(verdicts[:2]) == ["failed", "passed"]
    with pytest.raises(NotFound, match="the prediction is"):
        serving.set_fast(store, "petal", 2, True)


def test_what_gains_nothing_or_has_no_other_form_is_served_as_before(place: tuple[Store, Running]) -> None:
    store, _ = place
    logged = models.get_logged_model(store, models.get_version(store, "times@1").logged_model)
    assert not gates.accelerating.promises(logged)
    assert gates.accelerating.wanted(store, "times", 1) is None
    image = models.register(store, "petal", logged.id, serving_env={"A": "1"}, serving_image=True)
    assert gates.accelerating.wanted(store, "petal", image.version) is None
    gates.accelerate(store, "times@1")
    assert work(store, "accelerate").result == {
        "state": "unconvertible", "said": "a model of python_function has no other form", "evidence": {},
    }  # fmt: skip
    line = models.get_logged_model(store, models.get_version(store, "line@1").logged_model)
    assert line.info["alone_ms"]["whole"] >= line.info["alone_ms"]["features"] > 0
    assert not gates.accelerating.promises(replace(line, info={"alone_ms": {"whole": 2.0, "features": 1.9}}))
    with store.db.write("policies.push") as tx:
        models.set_settings_in(tx, "petal", fast=False)  # fast = false in stead.toml
    assert gates.accelerating.wanted(store, "petal", 1) is None
    with store.db.read() as tx:
        assert not serving.may_be_fast(tx, "petal", 1)


KILLED = """
import sys
from stead import gates, jobs, serving
from stead.config import load_settings
from stead.processes.handlers import handlers
from stead.store import open_store
store = open_store(load_settings(environ={"STEAD_STORE": sys.argv[1]}))
if sys.argv[2] == "path":
    serving.set_fast(store, "flower", 2, True)
else:
    jobs.work(store, handlers(load_settings()), owner="dying")
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_nothing_is_half(shop: Store, when: str) -> None:
    def dies(point: str, what: str) -> None:
        environ = os.environ | {"STEAD_FAILPOINT": f"{point}:{when}"}
        done = subprocess.run([sys.executable, "-c", KILLED, str(shop.root), what], env=environ, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr

    with shop.db.write("deployments.switch") as tx:
        serving.set_route(shop.db, tx, "flower", arms=[serving.Arm(2, 1.0)])
    gates.accelerate(shop, "flower@2")
    dies("serving.fast", "job")
    path, route = serving.get_fast_path(shop, "flower", 2), serving.get_route(shop, "flower")
    assert route is not None
    assert (path is not None) == (route.fast == [2]) == (when == "after")
    with shop.db.write("jobs.beat") as tx:
        from stead.jobs.tables import jobs as table

        tx.execute(table.update().values(lease_until=0))
    done = work(shop, "accelerate")
    assert done.result is not None and done.result["state"] == "ready", done.result
    assert serving.get_route(shop, "flower").fast == [2]  # type: ignore[union-attr]
    serving.set_fast(shop, "flower", 2, False)
    before = len(ledger.list_entries(shop, model="flower"))
    dies("serving.path", "path")
    assert len(ledger.list_entries(shop, model="flower")) - before == (when == "after")
    assert (serving.get_route(shop, "flower").fast == [2]) == (when == "after")  # type: ignore[union-attr]
