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
    kind: str = "package"
    """`package`, `variable`, or `fact`: what is None of a fact is not known, a package is absent."""

    @property
    def matters(self) -> bool:
        """Of training, serving and a machine beside them: whether the first two differ, or the machine has it another way."""
        training, serving, here = self.values
        apart = Difference(self.name, (training, serving), self.kind).differs
        return apart or (here is not None and training is not None and here != training)

    @property
    def differs(self) -> bool:
        """Whether what is known disagrees."""
        return len(set(self.values) - ({None} if self.kind == "fact" else set())) > 1
