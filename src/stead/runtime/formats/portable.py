"""Loading a saved model with nothing but the standard library and what the model itself uses.

This file is copied into the `code/` folder of models that need it, with `checks.py` and `reading.py` in front of it, so that
MLflow or anything else can load them in an environment without stead (`_load_pyfunc` is MLflow's door). The three import
nothing of stead but each other.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

from stead.runtime.formats.reading import TENSORS, caller, one_input, read_estimator, resolve

Columns = Any
"""Named columns (dict of sequences), or a 2-D array for models fitted without names."""


class Code:
    """The modules in a model's `code/` folder, kept apart from those of other models in the same process.

    Inside `with`, their names mean this model's modules; outside, whatever they meant before. Two versions of a model
    that both carry `demand.py` can be served side by side.
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = folder
        self.names: set[str] = set()
        self.modules: dict[str, Any] = {}
        self._before: dict[str, Any] = {}
        self._count = 0
        self._loaded = False
        if folder is not None:
            for entry in os.scandir(folder):
                if entry.name.startswith("stead_portable_"):
                    continue
                if entry.name.endswith(".py"):
                    self.names.add(entry.name[:-3])
                elif entry.is_dir() and entry.name != "__pycache__":
                    self.names.add(entry.name)

    def __enter__(self) -> Code:
        if self.folder is None:
            return self
        if not self._loaded:
            self._before = {name: sys.modules.pop(name) for name in self._ours()}
        else:
            self._before = {name: sys.modules[name] for name in self.modules if name in sys.modules}
            sys.modules.update(self.modules)
        sys.path.insert(0, self.folder)
        self._count = len(sys.modules)
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder is None:
            return
        sys.path.remove(self.folder)
        if not self._loaded or len(sys.modules) != self._count:
            self.modules = {name: sys.modules[name] for name in self._ours()}
            self._loaded = True
        for name in self.modules:
            sys.modules.pop(name, None)
        sys.modules.update(self._before)
        self._before = {}

    def _ours(self) -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] in self.names]


class Model:
    """A loaded model: raw columns in, one output for each row out."""

    def __init__(self, folder: str, config: dict[str, Any]) -> None:
        self.config = config
        self.code = Code(os.path.join(folder, config["code"]) if config.get("code") else None)
        with self.code:
            self.estimator = read_estimator(folder, config)
            self.features_function = resolve(config["features"]) if config.get("features") else None
        kind, dtype = config["input"], config.get("dtype")
        if config["flavor"] in TENSORS and kind == "frame" and self.features_function is None:
            kind, dtype = "arrays", None  # spares the frame, and pandas where nothing else needs it
            if (single := one_input(self.estimator, config)) is not None:
                kind, dtype = "array", single
        self._raw = Inputs(kind, config.get("columns"), dtype)
        self._call = caller(self.estimator, config)
        self._names: Any = config.get("made")
        self._arrays = False

    def predict(self, columns: Columns) -> Any:
        x = self._raw.build(columns)
        with self.code:
            if self.features_function is not None:
                x = self.features_function(x)
            if self._names is not None:
                self._check_names(x)
            return self._call(as_array(x) if self._arrays else x)

    def made(self, columns: Columns) -> Any:
        """What the estimator gets for raw columns."""
        x = self._raw.build(columns)
        with self.code:
            return x if self.features_function is None else self.features_function(x)

    def called(self, made: Any) -> Any:
        """What the estimator makes of it."""
        with self.code:
            return self._call(made)

    def features(self, columns: Columns) -> dict[str, list[Any]] | None:
        """What the model's `features` makes of raw columns; None where it has none."""
        if self.features_function is None:
            return None
        x = self._raw.build(columns)
        with self.code:
            return listed(self.features_function(x))

    def _check_names(self, x: Any) -> None:
        if list(x.columns) != self._names:
            raise ValueError(f"features gave the columns {list(x.columns)}, and the model takes {self._names}")

    def hasten(self, columns: Columns) -> bool:
        """Predict from plain arrays from now on, where the estimator is a known one and gives the same for `columns`.

        A model that was fitted on a frame checks names at each call, which costs more than many predictions. The names
        were checked already when the columns were put in order, so the model is made to forget them.
        """
        if not known_estimator(self.estimator):
            return False
        usual = self.predict(columns)
        x = self._raw.build(columns)
        with self.code:
            if self.features_function is not None:
                x = self.features_function(x)
        try:
            array = as_array(x)
        except (TypeError, ValueError):
            return False
        if array is x or array.dtype.kind != "f":
            return False
        forgotten = forget_names(self.estimator)
        try:
            with warnings.catch_warnings(), self.code:
                warnings.simplefilter("error")
                same = same_values(self._call(array), usual)
        except Exception:
            same = False
        if not same:
            for estimator, names in forgotten:
                estimator.feature_names_in_ = names
            return False
        self._arrays = True
        if self.features_function is not None:
            self._names = list(x.columns) if hasattr(x, "columns") else None
        else:
            self._raw = Inputs("array", self.config.get("columns"), "float64")
        return True


class Inputs:
    """Builds from columns what the model or its `features` takes: a frame, an array, or columns."""

    def __init__(self, kind: str, columns: list[dict[str, Any]] | None, dtype: str | None) -> None:
        self.kind = kind
        self.columns = columns or []
        self.names = [column["name"] for column in self.columns]
        self.dtype = dtype
        dtypes = {column.get("dtype") for column in self.columns}
        self._uniform = dtypes.pop() if len(dtypes) == 1 else None
        if self._uniform not in ("float64", "float32", "int64", "int32", "bool"):
            self._uniform = None
        self._index: Any = None

    def build(self, columns: Columns) -> Any:
        import numpy as np

        if self.kind == "array":
            if isinstance(columns, dict):
                columns = np.array([columns[name] for name in self.names or columns], dtype=self.dtype).T
            return np.ascontiguousarray(columns, dtype=self.dtype)
        if not isinstance(columns, dict):
            if not self.names:  # a model without a signature takes what it is given
                return np.ascontiguousarray(columns)
            columns = {name: columns[:, i] for i, name in enumerate(self.names)}
        if not self.columns:
            given = Inputs(
                self.kind, [{"name": name, "dtype": str(np.asarray(v).dtype)} for name, v in columns.items()], None
            )
            return given.build(columns)
        if self.kind == "frame":
            return self._frame(columns)
        if self.kind == "arrays":
            return {c["name"]: as_dtype(columns[c["name"]], c.get("dtype")) for c in self.columns}
        return {name: list(columns[name]) for name in self.names}

    def _frame(self, columns: dict[str, Any]) -> Any:
        import numpy as np
        import pandas as pd

        if self._index is None:
            self._index = pd.Index(self.names)
        if self._uniform is not None:
            block = np.array([columns[name] for name in self.names], dtype=self._uniform).T
            return pd.DataFrame(block, columns=self._index, copy=False)
        data = {c["name"]: as_pandas(columns[c["name"]], c) for c in self.columns}
        return pd.DataFrame(data, columns=self._index, copy=False)


def as_dtype(values: Any, dtype: str | None) -> Any:
    import numpy as np

    if dtype is None or dtype in ("object", "str") or dtype.startswith(("<U", "|S")):
        return np.array(values, dtype=object)
    return datetimes(values).astype(dtype) if dtype.startswith("datetime64") else np.asarray(values, dtype=dtype)


def as_pandas(values: Any, column: dict[str, Any]) -> Any:
    """One column of a frame with the type that it had in training; an unknown category becomes missing."""
    import pandas as pd

    dtype = column.get("dtype") or "object"
    dtype = "str" if dtype.startswith("<U") else dtype
    if dtype in ("float64", "float32", "int64", "int32", "int16", "int8", "bool"):
        return as_dtype(values, dtype)
    if dtype == "object":
        return pd.Series(as_dtype(values, "object"), dtype=object)
    if dtype == "category":
        codes = pd.Index(column["categories"]).get_indexer(list(values))
        return pd.Categorical.from_codes(codes, column["categories"], ordered=column.get("ordered", False))
    if dtype.startswith("datetime64"):
        unit, _, zone = dtype.removeprefix("datetime64[").rstrip("]").partition(", ")
        times = pd.DatetimeIndex(datetimes(values).astype(f"datetime64[{unit}]"))
        return times.tz_localize("UTC").tz_convert(zone) if zone else times
    return pd.array(list(values), dtype=dtype)


def datetimes(values: Any) -> Any:
    """Times as written or as numbers of milliseconds, as datetime64[us]; a zone is converted to UTC."""
    from datetime import UTC, datetime

    import numpy as np

    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        return values
    out: list[Any] = []
    for value in values:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            out.append(value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value)
        elif value is None or value != value:
            out.append(None)
        elif isinstance(value, (int, float)):
            out.append(np.datetime64(int(value), "ms"))
        else:
            out.append(value)
    return np.array(out, dtype="datetime64[us]")


def as_array(x: Any) -> Any:
    """A frame or columns of numbers as one array of float64."""
    import numpy as np

    if isinstance(x, np.ndarray):
        return x
    if isinstance(x, dict):
        return np.array(list(x.values()), dtype="float64").T
    if any(str(dtype) not in ("float64", "int64", "int32", "bool") for dtype in x.dtypes):
        raise TypeError("not all columns are plain numbers")
    return x.to_numpy(dtype="float64")


def listed(x: Any) -> dict[str, list[Any]]:
    """Columns of plain values, fit for JSON: missing is None, a time is text."""
    import numpy as np

    if isinstance(x, dict):
        return {str(name): [plain(value) for value in np.asarray(values).tolist()] for name, values in x.items()}
    if isinstance(x, np.ndarray):
        table = x.reshape(len(x), -1)
        return {str(i): [plain(value) for value in table[:, i].tolist()] for i in range(table.shape[1])}
    return {str(name): [plain(value) for value in x[name].tolist()] for name in x.columns}


def plain(value: Any) -> Any:
    """One value as JSON has it."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if value == value else None
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "isoformat"):
        return None if value != value else value.isoformat()
    if hasattr(value, "item"):
        return plain(value.item())
    return None if type(value).__name__ in ("NAType", "NaTType") else str(value)


def same_values(a: Any, b: Any) -> bool:
    """The same but for the order in which a sum was added up, which differs with the layout of the memory."""
    import numpy as np

    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype.kind != "f":
        return a.shape == b.shape and bool(np.array_equal(a, b))
    return bool(np.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True))


def known_estimator(estimator: Any) -> bool:
    """Whether it is of a family that treats a frame of numbers as an array; somebody's own class may do anything."""
    inside = [step for _, step in getattr(estimator, "steps", ())]
    return type(estimator).__module__.partition(".")[0] in ("sklearn", "xgboost", "lightgbm", "catboost") and all(
        step in (None, "passthrough") or (known_estimator(step) and not type(step).__name__.startswith("Function"))
        for step in inside
    )


def forget_names(estimator: Any) -> list[tuple[Any, Any]]:
    """Take the names of its columns from a scikit-learn estimator and the first steps inside it."""
    forgotten = []
    seen = estimator
    while seen is not None:
        if "feature_names_in_" in getattr(seen, "__dict__", {}):
            forgotten.append((seen, seen.feature_names_in_))
            del seen.feature_names_in_
        steps = getattr(seen, "steps", None)
        seen = steps[0][1] if steps else getattr(seen, "regressor_", None)
    return forgotten


class _Pyfunc:
    """What MLflow calls: a frame or array in."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        if hasattr(model_input, "columns"):
            model_input = {str(name): model_input[name].to_numpy() for name in model_input.columns}
        return self.model.predict(model_input)


def _load_pyfunc(path: str) -> _Pyfunc:
    with open(os.path.join(path, "stead", "model.json"), encoding="utf-8") as file:
        return _Pyfunc(Model(path, json.load(file)))
