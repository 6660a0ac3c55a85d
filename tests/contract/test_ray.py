"""Training steps on a real Ray cluster: the same version, log and metrics as here; cancel, a keeper's death, a machine's death, and nonsense."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest

from stead import jobs, models, pipelines, runs
from stead.config import load_project, load_settings
from stead.errors import NotFound
from stead.pipelines.remote import Elsewhere
from stead.processes.handlers import handlers
from stead.store import Store
from tests.conftest import free_ports, new_store
from tests.support.ray_cluster import Cluster

pytestmark = pytest.mark.timeout(420)
SERVER = Path(__file__).parents[1] / "support" / "api_server.py"
PINS = [f"{name}=={version(name)}" for name in ("scikit-learn", "numpy", "skops", "pandas", "pyarrow")]
TOML = """[project]
name = "tiny"
requirements = {pins}

[models.tiny]
code = "tiny.py"
target = "y"
time = "t"

[models.tiny.train]
seed = 7
{train}
"""
CODE = """import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import stead
from sklearn.linear_model import Ridge

WAITS = Path("{waits}")


def ingest(since, until):
    t = pd.date_range(since, until, freq="h", inclusive="left", unit="us")
    x = np.random.default_rng(1).normal(size=(len(t), 2))
    return pd.DataFrame({{"t": t, "a": x[:, 0], "b": x[:, 1], "y": 2.0 * x[:, 0] + x[:, 1] + np.random.normal(size=len(t))}})


def features(raw):
    print("features by", os.environ.get("WORD"))
    return raw[["a", "b"]]


def train(X, y):
    if os.environ["STEAD_STEP"] == "train":
        stead.log({{"rows": len(X)}}, step=0)
        Path("notes.txt").write_text("a file of the step's own")
        stead.log_artifact("notes.txt")
        said = 0
        while WAITS.exists():
            print("waiting", said, "." * 5_000)
            said += 1
            time.sleep(0.2)
    return Ridge(alpha=np.random.uniform()).fit(X, y)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.close()


class Place:
    """A store with a server, and a project that trains on the cluster."""

    def __init__(self, root: Path, cluster: Cluster) -> None:
        self.store = new_store(root / "store")
        (port,) = free_ports(1)
        self.server = f"http://127.0.0.1:{port}"
        self.environ = {
            "STEAD_STORE": str(root / "store"),
            "STEAD_RAY_ADDRESS": cluster.address,
            "STEAD_SERVER_URL": self.server,
            "STEAD_USER": "ada",
        }
        self._port = port
        self.serve()

    def fresh(self, root: Path) -> None:
        """A project of its own, whose training waits while the file `waits` is there."""
        self.project, self.waits = root / "tiny", root / "waits"
        self.project.mkdir()
        (self.project / "tiny.py").write_text(CODE.format(waits=self.waits))

    def serve(self) -> None:
        command = [sys.executable, str(SERVER), str(self._port)]
        self._process = subprocess.Popen(command, env={**os.environ, **self.environ})
        until(lambda: answers(self.server))

    def lose_server(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.lose_server()
        self.store.close()

    def ask(self, train: str = 'executor = "ray"') -> jobs.Job:
        (self.project / "stead.toml").write_text(TOML.format(pins=json.dumps(PINS), train=train))
        spec = pipelines.pack(load_project(self.project), "tiny", self.store.blobs.put)
        return pipelines.train(self.store, "tiny", spec=spec, since=0, until=200 * 3_600_000)

    def work(self, job: jobs.Job, **environ: str) -> tuple[jobs.Job, str]:
        """Do a job here; it as it is afterwards, and its log."""
        mine = handlers(load_settings(environ=self.environ | environ))
        done = jobs.work(self.store, mine, owner="test", job_id=job.id)
        assert done is not None
        return done, self.log(job)

    def log(self, job: jobs.Job) -> str:
        return "".join(text for _, _, text in jobs.job_log(self.store, job.id))

    def begin(self, job: jobs.Job) -> subprocess.Popen[bytes]:
        """Do a job in a process of its own."""
        script = (
            "import sys; from pathlib import Path; from tests.conftest import new_store; from stead import jobs\n"
            "from stead.config import load_settings; from stead.processes.handlers import handlers\n"
            "jobs.work(new_store(Path(sys.argv[1])), handlers(load_settings()), owner='me', job_id=sys.argv[2])"
        )
        command = [sys.executable, "-c", script, str(self.store.root), job.id]
        return subprocess.Popen(command, env={**os.environ, **self.environ})

    def on_cluster(self, cluster: Cluster, job: jobs.Job) -> list[str]:
        """How the cluster's jobs for one of ours stand, the first one first."""
        mine = [each for each in (cluster.jobs() or {}).values() if each["metadata"].get("stead_job") == job.id]
        mine.sort(key=lambda each: each["start_time"])
        return [each["status"] for each in mine]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("ray"), cluster)
    yield made
    made.close()


@pytest.fixture
def place(shared: Place, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    shared.fresh(tmp_path)
    return shared


def until(there: Callable[[], Any], seconds: float = 150) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.2)


def answers(server: str) -> bool:
    try:
        return httpx.get(f"{server}/health").status_code == 200
    except httpx.TransportError:
        return False


def metric(store: Store, job: jobs.Job, name: str) -> float | None:
    try:
        found = runs.get_run(store, job.id).metrics.get(name)
    except NotFound:
        return None
    return found.last if found else None


def versions(place: Place, job: jobs.Job) -> list[int]:
    """Those that a job made."""
    return [each.version for each in models.list_versions(place.store, "tiny") if each.run_id == job.id]


def test_a_version_from_the_cluster_is_the_one_from_here(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ON_NODE", "what this machine knows")
    there, said = place.work(place.ask('executor = "ray"\nenv = { WORD = "env:ON_NODE" }'))
    assert there.state == "succeeded", (there.error, said)
    until(lambda: place.on_cluster(cluster, there) == ["SUCCEEDED"])
    assert "features by " + "*" * 42 in said, "the machine's own secret, and starred"
    assert metric(place.store, there, "rows") == 200
    assert [file.path for file in runs.list_artifacts(place.store, there.id)] == ["notes.txt"]
    here, _ = place.work(place.ask('env = { WORD = "env:ON_NODE" }'))
    assert here.state == "succeeded"
    made = [models.get_version(place.store, f"tiny@{job.result['version']}") for job in (there, here) if job.result]
    kept = [models.get_logged_model(place.store, each.logged_model) for each in made]
    assert kept[0].metrics == kept[1].metrics
    differing = {name for name in kept[0].files if kept[0].files[name] != kept[1].files.get(name)}
    assert differing <= {"MLmodel", "metadata.json"}, differing
    with place.store.db.read() as tx:
        for table in ("remote_sessions", "remote_messages"):
            assert tx.exec_driver_sql(f"select count(*) from {table}").scalar() == 0


def test_what_runs_is_heard_of_and_ends_with_the_wish(place: Place, cluster: Cluster) -> None:
    place.waits.touch()
    job = place.ask()
    process = place.begin(job)
    try:
        until(lambda: metric(place.store, job, "rows") == 200)  # while the step runs
        until(lambda: heard(place.log(job)))
        place.lose_server()
        before = heard(place.log(job))
        time.sleep(3)
        place.serve()
        until(lambda: len(heard(place.log(job))) > len(before) + 10)
        assert heard(place.log(job)) == list(range(len(heard(place.log(job))))), (
            "nothing is lost, and nothing is there twice"
        )
        jobs.cancel_job(place.store, job.id)
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert jobs.get_job(place.store, job.id).state == "cancelled"
    until(lambda: place.on_cluster(cluster, job) == ["STOPPED"])
    until(lambda: not running(place.waits))


def test_what_a_dead_keeper_left_behind_is_ended(place: Place, cluster: Cluster) -> None:
    place.waits.touch()
    job = place.ask()
    process = place.begin(job)
    until(lambda: metric(place.store, job, "rows") == 200)
    process.kill()
    process.wait()
    place.waits.unlink()
    until(lambda: (jobs.get_job(place.store, job.id).lease_until or 0) < time.time() * 1000)
    done, said = place.work(job)
    assert done.state == "succeeded" and done.attempt == 2, (done.error, said)
    assert len(versions(place, job)) == 1
    assert "features: same code and inputs as before, not run again" in said
    assert place.on_cluster(cluster, job)[0] in ("STOPPED", "SUCCEEDED"), (
        "it was told to stop, or found its pass refused"
    )


def test_a_machine_that_dies_costs_one_try(place: Place, cluster: Cluster) -> None:
    cluster.node("second")
    place.waits.touch()
    job = place.ask('executor = "ray"\nresources = { second = 1 }')
    process = place.begin(job)
    try:
        until(lambda: metric(place.store, job, "rows") == 200)
        cluster.lose("second")
        place.waits.unlink()
        assert process.wait(120) == 0
    finally:
        process.kill()
    waiting = jobs.get_job(place.store, job.id)
    assert waiting.state == "queued" and waiting.error and waiting.error["code"] == "step-lost"
    cluster.node("second")
    until(lambda: (jobs.get_job(place.store, job.id).run_after) < time.time() * 1000)
    done, said = place.work(job)
    assert done.state == "succeeded" and done.attempt == 2, (done.error, said)
    assert metric(place.store, job, "rows") == 200
    assert len(versions(place, job)) == 1


def test_an_error_of_the_step_is_told_as_here(place: Place) -> None:
    (place.project / "tiny.py").write_text(
        CODE.format(waits="x").replace("return Ridge", "y[0] = 1 / 0\n    return Ridge")
    )
    done, said = place.work(place.ask())
    assert done.state == "failed" and done.error is not None and done.attempt == 1
    assert (
        done.error["code"] == "step-failed"
        and "ZeroDivisionError: division by zero (tiny.py, line" in done.error["message"]
    )
    assert "Traceback" in said


def test_what_is_set_wrong_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    job = place.ask()
    assert code(place.work(job, STEAD_RAY_ADDRESS="")) == "ray-address"
    (port,) = free_ports(1)
    dead = f"http://127.0.0.1:{port}"
    assert code(place.work(place.ask(), STEAD_RAY_ADDRESS=dead)) == "ray-unreachable"
    assert code(place.work(place.ask(), STEAD_SERVER_URL=dead)) == "server-unreachable"
    monkeypatch.setattr(Elsewhere, "_check", lambda *_: None)  # as where the agent reaches it, and the machine does not
    done, said = place.work(place.ask(), STEAD_SERVER_URL=dead)
    assert code((done, said)) == "machine-unready" and "refused" in str(done.error), said
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    assert code(place.work(place.ask())) == "ray-refused"


def heard(log: str) -> list[int]:
    """What the waiting training has said: it counts."""
    return [int(number) for number in re.findall(r"^waiting (\d+) \.", log, re.M)]


def code(worked: tuple[jobs.Job, str]) -> str:
    assert worked[0].error is not None, worked
    return str(worked[0].error["code"])


def running(waits: Path) -> bool:
    """Whether a step of this test still runs anywhere on this machine."""
    mark = str(waits.parent).encode()
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = each.read_bytes()
        except OSError:
            continue
        if b"stead.runtime.step" in text and b"stead-step-" in text and mark in (each.parent / "environ").read_bytes():
            return True
    return False
