"""A network that a pipeline trained is made again: the same seed gives the same weights, another one is named as the cause."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from stead import datasets, environments, jobs, models, pipelines
from stead.config import load_project, load_settings
from stead.processes.handlers import handlers
from stead.store import Store
from tests.conftest import new_store

pytestmark = pytest.mark.timeout(600)

TOML = """[project]
name = "net"
requirements = ["six"]

[models.net]
code = "net.py"
target = "y"
"""

CODE = """import torch
from torch import nn


def train(X, y):
    inputs = torch.tensor(X.to_numpy(), dtype=torch.float32)
    wanted = torch.tensor(y.to_numpy(), dtype=torch.float32).unsqueeze(1)
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(inputs), wanted).backward()
        optimizer.step()
    return net
"""


WITHIN = CODE.replace("import torch\nfrom torch import nn\n\n\n", "").replace(
    "train(X, y):\n", "train(X, y):\n    import torch\n    from torch import nn\n\n"
)
"""Nothing of it is loaded before `train` is called."""


def here(store: Store, requirements: list[str]) -> None:
    """An environment that is the one of this test, which has PyTorch: building another one would fetch it once more."""
    digest = environments.lock(store, requirements).digest
    python = store.root / "environments" / digest[:16] / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)


def done(store: Store, job: jobs.Job) -> jobs.Job:
    found = jobs.work(store, handlers(load_settings()), owner="me", job_id=job.id)
    assert found is not None and found.state == "succeeded", found
    return found


@pytest.mark.parametrize("code", [CODE, WITHIN], ids=["loaded before", "loaded within"])
def test_a_network_is_made_again_within_its_tolerance(tmp_path: Path, code: str) -> None:
    (tmp_path / "stead.toml").write_text(TOML)
    (tmp_path / "net.py").write_text(code)
    store = new_store(tmp_path / "store")
    here(store, ["six"])
    random = np.random.default_rng(0)
    columns = {name: random.normal(size=300) for name in "abc"}
    datasets.add(store, "net", pa.table(columns | {"y": columns["a"] * 2 - columns["b"]}))
    done(store, pipelines.train(store, "net", spec=pipelines.pack(load_project(tmp_path), "net", store.blobs.put)))
    logged = models.get_logged_model(store, models.get_version(store, "net@1").logged_model)
    assert logged.flavor == "pytorch" and logged.metrics["holdout_random"] < 1.0
    done(store, pipelines.reproduce(store, "net@1"))
    (found,) = pipelines.list_reproductions(store, "net")
    assert found.verdict in ("identical", "tolerance") and found.tolerance == 1e-6, found.said
    again = done(store, pipelines.rerun(store, "net@1", seed=5, explain=True))
    rerun = msgspec.convert(again.result, pipelines.Rerun)
    assert rerun.verdict == "different" and rerun.explained is not None
    assert [cause["name"] for cause in rerun.explained["causes"]] == ["seed"]
    store.close()
