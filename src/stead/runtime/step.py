"""Runs one step of a pipeline in the model's environment; `runtime.host` calls it in a process for each.

The executor wrote SPEC (JSON) and the input files; the step writes output files and its journal, and knows nothing else:
no address, no credentials. Frames go in and out as Parquet through the environment's own pandas.

The project's file has these functions; all but `train` may be missing:

- `ingest(since, until)` gives the rows with since <= time < until as a pandas DataFrame; both are datetimes of the data's own clock
- `features(raw)` turns raw rows (without the target) into what the model learns from; it runs in serving, too
- `train(X, y)` gives a fitted model: one with `predict`, or a module of PyTorch
- `evaluate(model, X, y)` gives further figures on rows that the model has not seen, as a dict
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from stead.errors import InvalidInput, SteadError
from stead.runtime import computing, loading, sdk
from stead.runtime.seeding import seed

FOLLOW = "--until-stdin-ends"
"""Argument of a step in a container: its standard input ends with the process that started it, and the step with that."""
HOLDOUT = 0.2
GOLDEN_ROWS = 24
LEAST_ROWS = 20
RECENT_DAYS = 28
RECENT_MS = RECENT_DAYS * 86_400_000
ALL_BETTER = 0.02
"""All rows are learned from where that is better by this share on the last 28 days than the window."""
TIMED_ROWS = 1000
SEED = 0
"""Chooses the rows of the random hold-out: the same ones whatever a project seeds its training with."""


def run(file: Path) -> int:
    """Run the step that a file describes; its exit code."""
    follow_parent()
    spec = json.loads(file.read_text())
    try:
        seed(spec["seed"])
        if spec["step"] == "train" and os.environ.get("STEAD_JOURNAL"):
            sdk.current()  # console and machine are recorded without asking
        STEPS[spec["step"]](spec)
    except SteadError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    except Exception as error:
        traceback.print_exc()
        print(f"error: {type(error).__name__}: {error}{_place(error, spec['code'])}", file=sys.stderr)
        if isinstance(error, ModuleNotFoundError):
            print("hint: add its library to requirements in stead.toml", file=sys.stderr)
        return 1
    return 0


def _place(error: Exception, code: str) -> str:
    """Where in the project's own code it happened."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(code)]
    return f" ({Path(own[-1].filename).relative_to(code)}, line {own[-1].lineno})" if own else ""


def follow_parent() -> None:
    """End this process when the one that started it ends, however it ends: its pipe then reads as empty."""
    number = os.environ.pop("STEAD_ALIVE_FD", "")
    if not number:
        return

    def watch() -> None:
        os.read(int(number), 1)
        os._exit(70)

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()


def describe(spec: dict[str, Any]) -> None:
    """Which of the functions the project's file has."""
    module = _module(spec)
    names = [name for name in ("ingest", "features", "train", "evaluate") if callable(getattr(module, name, None))]
    if "train" not in names:
        raise InvalidInput(
            "train-missing",
            f"{spec['entry']} has no function train(X, y)",
            hint="def train(X, y): return a fitted model",
        )
    Path(spec["outputs"]["functions"]).write_text(json.dumps(names))


def ingest(spec: dict[str, Any]) -> None:
    """Call `ingest(since, until)` and check what came."""
    import pandas as pd

    since, until = (
        datetime.fromtimestamp(spec["params"][k] / 1000, UTC).replace(tzinfo=None) for k in ("since", "until")
    )
    frame = _module(spec).ingest(since, until)
    if not isinstance(frame, pd.DataFrame):
        raise InvalidInput("ingest-invalid", f"ingest gave {type(frame).__name__}, not a pandas DataFrame")
    for column in filter(None, (spec["target"], spec["time"])):
        if column not in frame.columns:
            raise InvalidInput(
                "ingest-column",
                f"ingest gave no column {column!r}",
                hint=f"it gave {', '.join(map(str, frame.columns))}",
            )
    if spec["time"]:
        times = _times(frame, spec["time"])
        outside = (times < since) | (times >= until)
        if outside.any():
            raise InvalidInput(
                "ingest-range",
                f"ingest({since}, {until}) gave {int(outside.sum())} rows outside, the first at {times[outside].iloc[0]}",
            )
        frame = frame.sort_values(spec["time"], kind="stable")
    told = f"{len(frame)} rows before {until}"
    if spec["time"] and len(frame):
        told = f"{len(frame)} rows from {times.min()} to {times.max()}"
    print(told)
    frame.reset_index(drop=True).to_parquet(spec["outputs"]["rows"], index=False)


def features(spec: dict[str, Any]) -> None:
    """Raw rows to what the model learns from."""
    import pandas as pd

    raw = _rows(spec)
    module = _module(spec)
    target = raw[spec["target"]]
    inputs = raw.drop(columns=[spec["target"]])
    made = (
        module.features(inputs.copy())
        if hasattr(module, "features")
        else inputs.drop(columns=[spec["time"]] if spec["time"] else [])
    )
    if not isinstance(made, pd.DataFrame) or len(made) != len(raw):
        raise InvalidInput(
            "features-invalid", f"features must give a DataFrame with a row for each of the {len(raw)} raw rows"
        )
    if spec["target"] in made.columns:
        raise InvalidInput("features-leak", f"features gave the target {spec['target']!r} as a feature")
    made = made.reset_index(drop=True)
    made.columns = [str(column) for column in made.columns]
    print(f"{len(made)} rows, {len(made.columns)} features: {', '.join(made.columns)}")
    made.to_parquet(spec["outputs"]["features"], index=False)
    target.reset_index(drop=True).to_frame("target").to_parquet(spec["outputs"]["target"], index=False)


def evaluate(spec: dict[str, Any]) -> None:
    """Fit twins without a part of the rows and predict that part: the last 28 days, a random fifth, the last fifth in time.

    The last 28 days are what a version is judged on against the champion, and where the parameter `window` (ms) begins a
    shorter window, what the window is chosen by; with `only` there is no choice. The random fifth tells how well the model fits a world that stands still,
    the last fifth what to expect after today.
    """
    import numpy as np
    import pandas as pd

    module = _module(spec)
    recent, window = _recent(spec, module)
    given = spec["params"].get("window") if spec["params"].get("only") else None
    since = window["since"] if window else given
    X, y = _learning(spec, since)
    times = _times(_rows(spec, since), spec["time"]) if spec["time"] else None
    n = len(X)
    held = max(1, int(n * HOLDOUT))
    splits = {"random": np.sort(np.random.default_rng(SEED).permutation(n)[:held])}
    if times is not None:
        splits["time"] = np.arange(n - held, n)
    pieces: list[Any] = []
    further: dict[str, float] = {}
    for name, test in splits.items():
        rest = np.setdiff1d(np.arange(n), test)
        model = _fit(spec, module, X, y, _ordered(spec, rest, since))
        pieces.append(_judged(spec, name, model, X, y, times, test))
        if hasattr(module, "evaluate"):
            seen = X.iloc[test].reset_index(drop=True)
            figures = module.evaluate(model, seen, y.iloc[test].reset_index(drop=True))
            further |= {f"{key}_{name}": float(value) for key, value in figures.items()}
        print(f"{name} hold-out: {len(rest)} rows to learn from, {len(test)} to judge on")
    pieces += [] if recent is None else [recent]
    pd.concat(pieces).reset_index(drop=True).to_parquet(spec["outputs"]["holdouts"], index=False)
    Path(spec["outputs"]["figures"]).write_text(json.dumps(further))
    Path(spec["outputs"]["window"]).write_text(json.dumps(window))


def _recent(spec: dict[str, Any], module: Any) -> tuple[Any, dict[str, Any] | None]:
    """What a twin that has not seen the last 28 days says of them, and the window that was chosen by it, where there is a choice.

    The shorter window is the rule; all rows where they are better by 2 % or more. Its twin learns from as many days, 28 earlier: a
    window cut at its end only would lack the season that it is judged on, and pass for worse than any champion.
    """
    import numpy as np

    from stead.stats.losses import row_losses

    if not spec["time"]:
        return None, None
    X, y = _learning(spec, None)
    times = _times(_rows(spec, None), spec["time"])
    before = times.max() - timedelta(days=RECENT_DAYS)
    if before - times.min() < timedelta(days=RECENT_DAYS - 1):
        return None, None
    test = np.flatnonzero(times > before)
    short, only = spec["params"].get("window"), spec["params"].get("only", False)
    twins: dict[str, Any] = {}
    losses: dict[str, float] = {}
    for name, start in ([] if only else [("all", None)]) + ([("window", short)] if short else []):
        rest = np.flatnonzero((times <= before) & (_ms(times) >= start - RECENT_MS if start is not None else True))
        if len(rest) < LEAST_ROWS:
            continue
        twins[name] = _judged(spec, "recent", _fit(spec, module, X, y, _ordered(spec, rest)), X, y, times, test)
        loss, weight = row_losses(spec["loss"], list(twins[name]["prediction"]), list(twins[name]["target"]))
        losses[name] = float(loss.sum() / weight.sum()) if weight.sum() else float("nan")
        print(f"last {RECENT_DAYS} days, learned from {name}: {len(rest)} rows to learn from, {len(test)} to judge on")
    if "window" not in twins:
        return twins.get("all"), None
    chosen = "all" if not only and losses["all"] <= losses["window"] * (1 - ALL_BETTER) else "window"
    window = {"chosen": chosen, "since": short if chosen == "window" else None, "losses": losses}
    print(f"learns from {chosen}: " + ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items()))
    found = twins[chosen]
    if window["since"] is not None:  # rows are counted from where the window begins
        found["row"] -= int((_ms(times) < window["since"]).sum())
    return found, window


def _fit(spec: dict[str, Any], module: Any, X: Any, y: Any, order: Any) -> Any:
    """What `train` makes of the rows at the places `order`; of all as they are where it is None."""
    seed(spec["seed"])
    if order is not None:
        X, y = X.iloc[order].reset_index(drop=True), y.iloc[order].reset_index(drop=True)
    return module.train(X, y)


def _ordered(spec: dict[str, Any], rest: Any, since: int | None = None) -> Any:
    """Places of rows, which are in the order of their time, in the order in which `train` is to have them.

    With `since` they are counted from the first row at or after that time.
    """
    import numpy as np

    if spec["order"] == "shuffled":
        return np.random.default_rng(spec["seed"]).permutation(rest)
    if "order" not in spec["inputs"]:
        return rest
    stored = np.load(spec["inputs"]["order"])
    if since is not None:
        stored = stored[(_ms(_times(_rows(spec), spec["time"])) >= since).to_numpy()]
    return rest[np.argsort(stored[rest])]


def _judged(spec: dict[str, Any], split: str, model: Any, X: Any, y: Any, times: Any, test: Any) -> Any:
    """Truth and prediction of rows that a model has not seen, with the place of each among the rows."""
    import numpy as np
    import pandas as pd

    predicted = _predict(model, X.iloc[test].reset_index(drop=True), spec["loss"])
    piece = pd.DataFrame({"split": split, "row": test, "target": np.asarray(y.iloc[test]), "prediction": predicted})
    if times is not None:
        piece["time"] = times.iloc[test].to_numpy()
    return piece


def train(spec: dict[str, Any]) -> None:
    """Fit on all rows and save the model, with its code, signature, input example and golden rows."""
    import numpy as np

    from stead.runtime.formats import save

    since = spec["params"].get("since")
    X, y = _learning(spec, since)
    module = _module(spec)
    every = np.arange(len(X))
    order = _ordered(spec, every, since)
    model = _fit(spec, module, X, y, None if order is every else order)
    learned = _rows(spec, since)
    raw = learned.drop(columns=[spec["target"]])
    chosen = np.unique(np.linspace(0, len(raw) - 1, min(GOLDEN_ROWS, len(raw))).astype(int))
    golden = raw.iloc[chosen].reset_index(drop=True)
    code = [Path(spec["code"]) / name for name in spec["files"]]
    has_features = hasattr(module, "features")
    info = save(
        model,
        Path(spec["outputs"]["model"]),
        input_example=golden.head(1) if has_features else X.head(1),
        predict_fn="predict_proba" if spec["loss"] in ("log_loss", "brier") else "predict",
        code=code if has_features else (),
        code_root=Path(spec["code"]),
        training=raw if has_features else X,
        features=f"{spec['module']}:features" if has_features else None,
        golden_rows=golden if has_features else X.iloc[chosen].reset_index(drop=True),
    )
    info["seconds_per_1000"] = _seconds(Path(spec["outputs"]["model"]), (raw if has_features else X).tail(TIMED_ROWS))
    asked = {"seed": str(spec["seed"])} | ({"order": spec["order"]} if spec["order"] != "time" else {})
    info["facts"] = asked | computing.rows(learned.iloc[order]) | computing.facts()
    Path(spec["outputs"]["info"]).write_text(json.dumps(info, default=str))
    print(f"trained on {len(X)} rows")


def _seconds(folder: Path, rows: Any) -> float:
    """How long the saved model takes to answer 1,000 rows, the best of three: what else the machine does is not the model's.

    The first answer, which loads what is needed, is not counted.
    """
    from stead.runtime.formats import load

    predictor = load(folder)
    columns = {name: _plain(rows[name]) for name in rows.columns}
    predictor.predict(predictor.check({name: values[:1] for name, values in columns.items()}))
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        predictor.predict(predictor.check(columns))
        took.append(time.perf_counter() - begun)
    return min(took) * 1000 / len(rows)


def predict(spec: dict[str, Any]) -> None:
    """Answers of a stored model to raw rows, for comparing versions on the same rows."""
    import numpy as np
    import pandas as pd

    from stead.runtime.formats import load

    raw = _rows(spec)
    inputs = raw.drop(columns=[spec["target"]])
    predictor = load(Path(spec["inputs"]["model"]))
    columns = {name: _plain(inputs[name]) for name in inputs.columns}
    answers = np.asarray(predictor.predict(predictor.check(columns)))
    if answers.ndim == 2 and answers.shape[1] == 2:
        answers = answers[:, 1]
    pd.DataFrame({"prediction": answers}).to_parquet(spec["outputs"]["predictions"], index=False)


def convert(spec: dict[str, Any]) -> None:
    """A stored model in ONNX, or the reason why there is none."""
    from stead.runtime.formats import converting

    target = Path(spec["outputs"]["model"])
    target.mkdir()
    try:
        told = converting.convert(Path(spec["inputs"]["model"]), target)
    except InvalidInput as error:
        told = {"unable": error.message}
    Path(spec["outputs"]["told"]).write_text(json.dumps(told))


def backtest(spec: dict[str, Any]) -> None:
    """At each start fit on the rows whose labels were known by then, and predict until the next; beside it the first fit to the end."""
    import numpy as np
    import pandas as pd

    module, params = _module(spec), spec["params"]
    X, y = _learning(spec)
    ms = _ms(_times(_rows(spec), spec["time"])).to_numpy()
    starts, window = params["starts"], params["window"]
    first, pieces = None, []
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], params["until"]], strict=True), 1):
        known = ms < start - params["delay"]
        if window:
            known &= ms >= start - window
        rest, test = np.flatnonzero(known), np.flatnonzero((ms >= start) & (ms < end))
        if len(rest) < LEAST_ROWS:
            raise InvalidInput(
                "too-few-rows",
                f"{len(rest)} rows before {_iso(start)} are too few to train on",
                hint="a later --since, or a longer --window",
            )
        model = _fit(spec, module, X, y, _ordered(spec, rest))
        first = model if first is None else first
        print(f"{number} of {len(starts)}: {_iso(start)}, {len(rest)} rows to learn from, {len(test)} to predict")
        if len(test):
            seen = X.iloc[test].reset_index(drop=True)
            piece = {"time": ms[test], "target": np.asarray(y.iloc[test])}
            again = _predict(model, seen, spec["loss"])
            once = again if model is first else _predict(first, seen, spec["loss"])
            pieces.append(pd.DataFrame(piece | {"once": once, "again": again}))
    pd.concat(pieces).to_parquet(spec["outputs"]["answers"], index=False)


STEPS: dict[str, Callable[[dict[str, Any]], None]] = {
    "describe": describe,
    "ingest": ingest,
    "features": features,
    "evaluate": evaluate,
    "train": train,
    "predict": predict,
    "backtest": backtest,
    "convert": convert,
}


def _module(spec: dict[str, Any]) -> Any:
    if spec["code"] not in sys.path:
        sys.path.insert(0, spec["code"])
    with loading.quick():
        return importlib.import_module(spec["module"])


@cache
def _table(path: str) -> Any:
    """An input, read once: it is nobody's to change."""
    import pandas as pd

    return pd.read_parquet(path)


def _rows(spec: dict[str, Any], since: int | None = None) -> Any:
    """Raw rows; with `since` those at or after that time."""
    raw = _table(spec["inputs"]["rows"])
    return raw if since is None else raw[_ms(_times(raw, spec["time"])) >= since].reset_index(drop=True)


def _learning(spec: dict[str, Any], since: int | None = None) -> tuple[Any, Any]:
    """Features and target; with `since` those of the rows at or after that time."""
    X, y = _table(spec["inputs"]["features"]), _table(spec["inputs"]["target"])["target"]
    if since is not None:
        kept = (_ms(_times(_rows(spec), spec["time"])) >= since).to_numpy()
        X, y = X[kept].reset_index(drop=True), y[kept].reset_index(drop=True)
    if len(X) < LEAST_ROWS:
        raise InvalidInput(
            "too-few-rows",
            f"{len(X)} rows are too few to train and judge a model",
            hint="stead data show; --since and --until",
        )
    if y.isna().any():
        raise InvalidInput(
            "target-null",
            f"the target {spec['target']!r} is empty in {int(y.isna().sum())} rows",
            hint="drop them in ingest",
        )
    return X, y


def _predict(model: Any, X: Any, loss: str) -> Any:
    import numpy as np

    if "torch" in sys.modules and isinstance(model, sys.modules["torch"].nn.Module) and not hasattr(model, "predict"):
        from stead.runtime.formats.reading import torch_caller
        from stead.runtime.formats.writing import tensor_type

        answers = np.asarray(torch_caller(model.eval(), {"tensor": tensor_type(model)})(X))
        return answers[:, 1] if answers.ndim == 2 and answers.shape[1] == 2 else answers
    if loss in ("log_loss", "brier"):
        answers = np.asarray(model.predict_proba(X))
        return answers[:, 1] if answers.ndim == 2 and answers.shape[1] == 2 else list(answers)
    return np.asarray(model.predict(X))


def _times(frame: Any, column: str) -> Any:
    import pandas as pd

    whole = frame[column].dtype.kind in "iu"  # as everywhere in stead: milliseconds
    times = pd.to_datetime(frame[column], unit="ms" if whole else None)
    return times.dt.tz_convert("UTC").dt.tz_localize(None) if times.dt.tz is not None else times


def _ms(times: Any) -> Any:
    return times.astype("datetime64[ms]").astype("int64")


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def _plain(series: Any) -> list[Any]:
    """A column as JSON would carry it."""
    if getattr(series.dtype, "kind", "") == "M" or str(series.dtype).startswith("datetime"):
        return [None if value is None or value != value else value.isoformat() for value in series]
    return [None if value != value else value for value in series.tolist()]


if __name__ == "__main__":
    if sys.argv[2:] == [FOLLOW]:
        os.environ["STEAD_ALIVE_FD"] = "0"
    code = run(Path(sys.argv[1]))
    gc.freeze()  # as in `runtime.host`: what was loaded is not looked through once more
    sys.exit(code)
