"""What is known of each node, in a few words."""

from __future__ import annotations

from collections.abc import Mapping

from stead import datasets, environments, ledger, models, predictions, runs
from stead.config.units import figure, number
from stead.errors import NotFound
from stead.lineage.records import OfModel, Records
from stead.lineage.types import Node
from stead.runtime.clock import to_iso
from stead.store import Store


def described(records: Records, nodes: Mapping[str, bool]) -> list[Node]:
    """The nodes of a trace in words; of what was let go since, that."""
    out = []
    for end, edge in nodes.items():
        kind, _, name = end.partition(":")
        try:
            title, said, at = _told(records, kind, name)
        except NotFound:
            title, said, at = name, "gone", None
        out.append(Node(end, kind, title, said, at, edge))
    return out


def _told(records: Records, kind: str, name: str) -> tuple[str, str, int | None]:
    """Name, words, moment."""
    store = records.store
    ref, _, version = name.partition("@")
    if kind == "dataset":
        return _dataset(store, name)
    if kind == "environment":
        environment = environments.get(store, name)
        said = f"Python {environment.python}, {len(environment.packages)} packages"
        return f"env {name[:8]}", said, environment.created_at
    if kind == "run":
        run = runs.get_run(store, name)
        return f"run {run.name or name[-8:]}", run.status, run.started_at
    if kind == "version":
        return _version(records, name)
    if kind == "deployment":
        model = next((each for each in records.models.values() if int(name) in each.deployments), None)
        if model is None:
            raise NotFound("deployment-unknown", f"there is no deployment {name}")
        deployment = model.deployments[int(name)]
        return f"deployment {name}", deployment.state.replace("_", " "), deployment.created_at
    if kind in ("predictions", "labels"):
        return (f"{kind} of {ref} v{version}", *_answers(records.of(ref), int(version), kind))
    if kind in ("prediction", "label"):
        return _single(store, kind, name)
    entry = ledger.get_entry(store, int(name))
    return f"decision {name}", entry.summary, entry.at


def _dataset(store: Store, name: str) -> tuple[str, str, int | None]:
    found = datasets.get_version(store, name)
    rows = f"{number(found.rows)} rows" if found.rows is not None else f"{found.parts} files"
    span = f", {_day(found.time_min)} to {_day(found.time_max)}" if found.time_min is not None else ""
    return found.ref, rows + span, found.created_at


def _version(records: Records, name: str) -> tuple[str, str, int | None]:
    version = models.get_version(records.store, name)
    metrics = models.get_logged_model(records.store, version.logged_model).metrics
    expected = metrics.get("holdout_time")
    said = f"hold-out {figure(expected)}" if expected is not None else ""
    return f"{version.model} v{version.version}", said, version.created_at


def _answers(model: OfModel, version: int, kind: str) -> tuple[str, int | None]:
    days = model.days.get(version, [])
    if kind == "predictions":
        span = f", {_day(days[0].day)} to {_day(days[-1].day)}" if days else ""
        return f"{number(sum(day.predictions for day in days))} rows{span}", days[0].day if days else None
    weight = sum(day.weight_sum for day in days)
    loss = f", {days[0].measure} {figure(sum(day.loss_sum for day in days) / weight)}" if weight else ""
    return f"{number(sum(day.labelled for day in days))} rows{loss}", days[0].day if days else None


def _single(store: Store, kind: str, name: str) -> tuple[str, str, int | None]:
    found = predictions.get_prediction(store, name)
    if kind == "prediction":
        return f"prediction {name[:8]}…", f"{found.output} by {found.model} v{found.version}", found.received_at
    return f"label of {name[:8]}…", str(found.label), found.label_at


def _day(at: int | None) -> str:
    return "" if at is None else to_iso(at)[:10]
