"""Tables: what was computed from exactly these inputs before, and versions that were made again."""

import sqlalchemy as sa

from stead.store import metadata

step_results = sa.Table(
    "step_results",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),  # of code, inputs, environment and variables
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("outputs", sa.JSON, nullable=False),  # name -> digest
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("job_id", sa.String(32), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)

reproductions = sa.Table(
    "reproductions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),  # identical, tolerance, different
    sa.Column("difference", sa.Float),  # relative, the largest; null where no number tells it
    sa.Column("tolerance", sa.Float, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("job", sa.String(32), nullable=False, unique=True),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Index("ix_reproductions_version", "model", "version"),
)
