"""chunks and packs"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "store_files",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("recipe", sa.LargeBinary(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_store_files")),
    )
    op.create_table(
        "store_packs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_store_packs")),
        sa.UniqueConstraint("digest", name=op.f("uq_store_packs_digest")),
    )
    op.create_table(
        "store_chunks",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("pack", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("stored", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["pack"], ["store_packs.id"], name=op.f("fk_store_chunks_pack")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_store_chunks")),
    )
    with op.batch_alter_table("store_chunks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_store_chunks_pack"), ["pack"], unique=False)
