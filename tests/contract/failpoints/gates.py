"""kill -9 while a changed recipe is judged."""

from __future__ import annotations

from pathlib import Path

from dying import Scenario, dies
from judged import Judged

from tests.conftest import new_store

_JUDGE = """
import sys; from pathlib import Path; from tests.conftest import new_store; from judged import Judged
bench = Judged(new_store(Path(sys.argv[1])))
bench.champion(bench.train(60, 1.0))
bench.judge(bench.train(90, 1.0, own=0.3, recipe="b"))
"""


def _recipe(root: Path, point: str) -> None:
    new_store(root).close()
    dies(point, _JUDGE, str(root))
    store = new_store(root)
    bench = Judged(store)
    bench.errors = {1: 1.0, 2: 1.0}
    found = bench.judge(bench.again(2, "b"))["challenger"].evidence
    assert (found["number"], found["days_in_all"]) == (1, 28), "neither budget nor days are taken twice"
    other = bench.judge(bench.train(95, 1.0, own=0.3, recipe="c"))["challenger"].evidence
    assert other["number"] == 2
    store.close()


POINTS: dict[str, Scenario] = {"gates.recipe": _recipe}
