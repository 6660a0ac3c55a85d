"""Datasets and models through `import stead`, embedded and against a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

import stead
from stead import datasets, models, runs
from stead.errors import InvalidInput, NotFound, Unreachable
from stead.runtime import formats
from stead.sdk import connection
from stead.sdk.data import dataset_files
from stead.sdk.models import as_rows
from stead.store import Store
from tests.conftest import free_ports

SERVER = Path(__file__).parents[2] / "support" / "api_server.py"


@pytest.fixture(params=["embedded", "remote"])
def used(
    request: pytest.FixtureRequest, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """The store, and this process set up to use it: directly, or by the URL of a server."""
    process = None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    if request.param == "remote":
        (port,) = free_ports(1)
        process = subprocess.Popen([sys.executable, str(SERVER), str(port)], env=dict(os.environ))
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{url}/health", trust_env=False)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        monkeypatch.setenv("STEAD_URL", url)
        monkeypatch.setenv("STEAD_STORE", str(tmp_path / "client"))
    yield store
    stead.finish()
    connection.caller().close()
    connection._callers.clear()
    if process is not None:
        process.kill()
        process.wait()


def test_a_dataset_is_a_frame_and_an_input(used: Store, tmp_path: Path) -> None:
    datasets.add(used, "trips", pa.table({"hour": [1, 2], "count": [10, 20]}))
    datasets.add(used, "trips", pa.table({"hour": [3], "count": [30]}), append=True)
    (tmp_path / "notes.txt").write_text("hello")
    datasets.add(used, "notes", tmp_path / "notes.txt")
    run = stead.init(project="p", watch=False)
    frame = stead.dataset("trips@2")
    assert isinstance(frame, pd.DataFrame)
    assert frame["count"].tolist() == [10, 20, 30]
    assert stead.dataset("trips", columns=["hour"], arrow=True).column_names == ["hour"]
    with pytest.raises(InvalidInput, match="holds files"):
        stead.dataset("notes")
    (file,) = dataset_files("notes@1", tmp_path / "out")
    assert file.read_text() == "hello"
    with pytest.raises(NotFound):
        stead.dataset("tripz")
    stead.finish()
    assert sorted(runs.get_run(used, run.id).inputs) == ["notes@1", "trips@2"]


def of_environment(*arguments: str) -> str:
    command = [sys.executable, "-m", "stead", "env", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_fitted_model_becomes_a_version(used: Store, capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    model = LogisticRegression().fit(rows, [0, 1, 0, 1])
    run = stead.init(project="p", watch=False)
    version = stead.log_model(model, "flowers", input_example=rows[:2], metrics={"accuracy": 1.0}, loss="error")
    stead.finish()
    assert version.ref == "flowers@1"
    assert "stead deploy flowers" in capsys.readouterr().err
    stored = models.get_version(used, "flowers@1")
    logged = models.get_logged_model(used, stored.logged_model)
    assert (stored.run_id, logged.run_id, logged.flavor) == (run.id, run.id, "sklearn")
    assert logged.metrics == {"accuracy": 1.0}
    assert "MLmodel" in logged.files
    assert models.get_model(used, "flowers").level == "record"
    assert runs.get_run(used, run.id).tags["stead.model"] == "flowers@1"
    shown = of_environment("show", "flowers@1")
    assert "# cpu: " in shown and "# blas kernel: " in shown and "# interpreter: " in shown
    rows_of = {row["name"]: row["values"] for row in json.loads(of_environment("diff", "flowers@1", "--all", "--json"))}
    assert rows_of["cpu"][0] == rows_of["cpu"][2] and rows_of["blas"][0], "of training, and here"
    with pytest.raises(InvalidInput):
        stead.log_model(model, "../flowers", input_example=rows)


def test_a_folder_becomes_a_version_and_is_got_back(used: Store, tmp_path: Path) -> None:
    rows = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    model = LogisticRegression().fit(rows, [0, 1, 0, 1])
    formats.save(model, tmp_path / "saved", input_example=rows[:2])
    assert stead.log_model(tmp_path / "saved", "taken", input_example=rows[:3]).ref == "taken@1"
    assert stead.log_model(str(tmp_path / "saved"), "taken").ref == "taken@2"
    with pytest.raises(InvalidInput, match="has its own predict_fn, code and features"):
        stead.log_model(tmp_path / "saved", "taken", predict_fn="predict_proba")
    assert "# cpu" not in of_environment("show", "taken@1"), "where it was fitted is not known"
    command = [sys.executable, "-m", "stead", "models", "get", "taken@1", "got"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "got\n"
    got = formats.load(Path("got"))
    assert got.predict(got.check(rows.tolist())).tolist() == [0, 1, 0, 1]
    assert len(json.loads(Path("got/stead/golden.json").read_text())["outputs"]) == 3
    again = subprocess.run(command, capture_output=True, text=True)
    assert (again.returncode, again.stderr.splitlines()[0]) == (2, "error: got is not empty")
    logged = models.get_logged_model(used, models.get_version(used, "taken@1").logged_model)
    used.blobs.path(logged.files["serving_input_example.json"].digest).write_bytes(b"altered")
    broken = subprocess.run([*command[:-1], "half"], capture_output=True, text=True)
    assert broken.returncode == 1 and "do not match their name" in broken.stderr and list(Path("half").iterdir()) == []


def test_a_file_of_onnx_becomes_a_version(used: Store, tmp_path: Path) -> None:
    from skl2onnx import to_onnx

    X = np.random.default_rng(0).normal(size=(40, 3))
    fitted = LogisticRegression().fit(X, (X[:, 0] > 0).astype(int))
    (tmp_path / "signs.onnx").write_bytes(to_onnx(fitted, X[:1], options={"zipmap": False}).SerializeToString())
    version = stead.log_model("signs.onnx", "signs", input_example=X[:5], quiet=True)
    logged = models.get_logged_model(used, version.logged_model)
    assert (logged.flavor, logged.info["pickle"]) == ("onnx", False)
    predictor = formats.load(models.materialise(used, logged.id))
    assert predictor.predict(X).tolist() == fitted.predict(X).tolist()
    with pytest.raises(NotFound, match="no model in"):
        stead.log_model("others.onnx", "signs", quiet=True)
    (tmp_path / "odd.onnx").write_bytes(b"\x08\x07nothing")
    with pytest.raises(InvalidInput, match="no model in ONNX"):
        stead.log_model("odd.onnx", "signs", quiet=True)


def test_rows_of_any_kind() -> None:
    assert as_rows(pd.DataFrame({"a": [1, 2]})) == [{"a": 1}, {"a": 2}]
    assert as_rows(np.array([[1.0, 2.0]])) == [[1.0, 2.0]]
    assert as_rows([{"a": 1}]) == [{"a": 1}]
    with pytest.raises(InvalidInput):
        as_rows("abc")


@pytest.mark.parametrize("row", [{"a": float("inf")}, {"a": np.float32("-inf")}, [1, float("inf")]])
def test_infinity_is_no_missing_value(row: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        stead.predict("flowers", [{"a": float("nan"), "b": 10**400}, row])
    assert refused.value.code == "rows-infinite" and "row 1 has" in refused.value.message


def test_no_gateway_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEAD_GATEWAY_PORT", str(free_ports(1)[0]))
    with pytest.raises(Unreachable) as caught:
        stead.predict("flowers", [{"a": 1}])
    assert caught.value.hint == "stead deploy flowers"
