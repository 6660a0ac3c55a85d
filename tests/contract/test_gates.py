"""The gates of a training on each database, with versions whose truth is known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stead import deployments, gates, ledger, models
from stead.errors import Failed, InvalidInput, Refused
from stead.gates import Verdict
from stead.pipelines import Candidate
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from judged import Judged


def outcomes(verdicts: dict[str, Verdict]) -> dict[str, str]:
    return {name: verdict.outcome for name, verdict in verdicts.items()}


def test_without_a_champion_there_is_little_to_judge(any_store: Store) -> None:
    bench = Judged(any_store)
    found = bench.judge(bench.train(60, 1.0))
    assert outcomes(found) == {
        "metrics": "passed", "challenger": "skipped", "stored": "skipped", "baseline": "passed", "slices": "skipped", "size": "skipped",
        "environment": "skipped",
    }  # fmt: skip
    assert "no champion" in found["challenger"].summary
    assert found["baseline"].evidence["loss"] < found["baseline"].evidence["baseline"]
    assert "no veto" not in found["baseline"].summary
    worse = bench.judge(bench.train(60, 9.0))["baseline"]
    assert worse.outcome == "passed" and "worse than the mean by hour of the week, " in worse.summary
    assert worse.summary.endswith("which is shown and no veto")


def test_a_refresh_must_not_be_worse_by_the_margin(any_store: Store) -> None:
    bench = Judged(any_store)
    bench.champion(bench.train(60, 1.0))
    worse = bench.judge(bench.train(90, 1.2))["challenger"]
    assert (worse.outcome, worse.evidence["kind"], worse.evidence["verdict"]) == ("failed", "refresh", "refuse")
    assert "clearly more than 10 % worse: +20" in worse.summary and "m@1 on 28 days" in worse.summary
    better = bench.judge(bench.train(91, 0.9))["challenger"]
    assert (better.outcome, better.evidence["verdict"]) == ("passed", "pass")
    assert better.summary.startswith("not more than 10 % worse: −10.0 %, at most −")
    near = bench.judge(bench.train(92, 1.03))["challenger"]
    assert (near.outcome, near.evidence["verdict"]) == ("failed", "refuse")
    assert near.summary.startswith("more than 2 % worse by the estimate: +3.0 % (")
    within = bench.judge(bench.train(94, 0.85, own=0.7))["challenger"]
    assert (within.outcome, within.evidence["verdict"]) == ("passed", "pass") and "at most +6.1 %" in within.summary
    strict = bench.judge(bench.train(94, 0.85, own=0.7, margin=0.05))["challenger"]
    assert (strict.outcome, strict.evidence["verdict"]) == ("failed", "undecided")
    assert "not shown to be at most 5 % worse" in strict.summary and "perhaps +5.9 %" in strict.summary
    same = bench.judge(bench.train(93, 1.0))["challenger"]
    assert (same.outcome, same.evidence["relative"]) == ("passed", pytest.approx(0.0))


def test_rows_that_the_champion_has_learned_from_are_its_twins(any_store: Store) -> None:
    bench = Judged(any_store)
    bench.champion(bench.train(60, 1.0))
    found = bench.judge(bench.train(67, 1.01))["challenger"]
    assert (found.outcome, found.evidence["by_twin"], found.evidence["rows"]) == ("passed", 21 * 24, 28 * 24)
    assert len(found.evidence["by_day"]) == 28 and all(None not in day for day in found.evidence["by_day"])
    assert bench.asked == 1
    again = bench.judge(bench.train(60, 1.1, own=0.1))["challenger"]  # on the very same rows
    assert (again.outcome, again.evidence["by_twin"]) == ("failed", 28 * 24)
    assert bench.asked == 1


def test_with_few_days_nothing_is_said(any_store: Store) -> None:
    bench = Judged(any_store)
    bench.champion(bench.train(60, 1.0))
    few = bench.judge(bench.train(90, 2.0, days=10))["challenger"]
    assert few.outcome == "skipped" and "10 days are too few" in few.summary


def test_a_champion_that_cannot_answer(any_store: Store) -> None:
    bench = Judged(any_store)
    bench.champion(bench.train(60, 1.0))
    candidate = bench.train(90, 1.0)

    def broken(*_: object) -> object:
        raise Failed("job-step", "schema-missing-column: x")

    candidate = Candidate(**{**vars(candidate), "answers": broken})
    found = bench.judge(candidate)["challenger"]
    assert found.outcome == "skipped" and "m@1 cannot answer these rows" in found.summary


def test_a_changed_recipe_must_be_better_and_its_evidence_goes_on(any_store: Store) -> None:
    bench = Judged(any_store)
    bench.champion(bench.train(60, 1.0))
    equal = bench.judge(bench.train(90, 1.0, own=0.3, recipe="b"))["challenger"]
    assert (equal.outcome, equal.evidence["number"], equal.evidence["alpha"]) == ("failed", 1, 0.025)
    better = bench.judge(bench.train(100, 0.7, recipe="c"))["challenger"]
    assert (better.outcome, better.evidence["verdict"], better.evidence["number"]) == ("passed", "better", 2)
    assert better.evidence["alpha"] == pytest.approx(0.05 / 6)
    later = bench.judge(bench.train(118, 1.0, own=0.3, recipe="b"))["challenger"]
    assert (later.evidence["number"], later.evidence["days_in_all"]) == (1, 56)
    assert "56 days in all" in later.summary or "worse" in later.summary


def test_what_a_crash_left_is_not_judged_twice(any_store: Store) -> None:
    bench = Judged(any_store)
    bench.champion(bench.train(60, 1.0))
    candidate = bench.train(90, 1.0, own=0.3, recipe="b")
    first = bench.judge(candidate)
    assert bench.judge(candidate) == first


def test_figures_and_answers_must_be_numbers(any_store: Store) -> None:
    bench = Judged(any_store)

    def spoil(held: object, predicted: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(predicted)) == 5, np.nan, predicted)

    found = bench.judge(bench.train(60, 1.0, spoil=spoil))["metrics"]
    assert found.outcome == "failed" and "1 of 672 answers" in found.summary


def test_slices_must_hold(any_store: Store) -> None:
    bench = Judged(any_store)
    bench.champion(bench.train(60, 1.0))

    def spoil(held: object, predicted: np.ndarray) -> np.ndarray:
        night = np.array(held["kind"].to_pylist()) == "night"  # type: ignore[index]
        return np.where(night, predicted + 1.0, predicted * 0.5 + 0.5 * np.array(held["y"].to_pylist()))  # type: ignore[index]

    found = bench.judge(bench.train(90, 1.0, spoil=spoil, slices=("kind",)))
    assert found["challenger"].outcome == "passed" and found["slices"].outcome == "failed"
    assert "where kind is night" in found["slices"].summary
    good = bench.judge(bench.train(91, 1.0, slices=("kind",)))["slices"]
    assert good.outcome == "passed" and len(good.evidence["slices"]) == 2
    unknown = bench.judge(bench.train(92, 1.0, slices=("town",)))["slices"]
    assert unknown.outcome == "failed" and "no column 'town'" in unknown.summary
    many = bench.judge(bench.train(93, 1.0, slices=("t",)))["slices"]
    assert many.outcome == "failed" and "values" in many.summary


def test_size_against_the_champion(any_store: Store) -> None:
    bench = Judged(any_store)
    bench.champion(bench.train(60, 1.0))
    assert bench.judge(bench.train(90, 1.0, size=900_000))["size"].outcome == "passed"  # small all the same
    assert "bytes" in bench.judge(bench.train(91, 1.0, size=2_000_000))["size"].summary
    slow = bench.judge(bench.train(92, 1.0, seconds=0.5))["size"]
    assert slow.outcome == "failed" and "50.0 times what m@1 does" in slow.summary


@pytest.mark.parametrize(("error", "passed"), [(1.0, 0.9), (1.1, 0.05)])
def test_how_often_refreshes_pass(error: float, passed: float, store: Store) -> None:
    """A version as good as the champion passes as a rule, one that is worse by 10 % hardly ever."""
    bench = Judged(store, seed=7)
    bench.champion(bench.train(60, 1.0))
    found = [bench.judge(bench.train(until, error, own=0.2))["challenger"].outcome for until in range(90, 390, 15)]
    share = found.count("passed") / len(found)
    assert share >= passed if error == 1.0 else share <= passed


def test_what_gates_refused_is_deployed_by_override_only(any_store: Store) -> None:
    store = any_store
    bench = Judged(store)
    bench.champion(bench.train(60, 1.0))
    refused = bench.train(90, 2.0, seconds=0.5)
    bench.judge(refused)
    asked = deployments.deploy(store, "m", version=2)  # at level record verdicts are advice
    deployments.cancel_deployment(store, asked.id)
    with store.db.write("policies.level") as tx:
        models.set_level_in(tx, "m", "train")
    with pytest.raises(Refused, match="challenger: clearly more than 10 % worse") as raised:
        deployments.deploy(store, "m", version=2)
    assert raised.value.code == "gate-refused" and raised.value.hint is not None
    assert "stead deploy m@2 --override challenger --override size --reason" in raised.value.hint
    assert deployments.under_way(store, "m") is None
    with pytest.raises(Refused, match="gates refused m@2: size"):
        deployments.deploy(store, "m", version=2, override=["challenger"], reason="it is a test")
    with pytest.raises(InvalidInput, match="no gate"):
        deployments.deploy(store, "m", version=2, override=["chalenger"], reason="it is a test")
    deployments.deploy(store, "m", version=2, override=["challenger", "size"], reason="it is a test")
    entries = [entry for entry in ledger.list_entries(store, model="m") if entry.action == "gate.overridden"]
    assert {entry.summary.split()[0] for entry in entries} == {"challenger", "size"}
    assert {entry.reason for entry in entries} == {"it is a test"}


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (lambda row: row, None),
        (lambda row: {**row, "warm": row["warm"] * 1.8 + 32}, "warm"),
        (lambda row: {**row, "warm": None}, "warm"),
        (lambda row: {**row, "t": row["t"][:11] + "00" + row["t"][13:]}, "t"),
        (lambda row: {**row, "warm": -1.0} if row["t"].endswith("2012-03-20T05:00:00") else row, None),
    ],
)
def test_what_is_served_must_be_what_is_stored(store: Store, change: Any, column: str | None) -> None:
    bench = Judged(store)
    bench.champion(bench.train(60, 1.0))
    bench.serve(60, 90, 1, change)
    found = bench.judge(bench.train(90, 0.9))["stored"]
    assert found.outcome == ("passed" if column is None else "failed"), found
    assert found.evidence.get("column") == column and found.evidence["rows"] == 28 * 24
    if column == "warm" and "None" not in found.summary:
        assert "such as 50.0 served and 10.0 stored" in found.summary
    later = bench.judge(bench.train(150, 0.9))["stored"]
    assert later.outcome == "skipped" and "0 rows are both" in later.summary


def test_what_one_gate_said_of_many_versions(any_store: Store) -> None:
    bench = Judged(any_store)
    first = bench.train(60, 1.0)
    bench.judge(first)
    gates.keep_verdict(any_store, "m", first.version.version, Verdict("parity", "passed", "24 rows answer"))
    for _ in range(100):
        gates.keep_verdict(any_store, "m", first.version.version, Verdict("size", "passed", "small"))
    assert [each.summary for each in gates.list_verdicts(any_store, "m", gate="parity")] == ["24 rows answer"]
