"""What a ledger entry says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Undo:
    """The operation, by name and arguments, that takes a change back."""

    operation: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Judgement:
    """What the rows that came after say of a decision: both versions scored them, one answering and one aside."""

    entry: int
    """The decision."""
    model: str
    kind: Literal["promotion", "abort", "retraining"]
    deployment: int
    since: int
    until: int
    """Event time of the rows that count, milliseconds: from the decision until nothing scores aside any more."""
    closed: bool = False
    """Whether it stands; until then each new day and each late label restates it."""
    verdict: Literal["right", "wrong", "undecided"] | None = None
    """None before there was a day to look at."""
    said: str = ""
    """One sentence for people."""
    difference: float | None = None
    """Loss of the version that was decided on against that of the other one on the same rows, as a share of it: below 0 it lost less."""
    low: float | None = None
    high: float | None = None
    """Ends of the interval, which holds at every look; None while there is too little for one."""
    rows: int = 0
    days: int = 0
    seen: int = 0
    """Event time up to which days are counted."""
    refresh: int = 0
    """Number of the refresh of realised losses that it has taken in."""
    at: int = 0


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
    alternatives: list[str] = field(default_factory=list)
    """What else could have been done, where stead decided."""
    policy: str | None = None
    """The policy that it was decided under, with its version: `bikes 3`."""
    judgement: Judgement | None = None
    """What the rows that came after say of it."""

    @property
    def overrides(self) -> list[str]:
        """Gates that its undo would override: not taken back, but decided by a person, with a reason."""
        return list(self.undo.arguments.get("override") or ()) if self.undo is not None else []

    @property
    def undoable(self) -> bool:
        """Whether it says how it is taken back, and nobody has."""
        return self.undo is not None and self.undone_by is None and not self.overrides


@dataclass(frozen=True)
class Checkpoint:
    """The hash of all entries up to one, chained with the checkpoint before it."""

    last_entry: int
    at: int
    digest: str
