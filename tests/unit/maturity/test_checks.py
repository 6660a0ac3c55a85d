"""Each of the 25 checks: with its evidence it holds, spoiled it does not, and without records it does not either."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parent))
from records_of import Told

from stead import jobs, maturity
from stead.errors import InvalidInput, NotFound
from stead.jobs.tables import jobs as job_table
from stead.maturity import CHECKS, Checked
from stead.runtime.clock import now_ms, to_ms
from stead.store import Store

Write = Callable[[Told], Any]


def versions(count: int = 20, first: float = 60, number: int = 1, **how: Any) -> Write:
    def write(told: Told) -> None:
        for n in range(count):
            told.version(n + number, first - n / 2, **how)

    return write


def deployments(count: int = 10, first: float = 60, **how: Any) -> Write:
    def write(told: Told) -> None:
        for n in range(count):
            told.deployed(n + 1, first - 2 * n, state="live" if n == count - 1 else "replaced", **how)

    return write


def live(told: Told) -> None:
    told.version(1, 50)
    told.deployed(1, 49, state="live")


def both(*writes: Write) -> Write:
    def write(told: Told) -> None:
        for each in writes:
            each(told)

    return write


def owner(name: str) -> Write:
    def write(told: Told) -> None:
        Told(told.store, f"owned-by-{name or 'nobody'}", owner=name).deployed(1, 3, state="live")

    return write


def a_hundred(told: Told) -> None:
    for n in range(100):
        Told(told.store, f"m{n}").deployed(1, 3, state="live")


def drilled(action: str, worked: bool) -> Write:
    return lambda told: told.entry(action, 10, by="person:ada", evidence={"worked": worked, "seconds": 3.0})


def decisions(count: int = 20) -> Write:
    def write(told: Told) -> None:
        for n in range(count):
            told.entry("retraining.begun", 50 - n)

    return write


def judged(verdicts: dict[str, int]) -> Write:
    def write(told: Told) -> None:
        for verdict, count in verdicts.items():
            for n in range(count):
                told.judged(told.entry("route.changed", 60 - n / 10), 20, verdict)

    return write


CASES: dict[str, tuple[Write, Write]] = {
    "recorded": (versions(), lambda told: [told.version(30 + n, 9, lacks=("data",)) for n in range(3)]),
    "registered": (live, lambda told: told.outside(5)),
    "reproduced": (
        lambda told: [told.again(n, 20) for n in range(5)],
        lambda told: [told.again(n, 10, "different") for n in range(2)],
    ),
    "owned": (owner("ann"), owner("")),
    "trained": (versions(), lambda told: [told.version(30 + n, 9, pipeline=False) for n in range(4)]),
    "piped": (deployments(), lambda told: [told.outside(9, version=1), told.outside(8, version=1)]),
    "hand-work": (deployments(), lambda told: [told.outside(9 - n / 9, version=1, hours=3) for n in range(12)]),
    "watched": (both(live, lambda told: told.looked(2)), lambda told: Told(told.store, "blind").deployed(1, 9, state="live")),
    "returned": (drilled("drill.rollback", True), lambda told: None),
    "by-person": (deployments(), lambda told: [told.deployed(20 + n, 9 - n, by="person:ada") for n in range(4)]),
    "gated": (versions(60), lambda told: [told.version(70 + n, 9, gated="skipped") for n in range(2)]),
    "refused": (lambda told: told.verdict(1, 300, "failed"), lambda told: None),
    "triggered": (both(live, versions(9, 40, number=2)), lambda told: [told.version(30 + n, 9, trigger="person") for n in range(3)]),
    "labelled": (both(live, lambda told: told.days(40, 5)), lambda told: told.days(80, 41, labelled=0.0)),
    "found-first": (
        lambda told: [told.incident(20 + n) for n in range(3)],
        lambda told: [told.incident(10 + n, by="user:eve") for n in range(2)],
    ),
    "waited": (
        lambda told: [(told.version(n, 30 - n), told.deployed(n, 29.5 - n)) for n in range(1, 6)],
        lambda told: [(told.version(n, 40), told.deployed(n, 30)) for n in range(10, 16)],
    ),
    "failed": (deployments(20), lambda told: [told.deployed(30 + n, 9 - n, state="rolled_back") for n in range(5)] and told.deployed(50, 1)),
    "by-policy": (deployments(20), lambda told: [told.deployed(30 + n, 9, by="person:ada") for n in range(3)]),
    "kinds": (lambda told: [told.deployed(1, 9), told.entry("retraining.begun", 8)], lambda told: None),
    "founded": (decisions(), lambda told: told.entry("route.changed", 9, undo=False)),
    "tried": (
        both(lambda told: told.policy(60), lambda told: told.backtest(50), decisions(5)),
        lambda told: told.entry("retraining.begun", 55),
    ),
    "overridden": (decisions(), lambda told: [told.entry("gate.overridden", 9, by="person:ada") for _ in range(2)]),
    "judged-wrong": (judged({"right": 18, "undecided": 2}), judged({"wrong": 4})),
    "stopped": (drilled("drill.freeze", True), lambda told: None),
    "hundreds": (a_hundred, lambda told: None),
}  # fmt: skip
ONLY_ADDS = ("returned", "refused", "stopped", "hundreds", "kinds")
"""More records cannot spoil these: they are counted."""


def looked(store: Store, name: str) -> Checked:
    return maturity.check_rows(store, name)


def test_there_is_a_case_for_each_check() -> None:
    assert list(CASES) == [check.name for check in CHECKS]
    assert [sum(check.stage == stage for check in CHECKS) for stage in (1, 2, 3, 4)] == [4, 5, 8, 8]


@pytest.mark.parametrize("name", CASES)
def test_with_its_evidence_it_holds_and_spoiled_it_does_not(name: str, store: Store) -> None:
    told = Told(store)
    before = looked(store, name)
    assert before.result.met is None and before.result.said and before.rows == []
    good, spoil = CASES[name]
    good(told)
    found = looked(store, name)
    if name == "kinds":  # stead has policies for two kinds of decisions, and says so
        assert (found.result.met, found.result.good) == (False, 2)
        assert [row.said for row in found.rows].count("stead has no policy for it yet") == 3
        return
    assert found.result.met is True, found
    assert found.result.mend == found.result.cost == ""
    assert found.rows and all(row.said and row.weight for row in found.rows)
    if name in ONLY_ADDS:
        return
    spoil(told)
    after = looked(store, name)
    assert after.result.met is False, after.result
    assert after.result.mend and after.result.cost and "{" not in after.result.mend
    against = after.result.kind == "most"
    assert any(row.good == against for row in after.rows), "the rows that spoil it are among them"


@pytest.mark.parametrize("name", [check.name for check in CHECKS if check.clock == "model" and check.days > 7])
def test_records_older_than_a_year_are_no_evidence(name: str, store: Store) -> None:
    told = Told(store)
    told.now -= 380 * 86_400_000
    CASES[name][0](told)
    if name not in ("labelled", "hundreds"):
        assert looked(store, name).result.met is None, looked(store, name)


def test_a_drill_that_did_not_work_is_none(store: Store) -> None:
    told = Told(store)
    drilled("drill.freeze", False)(told)
    drilled("drill.rollback", False)(told)
    for name in ("stopped", "returned"):
        found = looked(store, name)
        assert (found.result.met, found.result.said, len(found.rows)) == (False, "0", 1)


def test_few_rows_reach_further_back(store: Store) -> None:
    told = Told(store)
    told.deployed(1, 300, by="person:ada")
    told.deployed(2, 100)
    found = looked(store, "by-person").result
    assert (found.days, found.rows, found.said) == (365, 2, "50 % (1 of 2)")
    for n in range(5):
        told.deployed(3 + n, 20 - n)
    found = looked(store, "by-person").result
    assert (found.days, found.said, found.met) == (90, "0 % (0 of 5)", True)


def test_silence_counts_only_where_somebody_listened(store: Store) -> None:
    told = Told(store)
    live(told)
    told.days(40, 2, looked=False)
    found = looked(store, "found-first").result
    assert found.met is False and "no incident" in found.said
    for ago in range(2, 25):
        told.looked(ago)
    found = looked(store, "found-first").result
    assert found.met is True and "no incident" in found.said
    told.incident(9, by="user:eve")
    assert looked(store, "found-first").result.said == "0 % (0 of 1)"


def test_a_users_report_after_a_monitors_page_is_the_monitors(store: Store) -> None:
    told = Told(store)
    first = told.incident(20)
    told.incident(19, by="user:eve", found_by=first)
    told.incident(18, severity="note")
    found = looked(store, "found-first")
    assert (found.result.said, [row.subject for row in found.rows]) == ("100 % (1 of 1)", [f"incident {first}"])


def test_a_canary_that_was_taken_back_did_not_fail_and_proves_the_way_back(store: Store) -> None:
    told = Told(store)
    deployments(3)(told)
    told.entry("deployment.aborted", 5, evidence={"deployment": 9})
    assert looked(store, "failed").result.said == "0 % (0 of 3)"
    assert looked(store, "returned").result.met is True


def test_an_estimate_stands_for_labels(store: Store) -> None:
    told = Told(store)
    live(told)
    told.days(40, 2, labelled=0.1)
    assert looked(store, "labelled").result.met is False
    told.looked(10, monitor="estimate")
    assert looked(store, "labelled").result.met is True


def test_labels_that_are_not_due_are_not_missed(store: Store) -> None:
    told = Told(store, label_delay="30d")
    live(told)
    told.days(60, 35)
    told.days(30, 1, labelled=0.0)
    assert looked(store, "labelled").result.met is True


def test_what_a_person_took_back_counts_against_the_policy(store: Store) -> None:
    told = Told(store)
    decisions(3)(told)
    number = told.entry("route.changed", 5)
    told.entry("route.rolled_back", 4, by="person:ada", undoes=number)
    found = looked(store, "overridden")
    assert next((row.subject, row.good) for row in found.rows) == (f"decision {number}", True)
    assert found.result.said == "25 % (1 of 4)"


def test_what_could_not_be_made_again_counts_against_it(store: Store) -> None:
    told = Told(store)
    told.again(1, 20)
    told.entry(
        "reproductions.sampled",
        10,
        model=None,
        evidence={"drawn": ["bikes@2"], "missing": {"bikes@2": "its data is gone"}},
    )
    job = jobs.enqueue(store, "reproduce", {"model": "bikes", "version": 3}, model="bikes")
    with store.db.engine.begin() as tx:
        failed = {"state": "failed", "ended_at": now_ms(), "error": {"message": "no such wheel"}}
        tx.execute(sa.update(job_table).where(job_table.c.id == job.id).values(failed))
    found = looked(store, "reproduced")
    assert found.result.said.endswith("(1 of 3)") and not found.result.met
    assert [row.said.rpartition(": ")[2] for row in found.rows] == ["no such wheel", "its data is gone", "identical"]


def test_unknown_names_and_times_are_told(store: Store) -> None:
    Told(store)
    with pytest.raises(NotFound) as unknown:
        maturity.check_rows(store, "recordet")
    assert unknown.value.code == "check-unknown" and "recorded" in str(unknown.value.hint)
    with pytest.raises(NotFound) as missing:
        maturity.check_rows(store, "recorded", model="bike")
    assert missing.value.code == "model-unknown" and "bikes" in str(missing.value.hint)
    with pytest.raises(InvalidInput) as team:
        maturity.check_rows(store, "hundreds", model="bikes")
    assert team.value.code == "check-of-team"
    with pytest.raises(InvalidInput) as ahead:
        maturity.assess(store, at=to_ms("2999-01-01"))
    assert ahead.value.code == "moment-ahead"
    with pytest.raises(InvalidInput) as early:
        maturity.assess(store, at=to_ms("0001-01-01"))
    assert early.value.code == "time-invalid"
