"""Tables of environments."""

import sqlalchemy as sa

from stead.store import metadata

environments = sa.Table(
    "environments",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("python", sa.Text, nullable=False),
    sa.Column("platform", sa.Text, nullable=False),
    sa.Column("lock", sa.String(64), nullable=False),  # blob: requirements with hashes
    sa.Column("packages", sa.JSON, nullable=False),
    sa.Column("wheels", sa.JSON, nullable=False),
    sa.Column("source", sa.JSON, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)

environment_wheels = sa.Table(
    "environment_wheels",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),  # as locks name it
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),  # blob
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)

lock_inputs = sa.Table(
    "environment_inputs",
    metadata,
    sa.Column("inputs", sa.String(64), primary_key=True),
    sa.Column("environment", sa.String(64), sa.ForeignKey("environments.digest"), nullable=False),
)
