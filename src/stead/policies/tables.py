"""Tables of the policies: what stead works by, when schedules fire, and each retraining's way."""

import sqlalchemy as sa

from stead.store import metadata

standing = sa.Table(
    "standing",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("policy", sa.JSON, nullable=False),
    sa.Column("rollout", sa.JSON, nullable=False),
    sa.Column("recipe", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
)

schedules = sa.Table(
    "schedules",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),  # train, ingest
    sa.Column("cron", sa.Text, nullable=False),
    sa.Column("zone", sa.Text, nullable=False),
    sa.Column("held", sa.Boolean, nullable=False),  # whether a replay held the clock when the next fire was computed
    sa.Column("since", sa.BigInteger, nullable=False),  # the model's clock at that moment
    sa.Column("next_fire", sa.BigInteger, nullable=False),  # the model's clock
    sa.Column("fired", sa.BigInteger, nullable=True),  # the fire that came last, the model's clock
    sa.Column("missed", sa.Integer, nullable=False),  # fires before it, since the one before, that it stands for
    sa.Column("outcome", sa.Text, nullable=False),  # what came of it, in words
    sa.Column("job", sa.String(32), nullable=True),  # what it began
)

retrainings = sa.Table(
    "retrainings",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False, index=True),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("standing", sa.Integer, nullable=False),
    sa.Column("job", sa.String(32), nullable=True, unique=True),
    sa.Column("version", sa.Integer, nullable=True),
    sa.Column("champion", sa.Integer, nullable=True),
    sa.Column("deployment", sa.BigInteger, nullable=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("alternatives", sa.JSON, nullable=False),
    sa.Column("decided_by", sa.Text, nullable=True),
    sa.Column("decided_at", sa.BigInteger, nullable=True),
    sa.Column("decision_reason", sa.Text, nullable=True),
    sa.Column("error", sa.JSON, nullable=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("event_time", sa.BigInteger, nullable=True),
    sa.Column("ended_at", sa.BigInteger, nullable=True),
    sa.Column("ended_event_time", sa.BigInteger, nullable=True),
)

proxies = sa.Table(
    "proxies",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("champion", sa.Integer, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
    sa.Column("refreshed", sa.BigInteger, nullable=False),
    sa.Column("usual", sa.Float, nullable=False),
    sa.Column("pair", sa.JSON, nullable=False),
    sa.Column("frozen", sa.JSON, nullable=False),
    sa.Column("fresh", sa.JSON, nullable=False),
)

freezes = sa.Table(
    "freezes",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),  # "" for every model
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=True),
)
