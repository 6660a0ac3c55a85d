"""kill -9 while a decision is judged: verdict, the end of scoring aside and both ledger entries are one change."""

from __future__ import annotations

from pathlib import Path

from displaced import Displaced
from dying import Scenario, dies

from stead import ledger
from stead.store import Store
from tests.conftest import new_store

SCRIPT = """
import sys; from pathlib import Path; from tests.conftest import new_store; from stead import deployments
store = new_store(Path(sys.argv[1]))
for waiting in deployments.judged_now(store):
    deployments.judge(store, waiting)
"""


def _seen(store: Store) -> tuple[object, ...]:
    (judged,) = ledger.list_judgements(store)
    told = [entry.action for entry in ledger.list_entries(store)]
    return judged.verdict, judged.closed, judged.rows, told.count("shadow.ended"), told.count("decision.judged")


def _judge(root: Path, point: str) -> None:
    store = new_store(root)
    world = Displaced(store, judge_days=14)
    world.swap()
    world.both(0, 15, loss=1.5)
    world.hold(15)
    dies(point, SCRIPT, str(root))
    done = ("wrong", True, 14 * 24, 1, 1)
    assert _seen(store) == (done if point.endswith(":after") else (None, False, 0, 0, 0))
    world.judge()
    world.judge()
    assert _seen(store) == done and world.shadow() == []
    store.close()


POINTS: dict[str, Scenario] = {"deployments.judge": _judge}
