"""A verdict of a gate, with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
