"""An experiment, a run and its series."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["running", "finished", "failed", "killed"]


@dataclass(frozen=True)
class Experiment:
    id: int
    name: str
    lifecycle: str
    created_at: int
    updated_at: int
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricSummary:
    """One metric of a run in short; None stands for NaN."""

    key: str
    n: int
    last: float | None
    last_step: int
    last_at: int
    min: float | None
    min_step: int | None
    max: float | None
    max_step: int | None


@dataclass(frozen=True)
class Run:
    id: str
    experiment: str
    name: str
    status: Status
    lifecycle: str
    user: str
    parent_id: str | None
    job_id: str | None
    source: dict[str, Any]
    environment: str | None
    started_at: int
    ended_at: int | None
    beat_at: int
    error: str | None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, MetricSummary] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    """Dataset versions it read: `bikes@3`."""


@dataclass(frozen=True)
class Artifact:
    path: str
    digest: str
    bytes: int
    at: int


@dataclass(frozen=True)
class Series:
    """Points of one metric, ordered by step; thinned to minimum and maximum per bucket where there are many."""

    run_id: str
    key: str
    steps: list[int]
    times: list[int]
    values: list[float | None]
    n: int
    thinned: bool
