"""The log of predictions, labels, their join by id, and realised loss by day; wherever they were served.

Writers append to raw segments (`log`, `labels`), a compaction makes Parquet of them (`compaction`), reading joins both
(`reading`), and `performance` keeps the loss of every version and day of event time.
"""

from stead.predictions.columns import read_columns
from stead.predictions.compaction import compact
from stead.predictions.erasing import Erasure, erase_key, key_digest
from stead.predictions.expiring import expire, find_expired
from stead.predictions.failing import read_failures
from stead.predictions.labels import add_labels, check_labels, seal_labels
from stead.predictions.log import Logged, PredictionLog
from stead.predictions.performance import (
    changed_days,
    changed_models,
    last_refresh,
    performance,
    recent_performance,
    refresh_performance,
    refreshed_in,
)
from stead.predictions.reading import (
    counts,
    get_prediction,
    list_predictions,
    read,
    read_asides,
    read_pairs,
    read_requests,
    read_scores,
)
from stead.predictions.tail import is_prediction_id
from stead.predictions.types import Counts, DayLoss, FailedDay, FailedRequest, Label, LabelReceipt, Prediction

OPERATIONS = {
    "read": ("counts", "get_prediction", "list_predictions", "performance"),
    "write": ("add_labels", "compact", "refresh_performance"),
    "admin": ("erase_key",),
}
"""What can be called by name, by role."""

__all__ = [
    "OPERATIONS",
    "Counts",
    "DayLoss",
    "Erasure",
    "FailedDay",
    "FailedRequest",
    "Label",
    "LabelReceipt",
    "Logged",
    "Prediction",
    "PredictionLog",
    "add_labels",
    "changed_days",
    "changed_models",
    "check_labels",
    "compact",
    "counts",
    "erase_key",
    "expire",
    "find_expired",
    "get_prediction",
    "is_prediction_id",
    "key_digest",
    "last_refresh",
    "list_predictions",
    "performance",
    "read",
    "read_asides",
    "read_columns",
    "read_failures",
    "read_pairs",
    "read_requests",
    "read_scores",
    "recent_performance",
    "refresh_performance",
    "refreshed_in",
    "seal_labels",
]
