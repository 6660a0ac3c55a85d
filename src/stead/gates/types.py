"""A verdict of a gate, with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """What a gate says of a version: `passed`, `failed`, or `overridden` by a person with a reason."""

    gate: str
    outcome: str
    summary: str
    """One sentence: which column, which value, which library."""
    evidence: dict[str, Any] = field(default_factory=dict)
