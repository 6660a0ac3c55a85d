"""How requests are written and answered: stead's own JSON, MLflow's scoring protocol, Open Inference V2.

The worker decodes a body into columns and encodes outputs; the gateway passes both through untouched. The same `decode`
reads the bodies in the prediction log. Standard library and msgspec; numpy where the environment has it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from stead.errors import InvalidInput, SteadError
from stead.runtime import keys, tensors

PROTOCOLS = ("stead", "invocations", "csv", "v2")
"""Their place is their number in a frame: append only."""

T = TypeVar("T")
Columns = dict[str, Sequence[Any]] | Any
"""Named columns, or a 2-D array (numpy where the environment has it, else a list of rows) where the rows carried no names."""


class Request(NamedTuple):
    """A decoded body. `id` and `outputs` are V2's: the caller's id, and per output asked for its name and whether binary."""

    columns: Columns
    rows: int
    id: str | None = None
    outputs: tuple[tuple[str | None, bool], ...] = ()
    keys: int = 0
    """Of all objects of the JSON."""


class _Native(msgspec.Struct, forbid_unknown_fields=True):
    row: dict[str, Any] | list[Any] | None = None
    rows: list[dict[str, Any] | list[Any]] | None = None
    columns: dict[str, list[Any]] | None = None


class _Split(msgspec.Struct):
    data: list[list[Any]]
    columns: list[str | int] | None = None
    index: list[Any] | None = None


class _Invocation(msgspec.Struct):
    dataframe_split: _Split | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    instances: list[Any] | None = None
    inputs: list[Any] | dict[str, Any] | None = None
    params: dict[str, Any] | None = None


_native = msgspec.json.Decoder(_Native).decode
_invocation = msgspec.json.Decoder(_Invocation).decode
_json = msgspec.json.Encoder(enc_hook=lambda value: plain(value)).encode
_HINTS = {
    "stead": 'send {"row": {"column": value, …}} or {"rows": [{…}, …]}',
    "invocations": "send a JSON object with exactly one of dataframe_split, dataframe_records, instances, inputs",
    "csv": "send a header line and one line a row",
    "v2": "send an Open Inference V2 request: inputs with name, shape, datatype, data",
}


def decode(protocol: str, body: bytes, header_length: int = 0) -> Columns:
    """The columns of a request's body.

    >>> decode("stead", b'{"rows": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}')
    {'a': [1, 2], 'b': ['x', 'y']}

    Raises InvalidInput (`body-invalid`, `key-repeated`, `rows-empty`, `columns-ragged`).
    """
    return read(protocol, body, header_length).columns


def read(protocol: str, body: bytes, header_length: int = 0) -> Request:
    """The whole of a request. Raises like `decode`."""
    try:
        request = _READERS[protocol](body, header_length)
        if request.keys:  # CSV has none
            keys.check(body[:header_length] if header_length else body, request.keys)
        return request
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput("body-invalid", f"the body cannot be read: {error}", hint=_HINTS[protocol]) from None


def _read_native(body: bytes, _: int) -> Request:
    request = _native(body)
    row = request.row
    if row is not None and request.rows is None and request.columns is None:
        if type(row) is dict:
            return Request({name: [value] for name, value in row.items()}, 1, keys=1 + len(row))
        return Request(tensors.matrix([row]), 1, keys=1)
    given = [part for part in (row, request.rows, request.columns) if part is not None]
    if len(given) != 1:
        raise InvalidInput("body-invalid", "the body must have exactly one of row, rows, columns", hint=_HINTS["stead"])
    if request.columns is not None:
        return _named(dict(request.columns))
    return _rows(request.rows or [])


def _read_invocation(body: bytes, _: int) -> Request:
    request = _invocation(body)
    given = [
        part
        for part in (request.dataframe_split, request.dataframe_records, request.instances, request.inputs)
        if part is not None
    ]
    if len(given) != 1:
        raise InvalidInput("body-invalid", f"the body has {len(given)} kinds of input", hint=_HINTS["invocations"])
    if request.params:
        raise InvalidInput("params-unknown", "the model takes no params", hint="leave params out")
    if (split := request.dataframe_split) is not None:
        return _split(split)
    data = request.dataframe_records or request.instances or request.inputs
    if isinstance(data, dict):
        return _named({name: values if isinstance(values, list) else [values] for name, values in data.items()})
    return _rows(data or [])


def _split(split: _Split) -> Request:
    told = 1 + sum(part is not None for part in (split.data, split.columns, split.index))
    if split.columns is None:
        return _rows(split.data)._replace(keys=told)
    names, width = split.columns, len(split.columns)
    for number, row in enumerate(split.data):
        if len(row) != width:
            raise InvalidInput("columns-ragged", f"row {number} has {len(row)} values for {width} columns")
    if not split.data:
        raise InvalidInput("rows-empty", "the request has no rows")
    if all(isinstance(name, int) for name in names):  # a frame made of a bare array: its columns are 0, 1, 2 …
        return _rows(split.data)._replace(keys=told)
    named = _named({str(name): [row[place] for row in split.data] for place, name in enumerate(_once(names))})
    return named._replace(keys=told)


def _rows(rows: Sequence[Any]) -> Request:
    if not rows:
        raise InvalidInput("rows-empty", "the request has no rows")
    first = rows[0]
    if not isinstance(first, dict):
        return Request(tensors.matrix(rows), len(rows), keys=1)
    try:
        columns = {name: [row[name] for row in rows] for name in first}
        same = all(len(row) == len(first) for row in rows)
    except (KeyError, TypeError):
        same = False
    if not same:
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise InvalidInput("body-invalid", f"row {number} is no object of column and value")
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
    return Request(columns, len(rows), keys=1 + sum(map(len, rows)))


def _named(columns: dict[str, list[Any]]) -> Request:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise InvalidInput("columns-ragged", f"the columns have different lengths: {sorted(lengths)}")
    if not lengths or lengths == {0}:
        raise InvalidInput("rows-empty", "the request has no rows")
    return Request(columns, lengths.pop(), keys=1 + len(columns))


def _once(names: Sequence[T]) -> Sequence[T]:
    if len(set(names)) < len(names):
        twice = keys.repeated(names)
        raise InvalidInput(
            "key-repeated", f"the column {str(twice)[:100]!r} is there twice", hint="tell each column once"
        )
    return names


def _read_csv(body: bytes, _: int) -> Request:
    lines = [line for line in csv.reader(io.StringIO(body.decode("utf-8-sig"))) if line]
    if len(lines) < 2:
        raise InvalidInput("rows-empty", "the request has no rows", hint=_HINTS["csv"])
    names = _once(lines[0])
    for number, line in enumerate(lines[1:]):
        if len(line) != len(names):
            raise InvalidInput("columns-ragged", f"row {number} has {len(line)} values for {len(names)} columns")
    columns = {name: _typed([line[place] for line in lines[1:]]) for place, name in enumerate(names)}
    return Request(columns, len(lines) - 1)


def _typed(texts: list[str]) -> list[Any]:
    """A CSV column as the narrowest of integers, floats and strings; an empty field is None."""
    for kind in (int, float):
        try:
            return [kind(text) if text else None for text in texts]
        except ValueError:
            continue
    return [text or None for text in texts]


def _read_v2(body: bytes, header_length: int) -> Request:
    request = tensors.read(body, header_length)
    columns: Columns
    if len(request.inputs) == 1 and len(request.inputs[0].shape) > 1 and request.inputs[0].shape[1:] != (1,):
        tensor = request.inputs[0]
        columns, rows = tensors.shaped(tensor), tensor.shape[0]
        if rows == 0:
            raise InvalidInput("rows-empty", "the request has no rows")
    else:
        columns, rows, *_ = _named({tensor.name: tensors.rows_of(tensor) for tensor in request.inputs})
    return Request(columns, rows, request.id, request.outputs, request.keys)


_READERS = {"stead": _read_native, "invocations": _read_invocation, "csv": _read_csv, "v2": _read_v2}


def encode(
    protocol: str,
    request: Request,
    outputs: list[Any],
    *,
    prediction_id: str,
    model: str,
    version: int,
    output_name: str = "predict",
    datatype: str | None = None,
) -> tuple[bytes, int]:
    """The body of an answer, and how many bytes of it are JSON where a binary part follows (0 else).

    >>> encode("stead", Request({}, 1), [0.5], prediction_id="f" * 4, model="demand", version=3)[0]
    b'{"predictions":[0.5],"prediction_id":"ffff","model":"demand","version":3}'
    """
    if protocol == "v2":
        return tensors.write(
            outputs,
            name=output_name,
            datatype=datatype,
            asked=request.outputs,
            head={"model_name": model, "model_version": str(version), "id": request.id or prediction_id},
        )
    if protocol == "stead":
        tail = f',"prediction_id":"{prediction_id}","model":"{model}","version":{version}}}'
        return b"".join((b'{"predictions":', _json(outputs), tail.encode())), 0
    return b"".join((b'{"predictions":', _json(outputs), b"}")), 0


def encode_error(protocol: str, error: SteadError) -> bytes:
    """The body of an error, in the words of the protocol."""
    if protocol == "v2":
        return msgspec.json.encode({"error": error.message + (f" ({error.hint})" if error.hint else "")})
    body = error.as_dict()
    if protocol != "stead":
        code = "BAD_REQUEST" if error.http_status < 500 else "INTERNAL_ERROR"
        body = {"error_code": code, "message": error.message} | body
    return _json(body)


def plain(value: Any) -> Any:
    """What msgspec cannot write by itself as something that it can: numpy scalars and arrays, times, anything else as text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)
