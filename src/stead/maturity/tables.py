"""Tables of maturity: what people looked at and said about their hours, the stage month by month, and the answers of the interview."""

import sqlalchemy as sa

from stead.store import metadata

reviews = sa.Table(
    "reviews",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),  # "retraining 12", "deployment 5"
    sa.Column("by", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, nullable=True),
    sa.Column("opened_at", sa.BigInteger, nullable=False),  # wall, milliseconds: when this person first looked at it
)

corrections = sa.Table(
    "work_corrections",
    metadata,
    sa.Column("entry", sa.BigInteger, primary_key=True, autoincrement=False),  # of the ledger
    sa.Column("minutes", sa.Float, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=True),
)

months = sa.Table(
    "maturity_months",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),  # "" for the team
    sa.Column("month", sa.Text, primary_key=True),  # "2026-09", by the clock of what it is about
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("checks", sa.JSON, nullable=False),  # by name, whether it held: true, false, or null without evidence
    sa.Column("at", sa.BigInteger, nullable=False),
)

answers = sa.Table(
    "worth_answers",
    metadata,
    sa.Column("question", sa.Text, primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)
