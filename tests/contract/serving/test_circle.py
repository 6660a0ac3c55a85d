"""The circle by level against a real gateway: a schedule trains, gates judge, a person approves or nobody is asked."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from stead import datasets, deployments, fleet, jobs, ledger, models, monitors, pipelines, policies, predictions
from stead.api.caller import Embedded
from stead.api.undoing import undo
from stead.config import Project, load_project, load_settings
from stead.errors import Conflict, NotFound, Refused
from stead.runtime.clock import to_ms
from stead.sdk.replay import Totals, replay
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
from decided import check_decisions
from gateway_process import Running, opened

from tests.support.working import work

TOML = """[project]
name = "tiny"
requirements = ["pandas>=2.2", "pyarrow"]

[models.tiny]
code = "tiny.py"
target = "y"
time = "t"
"""

CODE = """import pandas as pd


def ingest(since, until):
    t = pd.date_range(max(since, pd.Timestamp(2020, 1, 1)), until, freq="6h", inclusive="left", unit="us")
    return pd.DataFrame({"t": t, "x": t.dayofyear * 1.0, "y": t.dayofyear * 2.0})


def features(raw):
    return raw[["x"]]


class Line:
    def __init__(self, X, y):
        self.slope = float(y.sum() / X["x"].sum())

    def predict(self, X):
        return X["x"].to_numpy() * self.slope


def train(X, y):
    return Line(X, y)
"""
"""A model of a line: what loads scikit-learn costs each process a second."""
HOLDER = "test"
DAY = 86_400_000


class Circle:
    """A project with a store, a gateway and a clock; what an agent does is done when asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "stead.toml").write_text(TOML)
        (root / "tiny.py").write_text(CODE)
        self.store = opened(root / "store")
        self.gateway = Running(self.store, root / "log")
        self.now: int | None = None

    @property
    def project(self) -> Project:
        return load_project(self.root)

    def spec(self) -> pipelines.Spec:
        return pipelines.pack(self.project, "tiny", self.store.blobs.put)

    def push(self) -> policies.Standing:
        config = self.project.model("tiny")
        return policies.push(self.store, "tiny", spec=self.spec(), policy=config.policy, rollout=config.rollout)

    def at(self, moment: str) -> None:
        """Set the model's clock, then let everything happen that happens by itself."""
        self.now = to_ms(moment)
        self.settle()

    def hand_over(self) -> None:
        """Let go of the clock, which a replay takes."""
        self.now = None
        jobs.release_clock(self.store, "tiny", holder=HOLDER)

    def release(self) -> None:
        """Give the clock back to the wall."""
        self.hand_over()
        self.settle()

    def replay(
        self, since: str, until: str, *, on_progress: Callable[[Totals], None], delay_ms: int = 0, people: bool = True
    ) -> Totals:
        """Rows of some days through the gateway, with a stop where a person is asked."""
        rows = pd.DataFrame(
            {"t": pd.date_range(since, until, freq="6h", inclusive="left", unit="ms"), "x": 1.0, "y": 2.0}
        )
        return replay(
            Embedded(self.store, load_settings()), pa.Table.from_pandas(rows), "tiny", gateway=self.gateway.url,
            time_column="t", target="y", delay_ms=delay_ms, wait_for_people=people, on_progress=on_progress,
        )  # fmt: skip

    def settle(self) -> None:
        for _ in range(50):
            if self.now is not None:  # as a replay does: a holder that is silent loses the clock
                jobs.hold_clock(self.store, "tiny", now=self.now, holder=HOLDER)
            moved = fleet.tick(self.store.acting("agent")).moved
            while work(self.store, owner="agent") is not None:
                moved += 1
            if not moved:
                return
        raise AssertionError("it does not come to rest")

    def live(self) -> int | None:
        found = deployments.live_deployment(self.store, "tiny")
        return None if found is None else found.version


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Circle]:
    made = Circle(tmp_path_factory.mktemp("circle"))
    yield made
    made.gateway.kill()
    made.store.close()


def states(circle: Circle) -> list[tuple[str, str, int | None]]:
    return [(r.trigger, r.state, r.version) for r in policies.list_retrainings(circle.store)]


def test_levels_are_taken_one_by_one(circle: Circle) -> None:
    store = circle.store
    with pytest.raises(NotFound):
        policies.set_level(store, "tiny", "train")
    circle.at("2020-03-01T06:00")
    pipelines.train(store, "tiny", spec=circle.spec())
    circle.settle()
    with pytest.raises(Refused, match="the model's code") as refused:
        policies.set_level(store, "tiny", "train")
    assert refused.value.code == "level-not-ready"
    assert circle.push().number == 1 and circle.push().number == 1
    with pytest.raises(Refused, match="a version that is live"):
        policies.set_level(store, "tiny", "train")
    deployments.deploy(store, "tiny")
    circle.settle()
    assert circle.live() == 1
    with pytest.raises(Refused, match="one by one") as refused:
        policies.set_level(store, "tiny", "deploy")
    assert refused.value.code == "level-skipped"
    with pytest.raises(Refused, match="not built"):
        policies.set_level(store, "tiny", "manage")
    assert models.get_model(store, "tiny").level == "record"
    change = policies.set_level(store, "tiny", "train", reason="monthly by hand is too much")
    assert change.ready and change.before == "record"
    with pytest.raises(Conflict, match="already"):
        policies.set_level(store, "tiny", "train")
    entry = ledger.list_entries(store, model="tiny", limit=1)[0]
    assert (entry.action, entry.reason) == ("level.changed", "monthly by hand is too much")
    undo(store, entry.id)
    assert models.get_model(store, "tiny").level == "record"
    policies.set_level(store, "tiny", "train")
    circle.settle()
    assert states(circle) == []  # what was trained before is nobody's business


def test_a_schedule_trains_and_a_person_approves(circle: Circle) -> None:
    store = circle.store
    circle.at("2020-03-31T12:00")
    assert states(circle) == [] and "by schedule" in policies.explain(store, "tiny").next
    circle.at("2020-04-02")
    assert states(circle) == [("schedule", "waiting", 2)]
    circle.at("2020-04-03")
    assert states(circle) == [("schedule", "waiting", 2)] and circle.live() == 1
    with pytest.raises(NotFound, match="does not wait"):
        policies.approve(store, "tiny", version=1)

    def approve(totals: Totals) -> None:
        if totals.waiting:
            seen.append(totals.clock)
            approved = policies.approve(store, "tiny", reason="looks right")
            assert (approved.state, approved.decided_by) == ("deploying", store.actor)
            follows = fleet.follows(store, "tiny")
            assert follows.running and not follows.settled and not follows.waiting
        circle.settle()

    seen: list[int] = []
    circle.hand_over()
    totals = circle.replay("2020-04-04", "2020-04-07", on_progress=approve)
    assert seen == [to_ms("2020-04-04")], "the clock stood still until a person had decided"
    assert totals.failed == 0 and totals.answered == 12 and not totals.waiting
    deployed = deployments.list_deployments(store, model="tiny")[0]
    assert deployed.event_time == to_ms("2020-04-04")
    with pytest.raises(NotFound, match="waits"):
        policies.reject(store, "tiny")
    assert states(circle) == [("schedule", "done", 2)] and circle.live() == 2
    actions = [entry.action for entry in ledger.list_entries(store, model="tiny", limit=8)]
    assert "retraining.begun" in actions and "version.approved" in actions and "retraining.done" in actions


def test_a_rejected_version_does_not_answer(circle: Circle) -> None:
    circle.at("2020-05-01T05:00")
    assert states(circle)[0] == ("schedule", "waiting", 3)
    policies.reject(circle.store, "tiny", version=3, reason="not now")
    circle.settle()
    assert states(circle)[0] == ("schedule", "rejected", 3) and circle.live() == 2


def test_a_jump_of_the_clock_fires_nothing(circle: Circle) -> None:
    before = states(circle)
    circle.release()
    circle.at("2020-05-02")
    assert states(circle) == before


def test_what_a_person_trains_goes_the_same_way_and_frozen_nothing_begins(circle: Circle) -> None:
    store = circle.store
    pipelines.train(store, "tiny", spec=circle.spec(), until=to_ms("2020-05-03"))
    circle.settle()
    assert states(circle)[0] == ("person", "waiting", 4)
    policies.reject(store, "tiny")
    policies.freeze(store, model="tiny", reason="holidays")
    assert policies.freeze(store, model="tiny", reason="again").reason == "holidays"
    circle.at("2020-06-02")
    assert states(circle)[0] == ("person", "rejected", 4)
    assert policies.explain(store, "tiny").frozen == "holidays"
    policies.thaw(store, model="tiny")
    circle.at("2020-06-03")
    assert states(circle)[0] == ("person", "rejected", 4)  # the fire that was frozen is gone


def test_rows_come_in_by_the_clock_and_a_broken_contract_keeps_them_out(circle: Circle) -> None:
    store = circle.store
    text = TOML + '\n[models.tiny.policy]\ningest = "0 5 * * *"\n'
    (circle.root / "stead.toml").write_text(text.replace('time = "t"', 'time = "t"\ningest_overlap = "1d"'))
    circle.push()
    circle.at("2020-06-03T12:00")
    before = datasets.get_version(store, "tiny")
    circle.at("2020-06-05T06:00")
    after = datasets.get_version(store, "tiny")
    assert after.rows is not None and before.rows is not None and after.rows > before.rows
    assert after.time_max == to_ms("2020-06-05T00:00") and after.created_by == "agent"
    assert after.rows == len(set(datasets.times_of(datasets.read(store, "tiny"), "t"))), "the overlap doubles nothing"
    seen = next(each for each in policies.list_schedules(store, model="tiny") if each.kind == "ingest")
    assert (seen.state, seen.missed, seen.fired) == ("succeeded", 1, to_ms("2020-06-05T05:00"))
    (circle.root / "tiny.py").write_text(CODE.replace("t.dayofyear * 2.0", "['n/a'] * len(t)"))
    circle.push()
    circle.at("2020-06-06T06:00")
    assert datasets.get_version(store, "tiny").version == after.version
    assert "are in quarantine" in " ".join(policies.explain(store, "tiny").why)
    assert datasets.list_quarantine(store, dataset="tiny")[0].until == to_ms("2020-06-06T06:00")
    (incident,) = monitors.list_incidents(store, model="tiny", state="open")
    assert incident.cause == "batch" and "the column 'y' is text" in incident.summary
    (circle.root / "tiny.py").write_text(CODE)


def test_at_deploy_nobody_is_asked_inside_the_bounds(circle: Circle) -> None:
    store = circle.store
    text = (
        TOML
        + '\n[models.tiny.policy]\ntriggers = ["age", "schedule"]\nmax_age = "40d"\nrest = "7d"\ntrain = "0 4 1 * *"\ndeployments_a_week = 1\n\n[models.tiny.rollout]\nkind = "swap"\n'
    )
    (circle.root / "stead.toml").write_text(text)
    assert circle.push().number == 4
    policies.set_level(store, "tiny", "deploy")
    circle.at("2020-06-07")
    assert states(circle)[0] == ("age", "done", 5) and circle.live() == 5
    pipelines.train(store, "tiny", spec=circle.spec(), until=to_ms("2020-06-07"))
    circle.settle()
    assert states(circle)[0] == ("person", "waiting", 6)  # a second deployment in a week: stead asks
    asked = ledger.list_entries(store, model="tiny", limit=1)[0]
    assert asked.action == "approval.asked" and "policy allows 1" in asked.summary
    policies.approve(store, "tiny")
    circle.settle()
    assert circle.live() == 6


def test_a_training_that_fails_is_told(circle: Circle) -> None:
    (circle.root / "tiny.py").write_text(CODE.replace("return Line", "raise KeyError('wind')  #"))
    circle.push()
    circle.at("2020-07-01T06:00")
    newest = policies.list_retrainings(circle.store, limit=1)[0]
    assert (newest.trigger, newest.state) == ("schedule", "failed")
    assert newest.error is not None and "wind" in newest.error["message"]
    assert circle.live() == 6


def test_what_happened_by_itself_is_told_in_full(circle: Circle) -> None:
    found = check_decisions(circle.store, "tiny")
    assert {"retraining.begun", "approval.asked", "deployment.requested", "route.changed"} <= {e.action for e in found}
    begun = [entry for entry in found if entry.action == "retraining.begun"]
    assert {entry.policy for entry in begun} == {"tiny 1", "tiny 4", "tiny 5"}
    judged = {entry.action for entry in ledger.list_entries(circle.store, model="tiny") if entry.judgement}
    assert judged == {"retraining.begun", "route.changed"}


def looks(circle: Circle, monkeypatch: pytest.MonkeyPatch, since: str, until: str) -> dict[int, tuple[int, int]]:
    """Replay beside a loop that pauses at random: by day from the first, the rows and labels that were there at its first look."""
    store, ended = circle.store, threading.Event()
    seen: dict[int | None, tuple[int, int]] = {}
    before = predictions.counts(store, "tiny")
    refresh = predictions.refresh_performance

    def note(store: Store) -> None:
        now = jobs.held_at(store, "tiny")
        counts = predictions.counts(store, "tiny")
        seen.setdefault(now, (counts.rows - before.rows, counts.labelled - before.labelled))
        refresh(store)

    def turn() -> None:
        pauses = random.Random(4)
        while not ended.is_set():
            jobs.agent_beat(store, "slow", host="here", pid=os.getpid())
            fleet.tick(store.acting("agent"))
            ended.wait(pauses.choice([0.0, 0.01, 0.1]))
        jobs.agent_gone(store, "slow")

    monkeypatch.setattr(predictions, "refresh_performance", note)
    policies.freeze(store, reason="no job runs here")
    circle.hand_over()
    thread = threading.Thread(target=turn)
    jobs.agent_beat(store, "slow", host="here", pid=os.getpid())  # before the replay asks whether there is a loop
    thread.start()
    try:
        totals = circle.replay(since, until, on_progress=lambda totals: None, delay_ms=DAY, people=False)
    finally:
        ended.set()
        thread.join()
    assert (totals.answered, totals.labels) == (40, 40)
    return {(now - to_ms(since)) // DAY: counts for now, counts in seen.items() if now is not None}


def test_each_day_of_a_replay_is_looked_at_when_all_before_it_is_there(
    circle: Circle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looks(circle, monkeypatch, "2021-03-10", "2021-03-20") == {
        day: (4 * min(day, 10), min(40, max(0, 4 * day - 3))) for day in range(12)
    }


def test_a_replay_at_record_runs_ahead_of_the_loop_and_ends_beside_it(
    circle: Circle, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies.set_level(circle.store, "tiny", "record")
    found = looks(circle, monkeypatch, "2021-04-10", "2021-04-20")
    assert max(found) == 11 and found[11] == (40, 40)
