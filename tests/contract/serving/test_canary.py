"""A canary against a real gateway: a better version takes over, a worse one is taken back, and a kill -9 changes neither."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from stead import deployments, jobs, ledger, models, policies, predictions, serving
from stead.config import load_settings
from stead.deployments import telling
from stead.errors import Conflict, InvalidInput
from stead.predictions import Label
from stead.processes.handlers import handlers
from stead.runtime.clock import to_ms
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
from decided import check_decisions
from gateway_process import Running, until

DAY = 86_400_000
HOLDER = "test"


class World:
    """The model `times` in the world: x comes, 2 x is the truth; version N says N x. A day has 24 rows."""

    def __init__(self, store: Store, gateway: Running) -> None:
        self.store = store
        self.gateway = gateway
        self.day = to_ms("2021-01-01")
        self.rng = np.random.default_rng(0)
        self.hold()

    def hold(self) -> None:
        jobs.hold_clock(self.store, "times", now=self.day, holder=HOLDER)

    def settle(self) -> None:
        while jobs.work(self.store, handlers(load_settings()), owner="agent") is not None:
            pass

    def live(self) -> int | None:
        found = deployments.live_deployment(self.store, "times")
        return None if found is None else found.version

    def days(
        self, number: int, *, until: Callable[[], bool] = lambda: False, look: bool = True, truth: float = 2
    ) -> int:
        """Let days pass: rows, their labels, a look at the canary at each midnight; how many it took."""
        for passed in range(number):
            self.hold()
            labels = []
            for hour in range(24):
                x = float(self.rng.uniform(1, 3))
                headers = {"X-Stead-Event-Time": str(self.day + hour * 3_600_000)}
                answer = self.gateway.http.post("/predict/times", json={"row": {"x": x}}, headers=headers).json()
                labels.append(Label(answer["prediction_id"], truth * x + float(self.rng.normal(0, 0.3))))
            predictions.add_labels(self.store, labels)
            self.day += DAY
            self.hold()
            for deployment in deployments.canaries(self.store) if look else ():
                deployments.observe(self.store, deployment.id)
            if until():
                return passed + 1
        return number


@pytest.fixture
def world(shop: Store, run: Callable[..., Running]) -> World:
    made = World(shop, run(shop))
    deployments.deploy(shop, "times", version=1)
    made.settle()
    assert made.live() == 1
    return made


def shares(store: Store) -> dict[int, float]:
    route = serving.get_route(store, "times")
    assert route is not None
    return {arm.version: arm.share for arm in route.arms}


def canary(store: Store, number: int) -> deployments.Deployment:
    return deployments.get_deployment(store, number)


def test_a_better_version_takes_over_by_steps(world: World) -> None:
    store = world.store
    with pytest.raises(InvalidInput, match="no rollout"):
        deployments.deploy(store, "times", version=2, plan="canari")
    asked = deployments.deploy(store, "times", version=2, plan="canary")
    assert (asked.plan.kind, asked.plan.steps) == ("canary", (0.25,))
    world.settle()
    assert canary(store, asked.id).state == "canary" and shares(store) == {1: 0.75, 2: 0.25}
    with pytest.raises(Conflict, match="under way"):
        deployments.deploy(store, "times", version=3)
    for to in (None, 1):
        with pytest.raises(Conflict, match=f"deployment {asked.id} of times@2 is under way") as told:
            deployments.rollback(store, "times", to=to)
        assert told.value.hint == f"stead deployments cancel {asked.id}"
    world.days(3)
    held = canary(store, asked.id)
    assert held.state == "canary" and held.evidence is not None
    assert (
        "waits for evidence" in held.evidence["decision"]["said"]
        and "more at this traffic" in held.evidence["decision"]["said"]
    )
    took = world.days(20, until=lambda: canary(store, asked.id).state == "live")
    done = canary(store, asked.id)
    assert done.state == "live" and world.live() == 2 and took < 15, done.evidence
    assert done.evidence is not None and done.evidence["arm_rows"] >= 30
    assert done.evidence["second_loss"] < done.evidence["first_loss"]
    route = serving.get_route(store, "times")
    assert route is not None and (shares(store), route.warm, route.shadow) == ({2: 1.0}, [1], [1])
    entry = ledger.list_entries(store, model="times", limit=1)[0]
    assert entry.action == "route.changed" and entry.evidence["canary"]["decision"]["action"] == "advance"


def test_a_worse_version_is_taken_back(world: World) -> None:
    store = world.store
    deployments.deploy(store, "times", version=2)
    world.settle()
    asked = deployments.deploy(store, "times", version=3, plan="canary")
    world.settle()
    took = world.days(30, until=lambda: canary(store, asked.id).state != "canary")
    done = canary(store, asked.id)
    assert done.state == "aborted" and done.error is not None and done.error["code"] == "guard-loss"
    assert took < 12 and world.live() == 2 and shares(store) == {2: 1.0}
    route = serving.get_route(store, "times")
    assert route is not None and route.shadow == [3]  # so that the roll-back can be judged
    entry = ledger.list_entries(store, model="times", limit=1)[0]
    assert entry.action == "deployment.aborted" and "guard loss" in entry.summary
    assert [each.action for each in check_decisions(store, "times")] == ["deployment.aborted", "canary.step"]
    world.days(1)
    assert [d.version for d in predictions.performance(store, "times", since=world.day - DAY)] == []
    predictions.refresh_performance(store)
    assert [d.version for d in predictions.performance(store, "times", since=world.day - DAY)] == [2]


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_as_it_moves_it_moves_once(world: World, when: str) -> None:
    store = world.store
    asked = deployments.deploy(store, "times", version=2, plan="canary")
    world.settle()
    world.days(9, look=False)
    environ = {**os.environ, "STEAD_FAILPOINT": f"deployments.step:{when}", "PYTHONPATH": str(Path(__file__).parent)}
    script = (
        "import sys; from pathlib import Path; from gateway_process import opened; from stead import deployments; "
        "deployments.observe(opened(Path(sys.argv[1])), int(sys.argv[2]))"
    )
    command = [sys.executable, "-c", script, str(store.root), str(asked.id)]
    died = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert canary(store, asked.id).state == ("live" if when == "after" else "canary")
    world.hold()
    assert deployments.observe(store, asked.id).state == "live" and world.live() == 2
    changed = [e for e in ledger.list_entries(store, model="times") if e.action == "route.changed"]
    assert [e.evidence["after"] for e in changed] == [2, 1] and shares(store) == {2: 1.0}


def test_a_version_that_fails_is_taken_back_before_any_label(world: World) -> None:
    store = world.store
    asked = deployments.deploy(store, "times", version=2, plan="canary")
    world.settle()
    for _ in range(150):
        x = -1.0 if world.rng.uniform() < 0.5 else 1.0
        world.gateway.http.post("/predict/times", json={"row": {"x": x}})  # both versions fail alike
    assert deployments.observe(store, asked.id).state == "canary"
    cancelled = deployments.cancel_deployment(store, asked.id, reason="enough")
    assert cancelled.state == "cancelled" and shares(store) == {1: 1.0}
    route = serving.get_route(store, "times")
    assert route is not None and (route.warm, route.shadow) == ([], [])


def test_a_version_that_turns_bad_is_taken_back_by_the_rows_since(world: World) -> None:
    store = world.store
    deployments.deploy(store, "times", version=2)
    world.settle()
    asked = deployments.deploy(store, "times", version=3, plan="canary")
    world.settle()
    world.days(2, truth=3.0)
    assert canary(store, asked.id).state == "canary", "it is better so far"
    turned = world.day
    took = world.days(8, until=lambda: canary(store, asked.id).state != "canary")
    done = canary(store, asked.id)
    assert done.state == "aborted" and done.error is not None and done.error["code"] == "guard-loss" and took <= 5
    assert done.evidence is not None and done.evidence["turn"]["since"] == turned
    assert "since 2021-01-03 its loss is" in done.error["message"]
    assert any(guard.name == "Loss since 2021-01-03" for guard in telling.guards(done))


def test_requests_that_name_a_version_say_nothing_of_the_split(world: World) -> None:
    store = world.store
    asked = deployments.deploy(store, "times", version=2, plan="canary")
    world.settle()
    for _ in range(60):
        world.gateway.http.post("/predict/times/versions/2", json={"row": {"x": 1.0}})
    world.days(1)
    predictions.compact(store)
    held = deployments.observe(store, asked.id)
    assert held.state == "canary" and held.evidence is not None
    assert held.evidence["split"] > 0.01 and held.evidence["requests"] == 24


def test_rows_of_an_earlier_replay_of_the_same_days_do_not_count(world: World) -> None:
    store = world.store
    first = deployments.deploy(store, "times", version=3, plan="shadow")
    world.settle()
    world.days(4, look=False)
    deployments.cancel_deployment(store, first.id)
    world.day -= 4 * DAY
    world.hold()
    again = deployments.deploy(store, "times", version=3, plan="shadow")
    world.settle()
    until(lambda: len(world.gateway.workers()) == 4)  # until it has workers of its own it scores nothing
    world.day += 4 * DAY
    world.hold()
    seen = deployments.observe(store, again.id)
    assert seen.state == "canary" and seen.evidence is not None
    assert (seen.evidence["rows"], seen.evidence["days"], seen.evidence["requests"]) == (0, 0, 0)
    assert seen.evidence["shift"]["estimate"] is None
    world.day -= 4 * DAY
    world.days(1)
    assert canary(store, again.id).evidence["rows"] == 24  # type: ignore[index]


def test_a_version_whose_answers_are_no_numbers_is_taken_back(world: World) -> None:
    store = world.store
    asked = deployments.deploy(store, "times", version=3, plan="canary")
    world.settle()
    answer = world.gateway.http.post("/predict/times/versions/3", json={"row": {"x": 1e308}}).json()
    assert answer["predictions"] == [None]  # 3e308 is infinite: JSON has no such number
    headers = {"X-Stead-Event-Time": str(world.day)}
    labels = []
    for _ in range(3):
        one = world.gateway.http.post("/predict/times", json={"row": {"x": 1e308}}, headers=headers).json()
        labels.append(Label(one["prediction_id"], 1e308))
    predictions.add_labels(store, labels)
    world.days(1)
    done = canary(store, asked.id)
    assert done.state == "aborted" and done.error is not None and done.error["code"] == "guard-outputs"
    assert world.live() == 1 and shares(store) == {1: 1.0}
    route = serving.get_route(store, "times")
    assert route is not None and route.shadow == [], "it does not even score aside"


@pytest.fixture
def quick(shop: Store, run: Callable[..., Running]) -> World:
    """The world with a gateway that waits a second for an answer."""
    made = World(shop, run(shop, predict_timeout_s=1))
    deployments.deploy(shop, "times", version=1)
    made.settle()
    return made


def test_a_version_that_hangs_is_taken_back_and_the_present_one_answers_meanwhile(quick: World) -> None:
    store, gateway = quick.store, quick.gateway
    asked = deployments.deploy(store, "times", version=3, plan="canary")
    quick.settle()
    assert shares(store) == {1: 0.75, 3: 0.25}

    def ask(n: int) -> tuple[int, int]:
        with httpx.Client(base_url=gateway.url, timeout=30, verify=False) as client:
            answer = client.post("/predict/times", json={"row": {"x": -7.0 if n % 3 == 0 else 1.0}})
        return int(answer.headers["x-stead-version"]), answer.status_code

    with ThreadPoolExecutor(8) as threads:
        answered = list(threads.map(ask, range(120)))
    mine = [status for version, status in answered if version == 1]
    assert len(mine) > 60 and mine.count(200) >= 0.95 * len(mine), mine
    assert {status for version, status in answered if version == 3} >= {504}
    done = deployments.observe(store, asked.id)
    assert done.state == "aborted" and done.error is not None and done.error["code"] == "guard-errors"
    assert done.evidence is not None and done.evidence["hung"] >= 3 and done.evidence["other_hung"] == 0
    assert done.evidence["latency"]["estimate"] > 900_000 > done.evidence["other_latency"]["estimate"]
    told = {guard.name: guard.verdict for guard in telling.guards(done)}
    assert told["Answers too late"] == "broken" and told["Failed aside"] == "broken"
    until(lambda: "times@3" not in gateway.row().loaded)
    assert gateway.http.post("/predict/times", json={"row": {"x": -7.0}}).status_code == 200


def test_a_shadow_that_fails_where_the_present_version_does_not_is_taken_back(quick: World) -> None:
    store = quick.store
    asked = deployments.deploy(store, "times", version=3, plan="shadow")
    quick.settle()
    until(lambda: len(quick.gateway.workers()) == 4)  # it has workers of its own
    for _ in range(60):
        assert quick.gateway.http.post("/predict/times", json={"row": {"x": -8.0}}).status_code == 200
    until(lambda: predictions.read_asides(store, "times", came=0).num_rows >= 60)
    done = deployments.observe(store, asked.id)
    assert done.state == "aborted" and done.error is not None and done.error["code"] == "guard-errors"
    assert "60 of 60" in done.error["message"]


def test_a_shadow_asks_nobody_to_trust_it(world: World) -> None:
    store = world.store
    asked = deployments.deploy(store, "times", version=2, plan="shadow")
    world.settle()
    assert shares(store) == {1: 1.0}
    took = world.days(20, until=lambda: canary(store, asked.id).state == "live")
    assert canary(store, asked.id).state == "live" and 2 <= took <= 7, canary(store, asked.id).evidence


def test_from_level_deploy_on_the_plan_is_a_canary(world: World) -> None:
    store = world.store
    with store.db.write("policies.level") as tx:
        models.set_level_in(tx, "times", "deploy")
    asked = deployments.deploy(store, "times", version=2)
    assert asked.plan.kind == "canary"
    world.settle()
    assert policies.explain(store, "times").level == "deploy" and canary(store, asked.id).state == "canary"
    evidence: Any = deployments.observe(store, asked.id).evidence
    assert evidence["decision"]["action"] == "hold"
