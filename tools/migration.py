"""Write the next Alembic migration from the tables as the code has them. `python tools/migration.py "what changes"`.

One that is committed stays as it is: stores were made by it.
"""

import importlib
import pkgutil
import sys
import tempfile

from alembic import command

import stead
from stead.store.database import Database, metadata
from stead.store.opening import MIGRATIONS, alembic_config


def main() -> None:
    for module in pkgutil.walk_packages(stead.__path__, "stead."):
        if module.name.endswith(".tables"):
            importlib.import_module(module.name)
    for index in (index for table in metadata.tables.values() for index in table.indexes):
        if (
            where := index.dialect_options["sqlite"]["where"]
        ) is not None:  # said once: naming PostgreSQL loads its dialect
            index.dialect_options["postgresql"]["where"] = where
    number = len(list((MIGRATIONS / "versions").glob("0*.py"))) + 1
    with tempfile.TemporaryDirectory() as folder:
        db = Database(f"sqlite:///{folder}/x.db")
        config = alembic_config()
        with db.engine.begin() as tx:
            config.attributes["connection"] = tx
            command.upgrade(config, "head")
            command.revision(config, sys.argv[1], autogenerate=True, rev_id=f"{number:04d}")
    print(
        f"{len(metadata.tables)} tables, migration {number:04d} written; read it before you commit it", file=sys.stderr
    )


main()
