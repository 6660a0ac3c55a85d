"""Taking over a folder in the MLmodel layout: one that MLflow wrote, or `save` elsewhere."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

from stead.errors import InvalidInput, NotFound
from stead.runtime import protocols
from stead.runtime.formats import libraries, portable, reading
from stead.runtime.formats.predicting import Predictor, golden_columns, load
from stead.runtime.formats.sameness import near
from stead.runtime.formats.saving import as_given, write_json
from stead.runtime.formats.writing import MODULES


def adopt(source: Path, folder: Path, *, input_example: Any = None) -> dict[str, Any]:
    """Copy a model's folder to `folder`, with what it answers for example rows; returns what `save` returns.

    The rows are those given, else those that the folder holds. The model is loaded here: this executes what its makers
    put into it. Raises NotFound (`model-missing`), InvalidInput (`model-invalid`, `model-unsupported`, `example-refused`),
    Failed (`model-library-missing`, `model-unloadable`).
    """
    if not (source / "MLmodel").is_file():
        raise NotFound(
            "model-missing",
            f"there is no model in {source}: it has no MLmodel file",
            hint="a fitted model, or a folder that MLflow saved one to",
        )
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    predictor = load(folder)
    config = predictor.config
    direct, versions = libraries.used_by(_modules(folder, config))
    inputs = _example(folder, config, input_example)
    if inputs is not None:
        golden = {"inputs": inputs, "features": None, "outputs": None, "libraries": versions}
        golden |= _answers(predictor, golden) | {"python": platform.python_version()}
        if predictor.flavor in reading.TENSORS:
            golden["tolerance"] = near(golden["outputs"])
        (folder / "stead").mkdir(exist_ok=True)
        write_json(folder / "stead" / "golden.json", golden)
    return {
        "flavor": predictor.flavor,
        "signature": predictor.signature,
        "libraries": versions,
        "requires": direct,
        "pickle": predictor.pickle,
        "input": config["input"],
        "features": config["features"],
        "golden_rows": 0 if inputs is None else len(golden["outputs"]),
        "python": platform.python_version(),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }


def _modules(folder: Path, config: dict[str, Any]) -> set[str]:
    """What the model is made of: its library, and what its pickles name."""
    modules = {"numpy", config.get("loader_module") or MODULES.get(config["flavor"], config["flavor"])}
    modules |= {"pandas"} if config["input"] == "frame" and config["flavor"] not in reading.TENSORS else set()
    modules |= {"skops"} if config.get("format") == "skops" else set()
    for path in folder.rglob("*.pkl"):
        modules |= libraries.pickled_modules(path.read_bytes())
    return modules


def _example(folder: Path, config: dict[str, Any], given: Any) -> Any:
    """Example rows as a request carries them, columns or a list of rows; None where there are none."""
    kept = folder / "serving_input_example.json"
    columns: Any
    if given is not None:
        columns = portable.listed(as_given(given))
    elif kept.is_file():
        columns = protocols.decode("invocations", kept.read_bytes())
    else:
        return None
    if not isinstance(columns, dict):
        return columns.tolist() if hasattr(columns, "tolist") else columns
    return [list(row) for row in zip(*columns.values(), strict=True)] if config["input"] == "array" else columns


def _answers(predictor: Predictor, golden: dict[str, Any]) -> dict[str, Any]:
    try:
        checked = predictor.check(golden_columns(golden, predictor.config))
        features, outputs = predictor.features(checked), predictor.predict(checked)
    except Exception as error:
        raise InvalidInput(
            "example-refused",
            f"the model does not answer the example rows: {type(error).__name__}: {error}",
            hint="give rows as it takes them: input_example=X[:5]",
        ) from error
    listed = outputs.tolist() if hasattr(outputs, "tolist") else list(outputs)
    return {"features": features, "outputs": [portable.plain(value) for value in listed]}
