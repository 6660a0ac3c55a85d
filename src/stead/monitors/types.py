"""What monitors see: a day of one of them, an incident, a message on its way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Monitor = Literal["loss", "estimate", "requests", "data", "scale", "drift", "outputs", "volume"]
MONITORS: tuple[Monitor, ...] = ("loss", "estimate", "requests", "data", "scale", "drift", "outputs", "volume")
"""Realised loss; the loss to expect without labels; requests that fail; shares that jump; units that jump; drift of the columns; drift of the
outputs; rows a day."""
Kind = Literal["performance", "estimate", "data", "drift", "volume", "other"]
PEOPLES: tuple[Kind, ...] = ("performance", "data", "other")
"""Kinds that a person can open."""
Severity = Literal["note", "page"]
State = Literal["open", "resolved"]
Outcome = Literal["ok", "watching", "alarm", "unknown"]
"""`watching`: more than usual, not beyond doubt yet."""


@dataclass(frozen=True)
class MonitorDay:
    """What one monitor said when a day was over."""

    model: str
    version: int
    monitor: Monitor
    day: int
    """Start of the last day that it looked at, event time, milliseconds."""
    value: float | None
    bound: float | None
    """What the value is held against."""
    outcome: Outcome
    evidence: dict[str, Any]


@dataclass(frozen=True)
class MonitorView:
    """What one monitor of the live version sees now."""

    monitor: Monitor
    outcome: Outcome
    said: str
    day: int | None
    """The last day with rows that it looked at; None where it waits."""
    value: float | None = None
    bound: float | None = None


@dataclass(frozen=True)
class Monitoring:
    """What the monitors of a model see now."""

    model: str
    version: int | None
    """The live version; None where none is."""
    now: int
    """The model's clock, milliseconds."""
    monitors: list[MonitorView]
    incidents: list[Incident]
    """The open ones."""


@dataclass(frozen=True)
class Incident:
    """Something is wrong, by one cause; at most one of a model and cause is open."""

    id: int
    model: str
    version: int | None
    """The version that was live when it was last updated."""
    cause: str
    """`loss`, `refused`, `failed`, `null`, `type`, `unseen`, `constant`, `scale`, `few-rows`, `many-rows`, `drift`, `outputs`, `estimate`, `batch`, `stale`, or `person: …`."""
    kind: Kind
    state: State
    severity: Severity
    """A `note` stands on the model's page, a `page` is told to people."""
    summary: str
    evidence: dict[str, Any]
    opened_by: str
    opened_at: int
    event_time: int
    """The model's clock when it was opened."""
    updated_at: int
    resolved_by: str | None
    resolved_at: int | None
    resolved_event_time: int | None
    reason: str | None
    """Why it was resolved."""


@dataclass(frozen=True)
class Delivery:
    """That an incident was opened or resolved, on its way to people."""

    id: str
    """Goes out with the message: a receiver that has seen it knows that it came twice."""
    incident: int
    event: str
    route: str
    state: str
    """`waiting`, `sent`, `off` (the route is not set up) or `failed`."""
    attempts: int
    next_at: int
    error: str | None
    at: int
    sent_at: int | None


@dataclass(frozen=True)
class ColumnWeek:
    """A column in one week of event time against the reference of the version that answered most of its rows."""

    since: int
    until: int
    version: int
    rows: int
    distance: float | None
    """Jensen–Shannon distance, 0 to 1; None without rows."""
    p_value: float | None
    """Of a week like the reference's own blocks of time."""
    broken: str = ""
    """Where its data was broken in that week: `null`, `type`, `unseen`, `constant` or `scale`."""
    mean: float | None = None
    """Of the numbers."""
    parts: list[tuple[str, int]] = field(default_factory=list)
    """Rows by value: null, wrong type, out of range or other, and each bin or level."""


@dataclass(frozen=True)
class Expected:
    """A column where a version was judged: what its weeks are held against."""

    version: int
    source: str
    """`hold-out` or `served`."""
    rows: int
    edges: list[float]
    """Of the bins of numbers; the last one stands twice where each value is a bin. Empty for levels."""
    mean: float | None
    parts: list[tuple[str, int]]


@dataclass(frozen=True)
class ColumnProfile:
    """A raw column, or what the model answers (`output`), by week."""

    model: str
    column: str
    kind: str
    """`number` or `level`."""
    weeks: list[ColumnWeek]
    references: list[Expected] = field(default_factory=list)
    """One of each version in `weeks`, where distributions were asked for."""


@dataclass(frozen=True)
class LossDay:
    """A day of event time: who answered, and what the labels that have come say of it."""

    day: int
    version: int
    rows: int
    labelled: int
    loss: float | None
    """None without labels."""
    bound: float | None
    """The most that is usual for the version; None where its monitor has not looked."""


@dataclass(frozen=True)
class ModelDrift:
    """A model's columns by week and its loss by day, over the same weeks of event time."""

    model: str
    since: int
    until: int
    columns: list[ColumnProfile]
    """The furthest first."""
    days: list[LossDay]
    estimates: list[MonitorDay] = field(default_factory=list)
    """The loss to expect without labels, by window: its value against the most that is usual, `unknown` where rows are too unlike."""
