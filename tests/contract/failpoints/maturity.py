"""kill -9 while it is kept that a person looks, and what a person says of their hours."""

from __future__ import annotations

from pathlib import Path

import policies as world  # type: ignore[import-not-found]
import sqlalchemy as sa
from dying import Scenario, dies

from stead import ledger, maturity, models
from stead.maturity.tables import reviews
from stead.policies.tables import retrainings
from stead.store import Store
from tests.conftest import new_store

LOOK = """
import sys; from pathlib import Path; from tests.conftest import new_store; from stead import maturity
maturity.begin_review(new_store(Path(sys.argv[1])), 1)
"""
CORRECT = """
import sys; from pathlib import Path; from tests.conftest import new_store; from stead import maturity
maturity.correct_work(new_store(Path(sys.argv[1])), int(sys.argv[2]), 3)
"""


def _review(root: Path, point: str) -> None:
    store = new_store(root)
    world.trained(store)
    with store.db.write("policies.move") as tx:
        tx.execute(sa.update(retrainings).values(state="waiting"))
    dies(point, LOOK, str(root))
    assert _looks(store) == int(point.endswith(":after"))
    maturity.begin_review(store, 1)
    assert _looks(store) == 1
    store.close()


def _looks(store: Store) -> int:
    with store.db.read() as tx:
        return len(tx.execute(sa.select(reviews)).all())


def _correct(root: Path, point: str) -> None:
    store = new_store(root)
    world.live(store)
    models.set_alias(store, "m", "spare", 1)
    entry = ledger.list_entries(store, limit=1)[0].id
    dies(point, CORRECT, str(root), str(entry))
    for _ in range(2):
        (act,) = (each for each in maturity.list_work(store) if each.entry == entry)
        told = [each.action for each in ledger.list_entries(store)].count("work.corrected")
        assert (act.minutes, told) == ((3, 1) if point.endswith(":after") else (2, 0))
        maturity.correct_work(store, entry, 3)
        point = ":after"
    store.close()


POINTS: dict[str, Scenario] = {"maturity.review": _review, "maturity.correct": _correct}
