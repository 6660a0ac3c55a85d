"""Tables of the store itself: who needs that no bytes are taken away, and what lies in packs."""

import sqlalchemy as sa

from stead.store.database import metadata

holds = sa.Table(
    "store_holds",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),  # machine time; prolonged while it is needed
)

packs = sa.Table(
    "store_packs",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),  # blob
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)

chunks = sa.Table(
    "store_chunks",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),  # of what it is when it is unpacked
    sa.Column("pack", sa.ForeignKey("store_packs.id"), nullable=False, index=True),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("stored", sa.Integer, nullable=False),  # bytes in the pack; as many as `bytes`: not compressed
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),  # when it was stored, or stored again
)

files = sa.Table(
    "store_files",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("recipe", sa.LargeBinary, nullable=False),  # blob: digest and bytes of each chunk, in order
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)
