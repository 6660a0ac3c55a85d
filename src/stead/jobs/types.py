"""A job, as stored and as its handler sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Progress:
    """How far a job is: `done` of `total` (None where unknown), and what it does now."""

    doing: str
    done: float = 0
    total: float | None = None


@dataclass(frozen=True)
class Agent:
    """A process that takes jobs and turns the loop; times in milliseconds, machine time."""

    id: str
    host: str
    pid: int
    beat_at: int
    """When it last told that it lives, machine time."""
    turned_at: int | None
    """When its loop last came around without an error; None where it has not yet."""


@dataclass(frozen=True)
class Job:
    """One piece of work: at least once, by one owner at a time, never written by a former one."""

    id: str
    kind: str
    model: str | None
    key: str | None
    payload: dict[str, Any]
    state: State
    priority: int
    run_after: int
    attempt: int
    max_attempts: int
    timeout_s: int
    lease_owner: str | None
    lease_until: int | None
    fence: int
    cancel_requested: bool
    progress: Progress | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    event_time: int | None
    requested_by: str
    created_at: int
    started_at: int | None
    ended_at: int | None
