"""How far the loop has followed a clock that a replay holds."""

import sqlalchemy as sa

from stead.store import metadata

followed = sa.Table(
    "fleet_followed",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("now", sa.BigInteger, nullable=False),  # the model's clock at the last turn of the loop
    sa.Column("at", sa.BigInteger, nullable=False),
)
