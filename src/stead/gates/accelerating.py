"""A version in ONNX beside the version itself, on the same rows: used where it answers the same, and sooner."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stead import environments, jobs, models, predictions, serving
from stead.errors import InvalidInput, SteadError, Unreachable
from stead.gates.golden import compare_golden
from stead.gates.parity import as_rows
from stead.gates.types import Verdict
from stead.jobs import Keeper
from stead.models import LoggedModel, ModelFile, Version
from stead.pipelines.steps import Workshop
from stead.pipelines.types import Subject
from stead.runtime.clock import now_ms
from stead.runtime.formats.converting import CONVERTERS, RELATIVE
from stead.runtime.formats.sameness import near
from stead.serving import FastPath
from stead.serving.trial import Trial
from stead.store import Store

WORTH = 1.2
"""A fast path is used where a request of one row is answered so many times sooner, through the worker and back."""
LOGGED_ROWS = 200
TIMES = 200
ROUND = 20
BATCH = 32
SECONDS = 2.0
WORKER_MS, ONNX_MS = 0.15, 0.02
"""What a request costs in a worker beside features and model, and what a small model in ONNX costs, by order of magnitude."""
SETTLED_MS = 600_000
"""So long a route stays as it is before stead looks for a fast path by itself: then there are requests to compare with."""


def accelerate(store: Store, ref: str) -> jobs.Job:
    """Queue the search for a version's fast path; where it holds, it is taken by what serves the version now, or next.

    Raises NotFound (`model-unknown`, `version-unknown`).
    """
    version = models.get_version(store, ref)
    return jobs.enqueue(store, "accelerate", _payload(version), **_wish(version))


def accelerate_idle(store: Store, *, settled_ms: int = SETTLED_MS) -> jobs.Job | None:
    """Queue the same for a version that answers since some minutes, when nothing else is to be done and it promises something.

    None where there is no such version, see `wanted`.
    """
    if jobs.open_jobs(store):
        return None
    for route in serving.list_routes(store):
        if now_ms() - route.updated_at < settled_ms:
            continue
        for arm in route.arms:
            if (version := wanted(store, route.model, arm.version)) is not None:
                return jobs.enqueue(store, "accelerate", _payload(version), **_wish(version, priority=-10))
    return None


def wanted(store: Store, model: str, version: int) -> Version | None:
    """A version whose fast path is worth a look; None where it was tried before, `fast = false` is said of the model, by what
    was measured when it was saved it can gain nothing, or a replay holds the model's clock: nobody waits for its answers."""
    found = models.get_version(store, f"{model}@{version}")
    logged = models.get_logged_model(store, found.logged_model)
    refused = models.get_model(store, model).settings.get("fast") is False or found.serving_image
    if refused or not promises(logged):
        return None
    if serving.get_fast_path(store, model, version) is not None or jobs.held_at(store, model) is not None:
        return None
    return found


def _payload(version: Version) -> dict[str, Any]:
    return {"model": version.model, "version": version.version}


def _wish(version: Version, priority: int = 0) -> jobs.Wish:
    return {"model": version.model, "key": f"accelerate:{version.ref}", "priority": priority}


def promises(logged: LoggedModel) -> bool:
    """Whether the model itself, not its features, takes so much of an answer that a quicker one would be noticed."""
    took = logged.info.get("alone_ms")
    if logged.flavor not in CONVERTERS or not took:
        return False
    whole, features = float(took["whole"]), float(took["features"])
    return (whole + WORKER_MS) / (features + ONNX_MS + WORKER_MS) >= WORTH


def run_accelerate(store: Store, keeper: Keeper, *, allow: Sequence[str] = ()) -> dict[str, Any]:
    """The handler of `accelerate` jobs: convert, compare, time, and write down what came out."""
    payload = keeper.job.payload
    version = models.get_version(store, f"{payload['model']}@{payload['version']}")
    path = _Search(store, keeper, version, allow).path()
    with keeper.write("serving.fast") as tx:
        serving.keep_fast_path(store, tx, path)
        taken = serving.may_be_fast(tx, version.model, version.version)
        if taken or path.state != serving.READY:
            serving.set_fast_in(store, tx, version.model, version.version, taken)
    keeper.report(f"{version.ref}: {path.said}", 4, 4)
    return {"state": path.state, "said": path.said, "evidence": path.evidence}


class _Search:
    """The steps of one search; each ends it where it finds what is in the way."""

    def __init__(self, store: Store, keeper: Keeper, version: Version, allow: Sequence[str]) -> None:
        self.store = store
        self.keeper = keeper
        self.version = version
        self.allow = allow
        self.logged = models.get_logged_model(store, version.logged_model)

    def path(self) -> FastPath:
        if self.logged.flavor not in CONVERTERS:
            return self._end("unconvertible", f"a model of {self.logged.flavor} has no other form")
        if self.version.serving_image:
            return self._end("unconvertible", "it serves from containers of its image")
        if "stead/golden.json" not in self.logged.files:
            return self._end("unconvertible", "it was saved without rows to compare")
        try:
            told, files = self._convert()
            if "unable" in told:
                return self._end("unconvertible", str(told["unable"]))
            self.keeper.report("its environment", 2, 4)
            lines = [f"{name}=={number}" for name, number in told["requires"].items()]
            environment = environments.lock(self.store, lines, python=self._python).digest
            self.keeper.report("comparing both on the same rows", 3, 4)
            return self._compare(environment, files, told)
        except Unreachable:
            raise
        except InvalidInput as error:  # no versions fit, or a request that only one of them takes
            return self._end("unconvertible", error.message)

    @property
    def _python(self) -> str:
        return environments.get(self.store, self.logged.environment).python

    def _convert(self) -> tuple[dict[str, Any], dict[str, ModelFile]]:
        """The model in ONNX, made where its libraries are, with the converters beside them."""
        self.keeper.report("converters beside the model's libraries", 0, 4)
        locked = environments.get(self.store, self.logged.environment).packages
        libraries = {n: locked.get(n, number) for n, number in (self.logged.info.get("libraries") or {}).items()}
        lines = [f"{name}=={number}" for name, number in libraries.items()]
        lines += [name for name in CONVERTERS[self.logged.flavor] if name not in libraries]
        environment = environments.lock(self.store, lines, python=self._python).digest
        variables = self.logged.info.get("train_env", {})
        subject = Subject("", None, "")
        with Workshop(
            self.store,
            self.keeper,
            subject,
            environment=environment,
            variables=variables,
            allow=self.allow,
            run_id=None,
        ) as shop:
            self.keeper.report("converting", 1, 4)
            made = shop.run(
                "convert",
                folders={"model": models.materialise(self.store, self.logged.id)},
                outputs=["model", "told"],
                params={"model": self.logged.id},
            ).digests
        told: dict[str, Any] = msgspec.json.decode(self.store.blobs.get(made["told"]))
        files = msgspec.json.decode(self.store.blobs.get(made["model"]), type=dict[str, tuple[str, int]])
        return told, {name: ModelFile(*file) for name, file in files.items()}

    def _compare(self, environment: str, files: dict[str, ModelFile], told: Mapping[str, Any]) -> FastPath:
        usual = serving.usual(self.store, self.version.model, self.version.version)
        fast = serving.place(self.store, environment, files, self.version, key="fast")
        golden = msgspec.json.decode(self.store.blobs.get(self.logged.files["stead/golden.json"].digest))
        trial = {"allow": self.allow, "limits": self.keeper.limits}
        with Trial(self.store, usual, **trial) as before, Trial(self.store, fast, **trial) as after:  # type: ignore[arg-type]
            rows = as_rows(golden["inputs"])
            logged = self._logged(before)
            evidence: dict[str, Any] = {"golden": len(rows), "logged": len(logged), "tolerance": RELATIVE}
            evidence |= {"precision": told["precision"], "bytes": told["bytes"], "worst": 0.0}
            for what, asked, then in (("stored", rows, golden), ("logged", logged, None)):
                if not asked:
                    continue
                expected = then or before.explain(asked)
                answered = after.explain(asked)
                verdict = _verdict(expected, answered)
                if verdict.outcome == "failed":
                    return self._end("different", f"on {what} rows: {verdict.summary}", evidence | verdict.evidence)
                evidence["worst"] = max(evidence["worst"], _worst(expected["outputs"], answered["outputs"]))
            evidence |= _timed(before, after, rows)
        said = (
            f"{evidence['speedup']:.1f} × as soon: {evidence['after_ms']:.2f} ms for a row, {evidence['before_ms']:.2f} by its library; "
            f"{evidence['golden']} stored and {evidence['logged']} logged rows agree within {RELATIVE:g} (at most {evidence['worst']:.0e} apart)"
        )
        if evidence["speedup"] < WORTH or evidence["batch_after_ms"] > 1.1 * evidence["batch_before_ms"]:
            return self._end("slower", f"not worth it below {WORTH:g} ×: {said}", evidence)
        return FastPath(
            self.version.model, self.version.version, serving.READY, said, environment, files, evidence, self.keeper.job.id, now_ms()
        )  # fmt: skip

    def _logged(self, before: Trial) -> list[Any]:
        """The newest logged rows that the version takes today."""
        found = predictions.list_predictions(self.store, self.version.model, limit=LOGGED_ROWS)
        rows = [each.features for each in found if each.features is not None and each.status == 200]
        try:
            if rows:
                before.explain(rows)
            return rows
        except SteadError:
            return [row for row in rows if _takes(before, row)]

    def _end(self, state: str, said: str, evidence: dict[str, Any] | None = None) -> FastPath:
        version = self.version
        return FastPath(
            version.model, version.version, state, said, None, {}, evidence or {}, self.keeper.job.id, now_ms()
        )


def _takes(trial: Trial, row: Any) -> bool:
    try:
        trial.explain([row])
    except SteadError:
        return False
    return True


def _verdict(expected: Mapping[str, Any], answered: Mapping[str, Any]) -> Verdict:
    """Features must be the same, outputs near: whoever trained computed them in another library."""
    then = {"features": expected.get("features"), "outputs": expected["outputs"]}
    then["tolerance"] = near(expected["outputs"], RELATIVE)
    return compare_golden(then, answered, environment_packages={}, worker_libraries={})


def _worst(then: Any, now: Any) -> float:
    """The largest difference of two answers, relative to the larger."""
    if isinstance(then, list) and isinstance(now, list):
        return max((_worst(a, b) for a, b in zip(then, now, strict=True)), default=0.0)
    if not isinstance(then, float) or not isinstance(now, (int, float)) or not math.isfinite(then) or then == now:
        return 0.0
    return abs(then - now) / max(abs(then), abs(now))


def _timed(before: Trial, after: Trial, rows: list[Any]) -> dict[str, Any]:
    """Medians of requests that go to each in turn, of one row and of many."""
    figures: dict[str, Any] = {}
    for prefix, asked in (("", rows[:1]), ("batch_", [rows[place % len(rows)] for place in range(BATCH)])):
        took: dict[str, list[float]] = {"before": [], "after": []}
        before.milliseconds(asked, 3), after.milliseconds(asked, 3)
        while len(took["after"]) < TIMES and sum(map(sum, took.values())) < SECONDS * 1000:
            took["before"] += before.milliseconds(asked, ROUND)
            took["after"] += after.milliseconds(asked, ROUND)
        figures |= {f"{prefix}{which}_ms": round(statistics.median(found), 4) for which, found in took.items()}
    return figures | {"speedup": round(figures["before_ms"] / figures["after_ms"], 2)}
