"""A canary's guard on what it answers, before any label: outputs that have nothing to do with the other version's end it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stead import deployments, jobs
from stead.deployments.canary import begin
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from displaced import Displaced


def looked(world: Displaced, *, loss: float, late: bool) -> deployments.Deployment:
    """Version 2 as a canary of a quarter for eight days, as its one look leaves it."""
    asked = deployments.deploy(world.store, "m", version=2, plan="canary")
    with world.store.db.write("deployments.step") as tx:
        begin(tx, world.store, asked, "every gate passed")
    for job in jobs.open_jobs(world.store, kind="deploy"):
        jobs.cancel_job(world.store, job.id)
    world.both(0, 6, loss=loss, answering=1, late=late)
    world.both(6, 8, loss=loss, answering=2, late=late)
    return deployments.observe(world.store, asked.id)


@pytest.mark.parametrize(
    ("loss", "late", "state"), [(0.0, True, "aborted"), (0.5, True, "canary"), (0.0, False, "live")]
)
def test_outputs_that_say_nothing_alike_end_it_unless_labels_are_for_them(
    store: Store, loss: float, late: bool, state: str
) -> None:
    """Constant: taken back without labels; where labels say that it is better, it goes on. Half the error is no shift."""
    done = looked(Displaced(store), loss=loss, late=late)
    assert done.evidence is not None
    low, high = done.evidence["shift"]["low"], done.evidence["shift"]["high"]
    assert (low > 0.95) == (loss == 0) and 0 < low < high < 1.2
    assert done.state == state or (state == "live" and done.state == "switching")
    if state == "aborted":
        assert done.error is not None and done.error["code"] == "guard-shift"
        assert "on rows drawn at random" in done.error["message"]
