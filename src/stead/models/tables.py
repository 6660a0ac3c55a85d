"""Tables of the registry. They map one to one to MLflow's logged models, registered models, versions, aliases and tags."""

import sqlalchemy as sa

from stead.store import metadata

logged_models = sa.Table(
    "logged_models",
    metadata,
    sa.Column("id", sa.String(34), primary_key=True),  # m- and 32 hexadecimal digits
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("run_id", sa.String(32), nullable=True, index=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("flavor", sa.Text, nullable=False),
    sa.Column("files", sa.JSON, nullable=False),  # path -> {digest, bytes}: the MLmodel folder
    sa.Column("signature", sa.JSON, nullable=True),
    sa.Column("environment", sa.String(64), nullable=False),
    sa.Column("code", sa.String(64), nullable=True),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("info", sa.JSON, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)

models = sa.Table(
    "models",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("loss", sa.Text, nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)

versions = sa.Table(
    "model_versions",
    metadata,
    sa.Column("model", sa.ForeignKey("models.name"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("logged_model", sa.ForeignKey("logged_models.id"), nullable=False),
    sa.Column("run_id", sa.String(32), nullable=True),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("serving_environment", sa.String(64), nullable=False),
    sa.Column("serving_env", sa.JSON, nullable=False),  # environment variables when it serves
    sa.Column("serving_image", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("event_time", sa.BigInteger, nullable=True),
)

aliases = sa.Table(
    "model_aliases",
    metadata,
    sa.Column("model", sa.ForeignKey("models.name"), primary_key=True),
    sa.Column("alias", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)

tags = sa.Table(
    "model_tags",
    metadata,
    sa.Column("model", sa.ForeignKey("models.name"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),  # 0: the model itself
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

signatures = sa.Table(
    "model_signatures",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("bundle", sa.String(64), nullable=False),  # blob: Sigstore bundle
    sa.Column("key", sa.Text, nullable=False),  # SHA-256 of the public key
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Index("uq_model_signatures", "model", "version", "bundle", unique=True),
)

edges = sa.Table(
    "lineage_edges",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),  # "dataset:demand@3", "run:…", "environment:…", "version:demand@2"
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("relation", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Index("ix_lineage_edges_target", "target"),
)
