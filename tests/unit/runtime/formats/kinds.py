"""One model of each kind, with rows it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import xgboost
from catboost import CatBoostClassifier, CatBoostRegressor
from skl2onnx import to_onnx
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from written import Lengths, doubled, plus_one, squared

from tests.conftest import needs

try:
    import lightgbm
except OSError:  # its wheel leaves libgomp to the system
    lightgbm = None

_rng = np.random.default_rng(0)
ARRAY = _rng.normal(size=(120, 4))
TARGET = (ARRAY.sum(1) > 0).astype(int)
NAMES = np.where(TARGET == 1, "yes", "no")
FRAME = pd.DataFrame(ARRAY, columns=list("abcd")).assign(k=_rng.integers(0, 5, 120))
MIXED = FRAME.assign(s=_rng.choice(["x", "y", "z"], 120))
CATEGORY = FRAME.assign(s=pd.Categorical(MIXED["s"]))


def _pipeline(last: Any) -> Any:
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["s"]), remainder="passthrough")
    return make_pipeline(columns, last)


def _catboost(kind: Any, rows: Any, target: Any, **further: Any) -> Any:
    return kind(iterations=3, verbose=False, allow_writing_files=False, thread_count=1).fit(rows, target, **further)


def _onnx(model: Any, rows: Any) -> Any:
    """A model in ONNX that takes double where it can, one array or each column by its name."""
    return to_onnx(model, rows[:1], options={"zipmap": False} if hasattr(model, "classes_") else None)


Kind = tuple[Any, Any, str]


class Kinds(dict[str, Kind]):
    """By name; one whose library does not load here skips the test that asks for it."""

    def __missing__(self, kind: str) -> Kind:
        needs("libgomp, for LightGBM", False, "apt-get install libgomp1")
        raise KeyError(kind)


def _lightgbm_kinds() -> dict[str, Kind]:
    if lightgbm is None:
        return {}
    quick = {"n_estimators": 3, "verbose": -1}
    return {
        "lightgbm array": (lightgbm.LGBMClassifier(**quick).fit(ARRAY, NAMES), ARRAY, "predict"),
        "lightgbm frame": (lightgbm.LGBMRegressor(**quick).fit(FRAME, TARGET), FRAME, "predict"),
        "lightgbm proba": (lightgbm.LGBMClassifier(**quick).fit(FRAME, TARGET), FRAME, "predict_proba"),
        "lightgbm category": (lightgbm.LGBMRegressor(**quick).fit(CATEGORY, TARGET), CATEGORY, "predict"),
        "lightgbm booster": (lightgbm.train({"verbose": -1}, lightgbm.Dataset(ARRAY, TARGET), 3), ARRAY, "predict"),
    }


KINDS = Kinds()
KINDS |= {
    "sklearn array": (LogisticRegression().fit(ARRAY, NAMES), ARRAY, "predict"),
    "sklearn frame": (make_pipeline(StandardScaler(), LinearRegression()).fit(FRAME, TARGET), FRAME, "predict"),
    "sklearn proba": (HistGradientBoostingClassifier(max_iter=5).fit(FRAME, TARGET), FRAME, "predict_proba"),
    "sklearn mixed": (_pipeline(LogisticRegression()).fit(MIXED, TARGET), MIXED, "predict"),
    "sklearn category": (
        HistGradientBoostingRegressor(max_iter=5, categorical_features="from_dtype").fit(CATEGORY, TARGET),
        CATEGORY,
        "predict",
    ),
    "sklearn forest": (RandomForestRegressor(3).fit(FRAME, TARGET), FRAME, "predict"),
    "sklearn pickled": (
        make_pipeline(FunctionTransformer(squared), LinearRegression()).fit(ARRAY, TARGET),
        ARRAY,
        "predict",
    ),
    "catboost array": (_catboost(CatBoostClassifier, ARRAY, NAMES), ARRAY, "predict"),
    "catboost frame": (_catboost(CatBoostRegressor, FRAME, TARGET), FRAME, "predict"),
    "catboost proba": (_catboost(CatBoostClassifier, FRAME, TARGET), FRAME, "predict_proba"),
    "catboost category": (_catboost(CatBoostRegressor, MIXED, TARGET, cat_features=["s"]), MIXED, "predict"),
    "onnx array": (_onnx(LogisticRegression().fit(ARRAY, NAMES), ARRAY), ARRAY, "predict"),
    "onnx proba": (_onnx(LogisticRegression().fit(ARRAY, TARGET), ARRAY), ARRAY, "predict_proba"),
    "onnx columns": (_onnx(_pipeline(LinearRegression()).fit(MIXED, TARGET), MIXED), MIXED, "predict"),
    "xgboost array": (xgboost.XGBClassifier(n_estimators=3).fit(ARRAY, TARGET), ARRAY, "predict"),
    "xgboost frame": (xgboost.XGBRegressor(n_estimators=3).fit(FRAME, TARGET), FRAME, "predict"),
    "xgboost proba": (xgboost.XGBClassifier(n_estimators=3).fit(FRAME, TARGET), FRAME, "predict_proba"),
    "xgboost category": (
        xgboost.XGBRegressor(n_estimators=3, enable_categorical=True).fit(CATEGORY, TARGET),
        CATEGORY,
        "predict",
    ),
    "function of a frame": (doubled, MIXED, "predict"),
    "object with predict": (Lengths(), MIXED, "predict"),
    "function of columns": (plus_one, {"a": [1.0, 2.0, 3.0], "s": ["q", "r", "s"]}, "predict"),
} | _lightgbm_kinds()
ALL = sorted(KINDS.keys() | {f"lightgbm {what}" for what in ("array", "frame", "proba", "category", "booster")})


def head(rows: Any, n: int) -> Any:
    return {name: values[:n] for name, values in rows.items()} if isinstance(rows, dict) else rows[:n]


def answer(model: Any, rows: Any, predict_fn: str) -> list[Any]:
    if type(model).__name__ == "ModelProto":
        return onnx_answer(model, rows, predict_fn)
    call = getattr(model, predict_fn) if hasattr(model, predict_fn) else model
    outputs = call(rows)
    return outputs.tolist() if hasattr(outputs, "tolist") else list(outputs)


def onnx_answer(model: Any, rows: Any, predict_fn: str) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [each.name for each in session.get_inputs()]
    feeds = {names[0]: rows} if len(names) == 1 else {name: rows[[name]].to_numpy() for name in names}
    outputs = session.run(None, feeds)[1 if predict_fn == "predict_proba" else 0]
    return (outputs.ravel() if outputs.shape[1:] == (1,) else outputs).tolist()


def as_request(rows: Any) -> Any:
    """What the JSON of a request becomes: plain lists."""
    if isinstance(rows, np.ndarray):
        return rows
    return {name: (values.tolist() if hasattr(values, "tolist") else list(values)) for name, values in rows.items()}
