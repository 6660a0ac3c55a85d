"""The stage of a model and of the team, its past, and what is advised."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parent))
from records_of import Told

from stead import jobs, maturity
from stead.deployments.tables import deployments
from stead.maturity import Maturity, Month, Stage, operations
from stead.maturity.clocks import DAY_MS
from stead.maturity.history import closed, end_of, month_of
from stead.maturity.staging import highest
from stead.maturity.tables import months
from stead.models.tables import models
from stead.monitors.tables import incidents
from stead.runtime.clock import now_ms, to_ms
from stead.store import Store
from tests.support.commands import stead


def grown(told: Told, upto: int, *, since: float = 85) -> None:
    """All that a model at a stage leaves behind over the last days."""
    count = int(since // 4)
    for n in range(1, count):
        ago = since - 4 * n
        by_stead = upto >= 3
        told.version(n, ago, trigger="proxy" if by_stead else "person", pipeline=upto >= 2)
        told.deployed(
            n, ago - 0.1, by="agent" if by_stead else "person:ada", state="live" if n == count - 1 else "replaced"
        )
        if upto >= 2:
            told.again(n, 20)
    told.again(1, 10)
    told.days(since, 2, looked=upto >= 2, labelled=0.9 if upto >= 3 else 0.1)
    if upto >= 2:
        told.entry("drill.rollback", 30, evidence={"worked": True})
    if upto >= 3:
        told.verdict(1, 30, "failed")


def team(found: Maturity) -> Stage:
    return found.team


def test_an_empty_store_is_told_what_to_do(store: Store) -> None:
    found = maturity.assess(store)
    assert (team(found).stage, team(found).recorded, found.models) == (1, False, [])
    assert "no model yet" in found.verdict and "stead train" in found.verdict
    assert all(each.met is None for each in team(found).checks)
    assert found.history == [Month("", month_of(now_ms()), 1)]
    assert [step.check for step in found.steps] == ["recorded", "registered", "reproduced", "owned"], (
        "as a model's life goes"
    )


def test_a_model_that_never_answered_has_no_stage_but_the_first(store: Store) -> None:
    Told(store)
    found = maturity.assess(store, model="bikes")
    assert found.models[0].stage == 1 and not found.models[0].recorded
    assert "Nothing is recorded of bikes" in found.verdict
    assert found.fit.justified == 1 and "No model answers yet" in found.fit.said


@pytest.mark.parametrize(("upto", "stage"), [(1, 1), (2, 2), (3, 3)])
def test_a_stage_is_reached_where_its_checks_hold_and_those_before(store: Store, upto: int, stage: int) -> None:
    grown(Told(store, owner="ann", level="deploy"), upto)
    found = maturity.assess(store)
    missing = [(each.check, each.said) for each in team(found).checks if not each.met and each.stage <= stage]
    assert (team(found).stage, team(found).recorded) == (stage, True), missing
    assert found.models[0].stage == stage
    assert [each.stage for each in found.models[0].checks].count(3) == 7, "a refusal is asked of the team"
    assert all(step.check in {c.check for c in team(found).checks if c.stage == stage + 1} for step in found.steps)


def test_without_the_first_stage_no_higher_one_counts(store: Store) -> None:
    grown(Told(store), 3)  # nobody owns it
    found = maturity.assess(store)
    assert (team(found).stage, team(found).recorded) == (1, False)
    assert [step.check for step in found.steps] == ["owned"] and found.steps[
        0
    ].command == "stead models set bikes --owner NAME"
    assert "no higher stage counts" in found.only and "stage 2" in found.only


def test_stages_are_counted_without_a_gap(store: Store) -> None:
    grown(Told(store, owner="ann"), 3)
    checks = team(maturity.assess(store)).checks
    assert highest(checks) == (3, True)
    broken = [replace(each, met=False) if each.check == "watched" else each for each in checks]
    assert highest(broken) == (1, True)
    assert highest([replace(each, met=None) if each.check == "owned" else each for each in checks]) == (1, False)


def test_a_model_that_matters_weighs_more(store: Store) -> None:
    for name, importance, by in (("a", "high", "agent"), ("b", "low", "person:ada")):
        told = Told(store, name, importance=importance)
        for n in range(4):
            told.deployed(n + 1, 20 - n, by=by)
    found = maturity.check_rows(store, "by-person").result
    assert (found.value, found.said, found.met) == (pytest.approx(0.2), "20 % (4 of 8, by importance)", True)
    with store.db.engine.begin() as tx:
        tx.execute(sa.update(models).values(settings={"importance": "normal"}))
    assert maturity.check_rows(store, "by-person").result.value == pytest.approx(0.5)


def test_one_step_is_advised_and_never_two_stages_ahead(store: Store) -> None:
    for n in range(6):
        grown(Told(store, f"m{n}", owner="ann", level="record"), 1)
    found = maturity.assess(store)
    assert team(found).stage == 1 and team(found).recorded and not found.fit.overhead
    assert {step.check for step in found.steps} <= {"trained", "watched", "returned", "hand-work"}
    assert all(step.command and step.cost for step in found.steps)
    assert found.steps[0].check in ("watched", "returned") and "and 3 more" in found.steps[0].said
    assert found.fit.justified == 2 and "five to ten" in found.fit.said


@pytest.mark.parametrize(
    ("live", "importance", "justified"),
    [(1, "normal", 1), (2, "normal", 1), (3, "normal", 2), (2, "high", 1), (9, "normal", 2), (6, "low", 2), (10, "normal", 3),
     (99, "normal", 3), (100, "normal", 4)],
)  # fmt: skip
def test_what_stage_the_models_justify(store: Store, live: int, importance: str, justified: int) -> None:
    for n in range(live):
        Told(store, f"m{n}", importance=importance, level="record").deployed(1, 5, state="live")
    assert maturity.assess(store).fit.justified == justified


def test_more_than_the_models_justify_is_named_overhead(store: Store) -> None:
    grown(Told(store, owner="ann", level="deploy"), 3)
    found = maturity.assess(store)
    assert found.fit.overhead and "overhead" in found.verdict and "1 live model justifies stage 1" in found.verdict
    assert found.steps == [], "a higher stage is not advised"


def test_a_model_that_lags_behind_is_the_next_step_where_more_would_be_overhead(store: Store) -> None:
    for n in range(10):
        grown(Told(store, f"m{n}", owner="ann", level="deploy", importance="high"), 3, since=60)
    behind = Told(store, "slow", owner="ann", level="train", importance="low")
    grown(behind, 2, since=20)
    found = maturity.assess(store)
    assert team(found).stage == 3 and found.fit.justified == 3
    assert {step.model for step in found.steps} == {"slow"} and found.steps[0].command.startswith(
        "stead level slow deploy"
    )


def test_a_replay_has_its_stage_in_the_months_of_its_own_clock(store: Store) -> None:
    now = to_ms("2014-06-15")
    told = Told(store, now=now, owner="ann", level="deploy")
    grown(told, 3, since=300)
    found = maturity.assess(store)
    assert (team(found).as_of, month_of(team(found).now)) == ("the end of its last replay", "2014-06")
    assert found.models[0].stage == 3 == team(found).stage
    past = {each.month: each.stage for each in found.history if each.model == "bikes"}
    assert next(iter(past)) == "2013-08" and max(past) == "2014-06" and past["2014-06"] == 3
    assert {each.month for each in found.history if each.model == ""} == set(past)
    assert found.models[0].since in past
    back = maturity.assess(store, at=to_ms("2013-09-30"))
    assert month_of(team(back).now) == "2013-09" and max(each.month for each in back.history) == "2013-09"
    assert any("bikes is told as of 2013-09-3" in note for note in back.notes)


def test_the_past_is_the_records_as_they_were(store: Store) -> None:
    told = Told(store, owner="ann", level="deploy")
    grown(told, 1, since=200)
    for n in range(60, 75):
        told.version(n, 80 - n)
    before = maturity.assess(store, model="bikes", at=now_ms() - 30 * DAY_MS)
    assert before.models[0].checks[0].rows == len([n for n in range(1, 50) if 30 <= 200 - 4 * n < 120])
    early = maturity.assess(store, at=now_ms() - 2000 * DAY_MS)
    assert early.models == [] and "no model yet" in early.verdict and early.team.stage == 1
    back = maturity.assess(store, at=now_ms() - 30 * DAY_MS)
    assert "level deploy" in maturity.assess(store).fit.said and "level" not in back.fit.said, "a level has no past"


def test_records_after_the_clock_are_left_out_and_said(store: Store) -> None:
    told = Told(store, owner="ann")
    told.deployed(1, 5, state="live")
    told.version(1, 6)
    told.version(2, -3)
    told.incident(-2)
    found = maturity.assess(store, model="bikes")
    assert found.models[0].left_out == 2
    assert any("2 records lie after the clock" in note for note in found.notes)
    assert maturity.check_rows(store, "recorded").result.rows == 1


def test_what_is_older_than_the_window_says_nothing(store: Store) -> None:
    told = Told(store, owner="ann")
    told.now -= 500 * DAY_MS
    grown(told, 3)
    found = maturity.assess(store, model="bikes")
    assert found.models[0].stage == 1 and not found.models[0].recorded


def test_months_that_are_over_are_kept_once(store: Store) -> None:
    told = Told(store, owner="ann", level="deploy")
    with store.db.engine.begin() as tx:
        tx.execute(sa.update(models).values(created_at=told.at(100)))
    grown(told, 3)
    new = maturity.keep_month(store)
    assert new >= 4 and maturity.keep_month(store) == 0
    kept = {each.month: each.stage for each in maturity.assess(store).history if each.model == "bikes"}
    with store.db.engine.begin() as tx:
        for table in (
            "ledger",
            "deployments",
            "model_versions",
            "performance_days",
            "incidents",
            "verdicts",
            "reproductions",
        ):
            tx.execute(sa.text(f"delete from {table}"))
    pruned = maturity.assess(store)
    assert {each.month: each.stage for each in pruned.history if each.model == "bikes"} == kept | {
        month_of(now_ms()): 1
    }
    assert team(pruned).stage == 1 and not team(pruned).recorded, "no stage without records"
    with store.db.read() as tx:
        row = (
            tx.execute(sa.select(months).where(months.c.model == "bikes").order_by(months.c.month.desc()))
            .mappings()
            .first()
        )
    assert row is not None and set(row["checks"]) == {each.check for each in pruned.models[0].checks}


def test_the_loop_keeps_months_at_most_once_a_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(store, owner="ann")
    grown(told, 1)
    assert maturity.keep_daily(store) > 0
    with store.db.engine.begin() as tx:
        tx.execute(sa.delete(months))
    assert maturity.keep_daily(store) == 0
    operations._next.clear()
    assert maturity.keep_daily(store) > 0


def test_months_are_those_of_the_calendar() -> None:
    first, now = to_ms("2025-11-20"), to_ms("2026-02-03")
    assert closed(first, now) == ["2025-11", "2025-12", "2026-01"]
    assert closed(None, now) == closed(now, first) == []
    assert datetime.fromtimestamp(end_of("2025-12") / 1000, UTC) == datetime(2026, 1, 1, tzinfo=UTC)
    assert len(closed(to_ms("1990-01-01"), now)) == 36


def test_a_model_outside_of_the_registry_is_a_model(store: Store) -> None:
    told = Told(store)
    told.name = "by-ssh"
    told.outside(5, hours=3)
    found = maturity.assess(store)
    assert [each.model for each in found.models] == ["bikes", "by-ssh"]
    checks = {each.check: each for each in found.models[1].checks}
    assert {each.mend for each in checks.values() if not each.met} == {"stead train by-ssh"}
    assert checks["registered"].met is False and checks["piped"].met is False and checks["hand-work"].value == 180


def test_a_held_clock_without_decisions(store: Store) -> None:
    told = Told(store)
    jobs.hold_clock(store, "bikes", now=to_ms("2012-05-01"), holder="r")
    told.version(1, 0)
    found = maturity.assess(store)
    assert month_of(found.models[0].now) == "2012-05" and found.models[0].left_out == 0
    assert found.models[0].checks[0].rows == 1


def test_on_each_database_the_same_is_told(any_store: Store) -> None:
    told = Told(any_store, owner="ann", level="deploy")
    grown(told, 3)
    told.incident(20, by="user:eve", found_by=told.incident(21))
    told.entry("drill.freeze", 5, by="person:ada", evidence={"worked": True, "seconds": 2.5}, model=None)
    told.judged(told.entry("route.changed", 40, evidence={"deployment": 3}), 10, "right")
    told.outside(4, version=1, hours=2)
    found = maturity.assess(any_store)
    assert team(found).stage == 3, [(each.check, each.said) for each in team(found).checks if not each.met]
    said = {each.check: each.said for each in team(found).checks}
    assert said["stopped"] == "1" and said["judged-wrong"] == "0 % (0 of 1)" and said["found-first"] == "100 % (1 of 1)"
    assert maturity.keep_month(any_store, again=True) > 0


def test_what_happened_between_two_replays_stands_between_them(store: Store) -> None:
    told = Told(store, now=to_ms("2014-06-15"), owner="ann")
    told.days(300, 2)
    told.entry("retraining.begun", 100)
    wall = now_ms()
    shares = [{"share": 0.25, "at": wall, "event_time": wall}]
    told.put(
        deployments, model="bikes", version=1, kind="deploy", state="aborted", overrides=[], steps=[], requested_by="person:ada",
        created_at=wall, plan={}, shares=shares,
    )  # fmt: skip
    told.put(
        incidents, model="bikes", cause="person: odd", kind="other", state="open", severity="page", summary="odd", evidence={},
        opened_by="person:ada", opened_at=wall, event_time=wall, updated_at=wall,
    )  # fmt: skip
    found = maturity.assess(store, model="bikes")
    assert found.models[0].left_out == 0
    (row,) = maturity.check_rows(store, "by-person", model="bikes").rows
    assert row.moment == told.at(100)
    assert [each.moment for each in maturity.check_rows(store, "found-first", model="bikes").rows] == [told.at(100)]
    assert found.history[0].month == "2013-08"


def test_the_command_tells_it_and_fails_clearly(store: Store, tmp_path: Path) -> None:
    grown(Told(store, owner="ann"), 2)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environ = {"STEAD_STORE": str(store.root), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        return stead(["maturity", *words], cwd=tmp_path, environ=environ)

    said = run()
    assert said.returncode == 0, said.stderr
    assert "team: stage 2 of 4" in said.stdout and "stead level" not in said.stdout.splitlines()[0]
    check = run("bikes", "--check", "trained").stdout
    assert check.count("bikes@") > 5 and ", in 90 days" in check.splitlines()[0]
    assert run("--check", "trainer").returncode == 3
    page = tmp_path / "m.html"
    assert run("bikes", "--html", str(page)).returncode == 0
    assert (
        "<script" not in page.read_text()
        and "<style>" in page.read_text()
        and "http" not in page.read_text().replace("http-equiv", "")
    )
    assert run("--html", str(tmp_path / "no" / "m.html")).returncode == 1
    assert run("--at", "1999-01-01").stdout.startswith("team: stage 1")
    assert run("--at", "2999-01-01").returncode == 2
