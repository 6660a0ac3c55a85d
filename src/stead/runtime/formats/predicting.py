"""Reading a folder in the MLmodel layout, ours or MLflow's, and answering from it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stead.errors import Failed, InvalidInput, NotFound
from stead.runtime.formats import mlmodel
from stead.runtime.formats.checks import OWN_FORMATS, NotAsSaid
from stead.runtime.formats.portable import Columns, Model
from stead.runtime.formats.reading import TRUSTED
from stead.runtime.formats.signature import Checker

_DTYPES = {
    "double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool", "string": "object",
    "datetime": "datetime64[ns]",
}  # fmt: skip


class Predictor:
    """A loaded model that answers requests. Not for two threads at once."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.config = config
        self.signature: dict[str, Any] | None = config.get("signature")
        self.flavor: str = config["flavor"]
        self.libraries: dict[str, str] = dict(config.get("libraries", {}))
        self.pickle: bool = bool(config.get("pickle"))
        try:
            self._model = Model(str(folder), config)
        except ModuleNotFoundError as error:
            raise Failed(
                "model-library-missing",
                f"the model needs {error.name}, which this environment lacks",
                hint=f"add it to the serving requirements: {error.name}",
            ) from error
        except NotAsSaid as error:
            raise InvalidInput(
                "model-invalid", str(error), hint="save the model again, from where it was trained"
            ) from None
        self._check = Checker(config["input"], config["columns"]) if config.get("columns") is not None else None

    def check(self, columns: Columns) -> Columns:
        """The columns of a request, checked and in order.

        Raises InvalidInput naming column and row: `schema-missing-column`, `schema-type`, `schema-null`, `schema-nan`,
        `schema-shape`, `schema-rows`. Further columns are ignored; a category that training never had is fine.
        """
        return columns if self._check is None else self._check(columns)

    def predict(self, columns: Columns) -> Any:
        """One output for each row of checked columns: a list or an array."""
        outputs = self._model.predict(columns)
        return outputs.to_numpy() if hasattr(outputs, "to_numpy") else outputs

    def made(self, columns: Columns) -> Any:
        """What the estimator gets for checked columns: features, or the columns as it takes them."""
        return self._model.made(columns)

    def features(self, columns: Columns) -> dict[str, list[Any]] | None:
        """What the model's `features` makes of checked columns; None where the model has none."""
        return self._model.features(columns)

    def hasten(self, columns: Columns) -> bool:
        """Take the quicker way from now on, where it gives exactly the same for these (checked) columns."""
        return self._model.hasten(columns)


def load(folder: Path) -> Predictor:
    """Load a model in the process that will use it: this executes what its makers put into it.

    Raises NotFound (`model-missing`), InvalidInput (`model-invalid`, `model-unsupported`), Failed (`model-library-missing`,
    `model-unloadable`).
    """
    folder = Path(folder)
    config = read_config(folder)
    try:
        predictor = Predictor(folder, config)
    except (Failed, InvalidInput):
        raise
    except Exception as error:
        missing = isinstance(error, OSError) and ".so" in str(error)
        raise Failed(
            "model-unloadable",
            f"the model could not be loaded: {type(error).__name__}: {error}",
            hint="a library of the system is missing: LightGBM needs libgomp (apt-get install libgomp1)"
            if missing
            else None,
        ) from error
    golden = folder / "stead" / "golden.json"
    if config["input"] in ("frame", "array") and golden.is_file():
        with suppress(Exception):  # the quicker way is a gift; parity tells of a model that cannot answer at all
            predictor.hasten(predictor.check(golden_columns(json.loads(golden.read_text(encoding="utf-8")), config)))
    return predictor


def golden_columns(golden: dict[str, Any], config: dict[str, Any]) -> Columns:
    """The golden rows as a request would carry them."""
    if isinstance(golden["inputs"], dict):
        return golden["inputs"]
    import numpy as np

    return np.array(golden["inputs"], dtype=config.get("dtype"))


def read_config(folder: Path) -> dict[str, Any]:
    """What is needed to load a folder: our own `stead/model.json`, else drawn from the MLmodel file."""
    own = folder / "stead" / "model.json"
    if own.is_file():
        config = json.loads(own.read_text(encoding="utf-8"))
        return _safe(folder, config)
    if not (folder / "MLmodel").is_file():
        raise NotFound("model-missing", f"there is no model in {folder.name}: it has no MLmodel file")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return _safe(folder, from_mlmodel(mlmodel.read(folder / "MLmodel"), names))


def config_of_texts(texts: Mapping[str, str], names: Collection[str]) -> dict[str, Any]:
    """The configuration from the texts of `stead/model.json` and `MLmodel`, for a store that holds no folder but knows its names.

    Nothing of the model is executed. Raises InvalidInput (`model-invalid`) whatever strangers put into them.
    """
    try:
        own = texts.get("stead/model.json")
        config = json.loads(own) if own is not None else from_mlmodel(mlmodel.loads(texts["MLmodel"]), names)
        kept = {"flavor": config["flavor"], "signature": config.get("signature"), "data": config.get("data")}
        kept |= {"format": config.get("format"), "pickle": _executes(config)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidInput("model-invalid", f"the model's description is not understood: {error!r}") from None
    if not isinstance(kept["flavor"], str) or not isinstance(kept["signature"], dict | None):
        raise InvalidInput("model-invalid", "stead/model.json does not describe a model")
    return kept


def _executes(config: dict[str, Any]) -> bool:
    """Whether reading the model can execute what its makers put into it, whatever its description claims."""
    return bool(config.get("pickle")) or config.get("format") not in OWN_FORMATS or "loader_module" in config


def from_mlmodel(data: dict[str, Any], names: Collection[str] = ()) -> dict[str, Any]:
    """The configuration of a folder that MLflow wrote; `names` are the files in it."""
    flavors = data.get("flavors") or {}
    pyfunc = flavors.get("python_function") or {}
    config: dict[str, Any] = {"predict_fn": pyfunc.get("predict_fn") or "predict", "code": pyfunc.get("code")}
    for name in ("xgboost", "lightgbm", "catboost", "onnx", "pytorch", "sklearn"):
        own = flavors.get(name)
        if own is None:
            continue
        config |= {"flavor": name, "code": own.get("code") or config["code"], "model_class": own.get("model_class")}
        if name == "xgboost":
            config |= {"data": own["data"], "format": own.get("model_format") or "xgb", "pickle": False}
        elif name == "lightgbm" and (own.get("model_class") or "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
            config |= {"data": own["data"], "format": "native", "pickle": False}
        elif name == "catboost":
            kind = own.get("model_type") or "CatBoost"
            config |= {"data": own["data"], "format": own.get("save_format") or "cbm", "pickle": False}
            config |= {"model_class": f"catboost.{kind}"}
        elif name == "onnx":
            config |= {"data": own["data"], "format": "onnx", "pickle": False, "providers": own.get("providers")}
        elif name == "pytorch":
            safe = f"{own['model_data']}/model.pt2" in names
            config |= {"data": own["model_data"], "format": "pt2" if safe else "pickle", "pickle": not safe}
        else:
            how = own.get("serialization_format") or "pickle"
            trusted = own.get("skops_trusted_types") or []
            risky = how != "skops" or not all(TRUSTED.fullmatch(each) for each in trusted)
            config |= {"data": own.get("pickled_model") or own.get("data"), "format": how, "pickle": risky}
            config |= {"trusted": trusted}
        break
    else:
        if not pyfunc.get("loader_module"):
            raise InvalidInput(
                "model-unsupported", f"a model of the flavors {', '.join(flavors) or 'none'} cannot be loaded here"
            )
        config |= {"flavor": "python_function", "loader_module": pyfunc["loader_module"], "data": pyfunc.get("data")}
        config |= {"pickle": True, "format": "pyfunc", "predict_fn": "predict"}
    config["features"] = None
    config |= _signature_config(data)
    return config | ({"tensor": config["dtype"] or "float32"} if config["flavor"] == "pytorch" else {})


def _signature_config(data: dict[str, Any]) -> dict[str, Any]:
    signature = data.get("signature") or {}
    inputs = json.loads(signature["inputs"]) if signature.get("inputs") else None
    outputs = json.loads(signature["outputs"]) if signature.get("outputs") else None
    if not inputs:
        return {"signature": None, "input": "frame", "columns": None, "dtype": None}
    kept = {"signature": {"inputs": inputs, "outputs": outputs}}
    if all(column.get("name") and column.get("type") in _DTYPES for column in inputs):
        columns = [
            {
                "name": str(column["name"]),
                "type": column["type"],
                "dtype": _dtype(column),
                "nullable": not column.get("required", True) or column["type"] in ("double", "float"),
            }
            for column in inputs
        ]
        return kept | {"input": "frame", "columns": columns, "dtype": None}
    spec = inputs[0].get("tensor-spec") or {}
    shape = spec.get("shape") or []
    if len(inputs) == 1 and len(shape) == 2 and shape[1] > 0:
        dtype = spec.get("dtype") or "float64"
        columns = [{"name": str(i), "type": "double", "dtype": dtype, "nullable": True} for i in range(shape[1])]
        return kept | {"input": "array", "columns": columns, "dtype": dtype}
    return kept | {"input": "array", "columns": None, "dtype": None}


def _dtype(column: dict[str, Any]) -> str:
    """A whole number that may be missing was a float in training."""
    if not column.get("required", True) and column["type"] in ("long", "integer"):
        return "float64"
    return _DTYPES[column["type"]]


def _safe(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Raises InvalidInput where a path in the configuration leaves the folder."""
    for key in ("data", "code"):
        if config.get(key) and not (folder / config[key]).resolve().is_relative_to(folder.resolve()):
            raise InvalidInput("model-invalid", f"the model names a path outside its folder: {config[key]!r}")
    return config


def join(parts: Sequence[Columns]) -> Columns:
    """Checked columns of several requests as one, in their order: one prediction for a micro-batch."""
    import numpy as np

    if len(parts) == 1:
        return parts[0]
    if not isinstance(parts[0], dict):
        return np.concatenate(parts)
    joined: dict[str, Any] = {}
    for name, first in parts[0].items():
        pieces = [part[name] for part in parts]
        if all(isinstance(piece, list) for piece in pieces):
            joined[name] = [value for piece in pieces for value in piece]
        elif hasattr(first, "dtype") and first.dtype.kind == "M":
            joined[name] = np.concatenate([np.asarray(piece) for piece in pieces])
        else:
            joined[name] = [
                value for piece in pieces for value in (piece if isinstance(piece, list) else piece.tolist())
            ]
    return joined
