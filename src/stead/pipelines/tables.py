"""Table of step results: what was computed from exactly these inputs before."""

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
