"""What stead tells other tools of a version, read by their own libraries."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path

import openlineage.client.generated as generated
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub import ModelCard
from openlineage.client import event_v2

from stead import datasets, environments, gates, lineage, models, pipelines, predictions, runs
from stead.errors import NotFound
from stead.gates import Verdict
from stead.store import Store
from tests.contract.test_lineage import add, live
from tests.contract.test_registry import folder

EVIL = "a | b\n# not a head <script>"


@pytest.fixture
def made(store: Store, tmp_path: Path) -> str:
    add(store, 1)
    live(store, tmp_path, 1, "bikes@1", first=0)
    text = (
        b"Six==1.0 \\\n    --hash=sha256:"
        + b"0" * 64
        + b" \\\n    --hash=sha256:"
        + b"1" * 64
        + b"\nnumpy==2.0 --hash=sha256:"
        + b"2" * 64
        + b"\n"
    )
    lock = environments.add(store, lock=store.blobs.put(text), python="3.11", platform="linux-x86_64").digest
    run = runs.start(
        store,
        project="bikes",
        name="second",
        source={"git": {"commit": "4" * 40, "remote": "https://git.example/x", "branch": "main"}},
    )
    info = {"trained_on": {"dataset": "bikes@1", "since": None, "until": 86_400_000}, "libraries": {"six": "1.0"}}
    logged = models.log_model(
        store,
        folder(tmp_path, b"2"),
        name="bikes",
        environment=lock,
        run_id=run.id,
        info=info,
        metrics={"holdout_random": 0.125, "holdout_time": 0.25},
    )
    version = models.register(store, "bikes", logged.id, inputs=["bikes@1"], description=EVIL)
    gates.keep_verdict(store, "bikes", version.version, Verdict("size", "passed", EVIL))
    runs.end(store, run.id)
    predictions.refresh_performance(store)
    return version.ref


def test_a_bill_of_materials_is_cyclonedx(store: Store, made: str) -> None:
    found = lineage.bom(store, made)
    errors = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(found))
    assert errors is None, errors
    model = found["metadata"]["component"]
    assert (model["name"], model["version"]) == ("bikes", "2")
    metrics = {
        each["slice"]: float(each["value"]) for each in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    }
    assert metrics == {"hold-out at random": 0.125, "hold-out, newest rows": 0.25}
    parts = {each["name"]: each for each in found["components"]}
    assert [each["content"] for each in parts["six"]["hashes"]] == ["0" * 64, "1" * 64]
    assert parts["numpy"]["purl"] == "pkg:pypi/numpy@2.0"
    assert parts["bikes"]["hashes"][0]["content"] == datasets.get_version(store, "bikes@1").manifest
    assert lineage.bom(store, made) == found


def test_a_model_card_is_read_by_the_hub(store: Store, made: str) -> None:
    text = lineage.model_card(store, made)
    card = ModelCard(text)
    card.data.model_name = card.data.model_name or ""
    results = card.data.eval_results
    assert results is not None
    assert {(each.metric_type, each.metric_value, each.dataset_name) for each in results} == {
        ("mae", 0.125, "bikes@1"), ("mae", 0.25, "bikes@1"),
    }  # fmt: skip
    assert card.data.pipeline_tag == "tabular-regression" and card.data.library_name == "sklearn"
    assert "It holds a pickle" in card.text and "stead deploy bikes@2" in card.text
    assert "a \\| b # not a head" in card.text, "what people write stays in its cell"
    assert "in service" not in card.text and "in service" in lineage.model_card(store, "bikes@1").lower()


def test_what_stead_did_not_train_is_not_said_to_be_made_again(store: Store, made: str, tmp_path: Path) -> None:
    lock = models.get_logged_model(store, models.get_version(store, made).logged_model).environment
    logged = models.log_model(store, folder(tmp_path, b"3"), name="bikes", environment=lock)
    ref = models.register(store, "bikes", logged.id).ref
    assert f"stead reproduce {made}" in lineage.model_card(store, made)
    assert "stead reproduce" not in lineage.model_card(store, ref)
    with pytest.raises(NotFound) as raised:
        pipelines.reproduce(store, ref)
    assert "its recipe is not recorded" in raised.value.message and "stead init" in raised.value.hint


def test_runs_are_openlineage_events(store: Store, made: str) -> None:
    events = lineage.openlineage(store, made)
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"]
    last = events[-1]
    assert [each["name"] for each in last["inputs"]] == ["datasets/bikes"]
    assert [(each["name"], each["facets"]["version"]["datasetVersion"]) for each in last["outputs"]] == [
        ("models/bikes", "2")
    ]
    assert last["job"]["facets"]["sourceCodeLocation"]["version"] == "4" * 40
    for event in events:
        event_v2.RunEvent(
            eventTime=event["eventTime"],
            eventType=event_v2.RunState(event["eventType"]),
            run=event_v2.Run(event["run"]["runId"]),
            job=event_v2.Job(event["job"]["namespace"], event["job"]["name"]),
            producer=event["producer"],
        )
        assert event["schemaURL"].endswith("RunEvent")
        told = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
        for facet in [facet for each in told for facet in each["facets"].values()]:
            name = facet["_schemaURL"].rpartition("/")[2]
            kind = _classes()[name]
            kind(**{key: value for key, value in facet.items() if not key.startswith("_")})


def test_a_failed_run_says_why(store: Store) -> None:
    run = runs.start(store, project="p", name="n")
    runs.end(store, run.id, status="failed", error="out of memory")
    start, end = lineage.openlineage(store, f"run:{run.id}")
    assert start["eventType"] == "START" and end["eventType"] == "FAIL"
    assert end["run"]["facets"]["errorMessage"]["message"] == "out of memory"


def test_what_is_not_there_is_said(store: Store) -> None:
    for export in (lineage.bom, lineage.model_card, lineage.openlineage):
        with pytest.raises(NotFound):
            export(store, "nobody@1")


def _classes() -> dict[str, type]:
    """The facets of the OpenLineage client, by name."""
    found: dict[str, type] = {}
    for module in pkgutil.iter_modules(generated.__path__):
        loaded = importlib.import_module(f"openlineage.client.generated.{module.name}")
        found |= {name: kind for name, kind in vars(loaded).items() if isinstance(kind, type)}
    return found
