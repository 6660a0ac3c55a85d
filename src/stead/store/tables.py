"""Table of holds: who needs that no bytes are taken away."""

import sqlalchemy as sa

from stead.store.database import metadata

holds = sa.Table(
    "store_holds",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),  # machine time; prolonged while it is needed
)
