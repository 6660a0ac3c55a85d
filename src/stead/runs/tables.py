"""Tables of experiment tracking. They map one to one to MLflow's experiments, runs, params, metrics and tags."""

import sqlalchemy as sa

from stead.store import metadata

experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("lifecycle", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)

experiment_tags = sa.Table(
    "experiment_tags",
    metadata,
    sa.Column("experiment_id", sa.ForeignKey("experiments.id"), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("experiment_id", sa.ForeignKey("experiments.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("lifecycle", sa.Text, nullable=False),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("parent_id", sa.String(32), nullable=True),
    sa.Column("job_id", sa.String(32), nullable=True),
    sa.Column("source", sa.JSON, nullable=False),  # command, git, python, machine: captured without asking
    sa.Column("environment", sa.String(64), nullable=True),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger, nullable=True),
    sa.Column("beat_at", sa.BigInteger, nullable=False),
    sa.Column("error", sa.Text, nullable=True),
    sa.Index("ix_runs_experiment", "experiment_id", "started_at"),
)

params = sa.Table(
    "params",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("number", sa.Float, nullable=True),  # the value where it is a number: to filter and order by
    sqlite_with_rowid=False,
)

run_tags = sa.Table(
    "run_tags",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

metric_blocks = sa.Table(
    "metric_blocks",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("block", sa.Integer, primary_key=True),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("step_min", sa.BigInteger, nullable=False),
    sa.Column("step_max", sa.BigInteger, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),  # packed: steps int64, times int64 (ms), values float64
)

metric_summaries = sa.Table(
    "metric_summaries",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("blocks", sa.Integer, nullable=False),
    sa.Column("last", sa.Float, nullable=True),  # null: NaN
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("last_at", sa.BigInteger, nullable=False),
    sa.Column("min", sa.Float, nullable=True),
    sa.Column("min_step", sa.BigInteger, nullable=True),
    sa.Column("max", sa.Float, nullable=True),
    sa.Column("max_step", sa.BigInteger, nullable=True),
    sqlite_with_rowid=False,
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

console = sa.Table(
    "run_console",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
)

run_inputs = sa.Table(
    "run_inputs",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("context", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

journals = sa.Table(
    "run_journals",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("writer", sa.String(32), primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),  # all records up to it are in the store
    sqlite_with_rowid=False,
)
