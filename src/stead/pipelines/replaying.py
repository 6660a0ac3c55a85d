"""Running a recipe, whatever was computed before, and holding what comes out against a model that was made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from stead import datasets, environments, models
from stead.jobs import Keeper
from stead.pipelines.recipes import GOLDEN, Recipe
from stead.pipelines.training import Fitted, Training, workshop
from stead.store import Store

TOLERANCE = 1e-12
"""Relative: sums in another order, by another number of threads or another processor, move a double by less."""
TOLERANCES = {"pytorch": 1e-6}
"""By flavour, where it computes in single precision."""
SAME = ("MLmodel", "input_example.json", "serving_input_example.json")
"""Files beside the model that tell when and of which run it is."""


@dataclass(frozen=True)
class Replayed:
    """What came out."""

    fitted: Fitted
    files: dict[str, str]
    """Path → blob of the model's folder."""
    info: dict[str, Any]
    golden: dict[str, Any]
    environment: str


def replay(
    store: Store,
    keeper: Keeper,
    recipe: Recipe,
    *,
    allow: Sequence[str],
    run_id: str | None = None,
    judge: bool = True,
) -> Replayed:
    """Run every step of a recipe, taking nothing from earlier results; without `judge` no hold-outs are made."""
    spec, environment = recipe.spec, recipe.environment
    if recipe.packages:
        environment = environments.mixed(store, environment, recipe.packages_of, recipe.packages).digest
    data = datasets.get_version(store, recipe.data)
    training = Training(store, keeper, spec, run_id, allow, ())
    as_there = replace(spec, train_env=spec.train_env | dict(recipe.machine))
    with workshop(store, keeper, as_there, environment, allow, run_id) as shop:
        made = training.fit(shop, data, recipe.since, recipe.until, cache=False, judge=judge)
    folder = msgspec.json.decode(store.blobs.get(made.trained["model"]))
    files = {name: str(digest) for name, (digest, _) in folder.items()}
    golden = msgspec.json.decode(store.blobs.get(files[GOLDEN]))
    info = msgspec.json.decode(store.blobs.get(made.trained["info"]))
    return Replayed(made, files, info, golden, environment)


def tolerance_of(logged: models.LoggedModel) -> float:
    """How far answers may be apart, relative, to count as within tolerance."""
    return TOLERANCES.get(logged.flavor, TOLERANCE)


def verdict_of(difference: float, tolerance: float) -> str:
    return "identical" if not difference else "tolerance" if difference <= tolerance else "different"


def held_against(store: Store, logged: models.LoggedModel, replayed: Replayed) -> dict[str, float]:
    """By what was compared (golden rows, their features, losses of hold-outs) the largest relative difference."""
    then = msgspec.json.decode(store.blobs.get(logged.files[GOLDEN].digest))
    now, metrics = replayed.golden, replayed.fitted.metrics
    return {
        "golden rows": furthest(then["outputs"], now["outputs"]),
        "features of golden rows": furthest(then["features"], now["features"]),
        **{name: furthest(logged.metrics.get(name), value) for name, value in metrics.items()},
    }


def evidence_of(logged: models.LoggedModel, replayed: Replayed, apart: Mapping[str, float]) -> dict[str, Any]:
    """What is kept with a verdict."""
    worst = max(apart, key=lambda name: apart[name])
    differing = sorted(
        name
        for name, digest in replayed.files.items()
        if name not in SAME and (name not in logged.files or logged.files[name].digest != digest)
    )
    return {
        "metrics": {name: [logged.metrics.get(name), value] for name, value in replayed.fitted.metrics.items()},
        "apart": {name: told(value) for name, value in apart.items() if value},
        "furthest": worst if apart[worst] else None,
        "rows": len(replayed.golden["outputs"]),
        "same_rows": replayed.fitted.rows == (logged.info.get("judged_on") or {}).get("rows"),
        "files": differing,
        "environment": replayed.environment,
        "python": [logged.info.get("python"), replayed.info.get("python")],
        "facts": apart_in(logged.info.get("facts") or {}, replayed.info.get("facts") or {}),
    }


def apart_in(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, list[str | None]]:
    """Recorded facts that are not so now, each with both values; nothing where none were recorded.

    >>> apart_in({"cpu": "a", "os": "x"}, {"cpu": "b", "os": "x"}), apart_in({}, {"cpu": "b"})
    ({'cpu': ['a', 'b']}, {})
    """
    names = dict.fromkeys([*then, *now]) if then else ()
    return {name: [then.get(name), now.get(name)] for name in names if then.get(name) != now.get(name)}


def furthest(then: Any, now: Any) -> float:
    """The largest relative difference of two values, lists or columns: 0 where they are the same to the last bit, infinite where they are of another kind.

    >>> furthest([1.0, 2.0], [1.0, 2.0000000002]) < 2e-10, furthest({"a": [1]}, {"b": [1]}), furthest("x", "x"), furthest(None, float("nan"))
    (True, inf, 0.0, 0.0)
    """
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        if then.keys() != now.keys():
            return math.inf
        return max((furthest(then[name], now[name]) for name in then), default=0.0)
    if isinstance(then, (list, tuple)) and isinstance(now, (list, tuple)):
        if len(then) != len(now):
            return math.inf
        return max((furthest(a, b) for a, b in zip(then, now, strict=True)), default=0.0)
    if _nothing(then) or _nothing(now):
        return 0.0 if _nothing(then) and _nothing(now) else math.inf
    if then == now and isinstance(then, bool) == isinstance(now, bool):
        return 0.0
    if isinstance(then, (str, bool)) or isinstance(now, (str, bool)):
        return math.inf
    return float(abs(then - now) / max(abs(then), abs(now)))


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def told(value: float) -> float | None:
    """JSON has no infinity: None is a difference that no number tells."""
    return value if math.isfinite(value) else None
