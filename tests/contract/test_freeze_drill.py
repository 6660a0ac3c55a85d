"""A drill of the freeze against a loop that runs as the process that it is: what it shows, what ends it, and that it leaves nothing frozen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import sqlalchemy as sa

from stead import jobs, ledger, monitors, policies
from stead.config import PolicyConfig, RolloutConfig
from stead.errors import Conflict, NotFound, Unreachable
from stead.policies.drilling import LONGEST_MS, end_drills
from stead.policies.tables import freezes
from stead.store import Store
from tests.conftest import new_store

sys.path.insert(0, str(Path(__file__).parent / "failpoints"))
import policies as world  # type: ignore[import-not-found]


@pytest.fixture(scope="module")
def acting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with a model at level train that listens to incidents, and an agent that works on it."""
    root = tmp_path_factory.mktemp("drill")
    store = new_store(root)
    world.live(store)
    policies.push(store, "m", spec=world.SPEC, policy=PolicyConfig(triggers=("incident",)), rollout=RolloutConfig())
    jobs.release_clock(store, "m", holder="replay-1")
    agent = subprocess.Popen(
        [sys.executable, "-m", "stead.processes", "agent"], env=environ(root), stdout=subprocess.PIPE, text=True
    )
    assert agent.stdout is not None
    assert agent.stdout.readline() == "ready agent\n"
    until(lambda: jobs.loop_age(store) is not None)
    yield store
    agent.terminate()
    agent.wait(20)
    agent.stdout.close()
    store.close()


@pytest.fixture
def store(acting: Store) -> Store:
    assert policies.list_freezes(acting) == []
    return acting


def environ(root: Path) -> dict[str, str]:
    return {**os.environ, "STEAD_STORE": str(root), "STEAD_USER": "ada"}


def until(condition: Callable[[], Any], timeout_s: float = 40.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return value


def command(store: Store, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stead", "freeze", *words],
        env=environ(store.root), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=store.root,
    )  # fmt: skip


def drilled(store: Store) -> ledger.Entry:
    """The newest drill."""
    return next(each for each in ledger.list_entries(store) if each.action == "drill.freeze")


def entries(store: Store, since: int) -> list[tuple[str, str]]:
    return [(each.action, each.actor) for each in reversed(ledger.list_entries(store)) if each.id > since]


def last(store: Store) -> int:
    return ledger.list_entries(store, limit=1)[0].id


def test_while_frozen_an_incident_trains_nothing_and_afterwards_it_does(store: Store) -> None:
    since = last(store)
    running = command(store, "--drill", "--reason", "the first of the month")
    until(lambda: policies.list_freezes(store))
    frozen = policies.list_freezes(store)[0]
    assert frozen.drill and "a drill" in frozen.said and "a drill" in str(policies.explain(store, "m").frozen)
    monitors.open_incident(store, "m", "it got worse")
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert "stood still for" in out and "of 1 of 1 models stead decides by itself, and did not" in out
    entry = drilled(store)
    evidence = entry.evidence
    assert evidence["worked"] is True and evidence["turns"] >= 3 and 1 < evidence["seconds"] < 45
    assert (entry.model, entry.reason) == (None, "the first of the month")
    assert policies.list_freezes(store) == []
    until(lambda: policies.list_retrainings(store, model="m"))  # what it held back comes now
    told = entries(store, since)
    assert told[:2] == [("automation.frozen", "person:ada"), ("incident.opened", "person:ada")]
    assert told[2:4] == [("automation.thawed", "person:ada"), ("drill.freeze", "person:ada")]
    assert told[4] == ("retraining.begun", "agent")


def test_a_loop_that_does_not_stand_still_is_found(store: Store) -> None:
    running = command(store, "m", "--drill")
    until(lambda: policies.list_freezes(store))
    done = jobs.enqueue(store.acting("agent"), "train", {}, model="m")  # as a loop would that did not look
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1 and f"stead began to train m (job {done.id[-12:]})" in err
    assert (drilled(store).evidence["worked"], drilled(store).model) == (False, "m")
    assert policies.list_freezes(store) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_broken_off_it_leaves_nothing_frozen_for_good(store: Store, how: signal.Signals) -> None:
    since = last(store)
    running = command(store, "--drill")
    until(lambda: policies.list_freezes(store))
    running.send_signal(how)
    _, err = running.communicate(timeout=60)
    if how == signal.SIGINT:
        assert running.returncode == 130, err
        assert policies.list_freezes(store) == []
        assert "it was broken off" in drilled(store).summary and drilled(store).evidence["worked"] is False
        return
    assert policies.list_freezes(store)[0].drill, "nobody could thaw it"
    with store.db.engine.begin() as tx:
        tx.execute(sa.update(freezes).values(at=freezes.c.at - LONGEST_MS))
    until(lambda: not policies.list_freezes(store))
    assert entries(store, since) == [("automation.frozen", "person:ada"), ("automation.thawed", "agent")]
    assert ledger.list_entries(store, limit=1)[0].reason == "its drill was broken off"


def test_broken_off_before_it_has_heard_that_it_froze(store: Store) -> None:
    def stop(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code.co_name == "_freeze":
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            policies.drill_freeze(store, "m")
    finally:
        sys.setprofile(None)
    assert policies.list_freezes(store) == [] and "it was broken off" in drilled(store).summary


def test_who_freezes_meanwhile_stays_frozen(store: Store) -> None:
    found: list[policies.FreezeDrill] = []
    drill = threading.Thread(target=lambda: found.append(policies.drill_freeze(store, "m")))
    drill.start()
    until(lambda: policies.list_freezes(store))
    made = policies.freeze(store, model="m", reason="something is wrong")
    assert not made.drill
    drill.join()
    assert policies.list_freezes(store) == [made] and "stays frozen: something is wrong" in found[0].said
    with store.db.engine.begin() as tx:
        tx.execute(sa.update(freezes).values(at=0))
    assert end_drills(store) == 0 and len(policies.list_freezes(store)) == 1, (
        "a person's freeze is nobody else's to end"
    )
    for model in ("m", ""):
        if model == "":
            policies.thaw(store, model="m")
            policies.freeze(store)
        with pytest.raises(Conflict, match="frozen already") as refused:
            policies.drill_freeze(store, "m")
        assert refused.value.code == "frozen-already"
    policies.thaw(store)


def test_who_thaws_meanwhile_ends_it(store: Store) -> None:
    found: list[policies.FreezeDrill] = []
    drill = threading.Thread(target=lambda: found.append(policies.drill_freeze(store, "m")))
    drill.start()
    until(lambda: policies.list_freezes(store))
    policies.thaw(store, model="m")
    drill.join()
    assert (
        not found[0].worked
        and "somebody thawed it meanwhile" in found[0].said
        and "m would have gone on" in found[0].said
    )


def test_an_unknown_model_is_an_error(store: Store) -> None:
    with pytest.raises(NotFound) as refused:
        policies.drill_freeze(store, "demnd")
    assert refused.value.code == "model-unknown"


def test_without_a_loop_a_drill_says_nothing(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with pytest.raises(Unreachable) as refused:
        policies.drill_freeze(store, "")
    assert refused.value.code == "agent-missing" and ledger.list_entries(store) == [] == policies.list_freezes(store)
    running = command(store, "--drill")
    _, err = running.communicate(timeout=60)
    assert running.returncode == Unreachable.exit_code
    assert "a drill would say nothing" in err and "stead up" in err
    store.close()
