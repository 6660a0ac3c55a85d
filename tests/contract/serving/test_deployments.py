"""The state machine of a deployment against a real gateway: every way it can go, and kill -9 at each of its failpoints."""

from __future__ import annotations

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

from stead import deployments, jobs, ledger, models, serving
from stead.api.undoing import undo
from stead.config import load_settings
from stead.errors import Conflict, InvalidInput, NotFound
from stead.jobs.tables import jobs as job_table
from stead.processes.handlers import handlers
from stead.runtime import formats
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from gateway_process import Running, opened


def scaled() -> Callable[[Any], Any]:
    """A model that asks its environment what it should do."""

    def predict(columns: Any) -> Any:
        import os

        return [float(x) * int(os.environ.get("FACTOR", "1")) for x in columns["x"]]

    return predict


def absent() -> Callable[[Any], Any]:
    """A model that cannot answer where it serves."""

    def predict(columns: Any) -> Any:
        import os

        if os.environ.get("FACTOR"):
            os._exit(3)
        return list(columns["x"])

    return predict


@pytest.fixture(scope="module")
def place(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Running]]:
    """A store with the model `m` and one gateway. Versions 1 and 2 are good, 3 differs where it serves, 4 dies there."""
    root = tmp_path_factory.mktemp("deployments")
    shutil.copytree(workshop, root / "store", ignore=shutil.ignore_patterns("environments"))
    (root / "store" / "environments").symlink_to(workshop / "environments")
    store = opened(root / "store")
    environment = models.get_logged_model(store, models.get_version(store, "times@1").logged_model).environment
    for number, (model, env) in enumerate(
        ((scaled(), {}), (scaled(), {}), (scaled(), {"FACTOR": "3"}), (absent(), {"FACTOR": "1"})), 1
    ):
        folder = root / f"m-{number}"
        info = formats.save(model, folder, input_example={"x": [1.0, 2.0]}, metadata={"number": number})
        logged = models.log_model(store, folder, name="m", environment=environment, info=info)
        assert models.register(store, "m", logged.id, serving_env=env).version == number
    gateway = Running(store, root / "log", memory_mb=3000, open_files=300)
    yield store, gateway
    gateway.kill()
    store.close()


@pytest.fixture
def store(place: tuple[Store, Running]) -> Store:
    """The store with version 1 live and nothing under way."""
    store = place[0]
    coming = deployments.under_way(store, "m")
    if coming is not None:
        deployments.cancel_deployment(store, coming.id)
    for job in jobs.open_jobs(store):
        expire(store, job.id)
        work(store)
    live = deployments.live_deployment(store, "m")
    if live is None or live.version != 1:
        deployments.deploy(store, "m", version=1)
        done = work(store)
        assert done.state == "succeeded", done.error
    return store


def work(store: Store) -> jobs.Job:
    done = jobs.work(store, handlers(load_settings()), owner="test")
    assert done is not None
    return done


def expire(store: Store, job_id: str) -> None:
    with store.db.write("jobs.beat") as tx:
        tx.execute(sa.update(job_table).where(job_table.c.id == job_id).values(lease_until=1, run_after=1))


def answer(gateway: Running) -> int:
    answered = gateway.http.post("/predict/m", json={"rows": [{"x": 5.0}]})
    assert answered.status_code == 200, answered.text
    return int(answered.json()["version"])


def newest(store: Store) -> deployments.Deployment:
    return deployments.list_deployments(store, model="m", limit=1)[0]


def test_a_swap_changes_everything_together(store: Store, place: tuple[Store, Running]) -> None:
    asked = deployments.deploy(store, "m", version=2, reason="newer")
    assert asked.state == "requested" and answer(place[1]) == 1
    assert asked.job is not None and jobs.get_job(store, asked.job).payload["deployment"] == asked.id
    assert work(store).state == "succeeded"
    done = deployments.get_deployment(store, asked.id)
    assert [step.state for step in done.steps] == ["requested", "preparing", "checking", "switching", "live"]
    assert done.previous == 1 and answer(place[1]) == 2
    route = serving.get_route(store, "m")
    assert route is not None and route.arms == [serving.Arm(2, 1.0)] and route.warm == [1]
    assert models.get_model(store, "m").aliases["champion"] == 2
    last = ledger.list_entries(store, model="m", limit=1)[0]
    assert last.action == "route.changed" and last.reason == "newer" and last.evidence["before"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
def test_workers_have_limits(store: Store, place: tuple[Store, Running]) -> None:
    for pid in place[1].workers():
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        told = {line[:26].strip(): line[26:].split()[:2] for line in limits}
        assert told["Max open files"] == ["300", "300"]
        assert told["Max data size"] == [str(3000 << 20)] * 2


def test_rollback_and_its_undo_are_done_when_they_return(store: Store, place: tuple[Store, Running]) -> None:
    deployments.deploy(store, "m", version=2)
    work(store)
    back = deployments.rollback(store, "m", reason="worse")
    assert (back.state, back.kind, back.version, back.job) == ("live", "rollback", 1, None)
    assert answer(place[1]) == 1
    entry = ledger.list_entries(store, model="m", limit=1)[0]
    assert entry.action == "route.rolled_back"
    assert jobs.open_jobs(store) == []
    undone = undo(store, entry.id)
    if undone.action == "deployment.requested":
        work(store)
    assert answer(place[1]) == 2
    assert ledger.get_entry(store, entry.id).undone_by is not None
    with pytest.raises(Conflict, match="undone"):
        undo(store, entry.id)


def test_out_of_service_and_back(store: Store, place: tuple[Store, Running]) -> None:
    statuses: list[int] = []

    def ask() -> None:
        while not statuses or statuses[-1] == 200:
            statuses.append(place[1].http.post("/predict/m", json={"rows": [{"x": 5.0}]}).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    taken = deployments.withdraw(store, "m", reason="it harms")
    refused = place[1].http.post("/predict/m", json={"rows": [{"x": 5.0}]})
    asking.join()
    assert set(statuses[:-1]) <= {200} and statuses[-1] == 404
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model-not-deployed")
    assert taken.state == "withdrawn" and deployments.live_deployment(store, "m") is None
    assert "champion" not in models.get_model(store, "m").aliases
    entry = ledger.list_entries(store, model="m", limit=1)[0]
    assert (entry.action, entry.reason) == ("route.removed", "it harms")
    with pytest.raises(Conflict, match="no version of m is live"):
        deployments.withdraw(store, "m")
    assert undo(store, entry.id).action == "deployment.requested"
    with pytest.raises(Conflict, match="under way"):
        deployments.withdraw(store, "m")
    assert work(store).state == "succeeded"
    assert answer(place[1]) == taken.version
    assert models.get_model(store, "m").aliases["champion"] == taken.version
    assert ledger.get_entry(store, entry.id).undone_by is not None
    deployments.withdraw(store, "m", version=taken.version)
    assert deployments.rollback(store, "m").version == taken.version
    assert work(store).state == "succeeded"
    with pytest.raises(Conflict, match="m@2 is not live"):
        deployments.withdraw(store, "m", version=2)


def test_the_first_version_can_be_undone(store: Store) -> None:
    first = next(e for e in reversed(ledger.list_entries(store, model="m", limit=1000)) if e.action == "route.changed")
    assert first.undo is not None and first.undo.operation == "deployments.withdraw"
    assert first.evidence["before"] is None
    undone = undo(store, first.id)
    assert undone.action == "route.removed" and undone.undoes == first.id


def test_a_version_that_answers_differently_is_refused(store: Store, place: tuple[Store, Running]) -> None:
    deployments.deploy(store, "m", version=3)
    job = work(store)
    assert job.state == "failed" and job.error is not None and job.error["code"] == "parity-failed"
    assert newest(store).state == "refused" and answer(place[1]) == 1
    route = serving.get_route(store, "m")
    assert route is not None and 3 not in route.warm
    with pytest.raises(InvalidInput, match="reason"):
        deployments.deploy(store, "m", version=3, override=["parity"])
    with pytest.raises(InvalidInput, match="no gate"):
        deployments.deploy(store, "m", version=3, override=["beauty"], reason="x")
    deployments.deploy(store, "m", version=3, override=["parity"], reason="I know")
    done = work(store)
    assert done.state == "succeeded", done.error
    assert answer(place[1]) == 3
    overridden = [e for e in ledger.list_entries(store, model="m", limit=5) if e.action == "gate.overridden"]
    assert [e.reason for e in overridden] == ["I know"]
    back = deployments.rollback(store, "m")
    assert back.version == 1 and answer(place[1]) == 1


def test_a_version_that_cannot_answer_fails_and_the_present_one_goes_on(
    store: Store, place: tuple[Store, Running]
) -> None:
    deployments.deploy(store, "m", version=4)
    job = work(store)
    assert job.state == "failed" and newest(store).state in ("failed", "refused")
    assert answer(place[1]) == 1


def test_two_people_at_once(store: Store) -> None:
    asked = deployments.deploy(store, "m", version=2)
    with pytest.raises(Conflict, match="under way"):
        deployments.deploy(store, "m", version=3)
    deployments.cancel_deployment(store, asked.id)
    with pytest.raises(Conflict, match="live already"):
        deployments.deploy(store, "m", version=1)
    work(store)  # the job of the cancelled one finds nothing to do
    assert newest(store).state == "cancelled"
    results: list[Any] = []

    def ask() -> None:
        try:
            results.append(deployments.deploy(store, "m", version=2).id)
        except Conflict as error:
            results.append(error.code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results))[1:] == ["deployment-under-way"] * 3
    work(store)


def test_what_does_not_exist(store: Store) -> None:
    with pytest.raises(NotFound):
        deployments.deploy(store, "nothing")
    with pytest.raises(NotFound):
        deployments.deploy(store, "m", version=99)
    with pytest.raises(Conflict, match="never live"):
        deployments.rollback(store, "m", to=4)
    with pytest.raises(NotFound):
        deployments.get_deployment(store, 10_000)


WORK = """
import sys; from gateway_process import opened; from pathlib import Path; from stead.config import load_settings
from stead import deployments, jobs; from stead.processes.handlers import handlers
store = opened(Path(sys.argv[1]))
if sys.argv[2] == "rollback": deployments.rollback(store, "m")
elif sys.argv[2] == "withdraw": deployments.withdraw(store, "m")
elif sys.argv[2] == "cancel": deployments.cancel_deployment(store, int(sys.argv[3]))
elif sys.argv[2] == "ask": deployments.deploy(store, "m", version=2)
else: jobs.work(store, handlers(load_settings()), owner="dying")
"""


def dies(store: Store, point: str, *arguments: str) -> None:
    environ = {**os.environ, "STEAD_FAILPOINT": point, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(store.root), *arguments], env=environ, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, f"{point}: {done.stderr[-2000:]}"


def live_once(store: Store, version: int, since: int) -> None:
    """The route was changed exactly once since then, one deployment is live, and alias, route and ledger agree."""
    changed = [e for e in ledger.list_entries(store, model="m") if e.id > since and e.action.startswith("route.")]
    assert [e.evidence["after"] for e in changed] == [version]
    live = [d for d in deployments.list_deployments(store, model="m") if d.state == "live"]
    assert [d.version for d in live] == [version]
    assert models.get_model(store, "m").aliases["champion"] == version
    route = serving.get_route(store, "m")
    assert route is not None and [arm.version for arm in route.arms] == [version]


SWAP_POINTS = ["prepare", "check", "passed", "switch"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", SWAP_POINTS)
def test_killed_in_a_swap_it_goes_on_where_it_was(
    store: Store, place: tuple[Store, Running], point: str, when: str
) -> None:
    since = ledger.list_entries(store, limit=1)[0].id
    deployments.deploy(store, "m", version=2)
    dies(store, f"deployments.{point}:{when}", "work")
    expire(store, jobs.open_jobs(store)[0].id)
    assert work(store).state == "succeeded"
    live_once(store, 2, since)
    assert answer(place[1]) == 2


def test_a_gateway_that_died_in_a_swap_loads_the_version_again(shop: Store, run: Callable[..., Running]) -> None:
    first = run(shop)
    deployments.deploy(shop, "times", version=1)
    dies(shop, "deployments.check:after", "work")
    first.kill()
    expire(shop, jobs.open_jobs(shop)[0].id)
    done: list[jobs.Job] = []
    working = threading.Thread(target=lambda: done.append(work(shop)))
    working.start()
    run(shop)
    working.join()
    assert [(job.state, job.error) for job in done] == [("succeeded", None)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_in_a_refusal(store: Store, place: tuple[Store, Running], when: str) -> None:
    since = ledger.list_entries(store, limit=1)[0].id
    deployments.deploy(store, "m", version=3)
    dies(store, f"deployments.refuse:{when}", "work")
    expire(store, jobs.open_jobs(store)[0].id)
    assert work(store).state == "failed"
    refused = [e for e in ledger.list_entries(store, model="m") if e.id > since and e.action == "deployment.refused"]
    assert len(refused) == 1 and newest(store).state == "refused" and answer(place[1]) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_in_an_override(store: Store, place: tuple[Store, Running], when: str) -> None:
    since = ledger.list_entries(store, limit=1)[0].id
    deployments.deploy(store, "m", version=3, override=["parity"], reason="x")
    dies(store, f"deployments.overridden:{when}", "work")
    expire(store, jobs.open_jobs(store)[0].id)
    assert work(store).state == "succeeded"
    overridden = [e for e in ledger.list_entries(store, model="m") if e.id > since and e.action == "gate.overridden"]
    assert len(overridden) == 1
    live_once(store, 3, since)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_it_fails(store: Store, place: tuple[Store, Running], when: str) -> None:
    deployments.deploy(store, "m", version=4)
    armed = "deployments.fail"
    dies(store, f"{armed}:{when}", "work")
    expire(store, jobs.open_jobs(store)[0].id)
    assert work(store).state in ("failed", "succeeded")
    assert newest(store).state == "failed" and answer(place[1]) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_in_a_request_in_a_rollback_and_in_a_cancel(
    store: Store, place: tuple[Store, Running], when: str
) -> None:
    done = when == "after"
    dies(store, f"deployments.request:{when}", "ask")
    assert (deployments.under_way(store, "m") is not None) == done
    assert [job.kind for job in jobs.open_jobs(store)] == (["deploy"] if done else [])
    if not done:
        deployments.deploy(store, "m", version=2)
    coming = newest(store).id
    dies(store, f"deployments.cancel:{when}", "cancel", str(coming))
    assert (newest(store).state == "cancelled") == done
    if not done:
        deployments.cancel_deployment(store, coming)
    work(store)
    deployments.deploy(store, "m", version=2)
    work(store)
    since = ledger.list_entries(store, limit=1)[0].id
    route = serving.get_route(store, "m")
    assert route is not None and route.warm == [1], deployments.list_deployments(store, model="m", limit=4)
    assert serving.gateways(store)[0].loaded.get("m@1") == "ready", serving.gateways(store)
    dies(store, f"deployments.rollback:{when}", "rollback")
    if not done:
        assert [e for e in ledger.list_entries(store, model="m") if e.id > since] == []
        deployments.rollback(store, "m")
    live_once(store, 1, since)
    until_answers(place[1], 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_on_the_way_out_of_service(store: Store, when: str) -> None:
    since = ledger.list_entries(store, limit=1)[0].id
    dies(store, f"deployments.withdraw:{when}", "withdraw")
    out = when == "after"
    assert (deployments.live_deployment(store, "m") is None) == out
    route = serving.get_route(store, "m")
    assert route is not None and (route.arms == []) == out
    assert ("champion" not in models.get_model(store, "m").aliases) == out
    assert [e.action for e in ledger.list_entries(store) if e.id > since] == (["route.removed"] if out else [])


def until_answers(gateway: Running, version: int) -> None:
    from gateway_process import until

    until(lambda: answer(gateway) == version)
