"""The bill of materials of an image, as CycloneDX 1.5: its packages with the hashes of what they came from."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from stead.images.types import Base

PATH = "opt/stead/sbom.cdx.json"


def bill(
    *,
    name: str,
    version: str,
    created: str,
    python: Sequence[dict[str, Any]],
    base: Base,
    files: Sequence[tuple[str, str, str]],
    stead: str,
) -> dict[str, Any]:
    """`files` are the model's own: path, hash algorithm as CycloneDX names it, hash."""
    parts = [_python(package) for package in python]
    parts += [_debian(package) for package in base.packages]
    parts += [
        {"type": "file", "bom-ref": f"file:{path}", "name": path, "hashes": [{"alg": kind, "content": digest}]}
        for path, kind, digest in files
    ]
    parts.sort(key=lambda part: part["bom-ref"])
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "tools": {"components": [{"type": "application", "name": "stead", "version": stead}]},
            "component": {"type": "container", "bom-ref": "image", "name": name, "version": version},
            "properties": [{"name": "stead:base", "value": base.digest}],
        },
        "components": parts,
    }
    serial = uuid.uuid5(
        uuid.NAMESPACE_URL, repr(sorted((part["bom-ref"], repr(part)) for part in parts)) + base.digest + name
    )
    return {**document, "serialNumber": f"urn:uuid:{serial}"}


def _python(package: dict[str, Any]) -> dict[str, Any]:
    purl = f"pkg:pypi/{quote(package['name'])}@{quote(package['version'])}"
    part: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": package["name"], "version": package["version"]}
    part["purl"] = purl
    if package.get("sha256"):
        part["hashes"] = [{"alg": "SHA-256", "content": package["sha256"]}]
        part["properties"] = [{"name": "stead:wheel", "value": package["filename"]}]
    if package.get("license"):
        part["licenses"] = [{"expression": package["license"]}]
    return part


def _debian(package: Any) -> dict[str, Any]:
    purl = f"pkg:deb/debian/{quote(package['name'])}@{quote(package['version'])}?arch={package['architecture']}"
    part: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": package["name"], "version": package["version"]}
    part["purl"] = purl
    if "sha256" in package:
        part["hashes"] = [{"alg": "SHA-256", "content": package["sha256"]}]
    return part
