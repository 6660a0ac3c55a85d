"""A saved model as one in ONNX, which needs neither its library nor, often, pandas to answer.

Runs where the model's libraries are, with the converters beside them. What it writes is a folder that `load` reads.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stead.errors import InvalidInput
from stead.runtime.formats import libraries, portable, reading
from stead.runtime.formats.predicting import golden_columns, load, read_config
from stead.runtime.formats.sameness import near, same

CONVERTERS = {
    "sklearn": ("skl2onnx", "onnx", "onnxruntime"),
    "xgboost": ("onnxmltools", "onnx", "onnxruntime"),
    "lightgbm": ("onnxmltools", "onnx", "onnxruntime"),
    "catboost": ("onnx", "onnxruntime"),
}
"""What is needed beside a flavor's own library; other flavors are not converted."""
OPSET = {"": 17, "ai.onnx.ml": 3}
RELATIVE = 1e-5
"""How near the answers of the fast path must be, each to the usual one."""
TRIED_ROWS = 256
"""Rows mixed from the stored ones, on which both must agree as well: stored rows alone miss most branches of a tree."""


def convert(source: Path, target: Path) -> dict[str, Any]:
    """Write the model of `source` to `target` in ONNX, and tell which libraries are needed to answer with it.

    Raises InvalidInput (`not-convertible`) with the reason where that cannot be done, or its answers differ.
    """
    config = read_config(source)
    golden_file = source / "stead" / "golden.json"
    if config["flavor"] not in CONVERTERS or config.get("loader_module"):
        raise unable(f"a model of {config['flavor']} has no other form")
    if not golden_file.is_file():
        raise unable("it was saved without rows to compare")
    golden = json.loads(golden_file.read_text(encoding="utf-8"))
    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
    model = portable.Model(str(source), config)
    checked = load(source).check(golden_columns(golden, config))
    made = model.made(checked)
    usual = _usual(source, config)
    answered = model.called(made)
    data, tensor_names, proto = _first_that_agrees(model, config, made, usual)
    (target / "stead").mkdir(parents=True, exist_ok=True)
    if config.get("code"):
        shutil.copytree(source / config["code"], target / config["code"])
    (target / "model.onnx").write_bytes(data)
    (target / "stead" / "golden.json").write_bytes(golden_file.read_bytes())
    modules = {"numpy", "onnxruntime"} | _imported(source, config)
    direct, found = libraries.used_by(modules)
    named = [str(name) for name in made.columns] if config["features"] and hasattr(made, "columns") else None
    told = config | {
        "flavor": "onnx",
        "data": "model.onnx",
        "format": "onnx",
        "pickle": False,
        "model_class": None,
        "sha256": {"model.onnx": hashlib.sha256(data).hexdigest()},
        "libraries": found,
        "made": named,
        "answers": str(answered.dtype) if getattr(answered, "dtype", None) is not None else None,
        "refuses": _refuses(model.estimator, config),
        "converted_from": config["flavor"],
    }
    (target / "stead" / "model.json").write_text(json.dumps(told), encoding="utf-8")
    return {
        "requires": {name: found[name] for name in sorted(found)},
        "direct": direct,
        "inputs": tensor_names,
        "precision": proto,
        "bytes": len(data),
    }


def unable(reason: str) -> InvalidInput:
    return InvalidInput("not-convertible", reason, hint="it is served as before")


def _imported(source: Path, config: dict[str, Any]) -> set[str]:
    """What the model's own code imports; it goes on making the features."""
    if not config["features"]:
        return set()
    found = {"pandas"} if config["input"] == "frame" else set()
    for file in (source / config["code"]).rglob("*.py"):
        if not file.name.startswith("stead_portable_"):
            found |= libraries.imported_modules(file.read_text(encoding="utf-8"))
    return found


def _usual(source: Path, config: dict[str, Any]) -> Callable[[Any], list[Any]]:
    """What the model itself answers to what it learned from."""
    call = portable.Model(str(source), config).called

    def answer(made: Any) -> list[Any]:
        outputs = call(made)
        return [portable.plain(value) for value in (outputs.tolist() if hasattr(outputs, "tolist") else list(outputs))]

    return answer


def _first_that_agrees(
    model: portable.Model, config: dict[str, Any], made: Any, usual: Callable[[Any], list[Any]]
) -> tuple[bytes, list[str], str]:
    """The model in ONNX in the first form that can be written, read and answers as the model does."""
    tried = [made, _mixed(made, _takes_missing(model.estimator, config))]
    expected = [usual(rows) for rows in tried]
    differs, failed = "", "no converter knows it"
    for precision, write in _forms(model, config, made):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = write().SerializeToString(deterministic=True)
            session = reading.onnx_session(data)
            call = reading.onnx_caller(session, config)
            found = [[portable.plain(value) for value in call(rows).tolist()] for rows in tried]
        except Exception as error:
            text = str(error).strip().splitlines()
            failed = f"{type(error).__name__}: {text[0][:200] if text else ''}"
            continue
        within = near(expected[0] + expected[1], RELATIVE)
        pairs = [pair for a, b in zip(expected, found, strict=True) for pair in zip(a, b, strict=True)]
        wrong = next((pair for pair in pairs if not same(*pair, within)), None)
        if wrong is None:
            return data, [each.name for each in session.get_inputs()], precision
        differs = differs or f"in {precision} precision it answers {wrong[1]!r}, the model itself {wrong[0]!r}"
    raise unable(differs or failed)


def _mixed(made: Any, missing: bool) -> Any:
    """Rows that take each column from another stored row; some values missing where the model takes that."""
    import numpy as np

    rng = np.random.default_rng(0)
    if isinstance(made, np.ndarray):
        mixed = np.column_stack([rng.choice(made[:, i], TRIED_ROWS) for i in range(made.shape[1])])
        mixed = mixed + rng.normal(0, 0.1, mixed.shape) * made.std(axis=0) if mixed.dtype.kind == "f" else mixed
        if missing and mixed.dtype.kind == "f":
            mixed[rng.random(mixed.shape) < 0.05] = np.nan
        return mixed.astype(made.dtype)
    if hasattr(made, "columns"):
        out = made.iloc[rng.integers(0, len(made), TRIED_ROWS)].reset_index(drop=True)
        for name in out.columns:
            out[name] = rng.permutation(out[name].to_numpy())
            if str(made[name].dtype) == "float64":
                out[name] = out[name] + rng.normal(0, 0.1, TRIED_ROWS) * float(made[name].std(ddof=0) or 0)
                if missing:
                    out.loc[rng.random(TRIED_ROWS) < 0.05, name] = np.nan
            else:
                out[name] = out[name].astype(made[name].dtype)
        return out
    raise unable(f"its features are a {type(made).__name__}, neither a frame nor an array")


def _takes_missing(estimator: Any, config: dict[str, Any]) -> bool:
    if config["flavor"] != "sklearn":
        return True
    tags = getattr(estimator, "__sklearn_tags__", None)
    return tags is not None and bool(tags().input_tags.allow_nan)


def _refuses(estimator: Any, config: dict[str, Any]) -> list[str]:
    """Values that the model's library refuses, and that arithmetic alone would answer with something."""
    if config["flavor"] in ("lightgbm", "catboost"):
        return []
    last = getattr(estimator, "steps", [("", estimator)])[-1][1]
    if type(last).__name__.startswith("HistGradient") and last is estimator:
        return []
    return ["infinite"] if _takes_missing(estimator, config) else ["infinite", "missing"]


def _forms(model: portable.Model, config: dict[str, Any], made: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    estimator, flavor = model.estimator, config["flavor"]
    width = made.shape[1]
    try:
        portable.as_array(made)
        plain = True
    except (TypeError, ValueError):
        plain = False
    if flavor != "sklearn" and not plain:
        raise unable("it takes columns that are no numbers")
    if flavor == "sklearn":
        yield from _sklearn_forms(estimator, made, plain, width)
    elif flavor == "xgboost":
        yield "single", lambda: _boosted("xgboost", "Float", estimator, width)
    elif flavor == "lightgbm":
        yield "double", lambda: _boosted("lightgbm", "Double", estimator, width)
        yield "single", lambda: _boosted("lightgbm", "Float", estimator, width)
    else:
        yield "single", lambda: _catboost(estimator)


def _sklearn_forms(estimator: Any, made: Any, plain: bool, width: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    from skl2onnx import convert_sklearn
    from skl2onnx.common import data_types as kinds

    from stead.runtime.formats import trees

    trees.register()
    for name in ("double", "single"):
        number = kinds.DoubleTensorType if name == "double" else kinds.FloatTensorType
        inputs = [[("X", number([None, width]))]] if plain else []
        if hasattr(made, "columns"):
            inputs.append([(str(column), _column_type(made[column], number, kinds)) for column in made.columns])
        for types in inputs:

            def write(types: Any = types) -> Any:
                options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
                return trees.newest(
                    convert_sklearn(estimator, initial_types=types, options=options, target_opset=OPSET)
                )

            yield name, write


def _column_type(values: Any, number: Any, kinds: Any) -> Any:
    dtype = str(values.dtype)
    if dtype.startswith("float"):
        return number([None, 1])
    if dtype.startswith(("int", "uint")):
        return kinds.Int64TensorType([None, 1])
    if dtype == "bool":
        return kinds.BooleanTensorType([None, 1])
    if dtype in ("object", "str", "string") and all(type(value) is str for value in values):
        return kinds.StringTensorType([None, 1])
    raise unable(f"the column {values.name!r} is of the type {dtype}, which has no other form")


def _boosted(flavor: str, precision: str, estimator: Any, width: int) -> Any:
    import onnxmltools
    from onnxmltools.convert.common import data_types as kinds

    types = [("X", getattr(kinds, f"{precision}TensorType")([None, width]))]
    if flavor == "xgboost":
        booster = estimator.get_booster() if hasattr(estimator, "get_booster") else estimator
        booster.feature_names = None  # the converter knows columns by number only
        return onnxmltools.convert_xgboost(estimator, initial_types=types)
    return onnxmltools.convert_lightgbm(estimator, initial_types=types, zipmap=False)


def _catboost(estimator: Any) -> Any:
    import tempfile

    import onnx

    with tempfile.TemporaryDirectory() as folder:
        estimator.save_model(f"{folder}/model.onnx", format="onnx")
        return onnx.load(f"{folder}/model.onnx")
