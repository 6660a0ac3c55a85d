"""Opening a store and bringing its tables up to date."""

from __future__ import annotations

import getpass
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from stead.config import Settings, load_settings
from stead.errors import Failed
from stead.store.blobs import Blobs
from stead.store.database import Database
from stead.store.types import Store

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


def open_store(settings: Settings | None = None, *, create: bool = True) -> Store:
    """The store that the settings name; made where it is new.

    Raises Failed (`schema-old`, `schema-new`) where its tables belong to another version of stead.
    """
    settings = settings or load_settings()
    root = Path(settings.store).expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
        os.chmod(root, 0o700)
    except OSError as error:
        raise Failed("store-permission", f"cannot make the store's folder {root}: {error.strerror}") from None
    if not (ignore := root / ".gitignore").exists():
        with suppress(OSError):
            ignore.write_text("*\n", encoding="utf-8")  # a store in a project is not for its git
    database = settings.database or f"sqlite:///{root / 'stead.db'}"
    db = Database(database)
    blobs = Blobs(settings.blobs or root / "blobs", cache=root / "cache" / "blobs")
    store = Store(db=db, blobs=blobs, root=root, actor=f"person:{settings.user or _login()}")
    state = schema_state(db)
    if state == "empty" and create:
        migrate(db)
    elif state == "old":
        raise Failed("schema-old", f"the store {root} was made by an earlier stead", hint="stead migrate")
    elif state == "new":
        raise Failed("schema-new", f"the store {root} was made by a newer stead", hint="pip install -U stead")
    return store


def schema_state(db: Database) -> str:
    """`empty`, `current`, `old` or `new`."""
    with db.read() as tx:
        if not sa.inspect(tx).has_table("alembic_version"):
            return "empty"
        revision = tx.execute(sa.text("select version_num from alembic_version")).scalar()
    if revision is None:
        return "empty"
    known = sorted(file.stem.split("_")[0] for file in (MIGRATIONS / "versions").glob("0*.py"))
    if revision == known[-1]:
        return "current"
    return "old" if revision in known else "new"


def migrate(db: Database) -> None:
    """Bring the tables to this version, in one transaction; safe when two processes try at once."""
    from alembic import command  # 0.3 s to import, and needed once in a store's life

    config = alembic_config()
    with db.write("store.migrate") as tx:
        if not db.is_sqlite:
            tx.execute(sa.text("select pg_advisory_xact_lock(7700)"))
        config.attributes["connection"] = tx
        command.upgrade(config, "head")


def alembic_config() -> Config:
    """Alembic's configuration: where the migrations lie."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
