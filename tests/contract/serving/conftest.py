"""A store with real models in a real environment, and gateways as the processes that they are."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from stead import environments, models, serving
from stead.runtime import formats
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from gateway_process import COLUMNS, Running, opened, route, times


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the models `flower` (scikit-learn, two versions) and `times` (plain Python, three versions)."""
    from sklearn.datasets import load_iris
    from sklearn.ensemble import HistGradientBoostingClassifier

    root = tmp_path_factory.mktemp("workshop")
    store = opened(root / "store")
    pins = [f"{name}=={version(name)}" for name in ("scikit-learn", "pandas", "numpy", "skops", "cloudpickle")]
    environment = environments.lock(store, pins).digest
    environments.ensure(store, environment)
    table, target = load_iris(return_X_y=True, as_frame=True)
    table.columns = COLUMNS
    for depth in (1, 3):
        model = HistGradientBoostingClassifier(max_iter=20, max_depth=depth).fit(table, target)
        _register(store, "flower", model, environment, root / f"flower-{depth}", table)
    for factor in (1, 2, 3):
        _register(store, "times", times(factor), environment, root / f"times-{factor}", {"x": [1.0, 2.0]})
    store.close()
    return root / "store"


def _register(store: Store, name: str, model: Any, environment: str, folder: Path, example: Any) -> None:
    rows = example[:5] if hasattr(example, "iloc") else example
    info = formats.save(model, folder, input_example=rows, training=example)
    logged = models.log_model(store, folder, name=name, environment=environment, info=info)
    models.register(store, name, logged.id)


@pytest.fixture
def shop(workshop: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of the workshop that a test may change."""
    root = tmp_path / "shop"
    shutil.copytree(workshop, root, ignore=shutil.ignore_patterns("environments"))
    (root / "environments").symlink_to(workshop / "environments")
    store = opened(root)
    yield store
    store.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts gateways, and ends those that the test did not."""
    started: list[Running] = []

    def start(store: Store, **settings: Any) -> Running:
        started.append(Running(store, tmp_path / "gateway.log", **settings))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture(scope="module")
def gateway(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One gateway for all tests of a module that change nothing: flower 1, times 1 with version 2 warm."""
    root = tmp_path_factory.mktemp("shared")
    shutil.copytree(workshop, root / "store", ignore=shutil.ignore_patterns("environments"))
    (root / "store" / "environments").symlink_to(workshop / "environments")
    store = opened(root / "store")
    route(store, "flower", (1, 1.0))
    route(store, "times", (1, 1.0), warm=[2])
    running = Running(store, root / "log", max_body_bytes=100_000)
    serving.wait_loaded(store, "flower", 1, timeout_s=120)
    serving.wait_loaded(store, "times", 2, timeout_s=60)
    yield running
    assert running.end() == 0, running.log.read_text()
    store.close()
