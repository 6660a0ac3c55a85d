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
from stead.store.database import Database, damaged
from stead.store.packs import Packs
from stead.store.types import Store

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


FILE = "stead.db"
RESTORING = "restoring"
"""A file in the store's folder while a backup is being restored into it."""


def open_store(settings: Settings | None = None, *, create: bool = True) -> Store:
    """The store that the settings name; made where it is new.

    Raises Failed (`schema-old`, `schema-new`) where its tables belong to another version of stead, `store-restoring` where
    a backup was begun to be restored into it and is not whole, or `database-damaged` where the rows of what it holds are gone.
    """
    settings = settings or load_settings()
    root = Path(settings.store).expanduser()
    if not settings.database and not _has_bytes(root / FILE) and _holds(root):
        raise _emptied(root)  # before SQLite opens it: that would throw away its write-ahead log
    store = open_any(settings)
    try:
        _bring_up(store, create)
    except BaseException:
        store.close()
        raise
    return store


def _bring_up(store: Store, create: bool) -> None:
    mark = store.root / RESTORING
    if mark.exists():
        raise Failed(
            "store-restoring",
            f"a backup was not restored to the end into {store.root}",
            hint=f"stead restore {mark.read_text(encoding='utf-8').strip()}",
        )
    state = schema_state(store.db)
    if state == "empty" and store.db.is_sqlite and _holds(store.root) and schema_state(store.db) == "empty":
        raise _emptied(store.root)
    if state == "empty" and create:
        migrate(store.db)
    elif state == "old":
        raise Failed("schema-old", f"the store {store.root} was made by an earlier stead", hint="stead migrate")
    elif state == "new":
        raise Failed("schema-new", f"the store {store.root} was made by a newer stead", hint="pip install -U stead")


def _holds(root: Path) -> bool:
    """Whether a store's folder has bytes or predictions, which are kept only where there are tables."""
    mark = root / RESTORING
    return not mark.exists() and any(True for path in ("blobs/??/*", "log/**/*.log") for _ in root.glob(path))


def _has_bytes(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _emptied(root: Path) -> Failed:
    return damaged(f"the store {root} holds models, data or predictions, and its database {FILE} is missing or empty")


def is_made(settings: Settings) -> bool:
    """Whether there may be a store: its folder is there, or its database is elsewhere."""
    return bool(settings.database) or Path(settings.store).expanduser().exists()


def open_any(settings: Settings | None = None) -> Store:
    """The store that the settings name, whatever is in it: for what brings it to this version, saves or restores it."""
    settings = settings or load_settings()
    root = Path(settings.store).expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
        os.chmod(root, 0o700)
    except OSError as error:
        raise Failed(
            "store-permission",
            f"the store's folder {root} cannot be written: {error.strerror}",
            hint="STEAD_STORE=FOLDER names another place",
        ) from None
    if not (ignore := root / ".gitignore").exists():
        with suppress(OSError):
            ignore.write_text("*\n", encoding="utf-8")  # a store in a project is not for its git
    database = settings.database or f"sqlite:///{root / FILE}"
    db = Database(database)
    blobs = Blobs(settings.blobs or root / "blobs", cache=root / "cache" / "blobs", damaged=root / "cache" / "damaged")
    blobs.packs = Packs(db, blobs)
    return Store(db=db, blobs=blobs, root=root, actor=f"person:{settings.user or _login()}")


def schema_state(db: Database) -> str:
    """`empty`, `current`, `old` or `new`."""
    with db.read() as tx:
        revision = revision_in(tx)
    if revision is None:
        return "empty"
    known = revisions()
    if revision == known[-1]:
        return "current"
    return "old" if revision in known else "new"


def revision_in(tx: sa.Connection) -> str | None:
    """The revision of a database's tables; None where it has none."""
    if not sa.inspect(tx).has_table("alembic_version"):
        return None
    return tx.execute(sa.text("select version_num from alembic_version")).scalar()


def revisions() -> list[str]:
    """The revisions that this version of stead knows, oldest first."""
    return sorted(file.stem.split("_")[0] for file in (MIGRATIONS / "versions").glob("0*.py"))


def migrate(db: Database) -> None:
    """Bring the tables to this version, in one transaction; safe when two processes try at once."""
    with db.write("store.migrate", tables=True) as tx:
        upgrade_in(tx)


def upgrade_in(tx: sa.Connection, revision: str = "head") -> None:
    """Bring the tables to a revision, in the caller's transaction, one that changes tables."""
    from alembic import command  # 0.3 s to import, and needed once in a store's life

    config = alembic_config()
    if tx.dialect.name != "sqlite":
        tx.execute(sa.text("select pg_advisory_xact_lock(7700)"))
    config.attributes["connection"] = tx
    command.upgrade(config, revision)


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
