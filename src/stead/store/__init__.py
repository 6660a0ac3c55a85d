"""The database (SQLAlchemy Core on SQLite or PostgreSQL, Alembic migrations) and bytes by content (obstore).

The seam for other databases and clouds is here and nowhere else: `Database` runs statements, `Blobs` moves bytes.
"""

from stead.store.blobs import Blobs, digest_of
from stead.store.database import Database, Row, checked_limit, from_row, metadata
from stead.store.duck import duckdb_for
from stead.store.holds import hold_bytes, may_delete
from stead.store.opening import is_made, migrate, open_store, schema_state
from stead.store.types import Store

__all__ = [
    "Blobs",
    "Database",
    "Row",
    "Store",
    "checked_limit",
    "digest_of",
    "duckdb_for",
    "from_row",
    "hold_bytes",
    "is_made",
    "may_delete",
    "metadata",
    "migrate",
    "open_store",
    "schema_state",
]
