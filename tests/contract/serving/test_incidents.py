"""An incident of a model's performance trains it once; what the version is held against is its hold-out."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from test_circle import CODE, TOML, Circle, states

from stead import deployments, monitors, pipelines, policies
from stead.monitors import references


def test_an_incident_trains_once(tmp_path: Path) -> None:
    circle = Circle(tmp_path)
    try:
        _an_incident_trains_once(circle)
    finally:
        circle.gateway.kill()
        circle.store.close()


def _an_incident_trains_once(circle: Circle) -> None:
    store = circle.store
    (circle.root / "tiny.py").write_text(CODE)
    (circle.root / "stead.toml").write_text(TOML + '\n[models.tiny.policy]\ntriggers = ["incident"]\n')
    circle.at("2020-08-14")
    pipelines.train(store, "tiny", spec=circle.spec())
    circle.settle()
    circle.push()
    deployments.deploy(store, "tiny")
    circle.settle()
    policies.set_level(store, "tiny", "train")
    circle.at("2020-08-15")
    held = references.load(store, "tiny", 1)
    (loss,), columns = held.losses, held.columns
    assert columns is not None
    assert (loss.source, columns.source) == ("hold-out", "hold-out") and columns.window > 1
    assert set(columns.bins) == {"features.x", "output"}
    monitors.open_incident(store, "tiny", "bad rows came in", kind="data")
    circle.at("2020-08-16")
    assert states(circle) == []  # what is wrong with data trains nothing
    number = monitors.open_incident(store, "tiny", "customers complain").id
    assert f"incident {number}: customers complain" in policies.explain(store, "tiny").next
    circle.at("2020-08-17")
    assert states(circle) == [("incident", "waiting", 2)]
    assert policies.list_retrainings(store, limit=1)[0].evidence["incident"] == number
    policies.approve(store, "tiny")
    circle.at("2020-11-17")
    assert states(circle) == [("incident", "done", 2)] and circle.live() == 2
    assert "has trained it already" in str(policies.explain(store, "tiny").signals)
