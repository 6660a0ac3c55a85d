"""versions that were made again"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reproductions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("difference", sa.Float(), nullable=True),
        sa.Column("tolerance", sa.Float(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("job", sa.String(length=32), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reproductions")),
        sa.UniqueConstraint("job", name=op.f("uq_reproductions_job")),
    )
    with op.batch_alter_table("reproductions", schema=None) as batch_op:
        batch_op.create_index("ix_reproductions_version", ["model", "version"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("reproductions", schema=None) as batch_op:
        batch_op.drop_index("ix_reproductions_version")

    op.drop_table("reproductions")
