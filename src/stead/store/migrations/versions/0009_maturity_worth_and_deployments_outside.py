"""maturity, worth and deployments outside"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "maturity_months",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("checks", sa.JSON(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", "month", name=op.f("pk_maturity_months")),
    )
    op.create_table(
        "outside_deployments",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("hours", sa.Float(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outside_deployments")),
    )
    with op.batch_alter_table("outside_deployments", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_outside_deployments_model"), ["model"], unique=False)

    op.create_table(
        "reviews",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "by", name=op.f("pk_reviews")),
    )
    op.create_table(
        "work_corrections",
        sa.Column("entry", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("minutes", sa.Float(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("entry", name=op.f("pk_work_corrections")),
    )
    op.create_table(
        "worth_answers",
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("question", name=op.f("pk_worth_answers")),
    )


def downgrade() -> None:
    op.drop_table("worth_answers")
    op.drop_table("work_corrections")
    op.drop_table("reviews")
    with op.batch_alter_table("outside_deployments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_outside_deployments_model"))

    op.drop_table("outside_deployments")
    op.drop_table("maturity_months")
