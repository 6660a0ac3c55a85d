"""kill -9 in every state of the circle: it ends as if nobody had died, and nothing is doubled.

One life is led: ingest, training, gates, a swap, a retraining, approval, a canary of two steps. Its agent dies right after each state
was entered (a failpoint makes that moment certain). While it is dead, a worker and then the gateway are killed, too, in each state of a
deployment and of a retraining; the processes of the steps `ingest` and `train` are killed once; the server dies before and after it has
written an approval, the only time that it changes anything here. `PEACE` is how the same life ends when nobody dies. The states are those
of the code's own enumerations: one that is added there and not passed here fails the test. States that end a deployment or a retraining
in another way are entered by one transaction each, and `ENDS` names the failpoint that a test of its own kills at.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from stead import datasets, deployments, jobs, ledger, models, pipelines, policies, predictions, runs, serving
from stead.deployments.types import UNDER_WAY
from stead.deployments.types import State as DeploymentState
from stead.errors import SteadError
from stead.jobs.tables import jobs as job_table
from stead.policies.types import OPEN
from stead.policies.types import State as RetrainingState
from stead.predictions import Label
from stead.runtime.clock import to_ms
from stead.runtime.failpoints import REGISTRY
from tests.conftest import free_ports

sys.path.insert(0, str(Path(__file__).parent))
from gateway_process import Running, until
from test_circle import CODE, HOLDER, TOML, Circle

DAY = 86_400_000
PATIENCE_S = 300.0
"""On a machine that does other things, too; on a quiet one nothing takes ten."""
POLICY = """
[models.tiny.policy]
triggers = ["age"]
max_age = "40d"

[models.tiny.rollout]
kind = "canary"
steps = [0.3, 0.6]
rows = 5
days = 1
"""
DIES = """

def once(what):
    import os, pathlib
    mark = pathlib.Path("{root}") / what
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), 9)
"""
ENDS = {
    "live": "deployments.switch",
    "replaced": "deployments.switch",
    "refused": "deployments.refuse",
    "failed": "deployments.fail",
    "rolled_back": "deployments.rollback",
    "cancelled": "deployments.cancel",
    "withdrawn": "deployments.withdraw",
    "aborted": "deployments.step",
    "done": "policies.move",
    "rejected": "policies.decide",
}


PEACE = {
    "jobs": [(kind, "succeeded") for kind in ("deploy", "deploy", "ingest", "train", "train")],
    "data": [("tiny@3", 440, 1587319200000), ("tiny@2", 241, 1583020800000), ("tiny@1", 124, 1580493600000)],
    "runs": {"finished": 2},
    "versions": ["tiny@2", "tiny@1"],
    "aliases": {"champion": 2},
    "route": ([serving.Arm(2, 1.0)], [1], [1]),
    "deployments": [
        (2, "live", ["requested", "preparing", "checking", "canary", "canary", "switching", "live"]),
        (1, "replaced", ["requested", "preparing", "checking", "switching", "live", "replaced"]),
    ],
    "retrainings": [("age", "done", 2, 2)],
    "labelled": 120,
    "ledger": {
        "version.registered": 2, "deployment.requested": 2, "route.changed": 2, "canary.step": 2, "policy.pushed": 1,
        "level.changed": 1, "retraining.begun": 1, "approval.asked": 1, "version.approved": 1, "retraining.done": 1,
    },
}  # fmt: skip


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, verify=False).status_code == 200
    except httpx.TransportError:
        return False


class Life(Circle):
    """The life; what states the dead left behind is in `seen`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.seen: set[tuple[str, str]] = set()
        code = CODE.replace("dayofyear * 2.0", "dayofyear * 2.0 + t.hour / 6 - 1.5")  # as far off as a label of `serve`
        code = code.replace("    t = pd.date", '    once("ingest")\n    t = pd.date')
        code = code.replace("    return Line", '    once("train")\n    return Line')
        (root / "tiny.py").write_text(code + DIES.format(root=root))
        (root / "stead.toml").write_text(TOML + POLICY)
        self.random = np.random.default_rng(0)
        self.agent: subprocess.Popen[str] | None = None
        self.over = threading.Event()
        self.beating = threading.Thread(target=self._beat, daemon=True)

    def _beat(self) -> None:
        while not self.over.wait(2.0):
            with suppress(SteadError):  # the database was busy: the next one comes in time
                self.tell()

    def tell(self) -> None:
        jobs.hold_clock(self.store, "tiny", now=self.now or 0, holder=HOLDER)

    def day(self, moment: str) -> None:
        self.now = to_ms(moment)
        self.tell()

    def process(self, part: str, point: str = "", *more: str) -> subprocess.Popen[str]:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("STEAD_")}
        environ |= {"STEAD_STORE": str(self.store.root), "STEAD_FAILPOINT": point, "STEAD_USER": "ada"}
        with open(self.root / f"{part}.log", "a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "stead.processes", part, *more], env=environ, stdout=subprocess.PIPE, stderr=log,
                text=True,
            )  # fmt: skip

    def comes_to(self, *points: str, done: Callable[[], Any]) -> None:
        """Let an agent die at each point, one after the other; then one lives until something is so."""
        for point in points:
            self.agent = self.process("agent", point)
            assert self.agent.wait(PATIENCE_S) == -signal.SIGKILL, point
            self.end_agent()
            if self.note():
                self.kill_the_others()
            for job in jobs.open_jobs(self.store):  # its lease runs out
                with self.store.db.write("jobs.beat") as tx:
                    mine = job_table.c.id == job.id
                    tx.execute(sa.update(job_table).where(mine).values(lease_until=1, run_after=1))
        self.agent = self.process("agent")
        try:
            until(done, PATIENCE_S)
        except AssertionError:
            raise AssertionError(self.told(), (self.root / "agent.log").read_text()[-2000:]) from None
        self.end_agent()
        self.note()

    def note(self) -> bool:
        """Note what state everything is in; whether a deployment or a retraining is in one that was not seen before."""
        before = {each for each in self.seen if each[0] != "job"}
        self.seen |= {("job", f"{job.kind} {job.state}") for job in jobs.list_jobs(self.store)}
        self.seen |= {("retraining", each.state) for each in policies.list_retrainings(self.store)}
        for each in deployments.list_deployments(self.store):
            self.seen.add(("deployment", each.state))
            if each.state == "canary":
                self.seen.add(("canary", str(len(each.shares))))
        return {each for each in self.seen if each[0] != "job"} != before

    def kill_the_others(self) -> None:
        """First a worker, whose requests another one takes over; then the gateway with the rest."""
        if self.live() is None and deployments.under_way(self.store, "tiny") is None:
            return
        if (workers := self.gateway.workers()) and self.live() is not None:
            with suppress(ProcessLookupError):  # a version that took over has just left the workers of its trial
                os.kill(workers[0], signal.SIGKILL)
            assert self.ask(1.0, {}), "the first request after it"
        self.gateway.kill()
        self.gateway = Running(self.store, self.root / "log", workers=1)

    def end_agent(self) -> None:
        if self.agent is not None and self.agent.poll() is None:
            self.agent.kill()
            self.agent.wait()
        if self.agent is not None and self.agent.stdout is not None:
            self.agent.stdout.close()
        self.agent = None

    def serve(self, since: str, until_: str) -> None:
        """Days of rows through the gateway; their labels are no farther off than those of the hold-out."""
        labels = []
        for at in range(to_ms(since), to_ms(until_), DAY // 20):
            x = float(self.random.uniform(1, 300))
            headers = {"X-Stead-Event-Time": str(at), "X-Stead-Key": str(at)}  # the same arm at every run
            answer = until(partial(self.ask, x, headers), PATIENCE_S)
            labels.append(Label(answer["prediction_id"], 2 * x + float(self.random.normal(0, 1))))
        predictions.add_labels(self.store, labels)
        self.day(until_)

    def ask(self, x: float, headers: dict[str, str]) -> Any:
        answer = self.gateway.http.post("/predict/tiny", json={"row": {"t": "2020-01-01", "x": x}}, headers=headers)
        return answer.json() if answer.status_code == 200 else None

    def approve(self) -> None:
        """A person's yes over HTTP, to a server that dies before it is written, then to one that dies before it has answered."""
        for point in ("policies.decide:before", "policies.decide:after"):
            url = f"http://127.0.0.1:{free_ports(1)[0]}"
            server = self.process("server", point, "--port", url.rpartition(":")[2])
            assert server.stdout is not None and server.stdout.readline() == f"ready {url}\n"
            until(partial(_answers, f"{url}/health"), PATIENCE_S)
            with pytest.raises(httpx.TransportError):
                httpx.post(f"{url}/api/v1/policies.approve", json={"model": "tiny"}, timeout=PATIENCE_S)
            assert server.wait(PATIENCE_S) == -signal.SIGKILL
            server.stdout.close()

    def lead(self) -> None:
        store = self.store
        self.day("2020-03-01T06:00")
        self.beating.start()
        pipelines.ingest(store, "tiny", spec=self.spec(), until=to_ms("2020-02-01"))
        ingested = lambda: not jobs.open_jobs(store)  # noqa: E731
        self.comes_to("datasets.add:after", done=ingested)
        pipelines.train(store, "tiny", spec=self.spec())
        self.comes_to("jobs.finish:before", done=ingested)
        deployments.deploy(store, "tiny", plan="swap")
        self.note()
        self.comes_to("deployments.prepare:after", "deployments.passed:after", done=lambda: self.live() == 1)
        self.push()
        policies.set_level(store, "tiny", "train")
        self.day("2020-04-20")
        waits = lambda: policies.list_approvals(store)  # noqa: E731
        self.comes_to(
            *("policies.decide:after", "models.register:after", "gates.verdict:after", "jobs.finish:after"),
            *("policies.move:after", "policies.move:after"),
            done=waits,
        )
        self.approve()
        self.note()
        at_step = lambda number: lambda: len(deployments.list_deployments(store, limit=1)[0].shares) == number  # noqa: E731
        self.comes_to("deployments.check:after", "deployments.passed:after", done=at_step(1))
        self.serve("2020-04-20", "2020-04-23")
        self.comes_to("deployments.step:after", done=at_step(2))
        self.serve("2020-04-23", "2020-04-26")
        ended = lambda: self.live() == 2 and not policies.open_retrainings(store)  # noqa: E731
        self.comes_to("deployments.step:after", "policies.move:after", done=ended)
        self.over.set()
        self.end_agent()
        self.gateway.kill()

    def told(self) -> dict[str, Any]:
        """All that matters of how it ended; machine times, ids and attempts are not in it."""
        store = self.store
        route = serving.get_route(store, "tiny")
        predictions.seal_labels(store)
        predictions.compact(store)
        predictions.refresh_performance(store)
        return {
            "jobs": sorted((job.kind, job.state) for job in jobs.list_jobs(store)),
            "data": [(v.ref, v.rows, v.time_max) for v in datasets.list_versions(store, "tiny")],
            "runs": Counter(run.status for run in runs.list_runs(store).runs),
            "versions": [v.ref for v in models.list_versions(store, "tiny")],
            "aliases": models.get_model(store, "tiny").aliases,
            "route": (route.arms, route.warm, route.shadow) if route else None,
            "deployments": [
                (d.version, d.state, [s.state for s in d.steps]) for d in deployments.list_deployments(store)
            ],
            "retrainings": [(r.trigger, r.state, r.version, r.deployment) for r in policies.list_retrainings(store)],
            "labelled": predictions.counts(store, "tiny").labelled,
            "ledger": Counter(
                entry.action
                for entry in ledger.list_entries(store, limit=1000)
                if not entry.action.startswith("incident.")  # requests after a kill are rows, too, that monitors see
            ),
        }


@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="kills by signal, and reads who lives")
def test_whoever_dies_in_whatever_state_it_ends_as_in_peace(tmp_path: Path) -> None:
    life = Life(tmp_path)
    try:
        life.lead()
        assert life.told() == PEACE
    finally:
        life.over.set()
        life.end_agent()
        life.gateway.kill()
        life.store.close()
    seen = {what: {state for kind, state in life.seen if kind == what} for what, _ in life.seen}
    assert seen["retraining"] >= set(OPEN) and seen["deployment"] >= set(UNDER_WAY) and seen["canary"] == {"1", "2"}
    assert seen["job"] >= {"ingest running", "train queued", "train running", "deploy queued", "deploy running"}
    assert (tmp_path / "ingest").exists() and (tmp_path / "train").exists(), "their processes were killed"


def test_every_other_end_is_one_change_that_is_killed_elsewhere() -> None:
    ends = {*get_args(DeploymentState), *get_args(RetrainingState)} - {*UNDER_WAY, *OPEN}
    assert ends == ENDS.keys(), "a state that nobody is killed in"
    assert set(ENDS.values()) <= REGISTRY.keys()  # test_failpoints holds that each has its scenario
