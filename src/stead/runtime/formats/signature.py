"""What a model takes: names and types of its columns as MLflow names them, and the check of a request against them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from stead.errors import InvalidInput
from stead.runtime.formats.portable import Columns, datetimes

_NUMPY_TYPES = {
    "float64": "double",
    "float32": "float",
    "float16": "float",
    "int64": "long",
    "uint32": "long",
    "bool": "boolean",
}
_NUMBERS = ("double", "float", "long", "integer")
_ACCEPTED: dict[str, frozenset[type]] = {
    "double": frozenset({float, int}),
    "float": frozenset({float, int}),
    "long": frozenset({int}),
    "integer": frozenset({int}),
    "boolean": frozenset({bool}),
    "string": frozenset({str}),
    "datetime": frozenset({str, datetime, int}),
}
_WORDS = {
    "double": "a number", "float": "a number", "long": "a whole number", "integer": "a whole number",
    "boolean": "true or false", "string": "text", "datetime": "a time such as 2012-01-31T13:00:00",
}  # fmt: skip
_KINDS = {
    "double": "fiu",
    "float": "fiu",
    "long": "iu",
    "integer": "iu",
    "boolean": "b",
    "string": "UOST",
    "datetime": "MOU",
}


def mlflow_type(dtype: str) -> str:
    """
    >>> mlflow_type("float64"), mlflow_type("datetime64[ns]"), mlflow_type("category")
    ('double', 'datetime', 'string')
    """
    if dtype in _NUMPY_TYPES:
        return _NUMPY_TYPES[dtype]
    lowered = dtype.lower()
    if lowered.startswith(("int", "uint")):
        return "integer" if lowered in ("int32", "int16", "int8", "uint8", "uint16") else "long"
    if lowered.startswith("float"):
        return "double"
    if lowered.startswith("datetime64"):
        return "datetime"
    return "boolean" if lowered == "boolean" else "string"


def describe(data: Any) -> tuple[str, list[dict[str, Any]]]:
    """Kind of input (`frame`, `array`, `arrays`, `columns`) and its columns: name, type, dtype, categories, nullable.

    An array has columns named by their position.
    """
    import numpy as np

    if isinstance(data, np.ndarray):
        if data.ndim != 2:
            raise InvalidInput("example-invalid", f"an array of rows has two dimensions, not {data.ndim}", hint="X[:5]")
        kind = data.dtype.kind
        dtype = "object" if kind in "OUS" else str(data.dtype)
        nullable = bool(kind == "f" and np.isnan(data).any())
        return "array", [
            {"name": str(i), "type": mlflow_type(dtype), "dtype": dtype, "nullable": nullable}
            for i in range(data.shape[1])
        ]
    if hasattr(data, "columns") and hasattr(data, "dtypes"):
        return "frame", [_frame_column(str(name), data[name]) for name in data.columns]
    if isinstance(data, dict):
        arrays = all(isinstance(values, np.ndarray) for values in data.values())
        return "arrays" if arrays else "columns", [_column(str(name), values) for name, values in data.items()]
    if isinstance(data, list) and data and isinstance(data[0], dict):
        return describe(rows_to_columns(data))
    if isinstance(data, list):
        return describe(np.array(data))
    raise InvalidInput(
        "example-invalid",
        f"an example is a data frame, an array, columns or rows, not {type(data).__name__}",
        hint="stead.log_model(model, name, input_example=X[:5])",
    )


def rows_to_columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """
    >>> rows_to_columns([{"a": 1}, {"a": 2}])
    {'a': [1, 2]}
    """
    return {name: [_plain(row.get(name)) for row in rows] for name in rows[0]}


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _frame_column(name: str, series: Any) -> dict[str, Any]:
    dtype = str(series.dtype)
    column: dict[str, Any] = {"name": name, "dtype": dtype, "nullable": bool(series.isna().any())}
    if dtype == "category":
        levels = series.cat.categories
        column |= {
            "categories": levels.tolist(),
            "ordered": bool(series.cat.ordered),
            "type": mlflow_type(str(levels.dtype)),
        }
    elif dtype == "object":
        column["type"] = _listed_type(
            name, [value for value in series.tolist() if value is not None and value == value]
        )
    else:
        column["type"] = mlflow_type(dtype)
    return column


def _column(name: str, values: Any) -> dict[str, Any]:
    dtype = str(getattr(values, "dtype", "object"))
    if dtype != "object" and not dtype.startswith(("<U", "|S")):
        array_nullable = dtype.startswith("float") and bool((values != values).any())
        return {"name": name, "type": mlflow_type(dtype), "dtype": dtype, "nullable": array_nullable}
    present = [value for value in list(values) if value is not None and value == value]
    return {
        "name": name,
        "type": _listed_type(name, present),
        "dtype": "object",
        "nullable": len(present) < len(values),
    }


def _listed_type(name: str, values: list[Any]) -> str:
    kinds = {type(value) for value in values}
    if not kinds or kinds <= {str}:
        return "string"
    if kinds <= {bool}:
        return "boolean"
    if kinds <= {int}:
        return "long"
    if kinds <= {int, float}:
        return "double"
    if all(hasattr(value, "isoformat") for value in values):
        return "datetime"
    raise InvalidInput(
        "example-invalid",
        f"the column {name!r} mixes {', '.join(sorted(k.__name__ for k in kinds))}",
        hint="use one type",
    )


def mlflow_signature(kind: str, columns: list[dict[str, Any]], outputs: Any) -> dict[str, Any]:
    """The signature as MLflow writes it: columns, or a tensor for a model fitted on an array."""
    import numpy as np

    array = np.asarray(outputs)
    dtype = "str" if array.dtype.kind in "OU" else str(array.dtype)
    given: list[dict[str, Any]]
    if kind == "array":
        tensor = "str" if columns[0]["dtype"] == "object" else columns[0]["dtype"]
        given = [{"type": "tensor", "tensor-spec": {"dtype": tensor, "shape": [-1, len(columns)]}}]
    else:
        given = [{"type": c["type"], "name": c["name"], "required": not c["nullable"]} for c in columns]
    answer = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *array.shape[1:]]}}
    return {"inputs": given, "outputs": [answer]}


class Checker:
    """Checks the columns of a request and puts them in order; made once for a model, called for each request."""

    def __init__(self, kind: str, columns: list[dict[str, Any]]) -> None:
        self.kind = kind
        self.columns = columns
        self._plan = [(c["name"], c["type"], _ACCEPTED.get(c["type"]), bool(c.get("nullable"))) for c in columns]

    def __call__(self, columns: Columns) -> Columns:
        """The model's columns out of those given, further ones ignored. Raises InvalidInput naming column and row."""
        if not isinstance(columns, dict):
            return self._array(columns)
        checked = {}
        rows = -1
        for name, kind, accepted, nullable in self._plan:
            values = columns.get(name)
            if values is None:
                raise InvalidInput(
                    "schema-missing-column",
                    f"the column {name!r} is missing",
                    hint=f"the model takes {', '.join(c['name'] for c in self.columns)}",
                    column=name,
                )
            if rows < 0:
                rows = len(values)
            elif len(values) != rows:
                raise InvalidInput(
                    "schema-rows", f"the column {name!r} has {len(values)} rows, others have {rows}", column=name
                )
            checked[name] = self._values(name, kind, accepted, nullable, values)
        return checked

    def _values(self, name: str, kind: str, accepted: frozenset[type] | None, nullable: bool, values: Any) -> Any:
        if hasattr(values, "dtype"):
            return self._array_column(name, kind, nullable, values)
        if accepted is None:
            return values
        if not set(map(type, values)) <= accepted:
            values = [self._value(name, kind, accepted, nullable, row, value) for row, value in enumerate(values)]
        if kind == "datetime":
            return _times(name, values)
        if not nullable and kind in ("double", "float"):
            for row, value in enumerate(values):
                if value != value:
                    _missing(name, row, "NaN", "schema-nan")
        return values

    def _value(self, name: str, kind: str, accepted: frozenset[type], nullable: bool, row: int, value: Any) -> Any:
        if value is None or (isinstance(value, float) and value != value):
            if not nullable:
                _missing(
                    name, row, "null" if value is None else "NaN", "schema-null" if value is None else "schema-nan"
                )
            return None
        if type(value) in accepted:
            return value
        if kind in ("long", "integer") and isinstance(value, float) and value.is_integer():
            return int(value)
        if hasattr(value, "item") and type(value.item()) in accepted:
            return value.item()
        if any(isinstance(value, base) for base in accepted) and not isinstance(value, bool):
            return value
        raise _wrong_type(name, kind, row, value)

    def _array_column(self, name: str, kind: str, nullable: bool, values: Any) -> Any:
        import numpy as np

        if values.dtype.kind == "O":
            accepted = _ACCEPTED.get(kind)
            return self._values(name, kind, accepted, nullable, values.tolist())
        if kind in ("long", "integer") and values.dtype.kind == "f":
            return self._values(name, kind, _ACCEPTED[kind], nullable, values.tolist())
        if values.dtype.kind not in _KINDS.get(kind, values.dtype.kind):
            raise _wrong_type(name, kind, 0, values[0] if len(values) else values.dtype)
        if values.dtype.kind in "US":
            return self._values(name, kind, _ACCEPTED[kind], nullable, values.astype(str).tolist())
        if not nullable and values.dtype.kind in "fM":
            missing = np.isnat(values) if values.dtype.kind == "M" else np.isnan(values)
            if missing.any():
                _missing(name, int(missing.argmax()), "NaN", "schema-nan")
        return values

    def _array(self, rows: Any) -> Any:
        import numpy as np

        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] != len(self.columns):
            shape = rows.shape[1] if rows.ndim == 2 else f"{rows.ndim} dimensions"
            raise InvalidInput(
                "schema-shape",
                f"the model takes rows of {len(self.columns)} values, not {shape}",
                hint='{"rows": [[…], …]}',
            )
        if self.kind != "array" or rows.dtype.kind not in "fiub":
            names = [column["name"] for column in self.columns]
            checked = self({name: rows[:, i] for i, name in enumerate(names)})
            if self.kind != "array":
                return checked
            return np.array([checked[name] for name in names], dtype=self.columns[0]["dtype"]).T
        if rows.dtype.kind == "f" and not all(c.get("nullable") for c in self.columns) and np.isnan(rows).any():
            for row, column in np.argwhere(np.isnan(rows)):
                if not self.columns[column].get("nullable"):
                    _missing(self.columns[column]["name"], int(row), "NaN", "schema-nan")
        return rows


def _times(name: str, values: Iterable[Any]) -> Any:
    values = list(values)
    try:
        return datetimes(values)
    except (ValueError, TypeError, OverflowError):
        for row, value in enumerate(values):
            try:
                datetimes([value])
            except (ValueError, TypeError, OverflowError):
                raise _wrong_type(name, "datetime", row, value) from None
        raise


def _missing(name: str, row: int, what: str, code: str) -> None:
    raise InvalidInput(
        code,
        f"the column {name!r} is {what} in row {row}, and the model saw none such in training",
        hint="send a value, or train on rows without one",
        column=name,
        row=row,
    )


def _wrong_type(name: str, kind: str, row: int, value: Any) -> InvalidInput:
    return InvalidInput(
        "schema-type",
        f"the column {name!r} is {str(value)[:60]!r} in row {row}, and must be {_WORDS.get(kind, kind)}",
        column=name,
        row=row,
    )
