"""The whole life of a model through public commands, on data that no part of stead knows; with faults on the way."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.life import Life, make
from tests.conftest import free_ports

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """A project with two trained versions, the first one deployed."""
    first, second = free_ports(2)
    made = make(tmp_path_factory.mktemp("life") / "air", (first, second))
    made.run("train", "air", "--since", "2010-01-01", "--until", "2011-01-01")
    made.run("train", "air", "--since", "2010-01-01", "--until", "2012-01-01")
    made.run("deploy", "air@1")
    yield made
    with suppress(AssertionError):
        made.run("down")


def until(what: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def counts(life: Life) -> dict[str, int]:
    return dict(life.json("predictions", "counts", "air"))


def test_what_training_leaves(life: Life) -> None:
    shown = life.json("models", "show", "air@2")
    metrics = shown["logged_model"]["metrics"]
    assert 0 < metrics["holdout_random"] < 1 and 0 < metrics["holdout_time"] < 2
    assert {field["name"] for field in shown["logged_model"]["signature"]["inputs"]} == {
        "time",
        "dew",
        "temp",
        "wind",
        "iws",
    }
    relations = {(edge["source"].partition(":")[0], edge["target"].partition(":")[0]) for edge in shown["lineage"]}
    assert {("dataset", "run"), ("run", "version"), ("environment", "version")} <= relations
    run = life.json("runs", "show", shown["version"]["run_id"])["run"]
    assert run["status"] == "finished"
    assert run["metrics"]["rows"]["n"] == 1, "what train() logged is in the run, once"
    assert [v["version"] for v in life.json("data", "versions", "air")] == [2, 1]


def test_unchanged_steps_are_not_run_again(life: Life) -> None:
    life.run("train", "air", "--since", "2010-01-01", "--until", "2012-01-01")
    job = life.json("jobs", "list", "--limit", "1")[0]
    log = life.run("jobs", "log", job["id"])
    for step in ("features", "evaluate", "train"):
        assert f"{step}: same code and inputs as before, not run again" in log
    newest = life.json("models", "show", "air")["versions"][0]
    run = life.json("runs", "show", newest["run_id"])["run"]
    assert run["metrics"]["rows"]["n"] == 1


def test_nothing_is_lost_through_swaps_and_kills(life: Life) -> None:
    """One row a request, no retry: five swaps, five dead workers, a dead agent and a dead server."""
    before = counts(life)
    replay = life.begin(
        "replay",
        "data/air.parquet",
        "--model",
        "air",
        "--since",
        "2012-01-01",
        "--until",
        "2013-01-01",
        "--speed",
        "800000",
        "--json",
    )
    live = 1
    for turn in range(5):
        kill_worker(life)
        live = 2 if live == 1 else 1
        life.run("deploy", f"air@{live}")
        if turn == 1:
            os.kill(life.pids()["agent"], signal.SIGKILL)
        if turn == 3:
            os.kill(life.pids()["server"], signal.SIGKILL)
    assert replay.poll() is None, "the replay must outlive the faults, or they happened after it"
    out, said = replay.communicate(timeout=300)
    assert replay.returncode == 0, said
    totals = json.loads(out)
    assert totals["failed"] == 0, totals
    assert totals["sent"] == totals["answered"] == totals["labels"] == totals["rows"]
    until(lambda: counts(life)["labelled"] - before["labelled"] == totals["sent"])
    assert counts(life)["rows"] - before["rows"] == totals["sent"]
    answered = sum(
        day["predictions"]
        for day in life.json("predictions", "loss", "air", "--since", "2012-01-01", "--until", "2013-01-01")
    )
    until(lambda: sum(d["labelled"] for d in life.json("predictions", "loss", "air")) >= totals["sent"])
    assert answered == totals["sent"]
    swaps = [e for e in life.json("decisions", "--model", "air", "--limit", "500") if e["action"] == "route.changed"]
    assert len(swaps) == 6
    assert life.json("status")["processes"]["processes"]["agent"]["restarts"] == 1


def test_a_killed_gateway_has_logged_all_that_it_answered(life: Life) -> None:
    before = counts(life)
    replay = life.begin(
        "replay", "data/air.parquet", "--model", "air", "--since", "2013-01-01", "--until", "2013-07-01", "--json"
    )
    until(lambda: counts(life)["rows"] > before["rows"] + 200)
    os.kill(life.pids()["gateway"], signal.SIGKILL)
    out, said = replay.communicate(timeout=300)
    totals = json.loads(out)
    assert totals["failed"] > 0 and totals["first_error"] is not None, said
    assert totals["sent"] == totals["answered"] + totals["failed"] == totals["rows"]
    logged = counts(life)["rows"] - before["rows"]
    assert totals["answered"] <= logged <= totals["sent"]


def test_rollback_is_quick_and_the_ledger_tells_it(life: Life) -> None:
    life.run("deploy", "air@3")
    done = life.json("rollback", "air", "--reason", "for the test")
    assert done["state"] == "live" and done["kind"] == "rollback"
    last = life.json("decisions", "--model", "air", "--limit", "1")[0]
    assert last["action"] == "route.rolled_back" and last["reason"] == "for the test"
    answer = httpx.post(f"{life.gateway}/predict/air", json={"row": row()}).json()
    assert answer["version"] == done["version"]
    life.run("undo", str(last["id"]))
    assert httpx.post(f"{life.gateway}/predict/air", json={"row": row()}).json()["version"] == 3
    assert life.run("undo", str(last["id"]), code=1).startswith("error: decision")


def test_different_preprocessing_is_refused_by_name(life: Life) -> None:
    code = life.folder / "air.py"
    text = code.read_text()
    code.write_text(
        text.replace(
            '"hour": time.dt.hour',
            '"hour": [__import__("datetime").datetime.fromtimestamp(t.timestamp()).hour for t in time]',
        )
    )
    toml = life.folder / "stead.toml"
    toml.write_text(
        toml.read_text() + '\n[models.air.train.env]\nTZ = "Asia/Shanghai"\n[models.air.serve.env]\nTZ = "UTC"\n'
    )
    life.run("train", "air", "--since", "2010-01-01", "--until", "2011-01-01")
    said = life.run("deploy", "air", code=4)
    assert "the feature 'hour'" in said and "was" in said
    assert life.json("status")["routes"][0]["arms"] == [{"version": 3, "share": 1.0}]
    life.run("deploy", "air", "--override", "parity", code=2)
    life.run("deploy", "air", "--override", "parity", "--reason", "to see it")
    actions = [e["action"] for e in life.json("decisions", "--model", "air", "--limit", "3")]
    assert "gate.overridden" in actions
    life.run("rollback", "air")
    code.write_text(text)


def test_the_same_over_http(life: Life) -> None:
    """Commands that find the server by URL do the same as embedded ones."""
    remote = Life(life.folder, life.ports, extra={"STEAD_URL": f"http://127.0.0.1:{life.ports[0]}"})
    assert remote.json("models", "list") == life.json("models", "list")
    assert remote.json("decisions") == life.json("decisions")
    remote.run("train", "air", "--since", "2011-01-01", "--until", "2012-01-01")
    remote.run("deploy", "air@2")
    remote.run("rollback", "air")
    answer = httpx.post(f"{life.gateway}/predict/air", json={"row": row()}).json()
    remote.run("label", answer["prediction_id"], "12.5")


def test_down_leaves_no_process(life: Life) -> None:
    mine = children_of(life)
    assert len(mine) >= 5
    life.run("down")
    until(lambda: not any(runs(pid) for pid in mine), 10)
    assert life.json("status")["up"] is False


def row() -> dict[str, Any]:
    return {"time": "2014-03-01T12:00:00", "dew": -10, "temp": 5.0, "wind": "NW", "iws": 12.5}


def children_of(life: Life) -> list[int]:
    supervisor = psutil.Process(life.json("status")["processes"]["pid"])
    return [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))]


def runs(pid: int) -> bool:
    """What this process started stays in the table of processes when it has ended."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def kill_worker(life: Life) -> None:
    """SIGKILL one of the workers, when two answer."""
    gateway = psutil.Process(life.pids()["gateway"])
    until(lambda: len(workers(gateway)) >= 2)
    workers(gateway)[0].kill()


def workers(gateway: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in gateway.children():
        with suppress(psutil.Error):
            if "stead.runtime.worker" in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found
