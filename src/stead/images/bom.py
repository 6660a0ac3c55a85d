"""The bill of materials of an image, as CycloneDX 1.5: its packages with the hashes of what they came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stead.environments import materials
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
) -> dict[str, Any]:
    """`files` are the model's own: path, hash algorithm as CycloneDX names it, hash."""
    parts = [_python(package) for package in python]
    parts += [_debian(package) for package in base.packages]
    parts += [
        {"type": "file", "bom-ref": f"file:{path}", "name": path, "hashes": [{"alg": kind, "content": digest}]}
        for path, kind, digest in files
    ]
    parts.sort(key=lambda part: part["bom-ref"])
    return materials.bill(
        "1.5",
        seed=repr([(part["bom-ref"], repr(part)) for part in parts]) + base.digest + name,
        created=created,
        about={"type": "container", "bom-ref": "image", "name": name, "version": version},
        parts=parts,
        properties={"base": base.digest},
    )


def _python(package: dict[str, Any]) -> dict[str, Any]:
    hashes = [("SHA-256", package["sha256"])] if package.get("sha256") else []
    part = materials.package(package["name"], package["version"], hashes)
    if hashes:
        part["properties"] = materials.named({"wheel": package["filename"]})
    if package.get("license"):
        part["licenses"] = [{"expression": package["license"]}]
    return part


def _debian(package: Any) -> dict[str, Any]:
    hashes = [("SHA-256", package["sha256"])] if "sha256" in package else []
    qualifiers = f"?arch={package['architecture']}"
    return materials.package(package["name"], package["version"], hashes, kind="deb/debian", qualifiers=qualifiers)
