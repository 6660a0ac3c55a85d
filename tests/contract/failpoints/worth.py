"""kill -9 while answers are kept: all of them and the ledger entry, or none."""

from __future__ import annotations

from pathlib import Path

from dying import Scenario, dies

from stead import ledger, maturity
from tests.conftest import new_store

_ANSWER = """
import sys; from pathlib import Path; from tests.conftest import new_store; from stead import maturity
maturity.answer(new_store(Path(sys.argv[1])), {"models": 3, "depends": True})
"""


def _answer(root: Path, point: str) -> None:
    store = new_store(root)
    dies(point, _ANSWER, str(root))
    done = point.endswith(":after")
    assert [each.question for each in maturity.list_answers(store)] == ["models", "depends"] * done
    assert [each.action for each in ledger.list_entries(store)] == ["worth.answered"] * done
    assert len(maturity.answer(store, {"models": 3, "depends": True})) == 2
    assert len(ledger.list_entries(store)) == 1
    store.close()


POINTS: dict[str, Scenario] = {"maturity.answer": _answer}
