"""An untouched version of every kind of model is made again, and answers the golden rows to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stead import datasets, pipelines
from stead.config import load_project
from stead.store import Store
from tests.conftest import new_store
from tests.support.working import work

MODELS = {
    "linear": "sklearn.linear_model.Ridge()",
    "forest": "sklearn.ensemble.RandomForestRegressor(20, n_jobs=2)",
    "boosted": "sklearn.ensemble.HistGradientBoostingRegressor(max_iter=30)",
    "xgboost": "xgboost.XGBRegressor(n_estimators=30, subsample=0.7, n_jobs=2)",
    "lightgbm": "lightgbm.LGBMRegressor(n_estimators=30, subsample=0.7, subsample_freq=1, n_jobs=2, verbose=-1)",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Path]]:
    """A version of each kind, all in one environment."""
    root = tmp_path_factory.mktemp("flavours")
    text = '[project]\nname = "kinds"\nrequirements = ["pandas>=2.2", "pyarrow", "scikit-learn>=1.5", "xgboost-cpu>=2.1", "lightgbm>=4.5"]\n'
    for name, made in MODELS.items():
        text += f'[models.{name}]\ncode = "with_{name}.py"\ntarget = "y"\ndataset = "rows"\n'
        modules = made.partition("(")[0].rpartition(".")[0]
        (root / f"with_{name}.py").write_text(f"import {modules}\n\n\ndef train(X, y):\n    return {made}.fit(X, y)\n")
    (root / "stead.toml").write_text(text)
    store = new_store(root / "store")
    random = np.random.default_rng(0)
    columns = {f"x{i}": random.normal(size=3000) for i in range(6)}
    datasets.add(
        store, "rows", pa.table(columns | {"y": np.sin(columns["x0"]) + columns["x1"] * random.normal(size=3000)})
    )
    yield store, root
    store.close()


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_same_to_the_last_bit(trained: tuple[Store, Path], name: str) -> None:
    store, root = trained
    spec = pipelines.pack(load_project(root), name, store.blobs.put)
    for asked in (lambda: pipelines.train(store, name, spec=spec), lambda: pipelines.reproduce(store, f"{name}@1")):
        done = work(store, asked().id)
        assert done is not None and done.state == "succeeded", done
    (found,) = pipelines.list_reproductions(store, name)
    # A forest that answers on two threads adds its trees up in whatever order they end.
    allowed = ("identical", "tolerance") if "Forest" in MODELS[name] else ("identical",)
    assert found.verdict in allowed and found.difference is not None and found.difference <= 1e-12, found.said
    assert found.evidence["apart"].keys() <= {"golden rows", "holdout_random"}
