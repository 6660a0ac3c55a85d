"""Writing a fitted model in its library's own format where it has one, else as a pickle, which is marked as such."""

from __future__ import annotations

import inspect
import io
import json
import pickle
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from stead.errors import Failed, InvalidInput
from stead.runtime.formats import libraries, reading

MODULES = {"onnx": "onnxruntime", "pytorch": "torch"}
"""What a flavor is imported as, where that is not its name."""


class Written(NamedTuple):
    """What is known of a model once its file is written."""

    config: dict[str, Any]
    modules: set[str]
    """Modules that it needs in order to be read."""
    estimator: Any
    """What answers, as `caller` takes it."""


def family(model: Any) -> str:
    """The flavor of a model. Raises InvalidInput (`model-unsupported`)."""
    homes = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    if "mlflow" in homes:
        raise InvalidInput(
            "model-unsupported",
            "this is MLflow's own model class",
            hint='mlflow.pyfunc.save_model("FOLDER", python_model=…), then stead.log_model("FOLDER", name)',
        )
    if isinstance(model, Path) or type(model).__name__ == "ModelProto":
        return "onnx"
    own = type(model).__module__.partition(".")[0]
    for name in ("xgboost", "lightgbm", "catboost"):
        if own == name:
            return name
    if "torch" in homes:
        return "pytorch"
    if hasattr(model, "predict"):
        return "sklearn" if "sklearn" in homes else "python_function"
    if callable(model):
        return "python_function"
    raise InvalidInput(
        "model-unsupported",
        f"{type(model).__name__} is no model: it can neither be called nor has it predict",
        hint="pass a fitted estimator, or a function from rows to predictions",
    )


def write_estimator(model: Any, folder: Path, predict_fn: str) -> Written:
    """Write a model under `folder`; one of PyTorch's waits for rows, see `write_torch`."""
    flavor = family(model)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    config: dict[str, Any] = {"flavor": flavor, "predict_fn": predict_fn, "pickle": False, "model_class": kind}
    if flavor == "onnx":
        return _write_onnx(model, folder, config)
    if flavor == "pytorch":
        config |= {"tensor": tensor_type(model)}
        return Written(config, {"torch", type(model).__module__}, model.eval())
    if not callable(getattr(model, predict_fn, None)) and (flavor != "python_function" or predict_fn != "predict"):
        raise InvalidInput("model-unsupported", f"{type(model).__name__} has no {predict_fn}")
    if flavor == "xgboost":
        model.save_model(str(folder / "model.ubj"))
        return Written(config | {"data": "model.ubj", "format": "ubj"}, {"xgboost"}, model)
    if flavor == "catboost":
        model.save_model(str(folder / "model.cb"), format="cbm")
        return Written(config | {"data": "model.cb", "format": "cbm"}, {"catboost"}, model)
    if flavor == "lightgbm":
        booster = model if type(model).__name__ == "Booster" else model.booster_
        booster.save_model(str(folder / "model.lgb"))
        classes = getattr(model, "classes_", None)
        further = {} if classes is None else {"classes": classes.tolist()}
        return Written(config | further | {"data": "model.lgb", "format": "native"}, {"lightgbm"}, model)
    if flavor == "sklearn" and (safe := _skops(model)) is not None:
        data, trusted = safe
        (folder / "model.skops").write_bytes(data)
        config |= {"data": "model.skops", "format": "skops", "trusted": trusted}
        return Written(config, {"sklearn", "skops"}, model)
    data, how = _pickled(model)
    name = "model.pkl" if flavor == "sklearn" else "python_model.pkl"
    (folder / name).write_bytes(data)
    modules = libraries.pickled_modules(data) | ({"cloudpickle"} if how == "cloudpickle" else set())
    return Written(config | {"data": name, "format": how, "pickle": True}, modules, model)


def _skops(model: Any) -> tuple[bytes, list[str]] | None:
    """The model as skops writes it, and what is trusted beyond what skops trusts; None where it is a pickle's to keep."""
    try:
        import skops.io
    except ImportError:
        return None
    try:
        data = settled(skops.io.dumps(model))
        unknown = skops.io.get_untrusted_types(data=data)
    except Exception:  # whatever skops does not know how to write
        return None
    return (data, sorted(unknown)) if all(reading.TRUSTED.fullmatch(name) for name in unknown) else None


def settled(data: bytes) -> bytes:
    """A skops file that is the same for the same model: objects are numbered in order, not by address, and no time is told."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = archive.read("schema.json").decode()
        numbers: dict[str, str] = {}
        for found in re.finditer(r'"__id__": (\d+)', schema):
            numbers.setdefault(found[1], str(len(numbers) + 1))
        files = {name: f"{place}{Path(name).suffix}" for place, name in enumerate(_named(schema, archive.namelist()))}
        schema = re.sub(r'"__id__": (\d+)', lambda found: f'"__id__": {numbers[found[1]]}', schema)
        schema = re.sub(r'"file": "([^"]+)"', lambda found: f'"file": "{files.get(found[1], found[1])}"', schema)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as again:
            for name, new in files.items():
                again.writestr(zipfile.ZipInfo(new), archive.read(name), zipfile.ZIP_DEFLATED, 6)
            again.writestr(zipfile.ZipInfo("schema.json"), schema, zipfile.ZIP_DEFLATED, 6)
    return out.getvalue()


def _named(schema: str, names: list[str]) -> list[str]:
    """The files of a skops archive in the order in which its schema names them, then the others."""
    named = [name for name in dict.fromkeys(re.findall(r'"file": "([^"]+)"', schema)) if name in names]
    return named + sorted(set(names) - {*named, "schema.json"})


def _pickled(model: Any) -> tuple[bytes, str]:
    """A plain pickle where everything in it can be imported elsewhere; by value, with cloudpickle, where not."""
    try:
        data = pickle.dumps(model, protocol=5)
        if "__main__" not in libraries.pickled_modules(data):
            return data, "pickle"
        problem = "it is defined in __main__"
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        problem = str(error)
    try:
        import cloudpickle
    except ImportError:
        raise Failed(
            "model-unpicklable",
            f"the model cannot be pickled: {problem}",
            hint="pip install cloudpickle, or define it in a module",
        ) from None
    try:
        return cloudpickle.dumps(model, protocol=5), "cloudpickle"
    except Exception as error:
        raise Failed("model-unpicklable", f"the model cannot be pickled: {error}") from error


def _write_onnx(model: Any, folder: Path, config: dict[str, Any]) -> Written:
    """A file, with the tensors that lie beside it, or a ModelProto."""
    data = model.read_bytes() if isinstance(model, Path) else model.SerializeToString(deterministic=True)
    if isinstance(model, Path):
        with suppress(
            Exception
        ):  # a broken file is told below; without onnx only what needs nothing beside it is whole
            import onnx

            data = onnx.load(str(model)).SerializeToString(deterministic=True)
    (folder / "model.onnx").write_bytes(data)
    try:
        session = reading.onnx_session(data)
        reading.onnx_caller(session, config)
    except ImportError:
        raise Failed(
            "model-library-missing", "onnxruntime is not installed, and answers for a model in ONNX",
            hint="pip install onnxruntime",
        ) from None  # fmt: skip
    except AttributeError as error:
        raise InvalidInput("model-unsupported", str(error)) from None
    except Exception as error:
        raise InvalidInput("model-invalid", f"this is no model in ONNX: {str(error)[:300]}") from None
    config |= {"data": "model.onnx", "format": "onnx", "model_class": None}
    return Written(config, {"onnxruntime"}, session)


def onnx_columns(session: Any) -> list[dict[str, Any]] | None:
    """What a model in ONNX says of its inputs: an array's columns by their number, or named columns; None for other shapes."""
    from stead.runtime.formats.signature import mlflow_type

    inputs = session.get_inputs()
    types = [reading.ONNX_TYPES.get(each.type, "float32") for each in inputs]
    if len(inputs) == 1:
        shape = inputs[0].shape
        names = [str(i) for i in range(shape[1])] if len(shape) == 2 and isinstance(shape[1], int) else []
        types = types * len(names)
    else:
        names = [each.name for each in inputs]
    columns = [
        {"name": name, "type": mlflow_type(kind), "dtype": kind, "nullable": kind.startswith("float")}
        for name, kind in zip(names, types, strict=True)
    ]
    return columns or None


def tensor_type(model: Any) -> str:
    """The type of the rows that a module of PyTorch takes: that of its parameters."""
    kinds = [str(each.dtype).removeprefix("torch.") for each in model.parameters() if each.dtype.is_floating_point]
    return kinds[0] if kinds and kinds[0] in ("float32", "float64") else "float32"


def write_torch(model: Any, folder: Path, config: dict[str, Any], rows: Any) -> dict[str, Any]:
    """An exported program, which holds the computation itself; where it cannot be exported, safetensors and the class.

    `rows` are what the module is called with. The class must be built from nothing, or from its attribute `init_args`,
    a mapping of plain values. Raises InvalidInput (`example-missing`, `model-unsupported`).
    """
    import torch

    if rows is None:
        raise InvalidInput(
            "example-missing", "a PyTorch model is written by following some rows through it",
            hint="stead.log_model(model, name, input_example=X[:5])",
        )  # fmt: skip
    batch = torch.from_numpy(reading.matrix(rows, config["tensor"]))
    batch = batch.repeat(2, 1) if len(batch) == 1 else batch
    (folder / "data").mkdir()
    try:
        program = torch.export.export(model, (batch,), dynamic_shapes=({0: torch.export.Dim("rows", min=1)},))
        torch.export.save(program, folder / "data" / "model.pt2")
        return {"data": "data/model.pt2", "format": "pt2"}
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else ''}"
    (folder / "data" / "model.pt2").unlink(missing_ok=True)
    told = dict(getattr(model, "init_args", {}))
    try:
        json.dumps(told)
        inspect.signature(type(model)).bind(**told)
        if "<locals>" in type(model).__qualname__ or type(model).__module__ == "__main__":
            raise TypeError(f"{type(model).__qualname__} is not defined in a module that could travel with it")
    except TypeError as error:
        raise InvalidInput(
            "model-unsupported",
            f"this PyTorch model can neither be exported ({reason}) nor built again from its class ({error})",
            hint="define its class in a module, and keep what it is built from: self.init_args = {'width': 8}",
        ) from None
    write_safetensors(folder / "data" / "model.safetensors", model.state_dict())
    built = f"{type(model).__module__}:{type(model).__qualname__}"
    return {"data": "data/model.safetensors", "format": "safetensors", "model_class": built, "init_args": told}


def write_safetensors(path: Path, tensors: dict[str, Any]) -> None:
    """Tensors as safetensors has them: the length of a header of JSON, the header, bytes."""
    import torch

    kinds = {kind: name for name, kind in reading.SAFE_TYPES.items()}
    header, parts, at = {}, [], 0
    for name, tensor in sorted(tensors.items()):
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        kind = kinds[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
