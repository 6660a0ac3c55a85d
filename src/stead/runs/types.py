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
    """Dataset versions it read: `demand@3`."""


@dataclass(frozen=True)
class Receipt:
    """What the store has of a writer's records, and what a person should be told about this delivery."""

    seq: int
    """All records up to this number are stored."""
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunPage:
    """Some runs in the order asked for; `next` continues behind the last one, None at the end."""

    runs: list[Run]
    next: str | None
    total: int = 0
    """Runs that the filter picks, on all pages; counted up to 10,000."""


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side; each list has one entry a run, None where the run has no such value."""

    runs: list[str]
    names: list[str]
    params: dict[str, list[str | None]]
    """Only those that differ."""
    tags: dict[str, list[str | None]]
    """Only those that differ."""
    metrics: dict[str, list[MetricSummary | None]]
    same: dict[str, str]
    """Parameters that all of them share."""
    facts: dict[str, list[str | None]] = field(default_factory=dict)
    """Data, commit and environment, where they differ."""


@dataclass(frozen=True)
class ConsoleText:
    """A stretch of console output; `after` asks for what follows."""

    text: str
    after: int


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
