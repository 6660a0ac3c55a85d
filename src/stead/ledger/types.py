"""What a ledger entry says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Undo:
    """The operation, by name and arguments, that takes a change back."""

    operation: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One decision: who changed what, when, on which evidence, and how to undo it."""

    id: int
    at: int
    actor: str
    action: str
    """`version.registered`, `alias.set`, `route.changed`, `deployment.requested`, …: noun and past participle."""
    model: str | None
    subject: str
    """What was changed: `demand@3`, `alias demand champion`, `deployment 12`."""
    summary: str
    """One sentence for people."""
    reason: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    undo: Undo | None = None
    undoes: int | None = None
    undone_by: int | None = None
    event_time: int | None = None
    """The model's clock when it happened, where a replay held it."""


@dataclass(frozen=True)
class Checkpoint:
    """The hash of all entries up to one, chained with the checkpoint before it."""

    last_entry: int
    at: int
    digest: str
