"""What stead says that it would do next: what keeps it, until when, and who is to act."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from watched import DAY, START

from stead import datasets, models, monitors, policies
from stead.cli import cli
from stead.config import PolicyConfig, RolloutConfig
from stead.errors import NotFound
from stead.models.tables import logged_models
from stead.policies.tables import retrainings
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent / "failpoints"))
import policies as world  # type: ignore[import-not-found]


def push(store: Store, **policy: object) -> None:
    given = {"triggers": ("incident",), **policy}
    policies.push(store, "m", spec=world.SPEC, policy=PolicyConfig(**given), rollout=RolloutConfig())  # type: ignore[arg-type]


def troubled(store: Store, **policy: object) -> None:
    """One retraining began on the second day, and another incident came after it."""
    world.live(store)
    push(store, **policy)
    world.hold(store, 1)
    monitors.open_incident(store, "m", "it got worse")
    assert policies.decide(store, models.get_model(store, "m")) == 1
    policies.cancel_retraining(store, 1)
    monitors.open_incident(store, "m", "it got worse again")


def said(store: Store, monkeypatch: pytest.MonkeyPatch, *command: str) -> str:
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    return CliRunner().invoke(cli, command, catch_exceptions=False).output


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (
            {"retrains_a_day": 2},
            "not yet, a signal trained it lately: signals rest until 2012-01-31 00:00; then trains it again: incident 2",
        ),
        (
            {"rest": "1h"},
            "not yet, a signal trained it lately: signals rest until 2012-01-03 01:00, and 1 retraining in 24 hours, "
            "as many as the policy allows, until 2012-01-04 00:00; then trains it again: incident 2",
        ),
        (
            {"rest": "0h"},
            "not yet, 1 retraining in 24 hours, as many as the policy allows, until 2012-01-04 00:00; then trains it again",
        ),
        ({"rest": "0h", "retrains_a_day": 0}, "not yet, the policy allows no retraining; then trains it again"),
        ({"rest": "0h", "retrains_a_day": 2}, "trains it again: incident 2: it got worse again"),
    ],
)
def test_what_keeps_a_signal_is_told_and_until_when(store: Store, policy: dict[str, object], kept: str) -> None:
    troubled(store)
    push(store, **policy)
    assert policies.explain(store, "m").next.startswith(kept)
    assert (policies.decide(store, models.get_model(store, "m")) is None) == kept.startswith("not yet")


def test_a_person_is_named_where_a_version_waits_and_a_freeze_where_one_is_in_force(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubled(store)
    with store.db.write("policies.move") as tx:
        tx.execute(sa.update(retrainings).values(state="waiting", version=1))
    waits = "a person approves or rejects m@1: stead approve m@1"
    assert policies.explain(store, "m").next == waits
    assert "  m@1 waits for approval: stead approve m@1" in said(store, monkeypatch, "status")
    policies.freeze(store, model="m", reason="holidays")
    assert policies.explain(store, "m").next == f"nothing by itself: it is frozen until stead thaw m; {waits}"
    assert "  m is frozen: holidays (stead thaw m)" in said(store, monkeypatch, "status")
    told = json.loads(said(store, monkeypatch, "status", "--json"))
    assert [each["version"] for each in told["approvals"]] == [1]
    assert [(each["model"], each["reason"]) for each in told["freezes"]] == [("m", "holidays")]


def test_age_is_that_of_the_newest_row_that_the_version_learned_from(store: Store) -> None:
    def age(day: int) -> tuple[bool, str]:
        world.hold(store, day)
        seen = {signal.name: signal for signal in policies.explain(store, "m").signals}
        return seen["age"].fires, seen["age"].said

    def learned(**info: object) -> None:
        with store.db.write("models.register") as tx:
            tx.execute(sa.update(logged_models).values(info={"trained_on": info}))

    world.live(store)
    push(store, triggers=("age",), max_age="10d")
    assert age(-272) == (False, "version 1 is 0 days old"), "a clock before its deployment"
    assert age(11) == (True, "version 1 is 11 days old")
    rows = pa.table({"t": pa.array([START - 40 * DAY, START - 20 * DAY], pa.timestamp("ms")), "y": [1.0, 2.0]})
    datasets.add(store, "m", rows, time_column="t")
    for until in (None, START):
        learned(dataset="m@1", since=None, until=until)
        assert age(1) == (True, "the newest row that version 1 learned from is 21 days old")
    learned(dataset="m@1", since=None, until=START - 30 * DAY)
    assert age(1)[1].endswith("31 days old")
    assert age(-60) == (False, "the newest row that version 1 learned from is 0 days old")


def test_code_without_a_version_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    push(store)
    with pytest.raises(NotFound, match="m has no version yet") as missing:
        policies.explain(store, "m")
    assert missing.value.hint == "stead train m"
    assert policies.list_schedules(store) == []
    with pytest.raises(NotFound, match="there is no model 'n'"):
        policies.explain(store, "n")


def test_times_have_one_form(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    world.live(store)
    push(store, triggers=("schedule",))
    world.hold(store, 1)
    printed = said(store, monkeypatch, "explain", "m")
    assert "next: trains it on 2012-02-01 04:00, by schedule" in printed
    assert "  train by schedule: 2012-02-01 04:00\n" in printed


def test_who_thaws_one_model_is_told_that_all_are_frozen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    world.live(store)
    policies.freeze(store)
    policies.freeze(store, model="m")
    assert policies.explain(store, "m").next.endswith("it is frozen until stead thaw")
    assert said(store, monkeypatch, "thaw", "m") == "m is still frozen, as every model is: stead thaw\n"
    policies.freeze(store, model="m")
    assert said(store, monkeypatch, "thaw") == "everything goes on by itself but m: stead thaw m\n"
    assert said(store, monkeypatch, "thaw", "m") == "m goes on by itself\n"
    with pytest.raises(NotFound, match="there is no model 'nope'"):
        policies.thaw(store, model="nope")
