"""What makes stead train again: rows that came lately, not those of long ago."""

from __future__ import annotations

import sqlalchemy as sa
from watched import DAY, START, Watched

from stead import deployments, policies
from stead.config import PolicyConfig, RolloutConfig
from stead.deployments.tables import deployments as table
from stead.pipelines import Spec
from stead.policies import signals
from stead.store import Store

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
