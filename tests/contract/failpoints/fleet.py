"""kill -9 while the versions of a month are drawn: their jobs and the entry that says so are one change."""

from __future__ import annotations

from pathlib import Path

import policies as world  # type: ignore[import-not-found]
import sqlalchemy as sa
from dying import Scenario, dies

from stead import fleet, ledger
from stead.fleet.sampling import ACTION
from stead.ledger.tables import ledger as entries
from stead.store import Store
from tests.conftest import new_store

SCRIPT = """
import sys; from pathlib import Path; from tests.conftest import new_store; from stead import fleet
fleet.sample_reproductions(new_store(Path(sys.argv[1])), 1)
"""


def _drawn(store: Store) -> int:
    return [each.action for each in ledger.list_entries(store)].count(ACTION)


def _sample(root: Path, point: str) -> None:
    store = new_store(root)
    world.live(store)
    with store.db.engine.begin() as tx:
        tx.execute(sa.update(entries).values(at=entries.c.at - 40 * 86_400_000))
    dies(point, SCRIPT, str(root))
    assert _drawn(store) == int(point.endswith(":after"))
    for _ in range(2):
        fleet.sample_reproductions(store, 1)
        assert _drawn(store) == 1
    store.close()


POINTS: dict[str, Scenario] = {"fleet.sample": _sample}
