"""Tensors of the Open Inference Protocol V2, as JSON and as its binary extension (bytes behind the JSON)."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec

from stead.errors import InvalidInput


@cache
def _numpy() -> Any:
    """numpy, or None: a plain Python model need not have it."""
    try:
        import numpy
    except ModuleNotFoundError:
        return None
    return numpy


FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""Each datatype and its letter for `struct`; BYTES besides them."""

OF_DTYPE = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
"""numpy's names of them."""

_DTYPE = {datatype: dtype for dtype, datatype in OF_DTYPE.items()}
_MAX_RANK = 8


class Tensor(NamedTuple):
    """Values in row-major order, flat."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    values: Sequence[Any]


class TensorRequest(NamedTuple):
    inputs: tuple[Tensor, ...]
    id: str | None
    outputs: tuple[tuple[str | None, bool], ...]
    keys: int
    """Of all objects of the JSON."""


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Body(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    outputs: list[_Output] | None = None
    parameters: dict[str, Any] = {}


_body = msgspec.json.Decoder(_Body).decode


def matrix(rows: Sequence[Any]) -> Any:
    """Rows without column names as a 2-D array; scalars become rows of one. Without numpy a list of lists.

    Raises InvalidInput (`columns-ragged`) where the rows differ in length.
    """
    if not isinstance(rows[0], list):
        rows = [[value] for value in rows]
    width = len(rows[0])
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            raise InvalidInput("columns-ragged", f"row {number} does not have {width} values like the first")
    if width == 0:
        raise InvalidInput("rows-empty", "the rows have no values")
    np = _numpy()
    if np is None:
        return list(rows)
    try:
        array = np.array(rows)
    except ValueError:
        raise InvalidInput("columns-ragged", "the rows are nested unevenly") from None
    return array if array.dtype.kind in "biuf" else np.array(rows, dtype=object)


def shaped(tensor: Tensor) -> Any:
    """A tensor as an array of its shape; without numpy as nested lists."""
    if (np := _numpy()) is not None:
        return np.array(tensor.values, dtype=_DTYPE.get(tensor.datatype, object)).reshape(tensor.shape)
    return _nested(list(tensor.values), tensor.shape)


def rows_of(tensor: Tensor) -> list[Any]:
    """A tensor as one value for each row: scalars where it has one column, else nested lists."""
    if len(tensor.shape) == 1 or math.prod(tensor.shape[1:]) == 1:
        return list(tensor.values)
    return _nested(list(tensor.values), tensor.shape)


def _nested(flat: list[Any], shape: tuple[int, ...]) -> list[Any]:
    for width in reversed(shape[1:]):
        flat = [flat[start : start + width] for start in range(0, len(flat), width or 1)]
    return flat


def read(body: bytes, header_length: int) -> TensorRequest:
    """A V2 request. Raises InvalidInput (`body-invalid`, `tensor-invalid`)."""
    if not 0 <= header_length <= len(body):
        raise InvalidInput("body-invalid", f"Inference-Header-Content-Length {header_length} exceeds the body")
    request = _body(body[:header_length] if header_length else body)
    binary = memoryview(body)[header_length:] if header_length else memoryview(b"")
    inputs: list[Tensor] = []
    for given in request.inputs:
        tensor, binary = _tensor(given, binary)
        inputs.append(tensor)
    if not inputs:
        raise InvalidInput("rows-empty", "the request has no inputs")
    if len(binary):
        raise InvalidInput("tensor-invalid", f"{len(binary)} bytes of binary data belong to no input")
    names = [tensor.name for tensor in inputs]
    if len(set(names)) != len(names):
        raise InvalidInput("tensor-invalid", "two inputs have the same name")
    default = request.parameters.get("binary_data_output") is True
    outputs: list[tuple[str | None, bool]] = []
    for asked in request.outputs or ():
        for refused in ("classification", "shared_memory_region"):
            if refused in asked.parameters:
                raise InvalidInput("tensor-invalid", f"output {asked.name!r}: {refused} is not offered")
        outputs.append((asked.name, asked.parameters.get("binary_data", default) is True))
    return TensorRequest(tuple(inputs), request.id, tuple(outputs) or ((None, default),), _keys(request))


def _keys(request: _Body) -> int:
    """How many keys the JSON of a request has, as far as they were told and not null."""
    parts: list[Any] = [request, *request.inputs, *(request.outputs or ())]
    told = sum(getattr(part, name) not in (None, {}) for part in parts for name in part.__struct_fields__)
    return told + sum(len(part.parameters) for part in parts)


def _tensor(given: _Input, binary: memoryview) -> tuple[Tensor, memoryview]:
    shape = tuple(given.shape)
    if not 1 <= len(shape) <= _MAX_RANK or any(size < 1 for size in shape):
        raise InvalidInput("tensor-invalid", f"input {given.name!r} has the shape {list(shape)[:9]}")
    if given.datatype not in FORMATS and given.datatype != "BYTES":
        raise InvalidInput("tensor-invalid", f"input {given.name!r} has the datatype {given.datatype!r}")
    if "shared_memory_region" in given.parameters:
        raise InvalidInput("tensor-invalid", f"input {given.name!r}: shared memory is not offered")
    count = math.prod(shape)
    size = given.parameters.get("binary_data_size")
    values: Sequence[Any]
    if size is not None:
        if given.data is not None or not isinstance(size, int) or not 0 <= size <= len(binary):
            raise InvalidInput("tensor-invalid", f"input {given.name!r}: binary_data_size {size!r} does not fit")
        values, binary = _unpacked(given, binary[:size], count), binary[size:]
    else:
        values = _flat(given.data or [], given.name)
    if len(values) != count:
        raise InvalidInput(
            "tensor-invalid", f"input {given.name!r} has {len(values)} values for the shape {list(shape)}"
        )
    return Tensor(given.name, shape, given.datatype, values), binary


def _flat(data: list[Any], name: str) -> list[Any]:
    for _ in range(_MAX_RANK):
        if not data or not isinstance(data[0], list):
            if any(isinstance(value, (list, dict)) for value in data):
                break
            return data
        if not all(isinstance(part, list) for part in data):
            break
        data = [value for part in data for value in part]
    raise InvalidInput("tensor-invalid", f"input {name!r}: the data are nested unevenly")


def _unpacked(given: _Input, data: memoryview, count: int) -> Sequence[Any]:
    if given.datatype == "BYTES":
        return _strings(data, given.name)
    letter = FORMATS[given.datatype]
    if len(data) != count * struct.calcsize(letter):
        raise InvalidInput(
            "tensor-invalid", f"input {given.name!r} has {len(data)} bytes for {count} values of {given.datatype}"
        )
    return struct.unpack(f"<{count}{letter}", data)


def _strings(data: memoryview, name: str) -> list[str]:
    values: list[str] = []
    position = 0
    while position < len(data):
        if position + 4 > len(data):
            break
        length = int.from_bytes(data[position : position + 4], "little")
        position += 4 + length
        if position > len(data):
            break
        values.append(str(data[position - length : position], "utf-8"))
    if position != len(data):
        raise InvalidInput("tensor-invalid", f"input {name!r}: a string runs over the end of its data")
    return values


def write(
    outputs: list[Any],
    *,
    name: str,
    datatype: str | None,
    asked: tuple[tuple[str | None, bool], ...],
    head: dict[str, Any],
) -> tuple[bytes, int]:
    """A V2 answer with the outputs that were asked for, and the length of its JSON where binary data follow (0 else)."""
    shape = [len(outputs)]
    flat = outputs
    while flat and isinstance(flat[0], (list, tuple)) and len({len(part) for part in flat}) == 1 and len(shape) < 9:
        shape.append(len(flat[0]))
        flat = [value for part in flat for value in part]
    kind = _datatype(flat, datatype)
    if kind == "BYTES":
        flat = [
            value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode() for value in flat
        ]
    described: list[dict[str, Any]] = []
    tail = b""
    for wanted, binary in asked or ((None, False),):
        if wanted not in (None, name):
            raise InvalidInput("output-unknown", f"the model has no output {wanted!r}", hint=f"it has {name!r}")
        output: dict[str, Any] = {"name": name, "shape": shape, "datatype": kind}
        if binary:
            data = _packed(flat, kind)
            output["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            output["data"] = flat
        described.append(output)
    body = msgspec.json.encode(head | {"outputs": described})
    return (body + tail, len(body)) if any(binary for _, binary in asked) else (body, 0)


def _datatype(flat: list[Any], datatype: str | None) -> str:
    kinds = {type(value) for value in flat}
    if kinds <= {bool}:
        return "BOOL"
    if kinds <= {int, bool}:
        return datatype if datatype and "INT" in datatype else "INT64"
    if kinds <= {int, float, bool}:
        return datatype if datatype and "FP" in datatype else "FP64"
    return "BYTES"


def _packed(flat: list[Any], kind: str) -> bytes:
    if kind == "BYTES":
        texts = [value.encode() for value in flat]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return struct.pack(f"<{len(flat)}{FORMATS[kind]}", *flat)
