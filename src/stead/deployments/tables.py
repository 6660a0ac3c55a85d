"""Tables of deployments: the state machine's memory, and what people say of deployments that stead did not make."""

import sqlalchemy as sa

from stead.store import metadata

deployments = sa.Table(
    "deployments",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("previous", sa.Integer, nullable=True),
    sa.Column("kind", sa.Text, nullable=False),  # deploy, rollback
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("overrides", sa.JSON, nullable=False),
    sa.Column("reason", sa.Text, nullable=True),
    sa.Column("error", sa.JSON, nullable=True),
    sa.Column("steps", sa.JSON, nullable=False),  # [{state, at, note}]
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger, nullable=True),
    sa.Column("event_time", sa.BigInteger, nullable=True),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("shares", sa.JSON, nullable=False),  # [{share, at, event_time}] of a canary
    sa.Column("evidence", sa.JSON, nullable=True),
    sa.Column("job", sa.String(32), nullable=True),  # the one that does it; none where it was done at once
)

outside = sa.Table(
    "outside_deployments",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=True),  # none where what was copied is in no registry
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("hours", sa.Float, nullable=True),  # of work by hand, as a person says
    sa.Column("at", sa.BigInteger, nullable=False),  # when it was made, milliseconds
    sa.Column("event_time", sa.BigInteger, nullable=True),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
)
