"""Models of every family, loaded in an environment that was built from their lock, with the runtime and nothing else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from kinds import KINDS, answer, head

from stead import environments
from stead.runtime.formats import save
from stead.runtime.formats.sameness import same
from stead.store import Store

CODE = """
import json, sys
from pathlib import Path
import numpy as np
from stead.runtime.formats import golden_columns, load

told = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    predictor = load(folder)
    golden = json.loads((folder / "stead" / "golden.json").read_text())
    columns = predictor.check(golden_columns(golden, predictor.config))
    told[folder.name] = np.asarray(predictor.predict(columns)).tolist()
for name in ("mlflow", "yaml", "sqlalchemy", "stead.store"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(name)
print(json.dumps(told))
"""


@pytest.mark.timeout(300)
def test_every_family_answers_in_a_fresh_environment(store: Store, tmp_path: Path) -> None:
    expected, requires = {}, set()
    for kind in ("sklearn mixed", "sklearn proba", "xgboost category", "lightgbm array", "lightgbm category", "object with predict", "sklearn forest", "catboost category", "onnx columns"):  # fmt: skip
        model, rows, predict_fn = KINDS[kind]
        info = save(model, tmp_path / "models" / kind, input_example=head(rows, 20), predict_fn=predict_fn)
        requires |= {f"{name}=={info['libraries'][name]}" for name in info["requires"]}
        expected[kind] = answer(model, head(rows, 20), predict_fn)
    digest = environments.lock(store, sorted(requires)).digest
    python = environments.ensure(store, digest)
    variables = environments.variables(extra={"PYTHONPATH": str(environments.runtime_path(store))})
    command = [str(python), "-W", "error", "-c", CODE, str(tmp_path / "models")]
    run = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    told = json.loads(run.stdout)
    for kind, answers in expected.items():
        assert same(told[kind], answers), kind
