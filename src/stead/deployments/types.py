"""A deployment: how a version takes over a model's route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal[
    "requested",
    "preparing",
    "checking",
    "switching",
    "live",
    "replaced",
    "refused",
    "failed",
    "rolled_back",
    "cancelled",
    "withdrawn",
]
UNDER_WAY: tuple[State, ...] = ("requested", "preparing", "checking", "switching")
WAS_LIVE: tuple[State, ...] = ("replaced", "rolled_back", "withdrawn")
"""How a deployment ends that was live."""


@dataclass(frozen=True)
class Step:
    state: State
    at: int
    note: str


@dataclass(frozen=True)
class Deployment:
    """`requested → preparing (warm) → checking (gates) → switching (route) → live`, or `refused`, `failed`, `cancelled`.

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
