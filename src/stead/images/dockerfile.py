"""A Dockerfile that makes the same image from the same files: for those whose builds must go through one."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from stead.errors import InvalidInput
from stead.images.layout import Layout, beside, blobs_of, moved, spare
from stead.images.types import Image

NAMES = ("environment", "runtime", "own")
"""Folders of the context: one for each layer above the base."""


def check_context(target: Path) -> None:
    """Raises InvalidInput (`folder-not-empty`) where something is there."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidInput("folder-not-empty", f"{target} is not empty", hint="name a new folder")


def write_context(image: Image, target: Path) -> Path:
    """Write a Dockerfile and what it copies into a new folder; whole or not at all.

    It starts from the reference that the base was pulled by; a base from disk is added to an empty image, layer by layer.
    Raises InvalidInput (`folder-not-empty`), Failed (`disk-full`).
    """
    check_context(target)
    layout = Layout(Path(image.layout))
    config = layout.document(image.config)
    base = config["config"]["Labels"].get("org.opencontainers.image.base.name", "")
    *layers, _, _ = blobs_of(layout, image)
    below, own = layers[: -len(NAMES)], layers[-len(NAMES) :]
    with beside(target) as building, spare(target):
        building.mkdir(parents=True)
        lines = [f"# {image.name}, the same files and settings as {image.digest}"]
        if base:
            lines.append(f"FROM {base}")
        else:
            lines.append("FROM scratch")
            for number, layer in enumerate(below):
                shutil.copyfile(layout.path(layer.digest), building / f"base-{number}.tar.gz")
                lines.append(f"ADD base-{number}.tar.gz /")
        for name, layer in zip(NAMES, own, strict=True):
            with tarfile.open(layout.path(layer.digest), "r:gz") as tar:
                tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)  # we wrote it
                tar.extractall(building / name)
            lines.append(f"COPY {name}/ /")
        lines += _settings(config["config"])
        (building / "Dockerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if target.is_dir():
            target.rmdir()
        moved(building, target, "images.export")
    return target


def _settings(config: dict[str, Any]) -> list[str]:
    lines = [f"ENV {name}={_quoted(value)}" for name, _, value in (line.partition("=") for line in config["Env"])]
    lines += [f"LABEL {_quoted(name)}={_quoted(value)}" for name, value in config["Labels"].items()]
    lines += [f"EXPOSE {port}" for port in config.get("ExposedPorts", {})]
    lines += [f"STOPSIGNAL {config['StopSignal']}", f"WORKDIR {config['WorkingDir']}", f"USER {config['User']}"]
    return [*lines, f"ENTRYPOINT {json.dumps(config['Entrypoint'])}", "CMD []"]


def _quoted(text: str) -> str:
    """A value as a Dockerfile has it.

    >>> _quoted('costs $5 and "more"')
    '"costs \\\\$5 and \\\\"more\\\\""'
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", " ")
    return f'"{escaped}"'
