"""Writing a model as a folder in the MLmodel layout, without MLflow."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stead.errors import Failed, InvalidInput, NotFound
from stead.runtime.formats import checks, libraries, mlmodel, portable, reading
from stead.runtime.formats.sameness import Tolerance, near, same
from stead.runtime.formats.signature import describe, mlflow_signature, rows_to_columns
from stead.runtime.formats.writing import MODULES, Written, family, onnx_columns, write_estimator, write_torch

_SKIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def save(
    model: Any,
    folder: Path,
    *,
    input_example: Any = None,
    predict_fn: str = "predict",
    code: Sequence[Path] = (),
    code_root: Path | None = None,
    features: str | None = None,
    golden_rows: Any = None,
    training: Any = None,
    metadata: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a fitted model under `folder`, which must be new or empty, and return what is known of it.

    `code` are files or package folders; they lie under `code/` as they do under `code_root`, where it is given.
    `features` is `module:function` from `code`: the saved model then takes raw columns and answers predict(features(raw)).
    `golden_rows` are raw rows whose features and outputs are kept, so that a gate can ask for the same where it serves;
    `training` are the raw rows it was fitted on, which tell where a value may be missing. Raises InvalidInput
    (`model-unsupported`, `example-invalid`) or Failed (`model-roundtrip`) where the saved model answers differently.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput("folder-not-empty", f"{folder} is not empty", hint="name a new folder")
    (folder / "stead").mkdir(parents=True)
    example = as_given(input_example if input_example is not None else golden_rows)
    golden = as_given(golden_rows if golden_rows is not None else input_example)
    written = write_estimator(model, folder, predict_fn)
    config, modules = written.config, written.modules
    if features is not None and ":" not in features:
        raise InvalidInput(
            "features-invalid", f"{features!r} is not module:function", hint="features='demand:features'"
        )
    config["features"] = features
    described = training if training is not None else golden if example is None else example
    config |= _inputs(model, as_given(described), features, written, known=training is not None)
    modules |= _write_code(folder, config, code, code_root, modules, features)
    modules |= {MODULES.get(config["flavor"], config["flavor"]), "numpy"}
    modules |= (
        {"pandas"} if config["input"] == "frame" and (features or config["flavor"] not in reading.TENSORS) else set()
    )
    direct, config["libraries"] = libraries.used_by(modules)
    config["python"] = platform.python_version()
    made, features_made = _made(folder, config, golden)
    if config["flavor"] == "pytorch":
        config |= write_torch(model, folder, config, made)
    outputs = _golden(written.estimator, folder, config, golden, made, features_made)
    config["sha256"] = {config["data"]: hashlib.sha256((folder / config["data"]).read_bytes()).hexdigest()}
    signature = None
    if config["columns"] is not None:
        signature = mlflow_signature(config["input"], config["columns"], [0.0] if outputs is None else outputs)
    config["signature"] = signature
    write_json(folder / "stead" / "model.json", config)
    info = _write_example(folder, example)
    _write_mlmodel(folder, config, signature, info, metadata)
    _write_environment(folder, direct, config["libraries"])
    took = _check_roundtrip(folder) if outputs is not None else None
    return {
        "flavor": config["flavor"],
        "signature": signature,
        "libraries": config["libraries"],
        "requires": direct,
        "pickle": config["pickle"],
        "input": config["input"],
        "features": features,
        "golden_rows": 0 if outputs is None else len(outputs),
        "python": config["python"],
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    } | ({"alone_ms": took} if took else {})


def as_given(data: Any) -> Any:
    """Rows given as dictionaries become columns, lists become arrays; a series stays an error."""
    if isinstance(data, dict) and all(
        isinstance(value, str) or not hasattr(value, "__len__") for value in data.values()
    ):
        data = [data]
    if isinstance(data, list) and data and isinstance(data[0], dict):
        return rows_to_columns(data)
    if isinstance(data, list):
        import numpy as np

        return np.array(data)
    return data


def _write_code(
    folder: Path,
    config: dict[str, Any],
    code: Sequence[Path],
    root: Path | None,
    modules: set[str],
    features: str | None,
) -> set[str]:
    """Copy the modules that must travel, and what they import from beside them; returns all modules that they import."""
    root = root.resolve() if root is not None else None
    waiting = [Path(path).resolve() for path in code]
    waiting += [path for module in sorted(modules) if (path := libraries.local_file(module)) is not None]
    taken: set[str] = set()
    imported: set[str] = set()
    while waiting:
        path = waiting.pop()
        if not path.exists():
            raise NotFound("code-missing", f"there is no {path.name} to save with the model")
        if root is not None and path.is_relative_to(root):
            home = root
        else:
            path = _whole(path)
            home = path.parent
        place = folder / "code" / path.relative_to(home)
        if place.exists():
            continue
        taken.add(path.relative_to(home).parts[0].removesuffix(".py"))
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, place, ignore=_SKIPPED)
        else:
            shutil.copyfile(path, place)
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found = libraries.imported_modules(file.read_text(encoding="utf-8"))
            imported |= found
            for top in sorted({name.partition(".")[0] for name in found}):
                beside = (home / f"{top}.py", home / top / "__init__.py")
                waiting += [p if p.name == f"{top}.py" else p.parent for p in beside if p.is_file()]
    if features is not None and features.partition(":")[0].partition(".")[0] not in taken:
        raise NotFound(
            "code-missing", f"the module of {features!r} is not in the code given", hint="code=[Path('demand.py')]"
        )
    categories = any(column["dtype"] == "category" for column in config["columns"] or ())
    ours = features or config.get("classes") or categories or config["predict_fn"] != "predict"
    ours = ours or config["flavor"] in ("python_function", *reading.TENSORS)
    config["code"] = "code" if taken or ours else None
    if config["code"]:
        (folder / "code").mkdir(exist_ok=True)
        source = loader_source()
        config["loader"] = f"stead_portable_{hashlib.sha256(source).hexdigest()[:8]}"
        (folder / "code" / f"{config['loader']}.py").write_bytes(source)
    return imported


def loader_source() -> bytes:
    """What loads a model without stead: three files as one."""
    parts = []
    for module in (checks, reading, portable):
        text = Path(str(module.__file__)).read_text(encoding="utf-8")
        parts.append(re.sub(r"^from (stead|__future__)\S* import (\([^)]*\)|[^\n]*)\n", "", text, flags=re.MULTILINE))
    return ("from __future__ import annotations\n\n" + "\n\n".join(parts)).encode()


def _whole(path: Path) -> Path:
    """The outermost package that a file or folder belongs to, else itself."""
    while (path.parent / "__init__.py").is_file():
        path = path.parent
    return path


def _inputs(model: Any, data: Any, features: str | None, written: Written, *, known: bool) -> dict[str, Any]:
    """What the model takes: from rows of its input, else from what the estimator itself remembers."""
    flavor = written.config["flavor"]
    if data is not None:
        kind, columns = describe(data)
        if flavor == "catboost":  # takes texts, also those that it has never seen
            texts = {"dtype": "object", "categories": None}
            columns = [c | texts if c["dtype"] == "category" and c["type"] == "string" else c for c in columns]
        if not known and _allows_missing(model, features):
            columns = [c | {"nullable": True} if c["type"] in ("double", "float") else c for c in columns]
        return {
            "input": kind,
            "columns": columns,
            "dtype": columns[0]["dtype"] if kind == "array" and columns else None,
        }
    names = getattr(model, "feature_names_in_", None)
    width = getattr(model, "n_features_in_", None)
    if flavor == "onnx" and features is None and (told := onnx_columns(written.estimator)) is not None:
        single = told[0]["name"] == "0"
        return {"input": "array" if single else "frame", "columns": told, "dtype": told[0]["dtype"] if single else None}
    if features is not None or (names is None and width is None):
        return {
            "input": "array" if flavor != "python_function" else "columns",
            "columns": None,
            "dtype": None,
        }
    nullable = _allows_missing(model, features)
    listed = [str(name) for name in names] if names is not None else [str(i) for i in range(width or 0)]
    columns = [{"name": name, "type": "double", "dtype": "float64", "nullable": nullable} for name in listed]
    return {"input": "frame" if names is not None else "array", "columns": columns, "dtype": "float64"}


def _allows_missing(model: Any, features: str | None) -> bool:
    if features is not None:
        return False
    if family(model) in ("xgboost", "lightgbm", "catboost"):
        return True
    tags = getattr(model, "__sklearn_tags__", None)
    try:
        return tags is None or bool(tags().input_tags.allow_nan)
    except Exception:
        return True


def _made(folder: Path, config: dict[str, Any], rows: Any) -> tuple[Any, Any]:
    """What the estimator gets for raw rows, and the features among it as they are kept."""
    if rows is None or not config["features"]:
        return rows, None
    with portable.Code(str(folder / "code")):
        made = reading.resolve(config["features"])(rows.copy())  # it may write into what it gets
    return made, portable.listed(made)


def _golden(estimator: Any, folder: Path, config: dict[str, Any], rows: Any, made: Any, features: Any) -> Any:
    """Keep raw rows, their features and what the model in memory answers; returns the answers, or None without rows."""
    if rows is None:
        return None
    inputs: Any = portable.listed(rows)
    if config["input"] == "array":
        inputs = [list(row) for row in zip(*inputs.values(), strict=True)]
    called = reading.caller(estimator, config | ({"classes": None} if "classes" in config else {}))
    try:
        answered = called(made)
    except Exception as error:
        raise InvalidInput(
            "example-refused",
            f"the model does not answer the example rows: {type(error).__name__}: {error}",
            hint="fit it, and give rows as it takes them: input_example=X[:5]",
        ) from error
    outputs = [portable.plain(value) for value in _as_list(answered)]
    golden = {"inputs": inputs, "features": features, "outputs": outputs}
    golden |= {"libraries": config["libraries"], "python": config["python"]}
    if config["flavor"] in reading.TENSORS:
        golden["tolerance"] = near(outputs)
    write_json(folder / "stead" / "golden.json", golden)
    return outputs


def _as_list(outputs: Any) -> list[Any]:
    return outputs.tolist() if hasattr(outputs, "tolist") else list(outputs)


def _check_roundtrip(folder: Path) -> dict[str, float] | None:
    """Load what was written and ask it for the golden rows: better here than at the first request.

    Returns how long it takes for one row, in milliseconds: the whole, and its features alone; None where a row alone gets no answer,
    which is for whoever asks for one.
    """
    from stead.runtime.formats.predicting import load

    golden = json.loads((folder / "stead" / "golden.json").read_text(encoding="utf-8"))
    predictor = load(folder)
    inputs: Any = golden["inputs"]
    if not isinstance(inputs, dict):
        import numpy as np

        inputs = np.array(inputs, dtype=predictor.config["dtype"])
    again = [portable.plain(value) for value in _as_list(predictor.predict(predictor.check(inputs)))]
    within = Tolerance(*golden.get("tolerance", ()))
    if not same(golden["outputs"], again, within):
        pairs = enumerate(zip(golden["outputs"], again, strict=False))
        row = next((number for number, pair in pairs if not same(*pair, within)), 0)
        raise Failed(
            "model-roundtrip",
            f"the saved model does not answer as the one in memory: row {row} gives {again[row]}, not {golden['outputs'][row]}",
            hint="a model must give the same answer for the same row; look for random numbers or state outside it",
        )
    one = predictor.check(
        {name: values[:1] for name, values in inputs.items()} if isinstance(inputs, dict) else inputs[:1]
    )
    try:
        took = {"whole": _best(lambda: predictor.predict(one)), "features": 0.0}
        if golden["features"] is not None:
            took["features"] = min(took["whole"], _best(lambda: predictor.made(one)))
    except Exception:
        return None
    return took


def _best(what: Callable[[], Any]) -> float:
    """Milliseconds of the quickest of a few calls."""
    found = []
    for _ in range(5):
        begun = time.perf_counter()
        what()
        found.append((time.perf_counter() - begun) * 1000)
    return round(min(found), 4)


def _write_example(folder: Path, example: Any) -> dict[str, Any] | None:
    """`input_example.json` and `serving_input_example.json` as MLflow writes them."""
    import numpy as np

    if example is None:
        return None
    info: dict[str, Any] = {"artifact_path": "input_example.json", "serving_input_path": "serving_input_example.json"}
    listed = portable.listed(example)
    rows = [list(row) for row in zip(*listed.values(), strict=True)]
    if isinstance(example, np.ndarray):
        write_json(folder / "input_example.json", rows)
        write_json(folder / "serving_input_example.json", {"inputs": rows})
        return info | {"type": "ndarray"}
    split = {"columns": list(listed), "data": rows}
    write_json(folder / "input_example.json", split)
    write_json(folder / "serving_input_example.json", {"dataframe_split": split})
    return info | {"type": "dataframe", "pandas_orient": "split"}


def _write_mlmodel(
    folder: Path,
    config: dict[str, Any],
    signature: dict[str, Any] | None,
    example: dict[str, Any] | None,
    metadata: dict[str, Any] | None,
) -> None:
    flavor, version = config["flavor"], config["libraries"]
    pyfunc: dict[str, Any] = {
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "loader_module": config.get("loader") or f"mlflow.{flavor}",
        "python_version": config["python"],
    }
    if config["code"]:
        pyfunc["code"] = config["code"]
    elif flavor == "sklearn":
        pyfunc |= {"model_path": config["data"], "predict_fn": "predict"}
    else:
        pyfunc["data"] = config["data"]
    flavors: dict[str, Any] = {"python_function": pyfunc, "stead": {"format": 1, "pickle": config["pickle"]}}
    if flavor != "python_function":
        flavors[flavor] = {"code": config["code"]} | _own_flavor(config, version)
    data: dict[str, Any] = {"flavors": flavors, "model_uuid": _content(folder)[:32]}
    if signature is not None:
        data["signature"] = {key: json.dumps(value) for key, value in signature.items()} | {"params": None}
    if example is not None:
        data["saved_input_example_info"] = example
    if metadata:
        data["metadata"] = metadata
    mlmodel.write(folder / "MLmodel", data)


def _own_flavor(config: dict[str, Any], version: dict[str, str]) -> dict[str, Any]:
    """What MLflow's module of a flavor reads."""
    flavor, data = config["flavor"], config["data"]
    if flavor == "sklearn":
        own = {"pickled_model": data, "sklearn_version": version.get("scikit-learn")}
        trusted = {"skops_trusted_types": config["trusted"]} if config.get("trusted") else {}
        return own | {"serialization_format": config["format"]} | trusted
    if flavor == "xgboost":
        known = version.get("xgboost") or version.get("xgboost-cpu")
        return {"data": data, "model_class": config["model_class"], "model_format": "ubj", "xgb_version": known}
    if flavor == "lightgbm":
        return {"data": data, "model_class": "lightgbm.basic.Booster", "lgb_version": version.get("lightgbm")}
    if flavor == "catboost":
        kind = config["model_class"].rpartition(".")[2]
        return {"data": data, "model_type": kind, "save_format": "cbm", "catboost_version": version.get("catboost")}
    if flavor == "onnx":
        known = libraries.versions(["onnx"]).get("onnx")
        return {
            "data": data,
            "providers": ["CPUExecutionProvider"],
            "onnx_session_options": None,
            "onnx_version": known,
        }
    return {"model_data": data.partition("/")[0], "pytorch_version": version.get("torch")}


def _content(folder: Path) -> str:
    """A name for the content, so that the same model is the same folder."""
    hasher = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            hasher.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()


def _write_environment(folder: Path, direct: list[str], version: dict[str, str]) -> None:
    pins = [f"{name}=={version[name]}" for name in direct if name in version]
    (folder / "requirements.txt").write_text("\n".join(pins) + "\n", encoding="utf-8")
    python = ".".join(str(part) for part in sys.version_info[:3])
    (folder / "python_env.yaml").write_text(
        f"python: {python}\ndependencies:\n- -r requirements.txt\n", encoding="utf-8"
    )
    lines = ["channels:", "- conda-forge", "dependencies:", f"- python={python}", "- pip", "- pip:"]
    lines += [f"  - {pin}" for pin in pins] + ["name: mlflow-env"]
    (folder / "conda.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise InvalidInput("example-invalid", "an example with infinite values cannot be sent as JSON") from None
    path.write_text(text, encoding="utf-8")
