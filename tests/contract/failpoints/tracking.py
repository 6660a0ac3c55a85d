"""kill -9 while a run is made, logged to, delivered or changed: what was logged is stored once, a change is whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dying import Scenario, dies
from test_tracking_kill import SYNC, TRAIN, check, environ

from stead import runs
from stead.errors import NotFound
from stead.store import Store
from tests.conftest import new_store

NTH = {"journal.append": 30, "journal.file": 2}
RUN = "0" * 31 + "1"


def _train(root: Path, point: str) -> None:
    """The training process dies there, then whoever delivers what it left."""
    store = new_store(root / "store")
    name = point.partition(":")[0]
    out = dies(f"{point}#{NTH.get(name, 1)}", _in(store, TRAIN), "slowly")
    check(store, out)
    if name not in NTH:
        out = dies("journal.append:after#60", _in(store, TRAIN))
        dies(point, _in(store, SYNC))
        check(store, out)
    store.close()


def _in(store: Store, script: str) -> str:
    return f"import os; os.environ['STEAD_STORE'] = {environ(store)['STEAD_STORE']!r}\n" + script


def _change(code: str, before: Callable[[Store], None], happened: Callable[[Store], bool]) -> Scenario:
    """`code` dies at the point; afterwards its change has happened or has not, and doing it again ends in the same."""
    script = f"import sys\nfrom pathlib import Path\nfrom tests.conftest import new_store\nfrom stead import runs\nrun = {RUN!r}\n"
    script += f"store = new_store(Path(sys.argv[1]))\n{code}\n"

    def scenario(root: Path, point: str) -> None:
        store = new_store(root)
        before(store)
        dies(point, script, str(root))
        assert happened(store) == point.endswith(":after")
        exec(code, {"runs": runs, "store": store, "run": RUN})
        assert happened(store)
        store.close()

    return scenario


def _nothing(_: Store) -> None: ...


def _a_run(store: Store) -> None:
    runs.start(store, project="p", run_id=RUN)


def _started(store: Store) -> bool:
    try:
        assert runs.get_run(store, RUN).params == {"a": "1"}
    except NotFound:
        return False
    return True


def _logged(store: Store) -> bool:
    run = runs.get_run(store, RUN)
    assert (run.params == {"b": "2"}) == ("loss" in run.metrics)
    return bool(run.metrics)


POINTS: dict[str, Scenario] = {
    "journal.append": _train,
    "journal.file": _train,
    "journal.send": _train,
    "runs.deliver": _train,
    "runs.start": _change("runs.start(store, project='p', run_id=run, config={'a': '1'})", _nothing, _started),
    "runs.log": _change("runs.log(store, run, metrics={'loss': 1.0}, params={'b': '2'})", _a_run, _logged),
    "runs.end": _change("runs.end(store, run)", _a_run, lambda s: runs.get_run(s, RUN).status == "finished"),
    "runs.tag": _change("runs.set_tag(store, run, 'a', 'b')", _a_run, lambda s: bool(runs.get_run(s, RUN).tags)),
    "runs.change": _change("runs.delete_run(store, run)", _a_run, lambda s: not runs.list_runs(s).runs),
    "runs.experiment": _change(
        "runs.set_experiment_tag(store, 'p', 'a', 'b')", _a_run, lambda s: bool(runs.get_experiment(s, "p").tags)
    ),
}
