"""What the rules let go, what they never do, and that nothing dangles afterwards."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
import sqlalchemy as sa

from stead import care, datasets, environments, jobs, ledger, models, predictions, runs
from stead.care import Rules
from stead.datasets.tables import dataset_versions
from stead.errors import Conflict, InvalidInput, NotFound
from stead.models.lineage import link
from stead.pipelines.tables import step_results
from stead.runs.tables import runs as runs_table
from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.store import Store, hold_bytes
from tests.contract.traffic import DAY, hours, label, log

YEARS = 3 * 365 * DAY
ALL = Rules("400d", "2y", "2y")


def age(store: Store) -> None:
    """Make everything that is in the store now three years old."""
    then = now_ms() - YEARS
    with store.db.write("care.record") as tx:
        tx.execute(sa.update(runs_table).values(started_at=then, ended_at=then))
        tx.execute(sa.update(dataset_versions).values(created_at=then))
        tx.execute(sa.update(step_results).values(at=then))
    for path in Path(store.blobs.local or "").glob("??/*"):
        os.utime(path, (then / 1000, then / 1000))


def a_run(store: Store, name: str, parent: str | None = None) -> str:
    run = runs.start(store, project="p", name=name, parent=parent)
    runs.log(store, run.id, params={"a": "1"}, metrics={"loss": 1.0}, step=1)
    runs.end(store, run.id)
    return run.id


def kept_and_old(store: Store) -> dict[str, str]:
    """A registered version with its run, data and golden rows; beside it what nothing needs."""
    for n in range(4):
        datasets.add(store, "trips", pa.table({"n": [n]}))
    used, alone, parent = a_run(store, "used"), a_run(store, "alone"), a_run(store, "parent")
    child = a_run(store, "child", parent)
    golden, scratch = store.blobs.put(b"golden rows"), store.blobs.put(b"nobody names this")
    folder = store.root / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {python_function: {loader_module: mine}}\n")
    lock = environments.add(
        store, lock=store.blobs.put(b"msgspec==0.20 --hash=sha256:" + b"0" * 64 + b"\n"), python="3.11", platform="p"
    ).digest
    logged = models.log_model(
        store, folder, name="bikes", run_id=used, environment=lock, code=None, metrics={}, info={"golden": golden}
    )
    models.register(store, "bikes", logged.id, serving_environment=lock, inputs=["dataset:trips@2"])
    with store.db.write("care.record") as tx:
        link(tx, "dataset:trips@1", f"run:{alone}", "read by")
        values = {"step": "train", "seconds": 1.0, "job_id": "j", "at": 0}
        tx.execute(sa.insert(step_results).values(key="k", outputs={"model": store.blobs.put(b"a result")}, **values))
    return {"used": used, "alone": alone, "parent": parent, "child": child, "golden": golden, "scratch": scratch}


def test_what_nothing_needs_goes_and_what_something_needs_stays(any_store: Store) -> None:
    store = any_store
    made = kept_and_old(store)
    age(store)
    young = a_run(store, "young", made["parent"])
    fresh = store.blobs.put(b"just stored, named in a moment")
    assert not care.prune(store, rules=Rules(), dry_run=True).anything
    before = {each.digest for each in store.blobs.all()}
    said = care.prune(store, rules=ALL, dry_run=True)
    assert said.runs == sorted([made["alone"], made["child"]])
    assert (said.data, said.results, said.requests) == (["trips@1", "trips@3"], 1, 0)
    assert {each.digest for each in store.blobs.all()} == before and len(ledger.list_entries(store)) == 1
    done = care.prune(store, rules=ALL)
    assert (done.runs, done.data, done.bytes) == (said.runs, said.data, said.bytes) and done.bytes > 0
    assert care.check(store, contents=True) == []
    assert {run.id for run in runs.list_runs(store).runs} == {made["used"], made["parent"], young}
    assert [v.version for v in datasets.list_versions(store, "trips")] == [4, 2]
    for version in (2, 4):
        assert datasets.read(store, f"trips@{version}")["n"].to_pylist() == [version - 1]
    assert store.blobs.get(made["golden"]) and store.blobs.get(fresh)
    with pytest.raises(NotFound):
        store.blobs.get(made["scratch"])
    newest = ledger.list_entries(store)[0]
    assert (newest.action, newest.evidence["runs"], newest.evidence["data"]) == ("store.pruned", 2, said.data)
    assert not care.prune(store, rules=ALL).anything and len(ledger.list_entries(store)) == 2
    assert datasets.add(store, "trips", pa.table({"n": [9]})).version == 5, "numbers are not given twice"


def test_a_job_under_way_keeps_its_data_and_the_results_that_it_goes_on_with(store: Store) -> None:
    kept_and_old(store)
    job = jobs.enqueue(store, "train", {"data": "trips@3"}, model="bikes")
    age(store)
    said = care.prune(store, rules=ALL)
    assert said.data == ["trips@1"] and said.results == 0
    jobs.cancel_job(store, job.id)
    assert care.prune(store, rules=ALL).data == ["trips@3"]


def test_old_predictions_go_by_day_with_their_labels(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store = any_store
    old = [msgspec.structs.replace(each, received_at=now_ms() - YEARS) for each in hours(30)]
    replayed = hours(2, first=100)  # of 2012, too, but they came today
    label(store, log(store, [*old, *replayed]), [1.0] * 32)
    aside = predictions.PredictionLog(store, "gateway-1", kind="shadows")
    aside.append([msgspec.structs.replace(each, version=2) for each in old])
    aside.close()
    predictions.compact(store)
    predictions.refresh_performance(store)
    sums = predictions.performance(store, "bikes")
    said = care.prune(store, rules=Rules(predictions="60d"), dry_run=True)
    assert said.requests == 30 and said.bytes > 0 and predictions.counts(store, "bikes").logged == 32
    with hold_bytes(store, "backup"), pytest.raises(Conflict) as waits:
        care.prune(store, rules=Rules(predictions="60d"))
    assert waits.value.code == "prune-waits"
    assert care.prune(store, rules=Rules(predictions="60d")).requests == 30
    assert predictions.counts(store, "bikes") == predictions.Counts(2, 2, 0, 2, 0)
    assert predictions.read_scores(store, "bikes", since=0, until=1 << 60).num_rows == 2
    predictions.refresh_performance(store)
    assert predictions.performance(store, "bikes") == sums, "sums by day stay"
    assert care.check(store, contents=True) == [] and not care.prune(store, rules=Rules("60d")).anything


def test_old_labels_whose_prediction_never_came_go_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (known,) = log(store, hours(1))
    lost = new_id()
    with monkeypatch.context() as past:
        then = time.time_ns() - YEARS * 1_000_000
        past.setattr("time.time_ns", lambda: then)
        assert label(store, [known, lost], [1.0, 2.0]) == 1
        predictions.compact(store)
        assert label(store, [lost], [3.0]) == 1
    young = new_id()
    assert label(store, [young], [4.0]) == 1
    predictions.compact(store)
    said = care.prune(store, rules=Rules(predictions="60d"), dry_run=True)
    assert said.requests == 1
    assert care.prune(store, rules=Rules(predictions="60d")).requests == 1
    assert predictions.counts(store, "bikes").labelled == 1
    log(store, [msgspec.structs.replace(each, id=one) for each, one in zip(hours(2), (lost, young), strict=True)])
    assert predictions.counts(store, "bikes").labelled == 2, "the label of the young one waited for it"
    assert care.check(store, contents=True) == [] and not care.prune(store, rules=Rules("60d")).anything


@pytest.mark.parametrize("rules", [Rules(predictions="30d"), Rules(runs="soon"), Rules(data="1d")])
def test_a_rule_that_is_no_age_or_takes_too_much_is_refused(rules: Rules, store: Store) -> None:
    with pytest.raises(InvalidInput) as refused:
        care.prune(store, rules=rules)
    assert refused.value.code == "setting-invalid"


def test_bytes_that_are_stored_again_while_they_are_let_go_stay(store: Store) -> None:
    digest = store.blobs.put(b"wanted again")
    age(store)
    (listed,) = store.blobs.all()
    store.blobs.put(b"wanted again")
    assert not store.blobs.forget(listed)
    assert store.blobs.get(digest) == b"wanted again"
    (again,) = store.blobs.all()
    assert store.blobs.forget(again) and store.blobs.forget(again)
