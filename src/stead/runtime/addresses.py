"""What the addresses of the prediction protocols mean: the gateway and the server inside an image read them alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stead.errors import InvalidInput
from stead.runtime import frames, protocols

STEAD, INVOCATIONS, CSV, V2 = (protocols.PROTOCOLS.index(name) for name in ("stead", "invocations", "csv", "v2"))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a path means. `kind` is 0 where it is none of predictions; an empty model is the only one that there is."""

    parts: list[str]
    protocol: int
    kind: int = 0
    model: str = ""
    version: int | None = None


def asked(parts: list[str]) -> Asked:
    """Reads the parts of a path.

    >>> asked(["v2", "models", "demand", "infer"]).model
    'demand'

    Raises InvalidInput (`version-invalid`).
    """
    match parts:
        case ["predict", model]:
            return Asked(parts, STEAD, frames.PREDICT, model)
        case ["predict", model, "versions", version]:
            return Asked(parts, STEAD, frames.PREDICT, model, version_number(version))
        case ["explain", model, "versions", version]:
            return Asked(parts, STEAD, frames.EXPLAIN, model, version_number(version))
        case ["invocations"]:
            return Asked(parts, INVOCATIONS, frames.PREDICT)
        case ["models", model, "invocations"]:
            return Asked(parts, INVOCATIONS, frames.PREDICT, model)
        case ["v2", "models", model, "infer"]:
            return Asked(parts, V2, frames.PREDICT, model)
        case ["v2", "models", model, "versions", version, "infer"]:
            return Asked(parts, V2, frames.PREDICT, model, version_number(version))
    return Asked(parts, V2 if parts[0] == "v2" else STEAD)


def version_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidInput("version-invalid", f"{text[:40]!r} is no version number")
    return int(text)


def about_server(version: str) -> dict[str, Any]:
    """What V2 tells of a server."""
    return {"name": "stead", "version": version, "extensions": ["binary_tensor_data"]}


def about_model(model: str, versions: Sequence[int], flavor: str, signature: dict[str, Any] | None) -> dict[str, Any]:
    """What V2 tells of a model."""
    told = signature or {}
    return {
        "name": model,
        "versions": [str(version) for version in versions],
        "platform": f"stead_{flavor}",
        "inputs": [tensor(column, f"input-{n}") for n, column in enumerate(told.get("inputs") or ())],
        "outputs": [tensor(column, "predict") for column in told.get("outputs") or [{}]],
    }


_TYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
}
_DTYPES = {"bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64"}


def tensor(column: dict[str, Any], name: str) -> dict[str, Any]:
    """A column or an array of a signature as V2 describes tensors.

    >>> tensor({"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}, "predict")
    {'name': 'predict', 'datatype': 'INT64', 'shape': [-1]}
    """
    if spec := column.get("tensor-spec"):
        dtype = str(spec["dtype"])
        kind = dtype.upper() if dtype.lstrip("u").startswith("int") else _DTYPES.get(dtype, "BYTES")
        return {"name": str(column.get("name") or name), "datatype": kind, "shape": list(spec["shape"])}
    return {
        "name": str(column.get("name") or name),
        "datatype": _TYPES.get(str(column.get("type")), "FP64" if not column else "BYTES"),
        "shape": [-1, 1] if "type" in column else [-1],
    }
