"""What a model's policy is, and a retraining on its way from a reason to a champion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from stead.config import PolicyConfig, RolloutConfig
from stead.deployments import UNDER_WAY, Deployment
from stead.ledger import Entry, Judgement
from stead.pipelines import Spec

State = Literal["training", "judging", "waiting", "deploying", "done", "refused", "rejected", "failed"]
OPEN: tuple[State, ...] = ("training", "judging", "waiting", "deploying")
BEFORE_DEPLOYMENT: tuple[State, ...] = OPEN[:3]
"""In which it can be cancelled."""


@dataclass(frozen=True)
class Standing:
    """What stead works by for a model: the code that it trains with, the policy, the plan of its rollouts."""

    model: str
    spec: Spec
    policy: PolicyConfig
    rollout: RolloutConfig
    recipe: str
    number: int
    """Counts the changes: decisions name the policy that they were taken under."""
    at: int
    by: str


@dataclass(frozen=True)
class Need:
    """Something that a level asks for, and whether it is there."""

    what: str
    met: bool
    hint: str = ""


@dataclass(frozen=True)
class LevelChange:
    """What a change of level means for a model."""

    model: str
    before: str
    after: str
    changes: list[str]
    needs: list[Need]
    decision: int | None = None
    """Its number in the ledger, once it is made: what `stead undo` takes back."""

    @property
    def ready(self) -> bool:
        return all(need.met for need in self.needs)


@dataclass(frozen=True)
class Retraining:
    """One turn: a reason to train, the version that came of it, what was decided about it.

    `training → judging → waiting (for a person) → deploying → done`, or `refused` by a gate, `rejected` by a person, `failed`.
    """

    id: int
    model: str
    trigger: str
    """A name of `config.SIGNALS`, or `person`."""
    state: State
    level: str
    """Of the model when it began."""
    standing: int
    job: str | None
    version: int | None
    champion: int | None
    """The version that was live when it was judged."""
    deployment: int | None
    reason: str
    evidence: dict[str, Any]
    alternatives: list[str]
    decided_by: str | None
    decided_at: int | None
    decision_reason: str | None
    error: dict[str, Any] | None
    at: int
    event_time: int | None
    ended_at: int | None
    ended_event_time: int | None

    def overtaken_by(self, live: Deployment | None) -> int | None:
        """The version that has taken over since it was judged against another one; None where none has."""
        return live.version if live is not None and live.version != self.champion else None


def undoable(entry: Entry, retrainings: Iterable[Retraining], deployments: Iterable[Deployment]) -> bool:
    """Whether an entry can be taken back now: what a retraining asks or begins, or a deployment moves, only while it stands."""
    if not entry.undoable or entry.undo is None:
        return False
    running = [each for each in retrainings if each.state in BEFORE_DEPLOYMENT and each.model == entry.model]
    if entry.action == "retraining.begun":
        return entry.subject in {f"retraining {each.id}" for each in running}
    if entry.action == "approval.asked":
        return entry.evidence.get("retraining") in {e.id for e in running if e.state == "waiting"}
    if entry.undo.operation == "deployments.cancel_deployment":
        return entry.undo.arguments.get("number") in {each.id for each in deployments if each.state in UNDER_WAY}
    if entry.action in ("route.changed", "route.rolled_back"):
        return entry.evidence.get("deployment") in {each.id for each in deployments if each.state == "live"}
    return True


@dataclass(frozen=True)
class Signal:
    """What a trigger sees now."""

    name: str
    fires: bool
    said: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """What the policy of a model sees now, and what it would do next and why."""

    model: str
    level: str
    now: int
    frozen: str | None
    """Why nothing is done by itself at present."""
    signals: list[Signal]
    next: str
    why: list[str]
    open: list[Retraining]
    schedules: list[Schedule]
    judged: list[Judgement] = field(default_factory=list)
    """What the rows that came after say of the last decisions, newest first."""


@dataclass(frozen=True)
class Schedule:
    """What a model's policy does by the clock, all times on the model's own: `train` or `ingest`."""

    model: str
    kind: str
    cron: str
    zone: str
    now: int
    next_fire: int | None
    """None where it does not fire: `off` says why."""
    off: str
    fired: int | None
    """When it was due last."""
    missed: int
    """Fires before that one which it stood for, because nobody was there."""
    outcome: str
    """What came of it, in words."""
    job: str | None
    """What it began."""
    state: str | None
    """Of that job."""
    error: str | None
    """Why that job failed."""


DRILL = "drill of "
"""Before the name of who froze, where it is a drill."""


@dataclass(frozen=True)
class Freeze:
    """All automatic action of a model, or of every model, stands still."""

    model: str
    """Empty for every model."""
    by: str
    at: int
    reason: str | None

    @property
    def drill(self) -> bool:
        """Whether it is a drill, which is thawed by itself."""
        return self.by.startswith(DRILL)

    @property
    def said(self) -> str:
        """That nothing is done, and why or by whom."""
        return f"frozen: {self.reason or f'by {self.by}'}"


@dataclass(frozen=True)
class FreezeDrill:
    """What came of a drill of the freeze."""

    model: str
    """Empty for every model."""
    worked: bool
    seconds: float
    """From the freeze to its end."""
    said: str
    turns: int
    """Of the loop that it told of while frozen."""
    acting: int
    """Models of which stead decides by itself."""
