"""A version as a CycloneDX bill of materials: the model with its card, the data it learned from, all that its environment holds.

The form is CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/): the model is a component of type `machine-learning-model` with a `modelCard`,
data versions are of type `data`, packages are libraries with the hashes of their lock.
"""

from __future__ import annotations

import re
from typing import Any

from stead import datasets
from stead.environments import materials
from stead.environments.lockfile import blocks
from stead.errors import NotFound
from stead.lineage.evaluated import Evaluated, evaluated
from stead.runtime.clock import to_iso
from stead.store import Store

_HASH = re.compile(r"--hash=(sha256|sha384|sha512):([0-9a-f]+)")
_ALGORITHMS = {"sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}


def bom(store: Store, ref: str) -> dict[str, Any]:
    """The bill of materials of a model version, as a CycloneDX document. Raises NotFound."""
    found = evaluated(store, ref)
    version = found.version
    me = f"pkg:generic/{version.model}@{version.version}"
    libraries = packages(store.blobs.get(found.environment.lock).decode(), found.environment.packages)
    data = _data(store, str(found.trained_on.get("dataset") or ""))
    document = materials.bill(
        "1.6",
        seed=f"stead:{found.logged.id}:{version.ref}",
        created=to_iso(version.created_at),
        about={
            "type": "machine-learning-model",
            "bom-ref": me,
            "name": version.model,
            "version": str(version.version),
            **({"description": version.description} if version.description else {}),
            "modelCard": _card(found, data),
            "properties": _properties(found),
        },
        parts=[*data, *libraries],
    )
    return document | {"dependencies": [{"ref": me, "dependsOn": [each["bom-ref"] for each in [*data, *libraries]]}]}


def packages(lock: str, names: dict[str, str]) -> list[dict[str, Any]]:
    """The packages of a lock as components, by name; `names` are those that are installed, with their versions.

    >>> packages("numpy==2.0 --hash=sha256:ab", {"numpy": "2.0"})[0]["purl"]
    'pkg:pypi/numpy@2.0'
    """
    lines = blocks(lock)
    return [
        materials.package(
            name,
            version,
            [(_ALGORITHMS[kind], digest) for kind, digest in _HASH.findall(lines.get(name, ""))],
        )
        for name, version in sorted(names.items())
    ]


def _data(store: Store, ref: str) -> list[dict[str, Any]]:
    """The data version that it learned from."""
    if not ref:
        return []
    name, _, number = ref.partition("@")
    known: list[dict[str, str]] = []
    try:
        found = datasets.get_version(store, ref)
        known = [{"alg": "BLAKE3", "content": found.manifest}]
    except NotFound:
        pass
    return [
        {
            "type": "data",
            "bom-ref": f"dataset:{ref}",
            "name": name,
            "version": number,
            "hashes": known,
            "data": [{"type": "dataset", "name": ref}],
        }
    ]


def _card(found: Evaluated, data: list[dict[str, Any]]) -> dict[str, Any]:
    signature = found.logged.signature or {}
    metrics = [{"type": found.model.loss, "value": str(value), "slice": told} for told, value in found.losses.items()]
    parameters: dict[str, Any] = {
        "approach": {"type": "supervised"},
        "task": found.task,
        "architectureFamily": found.logged.flavor,
        "datasets": [{"ref": each["bom-ref"]} for each in data],
        "inputs": [
            {"format": f"{each.get('name', '')}: {each.get('type', '')}"} for each in signature.get("inputs", [])
        ],
        "outputs": [{"format": str(each.get("type", ""))} for each in signature.get("outputs", [])],
    }
    return {"modelParameters": parameters, "quantitativeAnalysis": {"performanceMetrics": metrics}}


def _properties(found: Evaluated) -> list[dict[str, str]]:
    values = {
        "environment": found.environment.digest,
        "python": found.environment.python,
        "platform": found.environment.platform,
        "run": found.version.run_id or "",
        "pickle": "true" if found.logged.info.get("pickle") else "false",
        **{f"file:{path}": f"BLAKE3 {file.digest}" for path, file in sorted(found.logged.files.items())},
    }
    return materials.named(values)
