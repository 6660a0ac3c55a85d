"""Tables of routes and of the gateways that follow them."""

import sqlalchemy as sa

from stead.store import metadata

routes = sa.Table(
    "routes",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("arms", sa.JSON, nullable=False),  # [{version, share}]: shares sum to 1; empty: nothing answers
    sa.Column("warm", sa.JSON, nullable=False),  # versions loaded without traffic
    sa.Column("shadow", sa.JSON, nullable=False),  # versions that score aside what others answer
    sa.Column("fast", sa.JSON, nullable=False, server_default="[]"),  # versions that go their fast path
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)

route_revision = sa.Table(
    "route_revision",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),  # one row: 1
    sa.Column("revision", sa.BigInteger, nullable=False),
)

fast_paths = sa.Table(
    "fast_paths",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),  # ready, or why not: slower, different, unconvertible
    sa.Column("said", sa.Text, nullable=False),
    sa.Column("environment", sa.String(64), nullable=True),  # it answers in
    sa.Column("files", sa.JSON, nullable=False),  # path -> {digest, bytes}: the folder with the model in ONNX
    sa.Column("evidence", sa.JSON, nullable=False),  # rows compared, largest difference, milliseconds, speed-up
    sa.Column("job", sa.String(32), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)

gateways = sa.Table(
    "gateways",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),  # every route up to this one is followed
    sa.Column("followed", sa.JSON, nullable=False),  # model -> revision of its route that answers now
    sa.Column("loaded", sa.JSON, nullable=False),  # "model@version" -> ready | loading | {error, revision}
    sa.Column("stats", sa.JSON, nullable=False),
    sa.Column("secret", sa.Text, nullable=True),  # opens it for whoever can read the store: the parity gate
    sa.Column("beat_at", sa.BigInteger, nullable=False),
)
