"""What every CycloneDX bill of materials says in the same words: the document around it, and a package with its hashes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from stead import __version__


def bill(
    spec: str,
    *,
    seed: str,
    created: str,
    about: Mapping[str, Any],
    parts: Iterable[Mapping[str, Any]],
    properties: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A bill in a version of CycloneDX. Its serial number follows from the seed, so the same thing has the same bill."""
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{spec}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": spec,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, seed)}",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "tools": {"components": [{"type": "application", "name": "stead", "version": __version__}]},
            "component": dict(about),
            **({"properties": named(properties)} if properties else {}),
        },
        "components": list(parts),
    }


def package(
    name: str, version: str, hashes: Iterable[tuple[str, str]] = (), *, kind: str = "pypi", qualifiers: str = ""
) -> dict[str, Any]:
    """A package by its purl; hashes are algorithm, as CycloneDX names it, and digest.

    >>> package("torch", "2.4+cpu")["purl"]
    'pkg:pypi/torch@2.4%2Bcpu'
    """
    purl = f"pkg:{kind}/{quote(name)}@{quote(version)}{qualifiers}"
    known = [{"alg": algorithm, "content": digest} for algorithm, digest in hashes]
    found: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return found | ({"hashes": known} if known else {})


def named(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Properties of stead's own."""
    return [{"name": f"stead:{name}", "value": value} for name, value in values.items()]
