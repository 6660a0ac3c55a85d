"""A recorded training once more, with some of it replaced: a new run that says of which one, what was replaced, and both results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from stead import datasets, environments, jobs, models
from stead.config import ORDERS
from stead.errors import InvalidInput, NotFound
from stead.jobs import Keeper
from stead.pipelines.explaining import EXPLAINING, explain
from stead.pipelines.recipes import Recipe, must_be_there, recorded, replaced, spec_of, training_of
from stead.pipelines.replaying import evidence_of, held_against, replay, told, tolerance_of, verdict_of
from stead.pipelines.training import Training, about, lock, note
from stead.pipelines.types import Spec
from stead.runtime import journal, typed
from stead.runtime.clock import now_ms
from stead.store import Store


@dataclass(frozen=True)
class Rerun:
    """A training that was run again, beside the one that it is a rerun of."""

    of: str
    """Run that it is a rerun of."""
    run_id: str
    model: str
    """The logged model that came out; it is no version."""
    replaced: dict[str, list[str]]
    """What was given instead of what was recorded, by name: both in words."""
    metrics: dict[str, list[float | None]]
    """Recorded, and now."""
    verdict: str
    """How golden rows and losses compare: `identical`, within `tolerance`, or `different`."""
    difference: float | None
    tolerance: float
    evidence: dict[str, Any]
    explained: dict[str, Any] | None = None


def rerun(
    store: Store,
    run: str,
    *,
    data: str | None = None,
    environment: str | None = None,
    requirements: Spec | None = None,
    code: Spec | None = None,
    code_of: str | None = None,
    seed: int | None = None,
    threads: int | None = None,
    order: str | None = None,
    explain: bool = False,
) -> jobs.Job:
    """Queue a recorded training (a run, or the version that it made) once more, with what is named instead of what was recorded.

    `data` is a dataset version, all of whose rows count; `environment` a digest, or a version whose environment it is; `requirements`
    a packed project whose requirements are locked; `code` a packed project, `code_of` a version with the code. With `explain` a result that
    differs is traced to what was replaced.
    Raises NotFound (`run-unknown`, `recipe-missing`, `reproduce-missing`, …), InvalidInput (`replacement-twice`, `number-invalid`,
    `order-invalid`).
    """
    logged = made_by(store, run)
    for name, pair in {"environment": (environment, requirements), "code": (code, code_of)}.items():
        if None not in pair:
            raise InvalidInput("replacement-twice", f"two replacements of the {name} were given", hint="give one")
    for name, number, least in (("seed", seed, 0), ("threads", threads, 1)):
        if number is not None and not least <= number < 2**32:
            raise InvalidInput("number-invalid", f"{name} is {number}, and must be {least} at least")
    if order is not None and order not in ORDERS:
        raise InvalidInput("order-invalid", f"the order {order!r} is none", hint=f"one of {', '.join(ORDERS)}")
    try:
        then = recorded(store, logged)
    except NotFound as error:
        raise NotFound("recipe-missing", f"{run} cannot be trained again: {error.message}", hint=error.hint) from None
    spec = then.spec
    other = code or (spec_of(training_of(store, made_by(store, code_of))) if code_of else None)
    if other is not None:
        spec = replace(spec, files=other.files, entry=other.entry, module=other.module, git=other.git)
    if requirements is not None:
        spec = replace(
            spec,
            python=requirements.python,
            requirements=requirements.requirements,
            requirements_file=requirements.requirements_file,
            train_requirements=requirements.train_requirements,
        )
    spec = replace(
        spec,
        seed=spec.seed if seed is None else seed,
        threads=spec.threads if threads is None else threads,
        order=order or spec.order,
    )
    if environment is not None:
        known = made_by(store, environment).environment if "@" in environment else environment
        environment = environments.get(store, known).digest
    if data is not None:
        data = datasets.get_version(store, data).ref
    now = Recipe(
        spec,
        "" if requirements is not None else environment or then.environment,
        data or then.data,
        then.since,
        then.until if data is None or data == then.data else None,
    )
    must_be_there(store, f"run {logged.run_id}", logged, now)
    payload = {
        "of": logged.run_id,
        "spec": msgspec.to_builtins(spec),
        "environment": now.environment,
        "data": now.data,
        "since": now.since,
        "until": now.until,
        "explain": explain,
    }
    timeout_s = spec.timeout_s * (EXPLAINING if explain else 1)
    return jobs.enqueue(store, "rerun", payload, model=spec.model, timeout_s=timeout_s)


def made_by(store: Store, run: str) -> models.LoggedModel:
    """The model that a training made, by its run or by the version. Raises NotFound (`recipe-missing`, `model-unknown`, …)."""
    if "@" in run:
        return models.get_logged_model(store, models.get_version(store, run).logged_model)
    try:
        return models.get_logged_model(store, f"m-{run}")
    except NotFound:
        raise NotFound(
            "recipe-missing",
            f"no training of stead made a model in the run {run}",
            hint="stead runs list; or name the version: stead rerun MODEL@1",
        ) from None


def run_rerun(store: Store, keeper: Keeper, *, allow: Sequence[str] = ()) -> dict[str, Any]:
    """The handler of `rerun` jobs: the result is a `Rerun`."""
    run_id = keeper.job.id
    try:
        return _run(store, keeper, run_id, allow)
    except BaseException as error:
        how = "killed" if isinstance(error, jobs.JobCancelled) else "failed"
        note(store, run_id, "failed", journal.Ended(now_ms(), how, str(error)))
        raise


def _run(store: Store, keeper: Keeper, run_id: str, allow: Sequence[str]) -> dict[str, Any]:
    payload = keeper.job.payload
    spec = typed.convert(payload["spec"], Spec)
    logged = made_by(store, payload["of"])
    then = recorded(store, logged)
    training = Training(store, keeper, spec, run_id, allow, ())
    training.start("rerun", rerun_of=payload["of"])
    keeper.report("locking the environment", 0, 8)
    digest = payload["environment"] or lock(store, spec, spec.train_requirements).digest
    now = Recipe(spec, digest, payload["data"], payload["since"], payload["until"])
    instead = replaced(then, now)
    words = {f"replaced.{name}": f"{was} → {found}" for name, (was, found) in instead.items()}
    note(store, run_id, "environment", journal.Facts(now_ms(), {}, digest), journal.Tags(now_ms(), words))
    keeper.report("creating the environment", 1, 8)
    replayed = replay(store, keeper, now, allow=allow, run_id=run_id)
    made = replayed.fitted
    learned = {"dataset": now.data, "since": made.since, "until": now.until}
    kept = training.log(made.trained, made.metrics, digest, about(spec, made, learned))
    keeper.report("comparing", 7, 8)
    apart = held_against(store, logged, replayed)
    difference, tolerance = max(apart.values()), tolerance_of(logged)
    explained = None
    if payload["explain"] and difference:
        found = explain(store, keeper, logged, then, now, replayed, allow=allow)
        explained = msgspec.to_builtins(found) | {"said": found.said}
    evidence = evidence_of(logged, replayed, apart)
    result = Rerun(
        of=payload["of"],
        run_id=run_id,
        model=kept.id,
        replaced=instead,
        metrics=evidence.pop("metrics"),
        verdict=verdict_of(difference, tolerance),
        difference=told(difference),
        tolerance=tolerance,
        evidence=evidence,
        explained=explained,
    )
    note(store, run_id, "end", journal.Ended(now_ms(), "finished"))
    keeper.report(f"run again: {result.verdict}", 8, 8)
    return dict(msgspec.to_builtins(result))
