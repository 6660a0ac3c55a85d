"""From what a person writes to the thing that is meant, and back to words."""

from __future__ import annotations

from stead import datasets, deployments, environments, ledger, models, predictions, runs
from stead.errors import InvalidInput, NotFound, did_you_mean
from stead.lineage.types import KINDS
from stead.predictions import is_prediction_id
from stead.store import Store

ALIASES = {"data": "dataset", "model": "version"}
FORMS = "NAME@N, dataset:NAME@N, version:NAME@N, run:ID, environment:ID, deployment:N, prediction:ID, predictions:NAME@N, labels:NAME@N, decision:N"


def resolve(store: Store, ref: str) -> str:
    """The id of the node that is meant: `demand@3` is the model's version where there is one, else the dataset's; names alone mean the newest.

    Raises NotFound (`lineage-unknown`, or that of its kind), InvalidInput (`lineage-ref-invalid`).
    """
    kind, colon, name = ref.strip().partition(":")
    if colon:
        kind = ALIASES.get(kind, kind)
        if kind not in KINDS or not name:
            hint = did_you_mean(kind, [*KINDS, *ALIASES]) or f"one of {FORMS}"
            raise InvalidInput("lineage-ref-invalid", f"{ref!r} names nothing that has a lineage", hint=hint)
        return _known(store, kind, name)
    name = ref.strip()
    kinds = ("run", "prediction") if is_prediction_id(name) else ("version", "dataset")
    for each in kinds:
        try:
            return _known(store, each, name)
        except NotFound:
            continue
    raise NotFound("lineage-unknown", f"there is no {' and no '.join(kinds)} {name!r}", hint=f"name it by {FORMS}")


def _known(store: Store, kind: str, name: str) -> str:
    """The id of something that is there."""
    if kind == "dataset":
        return f"dataset:{datasets.get_version(store, name).ref}"
    if kind in ("version", "predictions", "labels"):
        return f"{kind}:{_version(store, name)}"
    if kind == "run":
        return f"run:{runs.get_run(store, name).id}"
    if kind == "environment":
        return f"environment:{environments.get(store, name).digest}"
    if kind in ("prediction", "label"):
        return f"{kind}:{predictions.get_prediction(store, name).id}"
    number = _number(kind, name)
    if kind == "deployment":
        return f"deployment:{deployments.get_deployment(store, number).id}"
    return f"decision:{ledger.get_entry(store, number).id}"


def _version(store: Store, name: str) -> str:
    if "@" in name:
        return models.get_version(store, name).ref
    found = models.list_versions(store, name, limit=1)
    if not found:
        raise NotFound("lineage-unknown", f"{name} has no version yet", hint=f"stead train {name}")
    return found[0].ref


def _number(kind: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidInput("lineage-ref-invalid", f"{text!r} is no number of a {kind}", hint=f"{kind}:12")
    return int(text)
