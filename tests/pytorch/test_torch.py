"""PyTorch: saved, answered, read by MLflow and the other way round. Run by `make test-torch`, in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from stead.errors import InvalidInput, SteadError
from stead.gates import compare_golden
from stead.runtime import formats, frames
from stead.runtime.formats import adopt, load, save
from stead.runtime.formats.sameness import near, same

sys.path.insert(0, str(Path(__file__).parent))
from nets import Branching

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
FRAME = pd.DataFrame(ROWS, columns=list("abcd")).assign(k=np.arange(50))


def small(width: int = 4, outputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, outputs))


def answer(module: nn.Module, rows: Any) -> list[Any]:
    module.eval()
    with torch.inference_mode():
        found = module(torch.from_numpy(np.asarray(rows, dtype="float32"))).numpy()
    return (found.ravel() if found.shape[1] == 1 else found).tolist()


def close(expected: list[Any], found: Any) -> bool:
    return same(expected, np.asarray(found).tolist(), near(expected))


@pytest.mark.parametrize(
    ("module", "rows", "how"),
    [
        (small(), ROWS, "pt2"),
        (small(5, 3), FRAME, "pt2"),
        (small(5).double(), FRAME, "pt2"),
        (Branching(), ROWS, "safetensors"),
    ],
)
def test_saved_answers_as_trained(module: nn.Module, rows: Any, how: str, tmp_path: Path) -> None:
    info = save(module, tmp_path / "m", input_example=rows[:5])
    told = json.loads((tmp_path / "m" / "stead" / "model.json").read_text())
    assert (info["flavor"], info["pickle"], told["format"]) == ("pytorch", False, how)
    assert "torch" in info["requires"]
    assert ("pandas" in info["requires"]) is False  # a frame of numbers is one array
    predictor = load(tmp_path / "m")
    with torch.inference_mode():
        kind = torch.float64 if told["tensor"] == "float64" else torch.float32
        expected = module(torch.tensor(np.asarray(rows), dtype=kind)).numpy()
    expected = (expected.ravel() if expected.shape[1] == 1 else expected).tolist()
    given = rows if isinstance(rows, np.ndarray) else {name: rows[name].tolist() for name in rows}
    assert close(expected, predictor.predict(predictor.check(given)))
    one = rows[:1] if isinstance(rows, np.ndarray) else {name: rows[name].tolist()[:1] for name in rows}
    assert len(predictor.predict(predictor.check(one))) == 1
    assert not module.training


def test_features_come_first(tmp_path: Path) -> None:
    (tmp_path / "shifted.py").write_text("def features(raw):\n    return raw[['a', 'b']].assign(s=raw['k'] + 1)\n")
    module = small(3)
    raw = FRAME[["a", "b", "k"]]
    save(module, tmp_path / "m", features="shifted:features", code=[tmp_path / "shifted.py"], golden_rows=raw[:6])
    predictor = load(tmp_path / "m")
    given = {name: raw[name].tolist() for name in raw}
    assert close(answer(module, raw.assign(k=raw["k"] + 1)), predictor.predict(predictor.check(given)))


def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    class Local(Branching):
        pass

    with pytest.raises(InvalidInput, match=r"neither be exported .* nor built again") as told:
        save(Local(), tmp_path / "a", input_example=ROWS[:3])
    assert told.value.code == "model-unsupported"
    with pytest.raises(InvalidInput) as told:
        save(small(), tmp_path / "b")
    assert told.value.code == "example-missing"


def test_the_worker_answers_and_the_gate_agrees(tmp_path: Path) -> None:
    module = small(5)
    save(module, tmp_path / "m", input_example=FRAME[:20])
    golden = json.loads((tmp_path / "m" / "stead" / "golden.json").read_text())
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", "stead.runtime.worker", "--fd", str(theirs.fileno())], pass_fds=(theirs.fileno(),)
    )
    theirs.close()
    ours.settimeout(100)
    rows = FRAME[:20].to_dict("records")
    body = json.dumps({"rows": rows}).encode()
    ours.sendall(frames.pack(frames.LOAD, 1, b"net@1", part=str(tmp_path / "m").encode()))
    ours.sendall(frames.pack(frames.EXPLAIN, 2, b"net@1", body=body))
    reader, found = frames.Reader(), []
    while len(found) < 3:
        found += reader.feed(ours.recv(1 << 20))
    served = json.loads(found[-1].body)
    verdict = compare_golden(golden, served, environment_packages={}, worker_libraries=served["libraries"])
    assert verdict.outcome == "passed", verdict
    ours.close()
    process.wait(30)


# MLflow


@pytest.fixture(scope="module")
def mlflow() -> Any:
    import mlflow.pyfunc
    import mlflow.pytorch

    return mlflow


def test_mlflow_loads_ours(tmp_path: Path, mlflow: Any) -> None:
    for name, module, rows in (("exported", small(), ROWS), ("tensors", Branching(), ROWS), ("frame", small(5), FRAME)):
        save(module, tmp_path / name, input_example=rows[:5])
        found = mlflow.pyfunc.load_model(str(tmp_path / name)).predict(rows)
        assert close(answer(module, rows), found), name
    loaded = mlflow.pytorch.load_model(str(tmp_path / "exported"))  # which MLflow finds free of pickles
    assert close(answer(small(), ROWS), loaded(torch.from_numpy(ROWS)).detach().numpy().ravel())


def test_we_load_what_mlflow_wrote(tmp_path: Path, mlflow: Any) -> None:
    module = small()
    signature = mlflow.models.infer_signature(ROWS, np.array(answer(module, ROWS)).reshape(-1, 1))
    for how, pickled in (("pt2", False), ("pickle", True)):
        mlflow.pytorch.save_model(
            module, str(tmp_path / how), signature=signature, input_example=ROWS[:3], serialization_format=how,
            pip_requirements=["torch"],
        )  # fmt: skip
        info = adopt(tmp_path / how, tmp_path / "ours" / how)
        predictor = load(tmp_path / "ours" / how)
        assert close(answer(module, ROWS), predictor.predict(predictor.check(ROWS))), how
        assert info["pickle"] == predictor.pickle == pickled
        assert info["golden_rows"] == 3
        assert "torch" in info["requires"]


# lies


class Starts:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_a_pickle_inside_is_not_read(tmp_path: Path, mlflow: Any) -> None:
    mark = tmp_path / "executed"
    save(small(), tmp_path / "m", input_example=ROWS[:5])
    torch.save(Starts(f"touch {mark}"), tmp_path / "evil.pth")
    whole = tmp_path / "m" / "data" / "model.pt2"
    with zipfile.ZipFile(whole) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    (sample,) = [name for name in records if name.endswith(".pt") and "sample" in name]
    with zipfile.ZipFile(whole, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, (tmp_path / "evil.pth").read_bytes() if name == sample else data)
    told = json.loads((tmp_path / "m" / "stead" / "model.json").read_text())
    (tmp_path / "m" / "stead" / "model.json").write_text(json.dumps(told | {"sha256": {}}))
    with pytest.raises(InvalidInput, match=r"posix\.system"):
        load(tmp_path / "m")
    shutil.copy(tmp_path / "evil.pth", tmp_path / "m" / "data" / "model.pth")
    (tmp_path / "m" / "data" / "model.pt2").unlink()
    (tmp_path / "m" / "stead" / "model.json").unlink()
    (tmp_path / "m" / "data" / "pickle_module_info.txt").write_text("pickle")
    with pytest.raises(InvalidInput, match=r"posix\.system"):
        load(tmp_path / "m")
    assert not mark.exists()


@pytest.mark.parametrize("module", [small(), Branching()])
def test_a_file_that_was_cut_off_is_told(module: nn.Module, tmp_path: Path) -> None:
    save(module, tmp_path / "m", input_example=ROWS[:5])
    told = json.loads((tmp_path / "m" / "stead" / "model.json").read_text())
    file = tmp_path / "m" / told["data"]
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(InvalidInput, match="cut off"):
        load(tmp_path / "m")
    (tmp_path / "m" / "stead" / "model.json").write_text(
        json.dumps(told | {"sha256": {}})
    )  # the format itself must tell
    with pytest.raises(SteadError) as said:
        load(tmp_path / "m")
    assert said.value.code in ("model-invalid", "model-unloadable")


def test_the_same_model_is_the_same_tensors(tmp_path: Path) -> None:
    for name in ("a", "b"):
        torch.manual_seed(0)
        save(Branching(), tmp_path / name, input_example=ROWS[:5])
    files = [(tmp_path / name / "data" / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    assert formats.read_config(tmp_path / "a")["init_args"] == {"width": 4, "hidden": 3}
