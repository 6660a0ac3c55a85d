"""Tables of the ledger."""

import sqlalchemy as sa

from stead.store import metadata

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=True, index=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=True),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("undo", sa.JSON, nullable=True),
    sa.Column("undoes", sa.BigInteger, nullable=True, unique=True),
    sa.Column("event_time", sa.BigInteger, nullable=True),
    sa.Column("alternatives", sa.JSON, nullable=False),
    sa.Column("policy", sa.Text, nullable=True),
)

judgements = sa.Table(
    "ledger_judgements",
    metadata,
    sa.Column("entry", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("model", sa.Text, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),  # promotion, abort, retraining
    sa.Column("deployment", sa.BigInteger, nullable=False),  # whose two versions are compared
    sa.Column("since", sa.BigInteger, nullable=False),  # event time, milliseconds
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False, index=True),
    sa.Column("verdict", sa.Text, nullable=True),  # right, wrong, undecided; none before the first look
    sa.Column("said", sa.Text, nullable=False),
    sa.Column("difference", sa.Float, nullable=True),
    sa.Column("low", sa.Float, nullable=True),
    sa.Column("high", sa.Float, nullable=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("days", sa.Integer, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),  # event time up to which days are counted
    sa.Column("refresh", sa.BigInteger, nullable=False),  # of the realised losses, that it has taken in
    sa.Column("at", sa.BigInteger, nullable=False),
)

checkpoints = sa.Table(
    "ledger_checkpoints",
    metadata,
    sa.Column("last_entry", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
)
