"""Nonsense inside: labels that contradict or come from the future, a storm of triggers, people who decide at once, a wrong policy."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stead import deployments, jobs, ledger, models, monitors, policies, predictions
from stead.config import load_project
from stead.errors import Conflict, InvalidInput, NotFound, SteadError
from stead.policies.tables import retrainings
from stead.predictions import Label
from stead.runtime.clock import to_ms
from stead.store import Store
from tests.contract.traffic import DAY, START, hours, label, log, request

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "failpoints"))
from tests.contract.failpoints import policies as world

TOML = """[models.p]
code = "p.py"
target = "y"

[models.p.policy]
"""


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each call returned or raised, all begun together."""
    said: list[Any] = [None] * len(calls)
    together = threading.Barrier(len(calls))

    def do(place: int) -> None:
        together.wait()
        try:
            said[place] = calls[place]()
        except SteadError as error:
            said[place] = error.code

    threads = [threading.Thread(target=do, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        ('triggers = ["shedule"]', "line 6: models.p.policy.triggers names 'shedule', which is none", "'schedule'"),
        ('triggers = [\n  "age",\n  "shedule",\n]', "line 8: models.p.policy.triggers names 'shedule'", "'schedule'"),
        ('triggers = "schedule"', "line 6: models.p.policy.triggers must be a list", 'triggers = ["schedule"]'),
        ("[models.p.rollout]\nsteps = 0.5", "line 7: models.p.rollout.steps must be a list", "steps = [0.5]"),
        (
            'triggers = ["schedule",\n"age"]',
            "line 7: models.p.policy.triggers names 'age', which never fires",
            "max_age =",
        ),
        ('triggers = ["loss"]', "line 6: models.p.policy.triggers names 'loss', which never fires", "max_loss ="),
        ('triggers = ["data"]\nnew_rows = 0', "policy.triggers names 'data', which never fires", "new_rows ="),
        (
            'max_age = "9d"',
            "line 6: models.p.policy.max_age does nothing",
            'triggers = ["schedule", "incident", "age"]',
        ),
        ('triggers = ["proxy"]\nmax_loss = 0', "line 7: models.p.policy.max_loss does nothing", '["proxy", "loss"]'),
        ("new_rows = 9", "line 6: models.p.policy.new_rows does nothing: triggers do not name 'data'", '"data"]'),
        ('trigers = ["age"]', "line 6: models.p.policy.trigers is not known", "'triggers'"),
        ('train = "0 25 * * *"', "line 6: models.p.policy.train '0 25 * * *' is no cron line", "first of a month"),
        ('time_zone = "Berlin"', "line 6: models.p.policy.time_zone 'Berlin' is no time zone", "Europe/Berlin"),
        ('max_age = "soon"', "line 6: models.p.policy.max_age 'soon' is no duration", "7d"),
        ("retrains_a_day = -1", "line 6: models.p.policy.retrains_a_day is -1", "= 1"),
        ("[models.p.rollout]\nsteps = [0.5, 0.2]", "line 7: models.p.rollout.steps must be rising", "0.1, 0.5"),
        (
            "[models.p.gates]\nmargin = -0.1",
            "line 7: models.p.gates.margin is -0.1, and must be above 0",
            "margin = 0.05",
        ),
        ('[settings]\nkeep_predictions = "3d"', "line 7: settings.keep_predictions must be 60d at least", "400d"),
    ],
)
def test_a_wrong_policy_is_told_with_line_and_hint(tmp_path: Path, line: str, said: str, hint: str) -> None:
    (tmp_path / "p.py").write_text("")
    (tmp_path / "stead.toml").write_text(TOML + line + "\n")
    with pytest.raises(InvalidInput) as refused:
        load_project(tmp_path)
    assert said in refused.value.message and hint in (refused.value.hint or "")


def test_a_storm_of_triggers_makes_one_retraining(any_store: Store) -> None:
    """The schedule, an age and twenty incidents at once, looked at by eight loops."""
    store = any_store
    world.due(store)
    policy = world.PolicyConfig(triggers=("schedule", "age", "incident"), max_age="1d", retrains_a_day=20, rest="0h")
    policies.push(store, "m", spec=world.SPEC, policy=policy, rollout=world.RolloutConfig())
    for number in range(20):
        monitors.open_incident(store, "m", f"it got worse, {number}")
    model = models.get_model(store, "m")
    begun = at_once(*[lambda: policies.decide(store, model)] * 8)
    assert sum(number is not None for number in begun) == 1
    for _ in range(20):
        assert policies.decide(store, model) is None
    assert len(policies.list_retrainings(store)) == 1 == len(jobs.open_jobs(store, kind="train"))
    assert [entry.action for entry in ledger.list_entries(store)].count("retraining.begun") == 1


def test_of_people_who_approve_and_reject_at_once_one_is_heard(any_store: Store) -> None:
    store = any_store
    world.trained(store)
    with store.db.write("policies.move") as tx:
        tx.execute(sa.update(retrainings).values(state="waiting", version=1))
    with store.db.write("deployments.request") as tx:
        tx.execute(sa.update(world.deployments_table).values(state="withdrawn"))
    ways = [policies.approve, policies.reject] * 3
    said = at_once(*[lambda way=way, n=n: way(store.acting(f"person:p{n}"), "m") for n, way in enumerate(ways)])
    heard = [each for each in said if not isinstance(each, str)]
    told = {each for each in said if isinstance(each, str)}
    assert len(heard) == 1 and told <= {"already-decided", "nothing-waits"}
    approved = heard[0].state == "deploying"
    assert len([d for d in deployments.list_deployments(store) if d.state == "requested"]) == approved
    assert [job.kind for job in jobs.open_jobs(store)] == ["deploy"] * approved
    decided = [e for e in ledger.list_entries(store) if e.action in ("version.approved", "version.rejected")]
    assert [entry.actor for entry in decided] == [heard[0].decided_by]
    decision = f"m@1 was {'approved' if approved else 'rejected'} by {heard[0].decided_by}"
    for way in (policies.approve, policies.reject):
        with pytest.raises(Conflict) as late:
            way(store.acting("person:late"), "m", version=1)
        assert late.value.message == f"{decision} meanwhile" and late.value.hint == "stead retrainings show 1"
    with pytest.raises(NotFound, match=decision):
        policies.approve(store.acting("person:late"), "m")
    with pytest.raises(NotFound, match="m@2 does not wait for approval"):
        policies.approve(store.acting("person:late"), "m", version=2)


def test_labels_that_contradict_come_twice_never_or_for_the_future(any_store: Store) -> None:
    store = any_store
    ids = log(store, hours(3))
    ahead = log(store, [request([100.0], at=to_ms("2190-01-01"))])[0]
    both = predictions.add_labels(store, [Label(ids[0], 90.0), Label(ids[0], 101.0)])
    assert (both.accepted, both.unknown) == (2, 0)
    for _ in range(2):
        label(store, [ids[1]], [102.0])  # the same twice
    predictions.add_labels(store, [Label(ids[1], 103.0, event_time=to_ms("2300-01-01")), Label(ahead, 100.0)])
    predictions.seal_labels(store)
    assert predictions.counts(store, "bikes") == predictions.Counts(4, 4, 0, 3, 0)
    predictions.refresh_performance(store)
    here, later = predictions.performance(store, "bikes")
    assert (here.day, here.predictions, here.labelled, here.loss) == (START, 3, 2, (1.0 + 2.0) / 2)
    assert later.day == to_ms("2190-01-01") and later.loss == 0.0
    assert predictions.performance(store, "bikes", until=START + DAY) == [here], "the future tells nothing of today"
