"""Models in ONNX answer as their libraries do: on stored rows, on rows mixed from them, and where a value is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import ARRAY, FRAME, KINDS, MIXED, NAMES, TARGET, as_request, head
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from stead.errors import InvalidInput
from stead.runtime.formats import load, save
from stead.runtime.formats.converting import RELATIVE, convert
from stead.runtime.formats.sameness import near, same

pytestmark = pytest.mark.filterwarnings("ignore")
NUMBERS = ARRAY[:, 0] * 3 + 100
THREE = np.where(ARRAY[:, 0] > 0.5, "high", np.where(ARRAY[:, 1] > 0, "low", "mid"))


def _columns(last: Any) -> Any:
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_pipeline(make_column_transformer((encoder, ["s"]), remainder="passthrough"), last)


TREES: dict[str, tuple[Any, Any, Any, str]] = {
    "tree": (DecisionTreeRegressor(), FRAME, NUMBERS, "predict"),
    "stump": (DecisionTreeClassifier(max_depth=1), FRAME, TARGET, "predict_proba"),
    "a single leaf": (DecisionTreeRegressor(max_depth=1), FRAME, np.ones(120), "predict"),
    "forest": (RandomForestRegressor(20), FRAME, NUMBERS, "predict"),
    "forest of classes": (RandomForestClassifier(10), FRAME, THREE, "predict_proba"),
    "labels": (ExtraTreesClassifier(10), ARRAY, THREE, "predict"),
    "boosted": (GradientBoostingRegressor(n_estimators=10), FRAME, NUMBERS, "predict"),
    "boosted, huber": (GradientBoostingRegressor(n_estimators=10, loss="huber"), FRAME, NUMBERS, "predict"),
    "histogram": (HistGradientBoostingRegressor(max_iter=20), FRAME, NUMBERS, "predict"),
    "histogram, poisson": (HistGradientBoostingRegressor(max_iter=20, loss="poisson"), FRAME, NUMBERS, "predict"),
    "histogram, two classes": (HistGradientBoostingClassifier(max_iter=10), FRAME, NAMES, "predict"),
    "histogram, three classes": (HistGradientBoostingClassifier(max_iter=10), FRAME, THREE, "predict_proba"),
    "in a pipeline": (make_pipeline(StandardScaler(), RandomForestRegressor(5)), FRAME, NUMBERS, "predict"),
    "by columns": (_columns(HistGradientBoostingRegressor(max_iter=10)), MIXED, NUMBERS, "predict"),
}  # fmt: skip


def both(model: Any, rows: Any, predict_fn: str, folder: Path) -> tuple[Any, Any, dict[str, Any]]:
    save(model, folder / "m", input_example=head(rows, 24), predict_fn=predict_fn)
    told = convert(folder / "m", folder / "f")
    return load(folder / "m"), load(folder / "f"), told


@pytest.mark.parametrize("kind", TREES)
def test_trees_in_double_precision(kind: str, tmp_path: Path) -> None:
    model, rows, target, predict_fn = TREES[kind]
    usual, fast, told = both(model.fit(rows, target), rows, predict_fn, tmp_path)
    assert told["precision"] == "double"
    assert told["direct"] == ["numpy", "onnxruntime"]
    assert (fast.flavor, fast.pickle, fast.signature) == ("onnx", False, usual.signature)
    request = as_request(rows)
    expected, found = (each.predict(each.check(request)) for each in (usual, fast))
    assert same(expected.tolist(), found.tolist())  # as near as a version must answer to itself
    assert expected.dtype.kind == found.dtype.kind or expected.dtype.kind in "OU"


@pytest.mark.parametrize("kind", ["sklearn array", "sklearn frame", "sklearn mixed", "xgboost array", "xgboost frame", "xgboost proba", "lightgbm array", "lightgbm proba", "lightgbm booster", "catboost array", "catboost frame", "catboost proba"])  # fmt: skip
def test_other_families(kind: str, tmp_path: Path) -> None:
    model, rows, predict_fn = KINDS[kind]
    usual, fast, _ = both(model, rows, predict_fn, tmp_path)
    request = as_request(rows)
    expected, found = (np.asarray(each.predict(each.check(request))) for each in (usual, fast))
    assert same(expected.tolist(), found.tolist(), near(expected.tolist(), RELATIVE))
    if expected.dtype.kind == "f":
        assert expected.dtype == found.dtype


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("sklearn category", "of the type category"),
        ("sklearn pickled", "FunctionTransformer is not supported"),
        ("xgboost category", "columns that are no numbers"),
        ("catboost category", "columns that are no numbers"),
        ("function of a frame", "a model of python_function has no other form"),
        ("onnx array", "a model of onnx has no other form"),
    ],
)
def test_what_has_no_other_form_says_why(kind: str, reason: str, tmp_path: Path) -> None:
    model, rows, predict_fn = KINDS[kind]
    save(model, tmp_path / "m", input_example=head(rows, 5), predict_fn=predict_fn)
    with pytest.raises(InvalidInput, match=reason) as told:
        convert(tmp_path / "m", tmp_path / "f")
    assert told.value.code == "not-convertible"
    save(LinearRegression().fit(ARRAY, NUMBERS), tmp_path / "bare")
    with pytest.raises(InvalidInput, match="without rows to compare"):
        convert(tmp_path / "bare", tmp_path / "g")


FEATURES = "import json\n\n\ndef features(raw):\n    wide = raw.assign(double=raw['a'] * 2)\n    return wide if not (raw['a'] > 5).any() else wide[['double', 'a', 'b', 'c', 'd', 'k']]\n"


def test_features_and_what_the_library_refuses_stay(tmp_path: Path) -> None:
    (tmp_path / "wide.py").write_text(FEATURES)
    made = FRAME.assign(double=FRAME["a"] * 2)
    training = FRAME.assign(a=[None, *FRAME["a"][1:]])  # a value may be missing, which a line refuses
    save(
        LinearRegression().fit(made, NUMBERS), tmp_path / "m", features="wide:features", code=[tmp_path / "wide.py"],
        golden_rows=FRAME[:20], training=training,
    )  # fmt: skip
    told = convert(tmp_path / "m", tmp_path / "f")
    assert "pandas" in told["requires"] and "scikit-learn" not in told["requires"]
    usual, fast = load(tmp_path / "m"), load(tmp_path / "f")
    request = as_request(FRAME[:3])
    assert fast.features(fast.check(request)) == usual.features(usual.check(request))
    assert same(usual.predict(usual.check(request)).tolist(), fast.predict(fast.check(request)).tolist())
    for value, said in ((None, "NaN"), (9.0, "features gave the columns"), (-float("inf"), "infinity")):
        odd = request | {"a": [0.0, value, 0.0]}
        for predictor in (usual, fast):
            with pytest.raises(ValueError, match=said):
                predictor.predict(predictor.check(odd))


def test_an_answer_that_differs_is_no_other_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stead.runtime.formats import trees

    save(RandomForestRegressor(3).fit(FRAME, NUMBERS), tmp_path / "m", input_example=FRAME[:24])
    plain = trees._plain

    def shifted(model: Any) -> Any:
        made, targets, _ = plain(model)
        return made, targets, 0.01

    monkeypatch.setattr(trees, "_plain", shifted)
    with pytest.raises(InvalidInput, match=r"it answers .*, the model itself"):
        convert(tmp_path / "m", tmp_path / "f")
    assert not (tmp_path / "f" / "model.onnx").exists()


def test_missing_values_go_the_same_way(tmp_path: Path) -> None:
    holes = FRAME.mask(np.random.default_rng(3).random(FRAME.shape) < 0.2)
    for name, model in (("hist", HistGradientBoostingRegressor(max_iter=10)), ("forest", RandomForestRegressor(10))):
        usual, fast, _ = both(model.fit(holes, NUMBERS), holes, "predict", tmp_path / name)
        request = {column: [None if value != value else value for value in holes[column]] for column in holes}
        assert same(usual.predict(usual.check(request)).tolist(), fast.predict(fast.check(request)).tolist()), name


def test_a_booster_in_a_pipeline_keeps_its_library(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=3)).fit(FRAME, TARGET)
    usual, fast, told = both(model, FRAME, "predict_proba", tmp_path)
    assert told["precision"] == "single"
    request = as_request(FRAME)
    expected = usual.predict(usual.check(request)).tolist()
    assert same(expected, fast.predict(fast.check(request)).tolist(), near(expected, RELATIVE))
    assert json.loads((tmp_path / "f" / "stead" / "model.json").read_text())["converted_from"] == "sklearn"
