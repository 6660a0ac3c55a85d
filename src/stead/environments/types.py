"""A locked environment and the comparison of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Wheel:
    """A local package that was built into a wheel and stored, because no index has it."""

    name: str
    version: str
    filename: str
    digest: str


@dataclass(frozen=True)
class Environment:
    """A lock with hashes for one Python on one platform. `digest` names all of it."""

    digest: str
    python: str
    """`3.11`: the minor version decides which wheels fit."""
    platform: str
    """`linux-x86_64`, `darwin-arm64`."""
    lock: str
    """Blob with the requirement lines and hashes."""
    packages: dict[str, str]
    """Name and version of everything in it."""
    wheels: list[Wheel]
    source: dict[str, Any]
    """What it was locked from: `pyproject.toml`, `requirements.txt`, a script, or the running interpreter."""
    created_at: int


@dataclass(frozen=True)
class Difference:
    """One row of the comparison: a package or fact, and its value in each environment (None: absent)."""

    name: str
    values: tuple[str | None, ...]
