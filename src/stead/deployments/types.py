"""A deployment: how a version takes over a model's route."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from stead.config import RolloutConfig

State = Literal[
    "requested",
    "preparing",
    "checking",
    "canary",
    "switching",
    "live",
    "replaced",
    "refused",
    "failed",
    "rolled_back",
    "cancelled",
    "withdrawn",
    "aborted",
]
BY_JOB: tuple[State, ...] = ("requested", "preparing", "checking", "switching")
"""States in which a job does the next step; a canary's next step follows from evidence."""
UNDER_WAY: tuple[State, ...] = (*BY_JOB, "canary")
WAS_LIVE: tuple[State, ...] = ("replaced", "rolled_back", "withdrawn")
"""How a deployment ends that was live."""


@dataclass(frozen=True)
class Step:
    state: State
    at: int
    note: str


@dataclass(frozen=True)
class Share:
    """A step of a canary that was begun: its share of the traffic since a moment of both clocks, milliseconds."""

    share: float
    at: int
    event_time: int


@dataclass(frozen=True)
class Deployment:
    """`requested → preparing (warm) → checking (gates) → switching (route) → live`, or `refused`, `failed`, `cancelled`.

    By a plan with steps there is `canary` before `switching`; a guard that breaks there ends it as `aborted`.

    `live` ends as `replaced` by a later one, `rolled_back`, or `withdrawn` where none takes its place.
    """

    id: int
    model: str
    version: int
    previous: int | None
    kind: str
    state: State
    overrides: list[str]
    reason: str | None
    error: dict[str, Any] | None
    steps: list[Step]
    requested_by: str
    created_at: int
    ended_at: int | None
    event_time: int | None
    job: str | None = None
    """The job that does it; None for a roll-back that was done at once."""
    plan: RolloutConfig = field(default_factory=RolloutConfig)
    shares: list[Share] = field(default_factory=list)
    """Steps of the canary that were begun, the present one last."""
    evidence: dict[str, Any] | None = None
    """What was last seen of the canary: rows, days, intervals of the guards, and what follows from it."""

    @property
    def called(self) -> str:
        """What a rollout with evidence is called."""
        return {"shadow": "shadow", "ab": "A/B test"}.get(self.plan.kind or "", "canary")


@dataclass(frozen=True)
class Outside:
    """A deployment that stead did not make, as a person tells of it."""

    id: int
    model: str
    version: int | None
    """None where what was deployed is in no registry."""
    place: str
    hours: float | None
    """Of work by hand."""
    at: int
    """When it was made, milliseconds."""
    event_time: int | None
    """The same on the model's own clock, where that is known."""
    note: str
    by: str
    recorded_at: int

    @property
    def ref(self) -> str:
        return self.model if self.version is None else f"{self.model}@{self.version}"


@dataclass(frozen=True)
class RollbackDrill:
    """What came of a drill of a roll-back."""

    model: str
    version: int
    """That it would go back to."""
    worked: bool
    seconds: float
    """Until it could have answered everything: to have it loaded, and to have every gateway follow the route."""
    said: str
    warm: bool
    """Whether every gateway had it loaded."""
    rows: int
    """Stored rows that it was asked."""
    loaded_s: float | None = None
    answered_s: float | None = None
    moved_s: float | None = None
    """Seconds of each step; None where it did not come to that."""
