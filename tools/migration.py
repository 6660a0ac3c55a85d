"""Write the next Alembic migration from the tables as the code has them. `python tools/migration.py "what changes"`.

Before the first release the only migration is rewritten: `python tools/migration.py --first`.
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
    first = sys.argv[1:] == ["--first"]
    if first:
        for old in (MIGRATIONS / "versions").glob("*.py"):
            old.unlink()
    number = len(list((MIGRATIONS / "versions").glob("0*.py"))) + 1
    with tempfile.TemporaryDirectory() as folder:
        db = Database(f"sqlite:///{folder}/x.db")
        config = alembic_config()
        with db.engine.begin() as tx:
            config.attributes["connection"] = tx
            if not first:
                command.upgrade(config, "head")
            message = "first tables" if first else sys.argv[1]
            command.revision(config, message, autogenerate=True, rev_id=f"{number:04d}")
    print(
        f"{len(metadata.tables)} tables, migration {number:04d} written; read it before you commit it", file=sys.stderr
    )


main()
