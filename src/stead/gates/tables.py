"""Table of verdicts."""

import sqlalchemy as sa

from stead.store import metadata

verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("deployment", sa.BigInteger, nullable=True),
    sa.Column("gate", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Index("ix_verdicts_version", "model", "version"),
)

recipe_budgets = sa.Table(
    "recipe_budgets",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("year", sa.Integer, primary_key=True),  # of event time
    sa.Column("challengers", sa.Integer, nullable=False),
)

recipes = sa.Table(
    "recipes",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("recipe", sa.String(32), primary_key=True),
    sa.Column("against", sa.String(32), primary_key=True),  # the champion's recipe; empty where it says none
    sa.Column("number", sa.Integer, nullable=False),  # the how-manieth of its year
    sa.Column("alpha", sa.Float, nullable=False),
    sa.Column("state", sa.JSON, nullable=False),  # stats.sequential.Paired, by day
    sa.Column("last_day", sa.Integer, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)
