"""The log of predictions, labels, their join by id, and realised loss by day; wherever they were served.

Writers append to raw segments (`log`, `labels`), a compaction makes Parquet of them (`compaction`), reading joins both
(`reading`), and `performance` keeps the loss of every version and day of event time.
"""

from stead.predictions.log import Logged, PredictionLog

__all__ = ["Logged", "PredictionLog"]
