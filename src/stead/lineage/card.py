"""A version as a model card: Markdown for people, with the head that the Hugging Face Hub reads.

The head follows the Hub's model card metadata (`library_name`, `pipeline_tag`, `tags`, `metrics` and the results as `model-index`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from stead.config.units import figure, number, size_text
from stead.lineage.evaluated import Evaluated, evaluated
from stead.runtime.clock import to_iso
from stead.store import Store

LIBRARIES = {"sklearn": "sklearn", "python_function": "mlflow"}
SHOWN = 30


def model_card(store: Store, ref: str) -> str:
    """The model card of a version: what it is, what it takes, what it learned from, how good it is, and where it came from. Raises NotFound."""
    found = evaluated(store, ref)
    return "\n".join([*_head(found), "", *_body(found)]) + "\n"


def _head(found: Evaluated) -> list[str]:
    """YAML, each value written as JSON, which is YAML too."""
    version = found.version
    kind = f"tabular-{found.task}"
    data = str(found.trained_on.get("dataset") or "unknown")
    metrics = [
        {"type": found.model.loss, "value": value, "name": f"{found.model.loss}, {told}"}
        for told, value in found.losses.items()
    ]
    result = {"task": {"type": kind}, "dataset": {"type": "tabular", "name": data}, "metrics": metrics}
    head: dict[str, Any] = {
        "library_name": LIBRARIES.get(found.logged.flavor, found.logged.flavor),
        "pipeline_tag": kind,
        "tags": ["stead", kind, found.logged.flavor],
        "metrics": [found.model.loss],
    }
    if metrics:
        head["model-index"] = [{"name": f"{version.model} v{version.version}", "results": [result]}]
    return ["---", *(f"{name}: {json.dumps(value)}" for name, value in head.items()), "---"]


def _body(found: Evaluated) -> Iterator[str]:
    version, logged, model = found.version, found.logged, found.model
    yield f"# {version.model} v{version.version}"
    yield ""
    if text := version.description or model.description:
        yield text
        yield ""
    target = model.settings.get("target")
    predicts = f" that predicts `{target}`" if target else ""
    size = size_text(sum(file.bytes for file in logged.files.values()))
    yield f"A {logged.flavor} model for {found.task}{predicts}, {size}, registered by {version.created_by} on {_day(version.created_at)}."
    if logged.info.get("pickle"):
        yield "It holds a pickle: loading it runs its code, so load it only where you trust its makers."
    yield ""
    yield from _evaluation(found)
    yield from _data(found)
    yield from _use(found)
    yield from _origin(found)


def _evaluation(found: Evaluated) -> Iterator[str]:
    yield "## Evaluation"
    yield ""
    if found.losses:
        yield f"| rows | {found.model.loss} |"
        yield "|---|---|"
        for told, value in found.losses.items():
            yield f"| {told} | {figure(value)} |"
        yield ""
        yield "Rows held out at random tell how well it fits a world that stands still, the newest rows what to expect after its training."
    else:
        yield "No loss was recorded."
    if found.days:
        rows, labelled = sum(day.predictions for day in found.days), sum(day.labelled for day in found.days)
        span = f"{_day(found.days[0].day)} to {_day(found.days[-1].day)}"
        yield f"In service it answered {number(rows)} rows from {span}, of which {number(labelled)} have a label."
    yield ""
    if found.verdicts:
        yield "| gate | verdict | evidence |"
        yield "|---|---|---|"
        for verdict in found.verdicts:
            yield f"| {verdict.gate} | {verdict.outcome} | {_cell(verdict.summary)} |"
        yield ""


def _data(found: Evaluated) -> Iterator[str]:
    yield "## Data"
    yield ""
    learned = found.trained_on
    if learned.get("dataset"):
        since, until = learned.get("since"), learned.get("until")
        span = (f", from {_day(since)}" if since is not None else "") + (
            f", before {_day(until)}" if until is not None else ""
        )
        yield f"It learned from the data version `{learned['dataset']}`{span}."
    else:
        yield "What it learned from was not recorded."
    inputs = (found.logged.signature or {}).get("inputs", [])
    if inputs:
        yield ""
        yield "| input | type | may be missing |"
        yield "|---|---|---|"
        for each in inputs[:SHOWN]:
            yield f"| {_cell(each.get('name', ''))} | {each.get('type', '')} | {'no' if each.get('required', True) else 'yes'} |"
        if len(inputs) > SHOWN:
            yield f"| {len(inputs) - SHOWN} more | | |"
    yield ""


def _use(found: Evaluated) -> Iterator[str]:
    ref = found.version.ref
    yield "## Use"
    yield ""
    yield "```sh"
    yield f"stead models get {ref} {found.version.model}  # a folder in the MLmodel layout: mlflow.pyfunc.load_model reads it"
    yield f"stead deploy {ref}"
    yield "```"
    yield ""
    libraries = found.logged.info.get("libraries") or {}
    told = ", ".join(f"{name} {version}" for name, version in sorted(libraries.items()))
    yield f"Python {found.environment.python}" + (f"; {told}." if told else ".")
    yield ""


def _origin(found: Evaluated) -> Iterator[str]:
    yield "## Origin"
    yield ""
    yield f"- environment `{found.environment.digest[:12]}`, {len(found.environment.packages)} packages locked with hashes, {found.environment.platform}"
    if found.version.run_id:
        yield f"- run `{found.version.run_id}`"
    if found.again:
        yield f"- made again on {_day(found.again[0].at)}: {found.again[0].said}"
    elif "trained_on" in found.logged.info:
        yield f"- not made again yet: `stead reproduce {found.version.ref}`"


def _cell(text: object) -> str:
    """Text that stays in its cell."""
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("\r", " ")


def _day(at: int) -> str:
    return to_iso(at)[:10]
