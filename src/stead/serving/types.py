"""A route, and what a gateway says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Arm:
    version: int
    share: float
    """Of the requests, 0 to 1."""


@dataclass(frozen=True)
class Route:
    """Which versions of a model answer. Changing it is the whole of a swap."""

    model: str
    revision: int
    arms: list[Arm]
    warm: list[int]
    updated_at: int


@dataclass(frozen=True)
class Gateway:
    id: str
    url: str
    pid: int
    revision: int
    loaded: dict[str, Any]
    stats: dict[str, Any]
    beat_at: int


@dataclass(frozen=True)
class Served:
    """What a worker needs to load a version."""

    model: str
    version: int
    environment: str
    python: str
    """Interpreter of the environment, ready to start."""
    folder: str
    """The MLmodel folder on this machine."""
    env: dict[str, str] = field(default_factory=dict)
    key: str = ""
    """Versions with the same environment and variables share workers."""
