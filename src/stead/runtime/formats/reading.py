"""Reading the model itself from its own format, and calling it: the standard library and what the model itself uses.

`portable.py` is copied into models with this file in front of it, so it must not import stead but for its own kind.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
from typing import Any

from stead.runtime.formats.checks import NotAsSaid, check_files

TENSORS = ("onnx", "pytorch")
"""Flavors whose models take arrays and know no frames."""

DEFAULT_CLASS = {"xgboost": "core.Booster", "catboost": "core.CatBoost"}


def resolve(name: str) -> Any:
    """The object that `module:name` names."""
    module, _, attribute = name.partition(":")
    value: Any = importlib.import_module(module)
    for part in attribute.split("."):
        value = getattr(value, part)
    return value


def read_estimator(folder: str, config: dict[str, Any]) -> Any:
    """The model itself, read from its own format where it has one.

    Raises NotAsSaid where a file is cut off, is of another format than the description says, or is a pickle that would
    start programs.
    """
    path = os.path.join(folder, config["data"]) if config.get("data") else folder
    kind, how = config["flavor"], config.get("format")
    check_files(folder, config)
    if config.get("loader_module"):  # written by others: MLflow's contract for any Python model
        return importlib.import_module(config["loader_module"])._load_pyfunc(path)
    if how == "skops":
        return read_skops(path, config.get("trusted") or ())
    if kind in ("xgboost", "catboost"):
        module, _, name = (config.get("model_class") or f"{kind}.{DEFAULT_CLASS[kind]}").rpartition(".")
        estimator = getattr(importlib.import_module(module), name)()
        estimator.load_model(path, **({"format": how} if kind == "catboost" else {}))
        return estimator
    if kind == "lightgbm" and how == "native":
        import lightgbm

        return lightgbm.Booster(model_file=path)
    if kind == "onnx":
        return onnx_session(path, config.get("providers"))
    if kind == "pytorch":
        return read_torch(path, config)
    if how not in ("pickle", "cloudpickle"):
        raise NotAsSaid(f"the format {how} of a model of {kind} is not known here")
    with open(path, "rb") as file:
        estimator = pickle.load(file)
    if kind == "sklearn" and not hasattr(estimator, config.get("predict_fn") or "predict"):
        raise NotAsSaid(
            f"{config['data']} says that it is a scikit-learn model, and holds a {type(estimator).__name__}"
        )
    return estimator


TRUSTED = re.compile(
    r"sklearn\.(tree\._tree\.Tree|ensemble\._hist_gradient_boosting\.(predictor|binning)\.\w+|_loss\.\w+\.\w+"
    r"|metrics\._dist_metrics\.\w+|neighbors\._(kd|ball)_tree\.\w+|neural_network\._stochastic_optimizers\.\w+)"
)
"""Compiled parts of scikit-learn's own estimators, which skops asks about and which hold nothing but numbers."""


def read_skops(path: str, declared: Any) -> Any:
    """Load a skops file; `declared` are types that its makers trust beyond those that skops and stead know."""
    io_ = importlib.import_module("skops.io")
    unknown = io_.get_untrusted_types(file=path)
    odd = [name for name in unknown if not TRUSTED.fullmatch(name) and name not in declared]
    if odd:
        raise NotAsSaid(f"{os.path.basename(path)} holds {', '.join(odd)}, which nobody said to trust: it was not read")
    return io_.load(path, trusted=unknown)


def onnx_session(model: str | bytes, providers: Any = None) -> Any:
    """A session on as many threads as OMP_NUM_THREADS says, one where it says nothing: rows come one by one."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    here = onnxruntime.get_available_providers()
    usable = [name for name in providers or () if (name if isinstance(name, str) else name[0]) in here]
    usable = [name if isinstance(name, str) else tuple(name) for name in usable]
    return onnxruntime.InferenceSession(model, options, providers=usable or ["CPUExecutionProvider"])


ONNX_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


def one_input(estimator: Any, config: dict[str, Any]) -> str | None:
    """The type of the one array that a model takes; None where it takes several by name."""
    if config["flavor"] == "pytorch":
        return str(config["tensor"])
    inputs = estimator.get_inputs()
    return ONNX_TYPES.get(inputs[0].type, "float32") if len(inputs) == 1 else None


def onnx_caller(session: Any, config: dict[str, Any]) -> Any:
    """`predict` is the first output, `predict_proba` the second; else the output of that name."""
    name = config.get("predict_fn") or "predict"
    classes, refuses, answers = config.get("classes"), config.get("refuses") or (), str(config.get("answers"))
    outputs = [output.name for output in session.get_outputs()]
    place = {"predict": 1 if classes else 0, "predict_proba": 1}.get(name, -1)
    wanted = name if name in outputs else outputs[place] if 0 <= place < len(outputs) else None
    if wanted is None:
        raise AttributeError(f"the model has no output {name!r}; it has {', '.join(outputs)}")
    inputs = [(i.name, ONNX_TYPES.get(i.type, "float32"), len(i.shape)) for i in session.get_inputs()]

    def call(x: Any) -> Any:
        if len(inputs) == 1:
            feeds = {inputs[0][0]: matrix(x, inputs[0][1])}
        else:
            feeds = {i: column_of(x, i, dtype, dimensions) for i, dtype, dimensions in inputs}
        if refuses:
            refuse(feeds, refuses)
        found = flat(session.run([wanted], feeds)[0])
        if classes and name == "predict":
            return labels(found, classes)
        return found.astype(answers) if found.dtype.kind == "f" and answers.startswith("float") else found

    return call


def labels(probabilities: Any, classes: Any) -> Any:
    import numpy as np

    return np.array(classes)[np.argmax(probabilities, axis=1)]


def refuse(feeds: dict[str, Any], what: Any) -> None:
    """Raise for a value that the library which trained the model refuses; arithmetic alone would go on with it."""
    import numpy as np

    for values in feeds.values():
        if values.dtype.kind != "f" or np.isfinite(values).all():
            continue
        if "missing" in what and np.isnan(values).any():
            raise ValueError("the input contains NaN, which the model does not take")
        if np.isinf(values).any():
            raise ValueError("the input contains infinity, which the model does not take")


def column_of(x: Any, name: str, dtype: str, dimensions: int) -> Any:
    import numpy as np

    values = np.asarray(x[name])
    if dtype == "object" and values.dtype.kind == "O" and any(type(value) is not str for value in values):
        raise ValueError(f"the column {name!r} has a value that is no text")
    values = np.asarray(values, dtype=dtype)
    return values.reshape(-1, 1) if dimensions == 2 else values


def matrix(x: Any, dtype: str) -> Any:
    """Rows as one array; the columns of a frame stand side by side."""
    import numpy as np

    if hasattr(x, "to_numpy"):
        x = x.to_numpy(dtype=dtype)
    elif isinstance(x, dict):
        x = np.array([np.asarray(values) for values in x.values()], dtype=dtype).T
    return np.ascontiguousarray(x, dtype=dtype)


def flat(outputs: Any) -> Any:
    """One value a row where there is only one; probabilities that are told by class as an array."""
    import numpy as np

    if isinstance(outputs, list) and outputs and isinstance(outputs[0], dict):
        outputs = np.array([list(row.values()) for row in outputs])
    shape: tuple[int, ...] = getattr(outputs, "shape", ())
    return outputs.reshape(-1) if len(shape) == 2 and shape[1] == 1 else outputs


def read_torch(path: str, config: dict[str, Any]) -> Any:
    """An exported program, a module filled from safetensors, or a pickled module that others wrote."""
    import torch

    if os.path.isdir(path):
        path = next(each for name in ("model.pt2", "model.pth") if os.path.isfile(each := os.path.join(path, name)))
    if path.endswith(".pt2"):
        return torch.export.load(path).module()
    if path.endswith(".pth"):
        module = torch.load(path, weights_only=False, map_location="cpu")
    else:
        module = resolve(config["model_class"])(**config.get("init_args", {}))
        module.load_state_dict(read_safetensors(path))
    return module.eval()


SAFE_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def read_safetensors(path: str) -> dict[str, Any]:
    """Tensors by name: a length, a header of JSON, bytes. Raises NotAsSaid where they do not fit together."""
    import torch

    with open(path, "rb") as file:
        data = bytearray(file.read())
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        header.pop("__metadata__", None)
        found = {}
        for name, told in header.items():
            kind = getattr(torch, SAFE_TYPES[told["dtype"]])
            begin, end = told["data_offsets"]
            count = (end - begin) // torch.empty(0, dtype=kind).element_size()
            tensor = torch.frombuffer(data, dtype=kind, count=count, offset=start + begin) if count else torch.empty(0)
            found[name] = tensor.reshape(told["shape"])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise NotAsSaid(f"{os.path.basename(path)} is no safetensors file, or one that is cut off: {error}") from None
    return found


def torch_caller(module: Any, config: dict[str, Any]) -> Any:
    import torch

    def call(x: Any) -> Any:
        with torch.inference_mode():
            outputs = module(torch.from_numpy(matrix(x, config["tensor"])))
        if isinstance(outputs, (tuple, list)):
            outputs = outputs[0]
        return flat(outputs.numpy())

    return call


def caller(estimator: Any, config: dict[str, Any]) -> Any:
    """A function from the model's input to its outputs."""
    name, flavor = config.get("predict_fn") or "predict", config["flavor"]
    if flavor == "onnx":
        return onnx_caller(estimator, config)
    if flavor == "pytorch":
        return torch_caller(estimator, config)
    if flavor == "catboost":
        method = getattr(estimator, name)
        return lambda x: flat(method(x))
    if flavor == "xgboost" and type(estimator).__name__ == "Booster":
        return lambda x: booster_predict(estimator, x)
    if flavor == "lightgbm" and type(estimator).__name__ == "Booster":
        return lightgbm_caller(estimator, config, name)
    if flavor == "python_function" and not hasattr(estimator, name):
        return estimator
    return getattr(estimator, name)


def booster_predict(booster: Any, x: Any) -> Any:
    import xgboost

    if hasattr(x, "columns"):
        return booster.predict(xgboost.DMatrix(x, enable_categorical=True))
    names = booster.feature_names
    return booster.predict(
        xgboost.DMatrix(x, feature_names=names, feature_types=booster.feature_types if names else None)
    )


def lightgbm_caller(booster: Any, config: dict[str, Any], name: str) -> Any:
    """What LightGBM's scikit-learn classes do on top of the booster: classes for a classifier."""
    classes = config.get("classes")
    if classes is None:
        return booster.predict
    import numpy as np

    labels = np.array(classes)

    def probabilities(x: Any) -> Any:
        raw = booster.predict(x)
        return raw if raw.ndim == 2 else np.vstack((1.0 - raw, raw)).T

    if name == "predict_proba":
        return probabilities
    return lambda x: labels[np.argmax(probabilities(x), axis=1)]
