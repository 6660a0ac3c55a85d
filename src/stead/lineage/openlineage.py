"""Runs as OpenLineage events: what read which data version and made which model version.

The form is that of the specification 2-0-2 (https://openlineage.io/spec/2-0-2/OpenLineage.json) and of its facets by the versions
named below. A dataset is `datasets/NAME` in the namespace `stead`, a model `models/NAME`; their versions stand in the version facet.
"""

from __future__ import annotations

import uuid
from typing import Any

from stead import datasets, models, runs
from stead.errors import NotFound
from stead.lineage.tracing import trace
from stead.runs import Run
from stead.runtime.clock import to_iso
from stead.store import Store

SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACETS = "https://openlineage.io/spec/facets"
PRODUCER = "https://pypi.org/project/stead/"
NAMESPACE = "stead"
ENDS = {"finished": "COMPLETE", "failed": "FAIL", "killed": "ABORT"}


def openlineage(store: Store, ref: str) -> list[dict[str, Any]]:
    """The OpenLineage events of all runs that led to a thing or came of it: one of the start, one of the end of each, by time.

    Raises as `trace` does.
    """
    events = []
    for node in trace(store, ref).of("run"):
        try:
            run = runs.get_run(store, node.id.partition(":")[2])
        except NotFound:
            continue
        events.append(_event(store, run, "START", run.started_at))
        if run.status in ENDS:
            events.append(_event(store, run, ENDS[run.status], run.ended_at or run.beat_at))
    return sorted(events, key=lambda event: str(event["eventTime"]))


def _event(store: Store, run: Run, kind: str, at: int) -> dict[str, Any]:
    made = [
        arrow.target.removeprefix("version:")
        for arrow in models.arrows_of(store, [f"run:{run.id}"])
        if arrow.target.startswith("version:")
    ]
    facets: dict[str, Any] = {}
    if run.error is not None and kind == "FAIL":
        facets["errorMessage"] = _facet(
            "1-0-1", "ErrorMessageRunFacet", message=run.error, programmingLanguage="python"
        )
    return {
        "eventType": kind,
        "eventTime": to_iso(at),
        "producer": PRODUCER,
        "schemaURL": SPEC,
        "run": {"runId": str(uuid.UUID(hex=run.id)), "facets": facets},
        "job": {"namespace": NAMESPACE, "name": f"{run.experiment}/{run.name}", "facets": _job(run)},
        "inputs": [_dataset(store, ref) for ref in run.inputs or _read(store, run)],
        "outputs": [_model(store, ref) for ref in made] if kind == "COMPLETE" else [],
    }


def _read(store: Store, run: Run) -> list[str]:
    arrows = models.arrows_of(store, [f"run:{run.id}"])
    return [arrow.source.removeprefix("dataset:") for arrow in arrows if arrow.source.startswith("dataset:")]


def _job(run: Run) -> dict[str, Any]:
    facets = {
        "jobType": _facet("2-0-4", "JobTypeJobFacet", processingType="BATCH", integration="STEAD", jobType="TRAINING")
    }
    git = run.source.get("git") or {}
    if git.get("commit") and git.get("remote"):
        facets["sourceCodeLocation"] = _facet(
            "1-1-0",
            "SourceCodeLocationJobFacet",
            type="git",
            url=str(git["remote"]),
            repoUrl=str(git["remote"]),
            version=str(git["commit"]),
            branch=str(git.get("branch") or ""),
            path=str(run.source.get("entry") or ""),
        )
    return facets


def _dataset(store: Store, ref: str) -> dict[str, Any]:
    name, _, number = ref.partition("@")
    facets = {"version": _version(number)}
    try:
        found = datasets.get_version(store, ref)
    except NotFound:
        return {"namespace": NAMESPACE, "name": f"datasets/{name}", "facets": facets}
    fields = [{"name": column.name, "type": column.type} for column in found.schema]
    facets["schema"] = _facet("1-2-0", "SchemaDatasetFacet", fields=fields)
    return {"namespace": NAMESPACE, "name": f"datasets/{name}", "facets": facets}


def _model(store: Store, ref: str) -> dict[str, Any]:
    version = models.get_version(store, ref)
    logged = models.get_logged_model(store, version.logged_model)
    fields = [
        {"name": str(each.get("name", "")), "type": str(each.get("type", ""))}
        for each in (logged.signature or {}).get("inputs", [])
    ]
    facets = {"version": _version(str(version.version)), "schema": _facet("1-2-0", "SchemaDatasetFacet", fields=fields)}
    return {"namespace": NAMESPACE, "name": f"models/{version.model}", "facets": facets}


def _version(number: str) -> dict[str, Any]:
    return _facet("1-0-1", "DatasetVersionDatasetFacet", datasetVersion=number)


def _facet(version: str, name: str, /, **values: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"{FACETS}/{version}/{name}.json#/$defs/{name}", **values}
