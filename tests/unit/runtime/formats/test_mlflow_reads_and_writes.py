"""MLflow as the oracle: it reads what we write, and we read what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kinds import ALL, ARRAY, CATEGORY, FRAME, KINDS, MIXED, answer, as_request, head

from stead.errors import InvalidInput, NotFound
from stead.runtime.formats import adopt, load, mlmodel, save
from stead.runtime.formats.sameness import same

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(sys.platform == "win32", reason="paths"),
]


@pytest.fixture(scope="module")
def mlflow() -> Any:
    import logging
    import os

    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "true"
    import mlflow.catboost
    import mlflow.lightgbm
    import mlflow.onnx
    import mlflow.pyfunc
    import mlflow.sklearn
    import mlflow.xgboost

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    return mlflow


@pytest.mark.parametrize("kind", ALL)
def test_mlflow_loads_ours_as_a_python_function(kind: str, tmp_path: Path, mlflow: Any) -> None:
    model, rows, predict_fn = KINDS[kind]
    save(model, tmp_path / "m", input_example=head(rows, 5), predict_fn=predict_fn)
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "m"))
    given = pd.DataFrame(rows) if isinstance(rows, dict) else rows
    if isinstance(given, pd.DataFrame):
        given = given.assign(
            **{name: given[name].astype(object) for name in given if str(given[name].dtype) == "category"}
        )
    got = loaded.predict(given)
    got = got.to_numpy().squeeze() if hasattr(got, "to_numpy") else got
    assert same(np.asarray(got).tolist(), answer(model, rows, predict_fn))
    example = mlflow.models.Model.load(str(tmp_path / "m")).load_input_example(str(tmp_path / "m"))
    assert len(example) == len(head(rows, 5)) or isinstance(rows, dict)
    assert mlflow.models.Model.load(str(tmp_path / "m")).signature is not None


def test_mlflow_loads_ours_by_flavor(tmp_path: Path, mlflow: Any) -> None:
    for kind, flavor in (
        ("sklearn frame", mlflow.sklearn),
        ("xgboost frame", mlflow.xgboost),
        ("xgboost array", mlflow.xgboost),
        ("lightgbm frame", mlflow.lightgbm),
        ("sklearn forest", mlflow.sklearn),
        ("sklearn pickled", mlflow.sklearn),
        ("catboost category", mlflow.catboost),
        ("onnx array", mlflow.onnx),
    ):
        model, rows, _ = KINDS[kind]
        save(model, tmp_path / kind, input_example=rows[:5])
        loaded = flavor.load_model(str(tmp_path / kind))
        assert same(answer(loaded, rows, "predict"), answer(model, rows, "predict"))


def test_mlflow_loads_features_without_stead(tmp_path: Path, mlflow: Any) -> None:
    (tmp_path / "bikes.py").write_text("def features(raw):\n    return raw[['a']].assign(h=raw['t'].dt.hour)\n")
    raw = pd.DataFrame({"t": pd.date_range("2012-01-01", periods=24, freq="h"), "a": np.arange(24.0)})
    from sklearn.linear_model import LinearRegression

    made = raw[["a"]].assign(h=raw["t"].dt.hour)
    model = LinearRegression().fit(made, raw["a"])
    save(model, tmp_path / "m", features="bikes:features", code=[tmp_path / "bikes.py"], golden_rows=raw[:3])
    code = (
        "import sys, warnings; warnings.simplefilter('ignore'); sys.modules['stead'] = None\n"
        "import mlflow.pyfunc, pandas as pd\n"
        "raw = pd.DataFrame({'t': pd.date_range('2012-01-01', periods=24, freq='h'), 'a': [float(i) for i in range(24)]})\n"
        f"print(mlflow.pyfunc.load_model({str(tmp_path / 'm')!r}).predict(raw).tolist())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout.strip() == str(model.predict(made).tolist()), run.stderr[-2000:]


THEIRS = (
    "sklearn array", "sklearn frame", "sklearn mixed", "sklearn forest", "xgboost frame", "xgboost array",
    "lightgbm frame", "lightgbm booster", "catboost array", "catboost frame", "catboost category", "onnx array", "onnx columns",
)  # fmt: skip
"""The first and the fourth as MLflow writes them by default, which is skops; the second and third as pickles."""


def theirs(mlflow: Any, folder: Path) -> dict[str, tuple[Any, Any]]:
    """Folders that MLflow wrote, with the rows they take and the answers they should give."""
    from mlflow.models import infer_signature

    made: dict[str, tuple[Any, Any]] = {}
    saving = {name: getattr(mlflow, name) for name in ("sklearn", "xgboost", "lightgbm", "catboost", "onnx")}
    for kind in THEIRS:
        model, rows, _ = KINDS[kind]
        safe = {"skops_trusted_types": ["sklearn.tree._tree.Tree"]} if kind == "sklearn forest" else {}
        pickled = kind.startswith(("sklearn", "lightgbm")) and kind not in ("sklearn array", "sklearn forest")
        further = {"serialization_format": "cloudpickle"} if pickled else safe
        expected = answer(model, rows, "predict")
        signature = infer_signature(rows, np.array(expected))
        saving[kind.split()[0]].save_model(
            model, str(folder / kind), signature=signature, pip_requirements=["numpy"], **further
        )
        made[kind] = (rows, expected)

    class Doubled(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["a"] * 2

    mlflow.pyfunc.save_model(
        str(folder / "pyfunc"),
        python_model=Doubled(),
        signature=infer_signature(MIXED, MIXED["a"]),
        pip_requirements=["pandas"],
    )
    made["pyfunc"] = (MIXED, (MIXED["a"] * 2).tolist())
    return made


def test_we_load_what_mlflow_wrote(tmp_path: Path, mlflow: Any) -> None:
    for kind, (rows, expected) in theirs(mlflow, tmp_path).items():
        text = (tmp_path / kind / "MLmodel").read_text()
        assert {k: v for k, v in mlmodel.parse(text).items() if k != "utc_time_created"} == {
            k: v for k, v in mlmodel.loads(text).items() if k != "utc_time_created"
        }
        predictor = load(tmp_path / kind)
        answers = predictor.predict(predictor.check(as_request(rows)))
        assert same(answers.tolist() if hasattr(answers, "tolist") else answers, expected), kind
        assert predictor.signature is not None
        assert predictor.pickle == (kind in ("sklearn frame", "sklearn mixed", "lightgbm frame", "pyfunc"))
        assert len(ARRAY) == len(FRAME) == len(CATEGORY)


def test_what_mlflow_wrote_is_taken_over_with_its_answers(tmp_path: Path, mlflow: Any) -> None:
    for kind, (rows, expected) in theirs(mlflow, tmp_path).items():
        info = adopt(tmp_path / kind, tmp_path / "ours" / kind, input_example=head(rows, 3))
        golden = json.loads((tmp_path / "ours" / kind / "stead" / "golden.json").read_text())
        assert same(golden["outputs"], expected[:3]), kind
        assert info["golden_rows"] == 3
        homes = {"sklearn": "scikit-learn", "onnx": "onnxruntime"}
        named = "mlflow-skinny" if kind == "pyfunc" else homes.get(info["flavor"], info["flavor"])
        assert any(found.startswith(named) for found in info["requires"]), (kind, info["requires"])
    with pytest.raises(InvalidInput) as refused:
        adopt(tmp_path / "sklearn frame", tmp_path / "refused", input_example=FRAME[["a"]][:2])
    assert refused.value.code == "example-refused"
    with pytest.raises(NotFound, match="has no MLmodel file"):
        adopt(tmp_path, tmp_path / "none")


def test_the_example_that_mlflow_saved_is_asked(tmp_path: Path, mlflow: Any) -> None:
    model, rows, _ = KINDS["xgboost frame"]
    mlflow.xgboost.save_model(model, str(tmp_path / "theirs"), input_example=rows[:4], pip_requirements=["numpy"])
    assert adopt(tmp_path / "theirs", tmp_path / "ours")["golden_rows"] == 4
