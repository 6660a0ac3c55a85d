"""Pages of many models ask the store as often as those of a few."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from asking import Site
from world import HOUR, MLMODEL, START, go_live

from stead import environments, models, predictions
from stead.cli import cli
from stead.predictions import Logged, PredictionLog
from stead.runtime.ids import new_id
from stead.store import Store


def add(store: Store, folder: Path, name: str, versions: int = 1) -> None:
    """A model whose newest version is live and has answered for three days."""
    made = folder / "model"
    made.mkdir(exist_ok=True)
    (made / "MLmodel").write_text(MLMODEL)
    (made / "model.pkl").write_bytes(b"model")
    lock = store.blobs.put(f"x==1 --hash=sha256:{'0' * 64}\n".encode())
    environment = environments.add(store, lock=lock, python="3.11", platform="linux-x86_64").digest
    for number in range(versions):
        scored = {"holdout_time": 0.5 + number}
        logged = models.log_model(store, made, name=name, environment=environment, metrics=scored)
        last = models.register(store, name, logged.id)
    go_live(store, last)
    log = PredictionLog(store, f"g-{name}")
    log.append(
        [
            Logged(new_id(), name, versions, START + n * 6 * HOUR, START, 900, 200, "stead", None, 0, b"{}", _answer(n))
            for n in range(12)
        ]
    )
    log.close()


def _answer(n: int) -> bytes:
    return msgspec.msgpack.encode([float(n)])


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    """The questions that are asked meanwhile, but for whether there are tokens, which is asked once a second."""
    said: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT") and "FROM tokens" not in statement:
            said.append(statement)

    sa.event.listen(store.db.engine, "before_cursor_execute", note)
    yield said
    sa.event.remove(store.db.engine, "before_cursor_execute", note)


@pytest.mark.parametrize("path", ["/", "/models", "/deployments"])
def test_thirty_models_take_no_more_questions_than_three(bare: Site, tmp_path: Path, path: str) -> None:
    store, asked = bare.store, []
    for count in (3, 30):
        for number in range(len(asked) * 3, count):
            add(store, tmp_path, f"m{number}")
        predictions.compact(store)
        predictions.refresh_performance(store)
        with counted(store) as said:
            page = bare.page(path)
        asked.append(len(said))
        assert len(page.select("main tbody tr")) == count
    assert asked[0] == asked[1] < 30


def test_a_model_with_many_versions(
    bare: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: object
) -> None:
    add(bare.store, tmp_path, "few", 2)
    add(bare.store, tmp_path, "many", 20)
    asked = []
    for name in ("few", "many"):
        with counted(bare.store) as said:
            assert "0.500" in bare.page(f"/models/{name}").get_text()
        asked.append(len(said))
    assert asked[0] == asked[1]
    monkeypatch.setenv("STEAD_STORE", str(bare.store.root))
    cli(["models", "show", "many"], standalone_mode=False)
    told = capsys.readouterr().out  # type: ignore[attr-defined]
    assert told.count("sklearn") == 20 and "19.5" in told
