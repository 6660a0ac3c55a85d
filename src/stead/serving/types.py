"""A route, and what a gateway says of itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from stead.models import ModelFile


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
    shadow: list[int] = field(default_factory=list)
    """Versions that score aside every request which another version answers; nobody sees their answers."""
    fast: list[int] = field(default_factory=list)
    """Versions that answer by their fast path."""

    @property
    def named(self) -> set[int]:
        """All versions that it names: those that answer, that are kept warm and that score aside.

        >>> sorted(Route("m", 1, [Arm(3, 1.0)], [2], 0, shadow=[4]).named)
        [2, 3, 4]
        """
        return {*(arm.version for arm in self.arms), *self.warm, *self.shadow}


@dataclass(frozen=True)
class Gateway:
    """A gateway as it last described itself."""

    id: str
    url: str
    host: str
    """Name of its machine."""
    pid: int
    revision: int
    """It follows every route up to this one, or has told why not."""
    followed: dict[str, int]
    """Model and the revision of its route that answers now."""
    loaded: dict[str, Any]
    """`model@version` and `ready`, `loading`, or `{"error": …, "revision": …}`."""
    stats: dict[str, Any]
    beat_at: int


def standing(gateways: Sequence[Gateway], refs: Collection[str]) -> tuple[str, str]:
    """How versions that a route names stand at the gateways, in a word, and in a sentence why one of them does not load.

    >>> standing([], ["m@1"])
    ('no gateway runs', '')
    """
    if not gateways:
        return "no gateway runs", ""
    states = [(ref, gateway.loaded.get(ref)) for ref in refs for gateway in gateways]
    for ref, state in states:
        if isinstance(state, dict):
            return "does not load", f"{ref} does not load: {state['error']['message']}"
    return "answers" if all(state == "ready" for _, state in states) else "loading", ""


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
    fast: bool = False
    """Whether it is the fast path."""
    image: bool = False
    """It serves from containers of its image, which has interpreter and folder in it."""


@dataclass(frozen=True)
class FastPath:
    """A version's model in ONNX, and whether it is as good as the usual path."""

    model: str
    version: int
    state: str
    """`ready`, or why it is not used: `slower`, `different`, `unconvertible`."""
    said: str
    """One sentence: how much sooner it answers, or what was in the way."""
    environment: str | None
    files: dict[str, ModelFile]
    evidence: dict[str, Any]
    """`golden` and `logged` rows compared, `worst` relative difference, `tolerance`, milliseconds a row before and after, `speedup`."""
    job: str
    at: int
