"""Tables beside the log: which segments there are, and realised loss by day."""

import sqlalchemy as sa

from stead.store import metadata

segments = sa.Table(
    "prediction_segments",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # name of the raw segment, or of the merge, that it was made from
    sa.Column("model", sa.Text, primary_key=True),  # "" for labels
    sa.Column("kind", sa.Text, nullable=False),  # predictions, labels or shadows
    sa.Column("digest", sa.String(64), nullable=False),  # blob: Parquet; "" once it is merged and gone
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("id_min", sa.Text, nullable=False),  # of the requests
    sa.Column("id_max", sa.Text, nullable=False),
    sa.Column("event_min", sa.BigInteger, nullable=True),
    sa.Column("event_max", sa.BigInteger, nullable=True),
    sa.Column("seen", sa.Boolean, nullable=False),  # whether performance_days has it
    sa.Column("merged_into", sa.Text, nullable=True),  # its rows are read there
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index("ix_prediction_segments_range", "kind", "model", "merged_into", "id_max"),
    sa.Index("ix_prediction_segments_seen", "seen"),
)

performance = sa.Table(
    "performance_days",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("day", sa.BigInteger, primary_key=True),  # event time, start of the day, milliseconds
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("role", sa.Text, primary_key=True),  # "" for rows that it answered, "shadow" for those it scored aside
    sa.Column("measure", sa.Text, nullable=False),  # the loss, by name
    sa.Column("predictions", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("labelled", sa.BigInteger, nullable=False),
    sa.Column("loss_sum", sa.Float, nullable=False),
    sa.Column("weight_sum", sa.Float, nullable=False),
    sa.Column("prediction_sum", sa.Float, nullable=False),  # over all predictions that are numbers
    sa.Column("label_sum", sa.Float, nullable=False),  # over all labels that are numbers
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("refresh", sa.BigInteger, nullable=False),  # number of the refresh that computed it
    sa.Index("ix_performance_days_refresh", "model", "refresh"),
)

progress = sa.Table(
    "performance_progress",
    metadata,
    sa.Column("segment", sa.Text, primary_key=True),  # a raw segment; "" counts the refreshes
    sa.Column("position", sa.BigInteger, nullable=False),  # bytes of it that performance_days has
)
