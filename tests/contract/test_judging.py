"""Decisions judged by the rows that came after: right, wrong, undecided; restated while labels come, then closed and told."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from stead import deployments, fleet, jobs, ledger, models, policies, predictions, serving
from stead.deployments.canary import Decision, _abort, begin
from stead.ledger import Judgement
from stead.runtime.clock import now_ms
from stead.store import Store
from stead.web.deployments import events

sys.path.insert(0, str(Path(__file__).parent))
from displaced import Displaced
from watched import DAY, START


def judgement(store: Store) -> Judgement:
    (found,) = ledger.list_judgements(store, model="m")
    return found


def taken_back(store: Store, said: str, guard: str) -> deployments.Deployment:
    """A canary of version 2 that a guard ends where it has its first share."""
    asked = deployments.deploy(store, "m", version=2, plan="canary")
    with store.db.write("deployments.step") as tx:
        begin(tx, store, asked, "gates passed")
    running = deployments.get_deployment(store, asked.id)
    with store.db.write("deployments.step") as tx:
        _abort(tx, store, running, Decision("abort", said, guard), {})
    return asked


def actions(store: Store) -> list[str]:
    return [entry.action for entry in ledger.list_entries(store, model="m")][::-1]


@pytest.mark.parametrize(("loss", "verdict"), [(0.7, "right"), (1.3, "wrong"), (1.02, "undecided")])
def test_a_promotion_is_judged_and_the_shadow_ends(any_store: Store, loss: float, verdict: str) -> None:
    world = Displaced(any_store)
    swapped = world.swap()
    assert world.shadow() == [1] and world.judge() == 0
    opened = judgement(any_store)
    assert (opened.verdict, opened.closed, opened.kind, opened.deployment) == (None, False, "promotion", swapped.id)
    assert (opened.since, opened.until) == (START, START + 28 * DAY)
    world.both(0, 3, loss=loss)
    assert world.judge() == 1 and world.judge() == 0
    early = judgement(any_store)
    assert (early.verdict, early.rows, early.days, early.low) == ("undecided", 72, 3, None)
    assert "too few days" in early.said
    world.both(3, 28, loss=loss)
    world.judge()
    assert world.shadow() == [] and not judgement(any_store).closed  # the labels of the last day may still come
    world.hold(29)
    assert world.judge() == 1 and world.judge() == 0
    done = judgement(any_store)
    assert (done.verdict, done.closed, done.rows, done.days) == (verdict, True, 28 * 24, 28)
    assert done.difference == pytest.approx(loss - 1, abs=0.05) and done.low is not None and done.high is not None
    assert done.low < done.difference < done.high
    entry = ledger.get_entry(any_store, done.entry)
    assert entry.action == "route.changed" and entry.judgement == done and entry.alternatives and entry.policy
    assert ledger.list_entries(any_store, model="m")[0].subject == f"decision {entry.id}"
    assert actions(any_store)[-2:] == ["shadow.ended", "decision.judged"]
    route = serving.get_route(any_store, "m")
    assert route is not None and route.warm == [1]  # a roll-back still takes a moment
    assert policies.explain(any_store, "m").judged == [done]


@pytest.mark.parametrize("level", ["train", "deploy"])
def test_a_promotion_that_is_judged_wrong_is_taken_back_where_nobody_is_asked(any_store: Store, level: str) -> None:
    world = Displaced(any_store)
    with any_store.db.write("policies.level") as tx:
        models.set_level_in(tx, "m", level)
    swapped = world.swap()
    world.both(0, 9, loss=1.3)
    policies.freeze(any_store, reason="a holiday")
    fleet.tick(any_store)
    assert judgement(any_store).verdict == "wrong"
    assert deployments.get_deployment(any_store, swapped.id).state == "live"
    policies.thaw(any_store)
    for _ in range(3):
        fleet.tick(any_store)
    back = deployments.list_deployments(any_store, model="m")[0]
    if level == "train":
        assert back.id == swapped.id and back.state == "live"
        return
    assert (back.kind, back.version, back.requested_by) == ("rollback", 1, "agent")
    entry = next(
        e for e in ledger.list_entries(any_store, model="m") if e.subject in ("route m", f"deployment {back.id}")
    )
    assert entry.reason is not None and "is judged wrong: version 2 lost " in entry.reason and entry.undo is not None
    assert [each.kind for each in deployments.list_deployments(any_store, model="m")].count("rollback") == 1
    for job in jobs.open_jobs(any_store, kind="deploy"):  # its loading fails: it is not asked for again and again
        jobs.cancel_job(any_store, job.id)
    fleet.tick(any_store)
    assert [each.kind for each in deployments.list_deployments(any_store, model="m")].count("rollback") == 1


def test_late_labels_restate_it_until_it_closes(any_store: Store) -> None:
    world = Displaced(any_store, judge_days=10)
    world.swap()
    late = world.both(0, 8, loss=1.4, late=True)
    world.judge()
    assert judgement(any_store).rows == 0 and judgement(any_store).verdict == "undecided"
    predictions.add_labels(any_store, late[:96])
    assert world.judge() == 0 and judgement(any_store).rows == 96  # restated, and still undecided
    predictions.add_labels(any_store, late[96:])
    assert world.judge() == 1
    assert (judgement(any_store).verdict, judgement(any_store).closed) == ("wrong", False)
    last = world.both(8, 11, loss=1.4, late=True)
    world.judge()
    assert judgement(any_store).closed and judgement(any_store).rows == 192
    predictions.add_labels(any_store, last)
    assert world.judge() == 0 and judgement(any_store).rows == 192


def test_labels_are_waited_for_as_long_as_they_take(store: Store) -> None:
    world = Displaced(store, judge_days=14, delay="3d")
    world.swap()
    world.both(0, 14, loss=0.7)
    world.judge()
    assert (judgement(store).days, judgement(store).closed, world.shadow()) == (11, False, [])
    world.hold(17)
    world.judge()
    assert (judgement(store).days, judgement(store).closed) == (14, False)
    world.hold(18)
    world.judge()
    assert judgement(store).closed and judgement(store).verdict == "right"


def test_an_abort_is_judged_the_other_way_round(store: Store) -> None:
    world = Displaced(store, judge_days=10)
    asked = taken_back(store, "its loss is high", "loss")
    assert world.shadow() == [2]
    with store.db.write("policies.level") as tx:
        for n in range(9):
            ledger.record(tx, actor="ada", action="policy.pushed", model="m", subject="policy m", summary=f"policy {n}")
    world.both(0, 11, loss=0.6, answering=1)
    world.judge()
    wrong = judgement(store)
    assert (wrong.kind, wrong.verdict, wrong.closed) == ("abort", "wrong", True) and world.shadow() == []
    entry = ledger.get_entry(store, wrong.entry)
    assert entry in events(store, deployments.get_deployment(store, asked.id), over=True)
    assert (
        entry.action == "deployment.aborted" and entry.undo is not None and entry.undo.operation == "deployments.deploy"
    )


def test_a_retraining_that_changed_nothing_is_undecided(store: Store) -> None:
    """Both versions answer alike: the swap did no harm, and the retraining was of no use."""
    world = Displaced(store, judge_days=10)
    world.swap()
    promoted = judgement(store)
    with store.db.write("policies.decide") as tx:
        entry = ledger.record(
            tx, actor="agent", action="retraining.begun", model="m", subject="m", summary="trained again"
        )
        ledger.await_judgement(tx, replace(promoted, entry=entry, kind="retraining"))
    world.both(0, 11, loss=1.0, noise=0.0)
    world.judge()
    verdicts = {each.kind: each for each in ledger.list_judgements(store, model="m")}
    assert verdicts["promotion"].verdict == "right" and verdicts["retraining"].verdict == "undecided"
    assert (verdicts["retraining"].low, verdicts["retraining"].difference, verdicts["retraining"].high) == (0, 0, 0)
    assert verdicts["retraining"].said.endswith(
        "lost as much as version 1 on the same 240 rows of 10 days: no difference"
    )
    told = next(each for each in ledger.list_entries(store, model="m") if each.subject == f"decision {entry}")
    assert told.summary.startswith(f"the retraining of decision {entry} is undecided: ")


def test_a_version_that_another_judgement_needs_goes_on_scoring(store: Store) -> None:
    """Version 2 was taken back, was let take over all the same, and is displaced by 3: the judgement of its abort has ended."""
    world = Displaced(store)
    asked = taken_back(store, "its loss is high", "loss")
    world.live()
    world.swap(2)
    world.both(0, 2, loss=1.0)
    world.swap(3)
    world.judge()
    world.judge()
    assert world.shadow() == [2]
    by_deployment = {each.deployment: each.until for each in ledger.list_judgements(store, model="m")}
    assert by_deployment[asked.id] == START + 2 * DAY and max(by_deployment.values()) == START + 30 * DAY


def test_what_fails_is_not_kept_running_to_be_judged(store: Store) -> None:
    world = Displaced(store)
    taken_back(store, "9 of 9 requests failed", "errors")
    assert world.shadow() == [] and ledger.list_judgements(store) == []


def test_a_roll_back_ends_the_rows_that_count(store: Store) -> None:
    world = Displaced(store)
    world.swap()
    world.both(0, 9, loss=1.5)
    with store.db.write("deployments.switch") as tx:  # what `rollback` does where a gateway keeps the version warm
        from stead.deployments import operations

        back = operations._insert(tx, store, "m", 1, 2, kind="rollback", overrides=[], reason=None)
        operations.switch(tx, store, operations.get_in(tx, back))
    world.judge()
    cut = judgement(store)
    assert (cut.until, cut.verdict, cut.closed) == (START + 9 * DAY, "wrong", False)
    world.hold(10)
    world.judge()
    assert judgement(store).closed


def test_who_has_seen_less_writes_nothing(store: Store) -> None:
    world = Displaced(store)
    world.swap()
    world.both(0, 9, loss=0.5)
    world.judge()
    seen = judgement(store)
    with store.db.write("deployments.judge") as tx:
        stale = Judgement(seen.entry, "m", "promotion", seen.deployment, START, START + DAY, at=now_ms())
        assert not ledger.write_judgement(tx, stale)
    assert judgement(store) == seen


def test_by_hand_nothing_is_kept_running(store: Store) -> None:
    world = Displaced(store)
    from stead.models.tables import models as table

    with store.db.write("policies.level") as tx:
        tx.execute(sa.update(table).values(level="record"))
    world.swap()
    assert world.shadow() == [] and ledger.list_judgements(store) == []
