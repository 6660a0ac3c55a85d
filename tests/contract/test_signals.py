"""What makes stead train again: rows that came lately, not those of long ago."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import sqlalchemy as sa
from watched import DAY, START, Watched

from stead import deployments, jobs, models, monitors, policies
from stead.config import PolicyConfig, RolloutConfig
from stead.deployments.tables import deployments as table
from stead.pipelines import Spec
from stead.policies import signals
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent / "failpoints"))
import policies as world  # type: ignore[import-not-found]

SPEC = Spec(
    project="p", model="m", entry="m.py", module="m", files={}, target="y", time="t", loss="mae", label_delay="0h",
    dataset="m", timeout_s=60, python=None, requirements=["six"], requirements_file=None, root="/nowhere",
)  # fmt: skip


def test_an_incident_of_rows_long_past_trains_nothing(store: Store) -> None:
    watched = Watched(store)
    watched.live()
    values = {
        "model": "m", "version": 1, "kind": "deploy", "state": "live", "overrides": [], "steps": [], "plan": {},
        "shares": [], "requested_by": "ada", "created_at": START, "event_time": START,
    }  # fmt: skip
    with store.db.write("deployments.request") as tx:
        tx.execute(sa.insert(table).values(values))
    watched.days(0, 28)
    watched.days(28, 44, loss=2.0)
    policy = PolicyConfig(triggers=("incident",))
    standing = policies.push(store, "m", spec=SPEC, policy=policy, rollout=RolloutConfig())
    live = deployments.live_deployment(store, "m")
    assert live is not None
    seen = signals.incident(signals.View(store, standing, live, START + 45 * DAY))
    assert seen.fires and seen.evidence["cause"] == "loss"
    later = signals.incident(
        signals.View(store, standing, live, START + 400 * DAY)
    )  # a replay has given the clock back
    assert not later.fires and "nobody has asked it anything" in later.said


def decided(store: Store) -> int | None:
    return policies.decide(store, models.get_model(store, "m"))


def listening(store: Store) -> None:
    """A live version whose incidents train it again."""
    world.live(store)
    policies.push(store, "m", spec=SPEC, policy=PolicyConfig(triggers=("incident",)), rollout=RolloutConfig())
    world.hold(store, 1)


def test_one_training_answers_a_storm_of_incidents(any_store: Store) -> None:
    store = any_store
    listening(store)
    for number in range(5):
        monitors.open_incident(store, "m", f"it got worse, {number}")
    assert decided(store) == 1
    policies.cancel_retraining(store, 1)
    for day in (40, 80):
        world.hold(store, day)
        assert decided(store) is None
    assert "has trained it already" in str(policies.explain(store, "m").signals)
    monitors.open_incident(store, "m", "and again")
    assert decided(store) == 2


def test_what_a_person_trains_answers_the_incidents_before_it(store: Store) -> None:
    listening(store)
    monitors.open_incident(store, "m", "it got worse")
    jobs.enqueue(store, "train", {}, model="m")
    time.sleep(0.01)
    monitors.open_incident(store, "m", "it got worse again")
    done = jobs.operations.claim(store, "agent", ["train"])
    assert done is not None
    jobs.operations.finish(store, done, {"version": 1})
    world.adopt(store)
    (adopted,) = policies.list_retrainings(store)
    policies.cancel_retraining(store, adopted.id)
    assert decided(store) == 2
    assert policies.get_retraining(store, 2).reason.endswith("it got worse again")
