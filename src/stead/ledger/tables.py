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
)

checkpoints = sa.Table(
    "ledger_checkpoints",
    metadata,
    sa.Column("last_entry", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
)
