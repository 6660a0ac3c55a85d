"""What is saved answers as what was fitted, one row or many, and says what it is."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kinds import ALL, ARRAY, FRAME, KINDS, MIXED, TARGET, answer, as_request, head
from sklearn.linear_model import LinearRegression

from stead.errors import Failed, InvalidInput, NotFound
from stead.runtime import formats
from stead.runtime.formats import join, load, mlmodel, portable, save
from stead.runtime.formats.sameness import same


@pytest.mark.parametrize("kind", ALL)
def test_saved_answers_as_fitted(kind: str, tmp_path: Path) -> None:
    model, rows, predict_fn = KINDS[kind]
    info = save(model, tmp_path / "m", input_example=head(rows, 5), predict_fn=predict_fn)
    predictor = load(tmp_path / "m")
    expected = answer(model, rows, predict_fn)
    checked = predictor.check(as_request(rows))
    outputs = predictor.predict(checked)
    assert same(outputs.tolist() if hasattr(outputs, "tolist") else outputs, expected)
    one = predictor.predict(predictor.check(as_request(head(rows, 1))))
    assert len(one) == 1
    parts = [predictor.check(as_request(head(rows, n))) for n in (1, 2)]
    assert len(predictor.predict(join(parts))) == 3
    family = kind.split()[0]
    assert (
        info["flavor"]
        == predictor.flavor
        == (family if family in ("sklearn", "xgboost", "lightgbm", "catboost", "onnx") else "python_function")
    )
    pickled = kind in ("sklearn pickled", "sklearn category") or info["flavor"] == "python_function"
    assert info["pickle"] == predictor.pickle == pickled
    assert info["signature"] == predictor.signature
    golden = json.loads((tmp_path / "m" / "stead" / "golden.json").read_text())
    assert same(golden["outputs"], expected[: len(golden["outputs"])])
    assert golden["libraries"] == predictor.libraries == formats.versions(predictor.libraries)
    assert "numpy" in predictor.libraries


def test_fitted_on_a_frame_predicts_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows, _ = KINDS["sklearn frame"]
    save(model, tmp_path / "m", input_example=rows[:5])
    predictor = load(tmp_path / "m")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("built a frame")

    monkeypatch.setattr(portable.Inputs, "_frame", never)
    answers = predictor.predict(predictor.check(as_request(rows)))
    assert same(answers.tolist(), model.predict(rows).tolist())
    assert hasattr(model, "feature_names_in_")  # the caller's own model is as it was


def test_a_function_of_a_frame_gets_its_frame(tmp_path: Path) -> None:
    save(lambda rows: rows.sum(axis=1), tmp_path / "m", input_example=FRAME[:5], training=FRAME.assign(a=np.nan))
    predictor = load(tmp_path / "m")
    row = as_request(FRAME[:1]) | {"a": [None]}
    assert predictor.predict(predictor.check(row))[0] == pytest.approx(
        FRAME.iloc[0, 1:].sum()
    )  # a frame skips the missing


def test_same_model_is_the_same_folder(tmp_path: Path) -> None:
    model, rows, _ = KINDS["sklearn frame"]
    for name in ("a", "b"):
        save(model, tmp_path / name, input_example=rows[:5])
    contents = [
        {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert contents[0] == contents[1]


FEATURES = """
import helper

def features(raw):
    import helper as again  # an import when it runs finds the same module
    assert again is helper
    return raw.assign(hour=raw["t"].dt.hour + helper.SHIFT)[["a", "hour"]]
"""


def features_model(folder: Path, shift: int) -> tuple[Any, pd.DataFrame, Path]:
    folder.mkdir()
    (folder / "bikes.py").write_text(FEATURES)
    (folder / "helper.py").write_text(f"SHIFT = {shift}\n")
    raw = pd.DataFrame({"t": pd.date_range("2012-01-01", periods=48, freq="h"), "a": np.arange(48.0), "unused": "x"})
    made = raw.assign(hour=raw["t"].dt.hour + shift)[["a", "hour"]]
    return LinearRegression().fit(made, raw["a"] * 2 + made["hour"]), raw, folder / "bikes.py"


def test_features_travel_with_the_model_and_two_versions_do_not_mix(tmp_path: Path) -> None:
    predictors = []
    for shift in (0, 100):
        model, raw, code = features_model(tmp_path / f"code{shift}", shift)
        folder = tmp_path / f"m{shift}"
        info = save(model, folder, features="bikes:features", code=[code], golden_rows=raw[:6], training=raw)
        assert (folder / "code" / "helper.py").exists()  # what bikes.py imports from beside it
        assert info["golden_rows"] == 6
        predictors.append(load(folder))
        golden = json.loads((folder / "stead" / "golden.json").read_text())
        assert golden["features"]["hour"] == [0 + shift, 1 + shift, 2 + shift, 3 + shift, 4 + shift, 5 + shift]
        assert golden["inputs"]["t"][1] == "2012-01-01T01:00:00"
    row = {"t": ["2012-01-05T13:00:00"], "a": [1.0], "unused": ["y"]}
    for predictor, hour in zip(predictors * 2, (13, 113) * 2, strict=True):
        checked = predictor.check(row)
        assert predictor.features(checked) == {"a": [1.0], "hour": [hour]}
        assert predictor.predict(checked)[0] == pytest.approx(2 + hour)
    assert "bikes" not in sys.modules
    assert "helper" not in sys.modules
    zoned = predictors[0].check({"t": ["2012-01-05T13:00:00+02:00"], "a": [1], "unused": [""]})
    assert predictors[0].features(zoned) == {"a": [1.0], "hour": [11]}


def test_code_keeps_its_place(tmp_path: Path) -> None:
    for name, text in {
        "src/bikes.py": "from src.deep.helper import SHIFT\ndef features(x):\n    return x + SHIFT\n",
        "src/deep/helper.py": "SHIFT = 1\n",
    }.items():
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text(text)
    code = [tmp_path / "project" / name for name in ("src/bikes.py", "src/deep/helper.py")]
    save(
        KINDS["sklearn array"][0], tmp_path / "m", features="src.bikes:features", code=code,
        code_root=tmp_path / "project", golden_rows=ARRAY[:2],
    )  # fmt: skip
    assert load(tmp_path / "m").features(ARRAY[:1]) == {str(i): [ARRAY[0, i] + 1] for i in range(4)}


def test_a_file_of_a_package_brings_its_package(tmp_path: Path) -> None:
    package = tmp_path / "riding" / "deep"
    package.mkdir(parents=True)
    (tmp_path / "riding" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "code.py").write_text("from ..other import SHIFT\ndef features(x):\n    return x + SHIFT\n")
    (tmp_path / "riding" / "other.py").write_text("SHIFT = 2\n")
    save(
        KINDS["sklearn array"][0], tmp_path / "m", features="riding.deep.code:features", code=[package / "code.py"],
        golden_rows=ARRAY[:2],
    )  # fmt: skip
    assert load(tmp_path / "m").features(ARRAY[:1]) == {str(i): [ARRAY[0, i] + 2] for i in range(4)}


def test_features_that_give_other_columns_are_no_answer(tmp_path: Path) -> None:
    (tmp_path / "dummies.py").write_text(
        "import pandas as pd\ndef features(raw):\n    return pd.get_dummies(raw, dtype=float)\n"
    )
    raw = pd.DataFrame({"s": ["x", "y", "x", "y"]})
    model = LinearRegression().fit(pd.get_dummies(raw, dtype=float), [1.0, 2.0, 1.0, 2.0])
    save(model, tmp_path / "m", features="dummies:features", code=[tmp_path / "dummies.py"], golden_rows=raw)
    predictor = load(tmp_path / "m")
    with pytest.raises(ValueError, match="s_x"):
        predictor.predict(predictor.check({"s": ["y"]}))


def test_features_may_write_into_their_rows(tmp_path: Path) -> None:
    (tmp_path / "writes.py").write_text("def features(raw):\n    raw['a'] = raw['a'] * 2\n    return raw[['a']]\n")
    raw = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    save(
        LinearRegression().fit(raw * 2, [1.0, 2.0, 3.0]), tmp_path / "m", features="writes:features",
        code=[tmp_path / "writes.py"], golden_rows=raw,
    )  # fmt: skip
    assert raw["a"].tolist() == [1.0, 2.0, 3.0]
    golden = json.loads((tmp_path / "m" / "stead" / "golden.json").read_text())
    assert golden["inputs"] == {"a": [1.0, 2.0, 3.0]}
    assert golden["features"] == {"a": [2.0, 4.0, 6.0]}


def test_a_class_of_the_project_travels_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stead_test_own.py").write_text(
        "class Own:\n    factor = 3\n    def predict(self, x):\n        return x[:, 0] * self.factor\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import stead_test_own  # type: ignore[import-not-found]

    info = save(stead_test_own.Own(), tmp_path / "m", input_example=ARRAY[:3])
    assert (tmp_path / "m" / "code" / "stead_test_own.py").exists()
    monkeypatch.undo()
    del sys.modules["stead_test_own"]
    assert load(tmp_path / "m").predict(ARRAY[:2]).tolist() == (ARRAY[:2, 0] * 3).tolist()
    assert info["pickle"]


def test_a_lambda_is_kept_by_value(tmp_path: Path) -> None:
    offset = 5
    save(lambda rows: rows[:, 0] + offset, tmp_path / "m", input_example=ARRAY[:3])
    assert load(tmp_path / "m").predict(ARRAY[:1])[0] == ARRAY[0, 0] + 5


ROWS = {"a": [1.0, 2.0], "k": [1, 2], "s": ["x", "y"], "b": [True, False], "t": ["2012-01-01", "2012-01-02"]}


def checked_model(folder: Path) -> Any:
    frame = pd.DataFrame(ROWS).assign(t=pd.to_datetime(ROWS["t"]), maybe=[1.0, None])
    save(lambda rows: rows["a"], folder, input_example=frame, training=frame)
    return load(folder)


@pytest.mark.parametrize(
    ("column", "values", "code", "row"),
    [
        ("a", None, "schema-missing-column", None),
        ("a", [1.0], "schema-rows", None),
        ("a", [1.0, "2"], "schema-type", 1),
        ("a", [True, 1.0], "schema-type", 0),
        ("a", [1.0, None], "schema-null", 1),
        ("a", [1.0, float("nan")], "schema-nan", 1),
        ("a", np.array([1.0, np.nan]), "schema-nan", 1),
        ("a", [[1.0], 2.0], "schema-type", 0),
        ("k", [1.5, 2], "schema-type", 0),
        ("k", [None, 2], "schema-null", 0),
        ("s", ["x", 3], "schema-type", 1),
        ("b", [1, 0], "schema-type", 0),
        ("t", ["2012-01-01", "yesterday"], "schema-type", 1),
        ("t", ["2012-01-01", None], "schema-null", 1),
        ("maybe", ["x", None], "schema-type", 0),
    ],
)
def test_a_bad_request_names_column_and_row(
    tmp_path: Path, column: str, values: Any, code: str, row: int | None
) -> None:
    predictor = checked_model(tmp_path / "m")
    rows: dict[str, Any] = {**ROWS, "maybe": [None, 2.0]}
    if values is None:
        del rows[column]
    else:
        rows[column] = values
    if code == "schema-rows":
        rows = {**rows, "a": values, "k": [1, 2]}
    with pytest.raises(InvalidInput) as raised:
        predictor.check(rows)
    assert raised.value.code == code
    if code == "schema-rows":
        return
    assert raised.value.details["column"] == column
    assert repr(column) in raised.value.message
    if row is not None:
        assert raised.value.details["row"] == row
        assert f"row {row}" in raised.value.message


def test_a_good_request_is_taken_generously(tmp_path: Path) -> None:
    predictor = checked_model(tmp_path / "m")
    rows = {**ROWS, "a": [1, 2], "k": [1.0, np.int64(2)], "maybe": [None, float("nan")], "further": ["?", "?"]}
    checked = predictor.check(rows)
    assert list(checked) == ["a", "k", "s", "b", "t", "maybe"]
    assert predictor.predict(checked).tolist() == [1.0, 2.0]
    arrays = {name: np.array(values) for name, values in {**ROWS, "maybe": [1.0, np.nan]}.items()}
    assert predictor.predict(predictor.check(arrays)).tolist() == [1.0, 2.0]


def test_an_unknown_category_is_fine(tmp_path: Path) -> None:
    for kind in ("sklearn category", "sklearn mixed", "lightgbm category"):
        model, rows, _ = KINDS[kind]
        save(model, tmp_path / kind, input_example=rows[:5])
        predictor = load(tmp_path / kind)
        predictor.predict(predictor.check(as_request(rows[:1]) | {"s": ["never seen"]}))


def test_arrays_are_checked_too(tmp_path: Path) -> None:
    model, rows, _ = KINDS["sklearn array"]
    save(model, tmp_path / "m", input_example=rows[:5])
    predictor = load(tmp_path / "m")
    for bad, code in (
        (rows[:2, :3], "schema-shape"),
        (rows[0], "schema-shape"),
        (np.array([["x"] * 4]), "schema-type"),
    ):
        with pytest.raises(InvalidInput) as raised:
            predictor.check(bad)
        assert raised.value.code == code
    holed = rows[:3].copy()
    holed[2, 1] = np.nan
    with pytest.raises(InvalidInput) as raised:
        predictor.check(holed)
    assert (raised.value.code, raised.value.details) == ("schema-nan", {"column": "1", "row": 2})
    named = load_frame_model(tmp_path / "named")
    assert named.predict(named.check(FRAME.to_numpy()[:2])).shape == (2,)


def load_frame_model(folder: Path) -> Any:
    model, rows, _ = KINDS["sklearn frame"]
    save(model, folder, input_example=rows[:5])
    return load(folder)


def test_trees_take_missing_values_and_lines_do_not(tmp_path: Path) -> None:
    for kind, takes in (("sklearn proba", True), ("xgboost frame", True), ("sklearn frame", False)):
        model, rows, predict_fn = KINDS[kind]
        save(model, tmp_path / kind, input_example=rows[:5], predict_fn=predict_fn)
        predictor = load(tmp_path / kind)
        row = as_request(rows[:1]) | {"a": [None]}
        if takes:
            predictor.predict(predictor.check(row))
        else:
            with pytest.raises(InvalidInput):
                predictor.check(row)


def test_one_row_is_an_example_and_a_row_that_the_model_refuses_is_told(tmp_path: Path) -> None:
    assert save(lambda rows: rows["a"], tmp_path / "one", input_example=dict(FRAME.iloc[0]))["golden_rows"] == 1
    model = KINDS["sklearn frame"][0]
    with pytest.raises(InvalidInput, match=r"does not answer the example rows: ValueError: ") as caught:
        save(model, tmp_path / "two", input_example=FRAME[["a"]][:3])
    assert caught.value.code == "example-refused"


def test_without_an_example_the_model_itself_is_asked(tmp_path: Path) -> None:
    info = save(KINDS["sklearn frame"][0], tmp_path / "m")
    assert [column["name"] for column in info["signature"]["inputs"]] == list(FRAME.columns)
    assert info["golden_rows"] == 0
    assert len(load(tmp_path / "m").predict({name: [1.0] for name in FRAME.columns})) == 1


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    for model, code in ((3, "model-unsupported"), (KINDS["sklearn frame"][0], "example-invalid")):
        with pytest.raises(InvalidInput) as raised:
            save(model, tmp_path / code, input_example=pd.Series([1.0]) if code == "example-invalid" else None)
        assert raised.value.code == code
    with pytest.raises(InvalidInput) as raised:
        save(KINDS["sklearn frame"][0], tmp_path / "x", predict_fn="predict_proba")
    assert raised.value.code == "model-unsupported"
    with pytest.raises(NotFound) as missing:
        save(KINDS["sklearn frame"][0], tmp_path / "y", features="gone:features")
    assert missing.value.code == "code-missing"
    with pytest.raises(InvalidInput) as raised:
        save(KINDS["sklearn frame"][0], tmp_path)
    assert raised.value.code == "folder-not-empty"


def test_a_model_that_answers_differently_each_time_is_refused(tmp_path: Path) -> None:
    def moody(rows: Any) -> list[float]:
        import random

        return [random.random() for _ in rows]

    with pytest.raises(Failed) as raised:
        save(moody, tmp_path / "m", input_example=ARRAY[:2])
    assert raised.value.code == "model-roundtrip"


def test_loading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load(tmp_path)
    (tmp_path / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: ../../etc/passwd\n")
    with pytest.raises(InvalidInput) as raised:
        load(tmp_path)
    assert raised.value.code == "model-invalid"
    (tmp_path / "MLmodel").write_text("flavors:\n  onnx:\n    data: x\n")
    with pytest.raises(InvalidInput, match="x is missing"):
        load(tmp_path)
    (tmp_path / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(1)[:-1])
    with pytest.raises(InvalidInput, match="cut off"):
        load(tmp_path)


def test_the_small_yaml_reader_reads_what_we_write(tmp_path: Path) -> None:
    save(
        KINDS["sklearn mixed"][0], tmp_path / "m", input_example=MIXED[:3], metadata={"owner": 'Ada: "x"', "n": [1, 2]}
    )
    text = (tmp_path / "m" / "MLmodel").read_text()
    assert mlmodel.parse(text) == mlmodel.loads(text)
    assert mlmodel.loads(text)["metadata"] == {"owner": 'Ada: "x"', "n": [1, 2]}
    assert len(TARGET) == 120
