"""A store filled through public operations: what a team has after a while, with names that try to break a page."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stead import (
    datasets,
    deployments,
    environments,
    gates,
    jobs,
    ledger,
    models,
    monitors,
    policies,
    predictions,
    runs,
)
from stead.config import PolicyConfig, RolloutConfig
from stead.deployments.canary import begin
from stead.deployments.operations import switch
from stead.gates import Verdict
from stead.jobs.operations import claim, finish
from stead.pipelines import Spec
from stead.predictions import Label, Logged, PredictionLog
from stead.runtime import journal as j
from stead.runtime.clock import now_ms, to_ms
from stead.runtime.ids import new_id
from stead.store import Store

EVIL = "<script>alert('x')</script>\"'&"
START = to_ms("2012-01-01")
HOUR, DAY = 3_600_000, 86_400_000
MLMODEL = "flavors:\n  sklearn:\n    pickled_model: model.pkl\n    serialization_format: pickle\n"
SIGNATURE = {"inputs": [{"name": EVIL, "type": "double", "required": True}], "outputs": [{"type": "double"}]}


@dataclass(frozen=True)
class World:
    """Where to look."""

    finished: str
    failed: str
    running: str
    job: str
    live: int
    first: int
    waiting: int
    rejected: int
    canary: int
    aborted: int
    incident: int
    over: int
    said: int

    def pages(self) -> list[str]:
        """An address of every page, with filters and choices."""
        return [
            "/",
            "/runs",
            "/runs?filter=params.depth = 3&order=metrics.loss&value=min&curves=1",
            "/runs?metric=loss&value=max&project=iris",
            f"/compare?run={self.finished}&run={self.failed}&smooth=0.5&log=1&x=time",
            f"/compare?run={self.finished}",
            f"/runs/{self.finished}",
            f"/runs/{self.failed}",
            f"/runs/{self.running}",
            "/data",
            "/data/trips",
            "/data/trips/1",
            "/data/trips/1/diff?with=1&key=ts",
            "/models",
            "/models/trips",
            "/models/trips/versions/1",
            "/models/trips/versions/2",
            "/deployments",
            f"/deployments/{self.first}",
            f"/deployments/{self.live}",
            "/lineage",
            "/lineage?of=trips@1&direction=down&beyond=1",
            "/lineage?of=dataset:trips@1",
            "/decisions",
            "/decisions?model=trips&by=people",
            "/jobs",
            "/jobs?state=cancelled",
            f"/jobs/{self.job}",
            "/approvals",
            f"/approvals/{self.waiting}",
            f"/approvals/{self.rejected}",
            "/models/vans",
            "/drift",
            "/models/vans/drift",
            "/models/vans/drift?weeks=52&column=output&week=2012-02-06&all=1",
            "/models/trips/drift",
            f"/deployments/{self.canary}",
            f"/deployments/{self.aborted}",
            "/incidents",
            "/incidents?model=vans",
            f"/incidents/{self.incident}",
            f"/incidents/{self.over}",
            f"/incidents/{self.said}",
            "/worth",
            "/worth?models=3&depends=yes&retrains=50&people=3&late=no",
            "/work",
            "/work?model=vans&days=0",
            "/maturity",
            "/maturity?model=vans",
            "/maturity/checks/by-person",
            "/maturity/checks/recorded?model=trips",
        ]


def fill(store: Store, folder: Path) -> World:
    """Two versions that were live, with labelled predictions; runs of every state; data; jobs; decisions."""
    made = [a_run(store, n) for n in range(3)]
    runs.end(store, made[0])
    runs.end(store, made[1], status="failed", error=f"ValueError: {EVIL}")
    a_dataset(store)
    versions = [a_version(store, folder, made[0], n) for n in (1, 2)]
    live = [go_live(store, version) for version in versions]
    predict(store)
    waiting = jobs.enqueue(store, "train", {"note": EVIL}, model="trips")
    asked = retrained(store, folder, made[0])
    canaries = [a_canary(store, folder, made[0], name, worse) for name, worse in (("walks", 0.5), ("zones", 9.0))]
    wrong = watched(store)
    deployments.record_outside(store, "sheet", place=f"a laptop {EVIL}", hours=3, note=f"copied by hand {EVIL}")
    return World(made[0], made[1], made[2], waiting.id, live[1], live[0], asked[1], asked[0], *canaries, *wrong)


def a_run(store: Store, n: int) -> str:
    """40 steps with a NaN among them, two parameters that differ and one that does not."""
    config = {"depth": str(3 + n), "seed": "7", "note": EVIL}
    source = {"git": {"commit": "4be1c07" * 5, "dirty": True, "branch": EVIL, "untracked": [EVIL]}}
    run = runs.start(store, project="iris", name=f"gbm {n} {EVIL}", config=config, source=source)
    at = run.started_at
    records: list[j.Record] = [
        j.Metrics(at + step * 1000, step, {"loss": math.nan if step == 9 else 2 / (1 + step) + n / 10})
        for step in range(40)
    ]
    records += [j.Metrics(at + step * 1000, step, {"system/memory_mb": 500.0 + step}) for step in range(40)]
    records += [j.Metrics(at, 0, {"accuracy": 0.9 + n / 100}), j.Text(at, f"line one\n{EVIL}\n")]
    digest = store.blobs.put(b"notes")
    records += [j.File(at, "plots/notes & more.txt", "f1", 5, digest)]
    runs.deliver(store, run.id, writer="w", first=1, records=records)
    return run.id


def a_dataset(store: Store) -> None:
    import pyarrow as pa

    hours = pa.array([START + n * HOUR for n in range(48)], pa.timestamp("ms"))
    columns = {
        "ts": hours,
        "temp": [None if n == 5 else n / 2 for n in range(48)],
        "place": ["<b>north</b>", "south"] * 24,
    }
    datasets.add(store, "trips", pa.table(columns), time_column="ts")


def a_version(store: Store, folder: Path, run_id: str, n: int, name: str = "trips") -> models.Version:
    made = folder / f"{name}-{n}"
    made.mkdir(parents=True)
    (made / "MLmodel").write_text(MLMODEL)
    (made / "model.pkl").write_bytes(b"model %d" % n)
    (made / "input_example.json").write_text(json.dumps({"columns": [EVIL], "data": [[1.5]]}))
    lock = store.blobs.put(f"x=={n} --hash=sha256:{'0' * 64}\n".encode())
    environment = environments.add(store, lock=lock, python="3.11", platform="linux-x86_64").digest
    logged = models.log_model(
        store,
        made,
        name=name,
        run_id=run_id,
        environment=environment,
        metrics={"holdout_random": 0.14, "holdout_time": 0.32 / n},
        info={"signature": SIGNATURE, "trained_on": {"dataset": "trips@1", "since": None, "until": START}},
    )
    settings = {"target": "count", "time": "ts"}
    version = models.register(
        store,
        name,
        logged.id,
        loss="mae",
        settings=settings,
        serving_env={"TZ": "UTC"},
        inputs=["dataset:trips@1"],
        description=EVIL,
    )
    outcome = "failed" if (name, n) == ("trips", 2) else "passed"
    gates.keep_verdict(store, name, version.version, Verdict("parity", outcome, f"rows answer {EVIL}"))
    return version


def retrained(store: Store, folder: Path, run_id: str) -> list[int]:
    """`vans` at level train: an incident trains it twice; the first challenger is rejected, the second waits."""
    jobs.hold_clock(store, "vans", now=START, holder="replay-1")
    go_live(store, a_version(store, folder, run_id, 1, "vans"))
    hand_over(store, "vans", RolloutConfig(kind="canary"))
    policies.set_level(store, "vans", "train", reason=f"we trust it {EVIL}")
    numbers = []
    for n in (2, 3):
        monitors.open_incident(store, "vans", f"drivers wait too long {n} {EVIL}")
        number = policies.decide(store, models.get_model(store, "vans"))
        assert number is not None
        job = claim(store, "agent", ["train"], job_id=policies.get_retraining(store, number).job)
        assert job is not None
        a_version(store, folder, run_id, n, "vans")
        beside = {
            "loss": 0.9,
            "champion_loss": 1.0,
            "days": 28,
            "margin": 0.05,
            "relative_low": -0.18,
            "relative_high": -0.02,
        }
        beside["by_day"] = [(START + n * DAY, 0.8 + n % 7 / 20, 1 + n % 5 / 20) for n in range(28)]  # type: ignore[assignment]
        gates.keep_verdict(
            store,
            "vans",
            n,
            Verdict("challenger", "passed", "not more than 5 % worse: −10.0 %, at most −2.0 %", beside),
        )
        finish(store, job, {"version": n})
        while policies.advance(store, policies.get_retraining(store, number)):
            pass
        numbers.append(number)
        if n == 2:
            policies.reject(store, "vans", reason=f"not now {EVIL}")
    return numbers


def a_canary(store: Store, folder: Path, run_id: str, name: str, loss: float) -> int:
    """Version 2 of a model beside version 1, whose loss is about 1, on twelve days of a replay; the agent has looked once."""
    go_live(store, a_version(store, folder, run_id, 1, name))
    second = a_version(store, folder, run_id, 2, name)
    jobs.hold_clock(store, name, now=START, holder="replay-1")
    asked = deployments.deploy(store, name, version=second.version, plan="canary")
    with store.db.write("deployments.step") as tx:
        begin(tx, store, asked, "every gate passed")
    for job in jobs.open_jobs(store, kind="deploy"):
        jobs.cancel_job(store, job.id)
    labels: list[Label] = []
    answers, aside = PredictionLog(store, f"{name}-1"), PredictionLog(store, f"{name}-1", kind="shadows")
    for n in range(120):
        usual = 1 + n % 7 / 10
        scores = {1: 10.0 + usual, 2: 10.0 + loss * usual + n % 3 / 9}
        answering = 2 if n % 4 == 0 else 1
        for version, log in ((answering, answers), (3 - answering, aside)):
            outputs = msgspec.msgpack.encode([scores[version]])
            identity = new_id() if log is answers else labels[-1].prediction_id
            made = a_prediction(identity, name, version, START + n * 2 * HOUR, outputs)
            log.append([made if log is answers else msgspec.structs.replace(made, body=b"")])
            if log is answers:
                labels.append(Label(identity, 10.0))
    answers.close()
    aside.close()
    predictions.add_labels(store, labels)
    jobs.hold_clock(store, name, now=START + (10 if loss > 1 else 6) * DAY, holder="replay-1")
    deployments.observe(store, asked.id)
    return asked.id


def watched(store: Store) -> list[int]:
    """46 days of `vans`, whose loss triples: an incident of the monitor, one that is over, and one that a person opened."""
    more(store, 0, 46)
    found = monitors.list_incidents(store, model="vans")
    over, said = (each for each in reversed(found) if each.opened_by == "person:ada")
    monitors.resolve_incident(store, over.id, reason=f"more drivers {EVIL}")
    return [next(each.id for each in found if each.cause == "loss"), over.id, said.id]


def more(store: Store, first: int, end: int) -> None:
    """Days of `vans` that are served, labelled and looked at."""
    log = PredictionLog(store, f"vans-{first}")
    labels: list[Label] = []
    for n in range(first * 12, end * 12):
        identity, outputs = new_id(), msgspec.msgpack.encode([10.0])
        log.append([a_prediction(identity, "vans", 1, START + n * 2 * HOUR, outputs)])
        labels.append(Label(identity, 10.0 + (1 + n * 7 % 11 / 10) * (1 if n < 34 * 12 else 3)))
    log.close()
    predictions.add_labels(store, labels)
    jobs.hold_clock(store, "vans", now=START + end * DAY, holder="replay-1")
    monitors.observe(store, "vans")


def hand_over(store: Store, model: str, rollout: RolloutConfig) -> None:
    """The code of a model, as `stead push` does it."""
    spec = Spec(
        project="p", model=model, entry="m.py", module="m", files={}, target="count", time="ts", loss="mae",
        label_delay="0h", dataset="trips", timeout_s=60, python=None, requirements=["six"], requirements_file=None,
        root="/nowhere",
    )  # fmt: skip
    policy = PolicyConfig(rest="0h", retrains_a_day=9)
    policies.push(store, model, spec=spec, policy=policy, rollout=rollout)


def go_live(store: Store, version: models.Version) -> int:
    """What the agent does with a deployment, without a gateway: the swap itself."""
    asked = deployments.deploy(store, version.model, version=version.version, reason=f"because {EVIL}")
    with store.db.write("deployments.switch") as tx:
        switch(tx, store, asked)
    for job in jobs.open_jobs(store, kind="deploy"):
        jobs.cancel_job(store, job.id)
    return asked.id


def a_prediction(identity: str, model: str, version: int, at: int, outputs: bytes) -> Logged:
    return Logged(
        id=identity,
        model=model,
        version=version,
        event_time=at,
        received_at=now_ms(),
        latency_us=900,
        status=200,
        protocol="stead",
        key=None,
        header_length=0,
        body=b'{"row": {"temp": 1.5}}',
        outputs=outputs,
    )


def predict(store: Store) -> None:
    """Ten days of version 1, ten of version 2, one request a six hours, most of them labelled."""
    log = PredictionLog(store, "gateway-1")
    requests = [
        a_prediction(new_id(), "trips", 1 if n < 40 else 2, START + n * 6 * HOUR, msgspec.msgpack.encode([float(n)]))
        for n in range(80)
    ]
    log.append(requests)
    log.close()
    predictions.add_labels(store, [Label(each.id, n + 0.5) for n, each in enumerate(requests) if n % 4])
    predictions.seal_labels(store)
    predictions.compact(store)
    predictions.refresh_performance(store)
    assert len(ledger.list_entries(store)) > 4
