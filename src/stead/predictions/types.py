"""A prediction, a label, and the loss of a day."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """One predicted row. `id` is the request's prediction id; rows of a request with several are `ID.0`, `ID.1`, …"""

    id: str
    model: str
    version: int
    event_time: int
    received_at: int
    latency_us: int
    status: int
    key: str | None
    features: dict[str, Any] | None
    """None where the request failed or its body could not be read."""
    output: Any
    label: Any = None
    label_at: int | None = None
    """When the newest label was accepted, machine time."""


@dataclass(frozen=True)
class Label:
    """The truth of one predicted row. A later one for the same id corrects it; both are kept.

    `ID` alone and `ID.0` name the same row.
    """

    prediction_id: str
    value: float | int | str | bool
    event_time: int | None = None
    source: str | None = None


@dataclass(frozen=True)
class LabelReceipt:
    """What happened to a batch of labels: all are kept; `unknown` have no prediction yet and are joined when it comes."""

    accepted: int
    unknown: int
    unusable: int = 0
    """Texts for a model whose loss takes numbers: they count as labels, and the loss leaves them out."""


@dataclass(frozen=True)
class Counts:
    """How much of a model's life is logged."""

    logged: int
    """Requests, failed ones included."""
    rows: int
    """Predicted rows."""
    failed: int
    """Requests that were answered with an error."""
    labelled: int
    """Predicted rows that have a label."""
    unknown_labels: int
    """Rows, of any model, that have a label and no prediction."""


@dataclass(frozen=True)
class DayLoss:
    """Realised loss of one version on one day of event time: loss = loss_sum / weight_sum, None without labels."""

    model: str
    day: int
    version: int
    measure: str
    """Which loss: a name of `config.LOSSES`."""
    predictions: int
    failed: int
    labelled: int
    loss: float | None
    loss_sum: float
    weight_sum: float
    prediction_sum: float
    label_sum: float
    role: str = ""
    """`shadow` for rows that the version scored aside while another one answered."""


@dataclass(frozen=True)
class FailedRequest:
    """A request that was refused, as it came."""

    status: int
    protocol: str
    body: bytes
    header_length: int = 0


@dataclass(frozen=True)
class FailedDay:
    """A day of event time on which requests to a version failed."""

    day: int
    requests: int
    """All of them, answered ones included."""
    statuses: dict[int, int]
    """Failed requests by the status that they were answered."""
    samples: list[FailedRequest] = field(default_factory=list)
    """Some of those that were refused (4xx)."""
