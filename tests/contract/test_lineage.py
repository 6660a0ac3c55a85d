"""From data to decision and back, on each database: what was made of what, who answered what, and what was decided on it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from traffic import hours, log

from stead import datasets, deployments, jobs, ledger, lineage, models, predictions, runs
from stead.deployments.operations import switch
from stead.errors import InvalidInput, NotFound
from stead.predictions import Label
from stead.store import Store
from tests.contract.test_registry import environment, logged


def live(store: Store, tmp_path: Path, n: int, data: str, *, first: int) -> tuple[str, int, list[str]]:
    """A run on a data version, the version that it made, its deployment, and ten answers with six labels."""
    run = runs.start(store, project="bikes", name=f"training {n}")
    made = logged(store, tmp_path, b"model %d" % n, run_id=run.id)
    version = models.register(store, "bikes", made.id, inputs=[data])
    asked = deployments.deploy(store, "bikes", version=version.version)
    with store.db.write("deployments.switch") as tx:
        switch(tx, store, asked)
    for job in jobs.open_jobs(store, kind="deploy"):
        jobs.cancel_job(store, job.id)
    answers = log(store, hours(10, first=first, version=n), writer=f"gateway-{n}")
    predictions.add_labels(store, [Label(each, 100.0) for each in answers[:6]])
    return run.id, asked.id, answers


def add(store: Store, first: int, *, append: bool = False) -> str:
    return datasets.add(store, "bikes", pa.table({"count": [first, first + 1]}), append=append).ref


def ends(found: lineage.Lineage) -> set[str]:
    return {node.id for node in found.nodes if node.kind != "decision"}


def test_from_data_to_decision_and_back(any_store: Store, tmp_path: Path) -> None:
    store = any_store
    assert [add(store, 1), add(store, 3, append=True)] == ["bikes@1", "bikes@2"]
    run1, deployment1, _ = live(store, tmp_path, 1, "bikes@1", first=0)
    run2, deployment2, answers = live(store, tmp_path, 2, "bikes@2", first=10)
    predictions.refresh_performance(store)

    down = lineage.trace(store, "dataset:bikes@1", direction="down")
    assert ends(down) == {
        "dataset:bikes@1", "dataset:bikes@2", f"run:{run1}", "version:bikes@1", "version:bikes@2",
        f"deployment:{deployment1}", "predictions:bikes@1", "labels:bikes@1",
    }  # fmt: skip
    assert {node.id for node in down.of("dataset", "version") if node.edge} == {"dataset:bikes@2", "version:bikes@2"}
    told = {node.id: node.said for node in down.nodes}
    assert told["predictions:bikes@1"].startswith("10 rows") and told["labels:bikes@1"].startswith("6 rows, mae")
    decided = {ledger.get_entry(store, int(node.id.partition(":")[2])).action for node in down.of("decision")}
    assert {"version.registered", "route.changed"} <= decided
    arrows = {(arrow.source, arrow.target, arrow.relation) for arrow in down.arrows}
    assert (f"deployment:{deployment1}", "predictions:bikes@1", "answered") in arrows
    taken_over = next(
        e.id for e in ledger.list_entries(store) if e.subject == "route bikes" and e.evidence["after"] == 2
    )
    assert ("labels:bikes@1", f"decision:{taken_over}", "evidence for") in arrows
    assert {source for source, target, told in arrows if told == "evidence for"} == {"labels:bikes@1"}, (
        "none came later"
    )

    up = lineage.trace(store, answers[0], direction="up")
    assert up.start == f"prediction:{answers[0]}"
    assert ends(up) == {
        f"prediction:{answers[0]}", f"deployment:{deployment2}", "version:bikes@2", "version:bikes@1", f"run:{run2}",
        "dataset:bikes@2", "dataset:bikes@1", f"environment:{environment(store)}",
    }  # fmt: skip
    both = lineage.trace(store, f"decision:{taken_over}")
    assert {"labels:bikes@1", f"run:{run1}", f"run:{run2}"} <= ends(both) and "labels:bikes@2" not in ends(both)


def test_beyond_goes_round_the_circle(store: Store, tmp_path: Path) -> None:
    add(store, 1), add(store, 3, append=True)
    live(store, tmp_path, 1, "bikes@1", first=0)
    _, deployment2, _ = live(store, tmp_path, 2, "bikes@2", first=10)
    predictions.refresh_performance(store)
    assert f"deployment:{deployment2}" not in ends(lineage.trace(store, "dataset:bikes@1", direction="down"))
    whole = lineage.trace(store, "dataset:bikes@1", direction="down", beyond=True)
    assert {f"deployment:{deployment2}", "predictions:bikes@2", "labels:bikes@2"} <= ends(whole)
    assert not any(node.edge for node in whole.nodes) and not whole.cut


def test_which_predictions_came_from_a_data_version(store: Store, tmp_path: Path) -> None:
    add(store, 1), add(store, 3, append=True)
    _, _, first = live(store, tmp_path, 1, "bikes@1", first=0)
    _, _, second = live(store, tmp_path, 2, "bikes@2", first=10)
    predictions.refresh_performance(store)
    found = lineage.list_predictions_from(store, "data:bikes@2")
    assert [each.id for each in found] == sorted(second, reverse=True)
    assert {each.label for each in found} == {100.0, None}
    pages = lineage.list_predictions_from(store, "dataset:bikes@1", limit=4)
    rest = lineage.list_predictions_from(store, "dataset:bikes@1", before=pages[-1].id)
    assert [each.id for each in [*pages, *rest]] == sorted(first, reverse=True)
    assert lineage.list_predictions_from(store, "version:bikes@2", limit=1)[0].id in second
    assert predictions.get_prediction(store, first[0]).label == 100.0


def test_a_name_means_the_newest_and_what_is_gone_is_told(store: Store, tmp_path: Path) -> None:
    assert lineage.trace(store, add(store, 1)).start == "dataset:bikes@1"
    live(store, tmp_path, 1, "bikes@7", first=0)
    assert lineage.trace(store, "bikes").start == "version:bikes@1"
    told = {node.id: node.said for node in lineage.trace(store, "bikes", direction="up").nodes}
    assert told["dataset:bikes@7"] == "gone"


def test_what_has_no_lineage_is_said(store: Store) -> None:
    for ref, code in (
        ("nobody@3", "lineage-unknown"),
        ("dataset:nobody@3", "dataset-unknown"),
        ("version:nobody", "model-unknown"),
        ("deployment:7", "deployment-unknown"),
        ("decision:7", "decision-unknown"),
        ("f" * 32, "lineage-unknown"),
        ("run:../../etc", "run-unknown"),
        (f"prediction:{'f' * 32}.3", "prediction-unknown"),
    ):
        with pytest.raises(NotFound) as missing:
            lineage.trace(store, ref)
        assert missing.value.code == code, ref
    for ref, code in (
        ("datset:x@1", "lineage-ref-invalid"),
        ("deployment:x", "lineage-ref-invalid"),
        ("prediction:7", "prediction-id-invalid"),
        ("", "name-invalid"),
        ("a b@1", "name-invalid"),
    ):
        with pytest.raises(InvalidInput) as wrong:
            lineage.trace(store, ref)
        assert wrong.value.code == code, ref
    with pytest.raises(InvalidInput):
        lineage.trace(store, add(store, 1), direction="sideways")  # type: ignore[arg-type]
