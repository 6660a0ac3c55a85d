"""Making a version again from what was recorded of it, and a verdict: is it the same?

Environment, data and code are those of its training; every step is run, none is taken from the results of earlier ones. Held against one another
are the answers to the golden rows, which were stored when the version was trained, and the losses of the hold-outs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from stead import datasets, environments, jobs, models
from stead.errors import NotFound, SteadError
from stead.jobs import Keeper
from stead.pipelines.steps import restore
from stead.pipelines.tables import reproductions as table
from stead.pipelines.training import Training, workshop
from stead.pipelines.types import Reproduction, Spec
from stead.runtime.clock import now_ms
from stead.store import Store, checked_limit, from_row

TOLERANCE = 1e-12
"""Relative: sums in another order, by another number of threads or another processor, move a double by less."""
GOLDEN = "stead/golden.json"
TOLERANCES = {"pytorch": 1e-6}
"""By flavour, where it computes in single precision."""
SAME = ("MLmodel", "input_example.json", "serving_input_example.json")
"""Files beside the model that tell when and of which run it is."""


def reproduce(store: Store, ref: str) -> jobs.Job:
    """Queue making a version (`demand@3`) again, to see whether the same comes out.

    Raises NotFound (`reproduce-missing`) and names all that it needs and that is not there, before anything runs; NotFound where there is no such version.
    """
    version = models.get_version(store, ref)
    logged = models.get_logged_model(store, version.logged_model)
    if missing := list(_missing(store, logged)):
        raise NotFound(
            "reproduce-missing",
            f"{version.ref} cannot be made again: {'; '.join(missing)}",
            hint="restore what is missing from a backup: stead restore",
        )
    payload = {"model": version.model, "version": version.version}
    timeout_s = _training(store, logged).timeout_s
    return jobs.enqueue(store, "reproduce", payload, model=version.model, timeout_s=timeout_s)


def _missing(store: Store, logged: models.LoggedModel) -> Iterator[str]:
    """What a training would need and is not there."""
    try:
        spec = _spec(_training(store, logged))
    except NotFound as error:
        yield error.message
        return
    for path, digest in spec.files.items():
        if not store.blobs.has(digest):
            yield f"the bytes of its code {path} are gone"
    ref = str((logged.info.get("trained_on") or {}).get("dataset") or "")
    try:
        version = datasets.get_version(store, ref, with_parts=True)
        gone = [part.path for part in version.part_list if not store.blobs.has(part.digest)]
        if gone:
            yield f"parts of {ref} are gone: {', '.join(gone[:5])}"
    except SteadError as error:
        yield f"its data {ref or 'was not recorded'}: {error.message}"
    try:
        environment = environments.get(store, logged.environment)
        if not store.blobs.has(environment.lock):
            yield f"the lock {environment.digest[:12]} is gone"
        elif environments.made(store, environment.digest) is None:
            for name, why in environments.unobtainable(store, environment).items():
                yield f"the package {name} {why}"
    except SteadError as error:
        yield f"its environment: {error.message}"
    if GOLDEN not in logged.files:
        yield "no golden rows were stored with it"


def _training(store: Store, logged: models.LoggedModel) -> jobs.Job:
    """The job that made a version, whose payload is its recipe. Raises NotFound (`recipe-missing`)."""
    said = NotFound("recipe-missing", "stead did not train it, so its recipe is not recorded", hint="stead train MODEL")
    if logged.run_id is None:
        raise said
    try:
        job = jobs.get_job(store, logged.run_id)
    except NotFound:
        raise said from None
    if job.kind != "train":
        raise said
    return job


def _spec(training: jobs.Job) -> Spec:
    return msgspec.convert(training.payload["spec"], Spec)


def run_reproduction(store: Store, keeper: Keeper, *, allow: Sequence[str] = ()) -> dict[str, Any]:
    """The handler of `reproduce` jobs: the result is a `Reproduction`, which is kept with the version."""
    payload = keeper.job.payload
    version = models.get_version(store, f"{payload['model']}@{payload['version']}")
    logged = models.get_logged_model(store, version.logged_model)
    job, learned = _training(store, logged), logged.info["trained_on"]
    spec, since = _spec(job), job.payload["since"]  # the window is chosen again
    data = datasets.get_version(store, str(learned["dataset"]))
    keeper.report("creating the environment", 1, 8)
    training = Training(store, keeper, spec, None, allow, ())
    with workshop(store, keeper, spec, logged.environment, allow, None) as shop:
        made = training.fit(shop, data, since, learned["until"], cache=False)
        again = shop.folder / "again"
        restore(store, made.trained["model"], again)
        info = msgspec.json.decode(store.blobs.get(made.trained["info"]))
        then = msgspec.json.decode(store.blobs.get(logged.files[GOLDEN].digest))
        now = msgspec.json.decode((again / GOLDEN).read_bytes())
        files = msgspec.json.decode(store.blobs.get(made.trained["model"]))
    keeper.report("comparing", 7, 8)
    metrics = {name: [logged.metrics.get(name), value] for name, value in made.metrics.items()}
    apart = {
        "golden rows": furthest(then["outputs"], now["outputs"]),
        "features of golden rows": furthest(then["features"], now["features"]),
        **{name: furthest(*pair) for name, pair in metrics.items()},
    }
    worst = max(apart, key=lambda name: apart[name])
    difference = apart[worst]
    differing = sorted(
        name for name, (digest, _) in files.items()
        if name not in SAME and (name not in logged.files or logged.files[name].digest != digest)
    )  # fmt: skip
    evidence = {
        "metrics": metrics,
        "apart": {name: _told(value) for name, value in apart.items() if value},
        "furthest": worst if difference else None,
        "rows": len(then["outputs"]),
        "data": data.ref,
        "same_rows": made.rows == (logged.info.get("judged_on") or {}).get("rows"),
        "files": differing,
        "environment": logged.environment,
        "python": [then.get("python"), now.get("python")],
        "facts": apart_in(logged.info.get("facts") or {}, info.get("facts") or {}),
    }
    tolerance = TOLERANCES.get(logged.flavor, TOLERANCE)
    verdict = "identical" if not difference else "tolerance" if difference <= tolerance else "different"
    values = {
        "model": version.model, "version": version.version, "verdict": verdict, "difference": _told(difference), "tolerance": tolerance,
        "evidence": evidence, "job": keeper.job.id, "by": keeper.job.requested_by, "at": now_ms(),
    }  # fmt: skip
    with keeper.write("pipelines.reproduce") as tx:
        store.db.upsert(tx, table, values, ["job"], update=[])  # a second attempt of the job says nothing twice
    known = list_reproductions(store, version.model, version=version.version)
    found = next(each for each in known if each.job == keeper.job.id)
    keeper.report(f"{version.ref} made again: {found.said}", 8, 8)
    return dict(msgspec.to_builtins(found)) | {"said": found.said}


def list_reproductions(
    store: Store, model: str | None = None, *, version: int | None = None, limit: int = 50
) -> list[Reproduction]:
    """How versions that were made again compared with themselves, newest first. Raises InvalidInput (`limit-invalid`)."""
    query = sa.select(table).order_by(table.c.id.desc()).limit(checked_limit(limit))
    if model is not None:
        query = query.where(table.c.model == model)
    if version is not None:
        query = query.where(table.c.version == version)
    with store.db.read() as tx:
        return [from_row(row, Reproduction) for row in tx.execute(query).mappings()]


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


def _told(value: float) -> float | None:
    """JSON has no infinity: None is a difference that no number tells."""
    return value if math.isfinite(value) else None
