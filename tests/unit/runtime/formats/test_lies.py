"""A model that is not what it says of itself: a clear error, and nothing of it executed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import KINDS, head
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer

from stead import environments, models
from stead.errors import InvalidInput, SteadError
from stead.models import ModelFile
from stead.runtime.formats import adopt, load, save
from stead.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")
SKLEARN = "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n  sklearn:\n    pickled_model: {}\n    serialization_format: {}\n"


class Starts:
    """A pickle of it starts a program when it is read."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


def lie(folder: Path, data: bytes, how: str = "pickle", name: str = "model.pkl") -> Path:
    folder.mkdir()
    (folder / "MLmodel").write_text(SKLEARN.format(name, how))
    (folder / name).write_bytes(data)
    return folder


def raw(module: str, name: str, mark: Path, before: bytes = b"") -> bytes:
    """A pickle that calls something by name with a command."""
    texts = [b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name, f"touch {mark}")]
    return b"\x80\x04" + texts[0] + before + texts[1] + b"\x93" + texts[2] + b"\x85R."


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("call", [os.system, eval, __import__])
def test_a_pickle_that_starts_programs_is_not_read(tmp_path: Path, call: Any, protocol: int, store: Store) -> None:
    mark = tmp_path / "executed"
    told = {os.system: f"touch {mark}", eval: f"open({str(mark)!r}, 'w')", __import__: "antigravity"}[call]
    folder = lie(tmp_path / "m", pickle.dumps({"model": [Starts(call, told)]}, protocol=protocol))
    for read in (load, lambda path: adopt(path, tmp_path / "ours")):
        with pytest.raises(
            InvalidInput, match=r"model\.pkl would call (posix\.system|builtins\.|__builtin__\.)"
        ) as said:
            read(folder)
        assert said.value.code == "model-invalid"
        shutil.rmtree(tmp_path / "ours", ignore_errors=True)
    with pytest.raises(InvalidInput, match="would call"):  # in the server, which only looks at its bytes
        logged(store, folder)
    assert not mark.exists()


def test_a_pickle_that_hides_what_it_calls_is_not_read(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    kept = raw("os", "system", mark)
    pickle.loads(kept)
    assert mark.exists()  # it does what it is made for
    mark.unlink()
    for number, (data, said) in enumerate(
        [
            (kept, r"os\.system"),
            (
                raw("os", "system", mark, before=b"K\x010"),
                "hides what it would call",
            ),  # a number in between, thrown away
            (raw("shutil", "os.system", mark), r"os\.system"),  # by way of a module that has imported os
            (b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.", r"os\.system"),
        ]
    ):
        with pytest.raises(InvalidInput, match=said):
            load(lie(tmp_path / str(number), data))
    assert not mark.exists()


def test_what_says_skops_and_is_none_is_not_read(tmp_path: Path, store: Store) -> None:
    import skops.io

    mark = tmp_path / "executed"
    folder = lie(tmp_path / "a", pickle.dumps(Starts(os.system, f"touch {mark}")), "skops", "model.skops")
    with pytest.raises(InvalidInput, match="said to have the format skops, and holds a pickle"):
        load(folder)
    with pytest.raises(InvalidInput, match="holds a pickle"):
        logged(store, folder)
    skops.io.dump(FunctionTransformer(func=os.system), tmp_path / "system.skops")
    folder = lie(tmp_path / "b", (tmp_path / "system.skops").read_bytes(), "skops", "model.skops")
    with pytest.raises(InvalidInput, match=r"posix\.system, which nobody said to trust"):
        load(folder)
    assert not mark.exists()


def test_a_description_cannot_hide_a_pickle(tmp_path: Path, store: Store) -> None:
    model, rows, _ = KINDS["sklearn pickled"]
    save(model, tmp_path / "m", input_example=rows[:3])
    told = json.loads((tmp_path / "m" / "stead" / "model.json").read_text())
    for how, code in (
        ("pickle", None),
        ("skops", "model-invalid"),
        ("onnx", "model-invalid"),
        ("mystery", "model-invalid"),
    ):
        (tmp_path / "m" / "stead" / "model.json").write_text(json.dumps(told | {"pickle": False, "format": how}))
        if code is None:
            assert logged(store, tmp_path / "m").info["pickle"] is True
            continue
        with pytest.raises(InvalidInput) as refused:
            load(tmp_path / "m")
        assert refused.value.code == code


def test_something_else_than_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="says that it is a scikit-learn model, and holds a dict"):
        load(lie(tmp_path / "m", pickle.dumps({"a": 1})))


@pytest.mark.parametrize("kind", ["sklearn array", "sklearn pickled", "sklearn forest", "xgboost array", "lightgbm array", "catboost array", "onnx array"])  # fmt: skip
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_file_that_was_cut_off_is_told(tmp_path: Path, kind: str, kept: float) -> None:
    model, rows, _ = KINDS[kind]
    save(model, tmp_path / "m", input_example=head(rows, 3))
    told = json.loads((tmp_path / "m" / "stead" / "model.json").read_text())
    file = tmp_path / "m" / told["data"]
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(InvalidInput, match="cut off"):
        load(tmp_path / "m")
    (tmp_path / "m" / "stead" / "model.json").unlink()  # as others wrote it: the library itself must tell
    with pytest.raises(SteadError) as said:
        load(tmp_path / "m")
    assert said.value.code in ("model-invalid", "model-unloadable")


def logged(store: Store, folder: Path) -> Any:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    lock = store.blobs.put(b"msgspec==0.19.0 --hash=sha256:" + b"0" * 64 + b"\n")
    environment = environments.add(store, lock=lock, python="3.11", platform="linux-x86_64").digest
    kept = {name: ModelFile(store.blobs.put(path), 0) for name, path in files.items()}
    return models.log_files(store, kept, name="m", environment=environment, info={"pickle": False})


def test_one_that_is_what_it_says_is_read(tmp_path: Path, store: Store) -> None:
    folder = lie(tmp_path / "m", pickle.dumps(LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])))
    assert load(folder).predict(np.array([[3.0]]))[0] == pytest.approx(3)
    assert logged(store, folder).info["pickle"] is True
