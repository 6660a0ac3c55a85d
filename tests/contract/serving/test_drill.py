"""A drill of the roll-back against a real gateway: warm, not warm, one that would not have helped, and nothing to go back to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from stead import deployments, jobs, ledger, maturity, models, serving
from stead.cli import cli
from stead.config import load_settings
from stead.errors import Conflict, NotFound, SteadError, Unreachable
from stead.jobs.tables import jobs as job_table
from stead.processes.handlers import handlers
from stead.runtime import formats
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from gateway_process import Running, opened, route, until


def scaled() -> Callable[[Any], Any]:
    """A model that asks its environment what it should do."""

    def predict(columns: Any) -> Any:
        import os

        return [float(x) * int(os.environ.get("FACTOR", "1")) for x in columns["x"]]

    return predict


@pytest.fixture(scope="module")
def place(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Running]]:
    """A store with `times`, whose version 2 is live and version 1 warm, and with `odd`, whose version 1 answers as nobody trained it."""
    root = tmp_path_factory.mktemp("drills")
    shutil.copytree(workshop, root / "store", ignore=shutil.ignore_patterns("environments"))
    (root / "store" / "environments").symlink_to(workshop / "environments")
    store = opened(root / "store")
    environment = models.get_logged_model(store, models.get_version(store, "times@1").logged_model).environment
    for number, env in enumerate(({"FACTOR": "3"}, {}), 1):
        folder = root / f"odd-{number}"
        info = formats.save(scaled(), folder, input_example={"x": [1.0, 2.0]}, metadata={"number": number})
        logged = models.log_model(store, folder, name="odd", environment=environment, info=info)
        models.register(store, "odd", logged.id, serving_env=env)
    gateway = Running(store, root / "log")
    for model in ("times", "odd"):
        for version in (1, 2):
            deployments.deploy(store, model, version=version, override=["parity"], reason="it is for a test")
            assert work(store).state == "succeeded"
    yield store, gateway
    gateway.kill()
    store.close()


@pytest.fixture
def store(place: tuple[Store, Running]) -> Store:
    """The store as the fixture above leaves it."""
    route(place[0], "times", (2, 1.0), warm=[1])
    serving.wait_loaded(place[0], "times", 1, timeout_s=60)
    return place[0]


def work(store: Store) -> jobs.Job:
    done = jobs.work(store, handlers(load_settings()), owner="test")
    assert done is not None
    return done


def drilled(store: Store, model: str = "times") -> tuple[deployments.RollbackDrill, ledger.Entry]:
    job = work(store)
    assert job.state == "succeeded" and job.result is not None, job.error
    entry = ledger.list_entries(store, limit=1)[0]
    assert (entry.action, entry.model, entry.summary) == ("drill.rollback", model, job.result["said"])
    assert {"worked", "seconds", "version", "said"} <= entry.evidence.keys()
    return deployments.RollbackDrill(**job.result), entry


def answering(store: Store, gateway: Running) -> tuple[int, list[tuple[int, float]]]:
    """The version that answers, and the arms."""
    answered = gateway.http.post("/predict/times", json={"rows": [{"x": 5.0}]})
    assert answered.status_code == 200, answered.text
    found = serving.get_route(store, "times")
    assert found is not None
    return int(answered.json()["version"]), [(arm.version, arm.share) for arm in found.arms]


def test_a_version_that_is_warm_could_answer_at_once(store: Store, place: tuple[Store, Running]) -> None:
    deployments.drill_rollback(store, "times", reason="monthly")
    found, entry = drilled(store)
    assert found.worked and found.warm and (found.version, found.rows) == (1, 2) and found.seconds < 5
    assert "would have been done after" in found.said and "times@1 is kept warm" in found.said
    assert (entry.actor, entry.reason, entry.subject) == ("person:ada", "monthly", "times@1")
    assert answering(store, place[1]) == (2, [(2, 1.0)])
    kept = serving.get_route(store, "times")
    assert kept is not None and kept.warm == [1]
    assert [w.said for w in maturity.list_work(store, model="times") if w.entry == entry.id] == [found.said]


def test_one_that_is_not_warm_is_loaded_by_the_gateway_and_let_go(store: Store, place: tuple[Store, Running]) -> None:
    route(store, "times", (2, 1.0))
    until(lambda: "times@1" not in serving.gateways(store)[0].loaded)
    seen: set[int] = set()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            seen.add(answering(store, place[1])[0])

    asking = threading.Thread(target=ask)
    asking.start()
    deployments.drill_rollback(store, "times", to=1)
    found, _ = drilled(store)
    done.set()
    asking.join()
    assert seen == {2}, "no traffic moves"
    assert found.worked and not found.warm and found.loaded_s is not None and found.loaded_s <= found.seconds
    assert "had to be loaded" in found.said
    after = serving.get_route(store, "times")
    assert after is not None and after.warm == [] and [arm.version for arm in after.arms] == [2]
    until(lambda: "times@1" not in serving.gateways(store)[0].loaded)


def test_one_that_answers_otherwise_would_not_have_helped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    monkeypatch.setenv("STEAD_USER", "ada")
    done = CliRunner().invoke(cli, ["rollback", "odd", "--drill"])
    assert isinstance(done.exception, SteadError) and done.exception.exit_code == 1
    assert done.exception.code == "drill-failed" and "would not have helped" in done.exception.message
    entry = ledger.list_entries(store, limit=1)[0]
    assert entry.evidence["worked"] is False and "does not answer as it was trained" in entry.summary
    live = deployments.live_deployment(store, "odd")
    assert live is not None and live.version == 2


def test_the_command_tells_each_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    monkeypatch.setenv("STEAD_USER", "ada")
    done = CliRunner().invoke(cli, ["rollback", "times", "--drill"])
    assert done.exit_code == 0 and "a roll-back of times would have been done after" in done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[-3:]] == ["loading", "stored", "the"]
    told = CliRunner().invoke(cli, ["rollback", "times", "--drill", "--json"])
    assert json.loads(told.stdout)["worked"] is True


def test_one_without_stored_rows_is_not_said_to_work(store: Store) -> None:
    from stead.models.tables import logged_models

    logged = models.get_logged_model(store, models.get_version(store, "times@1").logged_model)
    mine = logged_models.c.id == logged.id
    with store.db.engine.begin() as tx:
        files = tx.execute(sa.select(logged_models.c.files).where(mine)).scalar_one()
        bare = {name: file for name, file in files.items() if name != "stead/golden.json"}
        tx.execute(sa.update(logged_models).where(mine).values(files=bare))
    try:
        deployments.drill_rollback(store, "times")
        found, _ = drilled(store)
        assert not found.worked and "saved without rows to ask it" in found.said
    finally:
        with store.db.engine.begin() as tx:
            tx.execute(sa.update(logged_models).where(mine).values(files=files))


def test_where_there_is_nothing_to_go_back_to(store: Store) -> None:
    for model, to, kind, code in (
        ("flower", None, Conflict, "nothing-to-roll-back"),
        ("nobody", None, NotFound, "model-unknown"),
        ("times", 3, Conflict, "never-live"),
        ("times", 2, Conflict, "already-live"),
        ("times", 99, NotFound, "version-unknown"),
    ):
        with pytest.raises(kind) as refused:
            deployments.drill_rollback(store, model, to=to)
        assert refused.value.code == code  # type: ignore[attr-defined]
    assert jobs.open_jobs(store) == []


DRILL = """
import sys; from gateway_process import opened; from pathlib import Path; from stead.config import load_settings
from stead import jobs; from stead.processes.handlers import handlers
jobs.work(opened(Path(sys.argv[1])), handlers(load_settings()), owner="dying")
"""


@pytest.mark.parametrize("point", ["deployments.drill:before", "deployments.drill:after", "deployments.drill:after#2"])
def test_killed_in_it_the_traffic_stays_and_it_can_be_done_again(
    store: Store, place: tuple[Store, Running], point: str
) -> None:
    route(store, "times", (2, 1.0))
    since = ledger.list_entries(store, limit=1)[0].id
    asked = deployments.drill_rollback(store, "times", to=1)
    environ = {
        **os.environ,
        "STEAD_FAILPOINT": point,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    done = subprocess.run([sys.executable, "-c", DRILL, str(store.root)], env=environ, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    with store.db.write("jobs.beat") as tx:
        tx.execute(sa.update(job_table).where(job_table.c.id == asked.id).values(lease_until=1))
    assert jobs.work(store, handlers(load_settings()), owner="test") is None
    assert jobs.get_job(store, asked.id).state == "failed", "it is not tried again by itself: that would find it warm"
    assert answering(store, place[1]) == (2, [(2, 1.0)])
    assert [e.action for e in ledger.list_entries(store) if e.id > since] == []
    deployments.drill_rollback(store, "times", to=1)
    assert drilled(store)[0].worked


def test_without_a_gateway_nothing_could_answer(shop: Store) -> None:
    with shop.db.write("deployments.request") as tx:
        from stead.deployments.tables import deployments as table

        row = {
            "model": "times", "kind": "deploy", "overrides": [], "steps": [], "plan": {}, "shares": [],
            "requested_by": "person:ada", "created_at": 1,
        }  # fmt: skip
        tx.execute(sa.insert(table).values(**row, version=1, state="replaced"))
        tx.execute(sa.insert(table).values(**row, version=2, state="live"))
    with pytest.raises(Unreachable) as refused:
        deployments.drill_rollback(shop, "times")
    assert refused.value.code == "gateway-none" and jobs.open_jobs(shop) == []


def test_what_was_drilled_is_what_happens(store: Store, place: tuple[Store, Running]) -> None:
    deployments.drill_rollback(store, "times")
    found, _ = drilled(store)
    done = deployments.rollback(store, "times")
    assert (done.version, done.state, done.job) == (found.version, "live", None) and found.warm
    assert answering(store, place[1]) == (1, [(1, 1.0)])
    with pytest.raises(Conflict, match="first version that was live"):
        deployments.drill_rollback(store, "times")
