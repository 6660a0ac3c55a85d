"""A verdict of a gate, with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

GATES = ("metrics", "challenger", "baseline", "slices", "size", "environment", "stored", "parity")
"""All gates by name; the last one is asked at each deployment, the others when a version is trained."""


@dataclass(frozen=True)
class Verdict:
    """What a gate says of a version: `passed`, `failed`, or `skipped` where there was nothing to judge by."""

    gate: str
    outcome: str
    summary: str
    """One sentence: which column, which value, which library."""
    evidence: dict[str, Any] = field(default_factory=dict)
    version: int | None = None
    deployment: int | None = None
    at: int | None = None
