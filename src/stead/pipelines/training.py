"""The training job: lock → ingest → features → evaluate → train → register, each step in the pinned environment."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from stead import datasets, environments, jobs, models, runs
from stead.config import duration_ms
from stead.errors import InvalidInput
from stead.jobs import Keeper
from stead.pipelines.comparing import answer
from stead.pipelines.ingesting import ingest_until
from stead.pipelines.steps import Workshop, restore
from stead.pipelines.types import Candidate, Judge, Spec, Subject
from stead.runtime import journal, typed
from stead.runtime.clock import now_ms, to_iso
from stead.runtime.step import RECENT_MS
from stead.runtime.workfolder import work_folder
from stead.store import Store

STEPS = 8
DAY = 86_400_000
WINDOW_MS = 365 * DAY
LONGER_MS = 28 * DAY
"""History must go back so much further than the window before it is worth a choice."""


def train(
    store: Store,
    model: str,
    *,
    spec: Spec,
    since: int | None = None,
    until: int | None = None,
    data: str | None = None,
    event_time: int | None = None,
) -> jobs.Job:
    """Queue the training of a new version.

    `since` and `until` (ms, event time) bound the rows that it learns from; rows up to `until` are ingested first where
    the project has `ingest`, unless `data` names a dataset version (`demand@3`). Without `until` rows count up to the time
    that it is asked for, whenever the job runs: the event time that a replay's clock holds, else now.
    Raises InvalidInput (`range-invalid`), NotFound (`dataset-unknown`).
    """
    if spec.model != model:
        raise InvalidInput("model-mismatch", f"the code was packed for {spec.model!r}, not {model!r}")
    if since is not None and until is not None and since >= until:
        raise InvalidInput("range-invalid", f"since {to_iso(since)} is not before until {to_iso(until)}")
    if data is not None:
        datasets.get_version(store, data)
    at = event_time if event_time is not None else jobs.held_at(store, model)
    payload = {
        "spec": msgspec.to_builtins(spec), "since": since, "until": at if until is None else until, "data": data
    }  # fmt: skip
    return jobs.enqueue(store, "train", payload, model=model, timeout_s=spec.timeout_s, event_time=at)


def run_training(
    store: Store, keeper: Keeper, *, allow: Sequence[str] = (), judges: Sequence[Judge] = ()
) -> dict[str, Any]:
    """The handler of `train` jobs; each step that was finished before a crash is not run again.

    `allow` names variables that its steps may see besides the basic ones; `judges` are the gates that a version comes to
    when it is registered. A version that they refuse is kept, as what they say of it is.
    """
    payload = keeper.job.payload
    spec = typed.convert(payload["spec"], Spec)
    run_id = keeper.job.id
    try:
        training = Training(store, keeper, spec, run_id, allow, judges)
        return training.work(payload["since"], payload["until"], payload["data"])
    except BaseException as error:
        note(
            store,
            run_id,
            "failed",
            journal.Ended(now_ms(), "killed" if isinstance(error, jobs.JobCancelled) else "failed", str(error)),
        )
        raise


WINDOWS = {"window": "12 months", "all": "all rows"}


@dataclass(frozen=True)
class Fitted:
    """What the steps of a training made; blobs by digest."""

    since: int | None
    """Where the rows begin that it learned from, the window chosen."""
    rows: str
    holdouts: str
    window: dict[str, Any] | None
    metrics: dict[str, float]
    trained: Mapping[str, str]
    """`model`, a folder, and `info`."""


def about(spec: Spec, made: Fitted, learned: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept with a model of its training."""
    return {
        "trained_on": learned,
        "train_env": spec.train_env,
        "recipe": spec.recipe,
        # what monitors and gates hold it against
        "judged_on": {"rows": made.rows, "holdouts": made.holdouts, "time": spec.time, "target": spec.target},
    } | ({"window": made.window} if made.window else {})


class Training:
    """The steps of a training in order; its run hears of them where it has one."""

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        spec: Spec,
        run_id: str | None,
        allow: Sequence[str],
        judges: Sequence[Judge],
    ) -> None:
        self.judges = judges
        self.store = store
        self.keeper = keeper
        self.spec = spec
        self.run_id = run_id
        self.allow = allow

    def work(self, since: int | None, until: int | None, data: str | None) -> dict[str, Any]:
        spec, store, keeper = self.spec, self.store, self.keeper
        self.start()
        keeper.report("locking the environment", 0, STEPS)
        environment = lock(store, spec, spec.train_requirements)
        serving = lock(store, spec, spec.serve_requirements) if spec.serve_requirements else environment
        note(store, self.run_id, "environment", journal.Facts(now_ms(), {}, environment.digest))
        keeper.report("creating the environment", 1, STEPS)
        with workshop(store, keeper, spec, environment.digest, self.allow, self.run_id) as shop:
            functions = json.loads(self._blob(shop.run("describe", outputs=["functions"]).digests["functions"]))
            version = self._ingest(shop, functions, until, data)
            asked = keeper.job.created_at
            if until is None and data is None and version.time_max is not None and version.time_max >= asked:
                until = asked
            if version.marks:
                keeper.log(f"warning: {version.marked_for}\n")
            made = self.fit(shop, version, since, until)
            learned = {"dataset": version.ref, "since": made.since, "until": until}
            facts = about(spec, made, learned)
            keeper.report("register", 6, STEPS)
            registered = self._register(made.trained, made.metrics, environment.digest, serving.digest, version, facts)
        self._pass(registered, version.ref, made.rows, made.holdouts, made.metrics)
        note(store, self.run_id, "end", journal.Ended(now_ms(), "finished"))
        keeper.report(f"registered {registered.ref}", STEPS, STEPS)
        return {
            "version": registered.version,
            "model": registered.model,
            "run_id": self.run_id,
            "data": version.ref,
            "metrics": made.metrics,
        }

    def fit(
        self,
        shop: Workshop,
        version: datasets.DatasetVersion,
        since: int | None,
        until: int | None,
        *,
        cache: bool = True,
        judge: bool = True,
    ) -> Fitted:
        """Features, hold-outs, window and model from the rows of a dataset version; without `cache` every step is run.

        Without `judge` there are no hold-outs, unless a window is chosen by them.
        """
        keeper = self.keeper
        keeper.report("features", 3, STEPS)
        end = until if until is not None else (version.time_max or 0) + 1
        since, window_params = self._window(version, since, end)
        given_rows = self._rows(version, since, until)
        rows = given_rows["rows"]
        made = shop.run("features", inputs={"rows": rows}, outputs=["features", "target"], cache=cache).digests
        learning = given_rows | {"features": made["features"], "target": made["target"]}
        given = window_params.get("only", False)
        holdouts, window, metrics = "", None, dict[str, float]()
        if judge or (window_params and not given):
            keeper.report("evaluate", 4, STEPS)
            judged = shop.run(
                "evaluate",
                inputs=learning,
                outputs=["holdouts", "figures", "window"],
                params=window_params,
                logs=False,
                cache=cache,
            ).digests
            window = None if given else json.loads(self._blob(judged["window"]))
            holdouts, metrics = judged["holdouts"], self._judge(judged, window)
        chosen = window_params["window"] if given else window["since"] if window else None
        keeper.report("train", 5, STEPS)
        params = {"since": chosen} if chosen else {}
        trained = shop.run("train", inputs=learning, outputs=["model", "info"], params=params, cache=cache).digests
        found = json.loads(self._blob(trained["info"])).get("facts", {})
        note(self.store, self.run_id, "facts", journal.Facts(now_ms(), {"facts": found}))
        if chosen:
            since, rows = chosen, self._rows(version, chosen, until)["rows"]
        return Fitted(since, rows, holdouts, window, metrics, trained)

    def start(self, name: str = "train", **tags: str) -> None:
        """Begin its run, where it has one."""
        spec, job = self.spec, self.keeper.job
        if self.run_id is None:
            return
        runs.start(
            self.store,
            run_id=self.run_id,
            project=spec.project,
            name=f"{name} {spec.model}",
            tags=tags,
            job=job.id,
            source={
                "kind": "pipeline",
                "entry": spec.entry,
                "files": spec.files,
                "requested_by": job.requested_by,
                "git": spec.git,
            },
        )
        if diff := spec.git.get("diff"):
            record = journal.File(now_ms(), "stead/git.diff", "", 0, diff)
            note(self.store, self.run_id, "difference", record)

    def _ingest(
        self, shop: Workshop, functions: list[str], until: int | None, data: str | None
    ) -> datasets.DatasetVersion:
        """The dataset version to learn from, brought up to `until`."""
        self.keeper.report("ingest", 2, STEPS)
        spec, store = self.spec, self.store
        if data is not None:
            return datasets.get_version(store, data)
        if "ingest" not in functions:
            return datasets.get_version(store, spec.dataset)
        return ingest_until(store, shop, spec, until if until is not None else self.keeper.job.created_at)

    def _window(
        self, version: datasets.DatasetVersion, since: int | None, end: int
    ) -> tuple[int | None, dict[str, Any]]:
        """Where the rows begin that are read, and for `evaluate` where a window begins: one that is set, or that there is a choice of.

        The rows of a set one begin 28 days earlier: its twin learns from as many days.
        """
        if since is not None or self.spec.window == "all" or version.time_min is None:
            return since, {}
        if self.spec.window:
            begin = end - duration_ms(self.spec.window)
            return begin - RECENT_MS, {"window": begin, "only": True}
        short = end - WINDOW_MS
        return None, {"window": short} if short - version.time_min >= LONGER_MS else {}

    def _pass(self, version: models.Version, data: str, rows: str, holdouts: str, metrics: dict[str, float]) -> None:
        """Let the gates judge what was registered."""
        spec, keeper = self.spec, self.keeper
        keeper.report("gates", 7, STEPS)
        subject = Subject(spec.target, spec.time, spec.loss)
        candidate = Candidate(
            version=version,
            spec=spec,
            data=data,
            rows=rows,
            holdouts=holdouts,
            metrics=metrics,
            answers=lambda other, raw: answer(self.store, keeper, other, raw, subject, self.allow),
            say=lambda text: keeper.log(text + "\n"),
        )
        for judge in self.judges:
            keeper.check()
            judge(self.store, candidate)

    def _rows(self, version: datasets.DatasetVersion, since: int | None, until: int | None) -> dict[str, str]:
        """The rows to learn from, as `laid_out` gives them."""
        table = datasets.read(self.store, version.ref, since=since, until=until)
        if table.num_rows == 0:
            raise InvalidInput(
                "no-rows", f"{version.ref} has no rows in that time", hint=f"stead data show {version.ref}"
            )
        note(self.store, self.run_id, "input", journal.Input(now_ms(), version.dataset, version.version))
        return laid_out(self.store, self.spec, table)

    def _judge(self, judged: Mapping[str, str], window: dict[str, Any] | None) -> dict[str, float]:
        """Losses of the hold-outs, as metrics of the run, and what its window was chosen by."""
        import pyarrow.parquet as pq

        from stead.stats import losses

        table = pq.read_table(io.BytesIO(self._blob(judged["holdouts"])))
        metrics: dict[str, float] = dict(json.loads(self._blob(judged["figures"])))
        splits = table.column("split").to_numpy(zero_copy_only=False)
        for name in dict.fromkeys(splits.tolist()):
            part = table.filter(splits == name)
            predicted, truth = (part.column(n).to_numpy(zero_copy_only=False) for n in ("prediction", "target"))
            loss, weight = losses.row_losses(self.spec.loss, predicted, truth)
            value = float(loss.sum() / weight.sum()) if weight.sum() else float("nan")
            metrics[f"holdout_{name}"] = value
            self.keeper.log(f"{self.spec.loss} on the {name} hold-out: {value:.4f}\n")
        if window:
            self.keeper.log(f"learns from {WINDOWS[window['chosen']]}\n")
            metrics |= {f"{name}_recent": loss for name, loss in window["losses"].items()}
            note(self.store, self.run_id, "window", journal.Params(now_ms(), {"window": WINDOWS[window["chosen"]]}))
        note(self.store, self.run_id, "metrics", journal.Metrics(now_ms(), 0, metrics))
        return metrics

    def _register(
        self,
        trained: Mapping[str, str],
        metrics: dict[str, float],
        environment: str,
        serving: str,
        version: datasets.DatasetVersion,
        facts: dict[str, Any],
    ) -> models.Version:
        spec, store = self.spec, self.store
        logged = self.log(trained, metrics, environment, facts)
        self.keeper.check()
        return models.register(
            store,
            spec.model,
            logged.id,
            loss=spec.loss,
            settings={
                "target": spec.target,
                "time": spec.time,
                "label_delay": spec.label_delay,
                "dataset": spec.dataset,
                "fast": spec.serve_fast and not spec.serve_image,  # an image is served as it is
                **spec.facts,
            },
            serving_environment=serving,
            serving_env=spec.serve_env,
            serving_image=spec.serve_image,
            event_time=self.keeper.job.event_time,
            inputs=[f"dataset:{version.ref}"],
        )

    def log(
        self, trained: Mapping[str, str], metrics: dict[str, float], environment: str, facts: dict[str, Any]
    ) -> models.LoggedModel:
        """Keep what was trained as the model of its run."""
        spec, store = self.spec, self.store
        info = json.loads(self._blob(trained["info"])) | facts
        code = store.blobs.put(msgspec.json.encode(spec.files, order="sorted"))
        with work_folder("model") as folder:
            restore(store, trained["model"], folder)
            return models.log_model(
                store,
                folder,
                name=spec.model,
                run_id=self.run_id,
                environment=environment,
                code=code,
                metrics=metrics,
                info=info,
                model_id=f"m-{self.run_id}",
            )

    def _blob(self, digest: str) -> bytes:
        return self.store.blobs.get(digest)


def ingest(store: Store, model: str, *, spec: Spec, until: int | None = None, since: int | None = None) -> jobs.Job:
    """Queue an ingest alone: rows up to `until` (the model's now by default) become a new dataset version.

    `since` is where a new dataset begins; an existing one goes on where it ended.
    """
    held = jobs.held_at(store, model)
    now = now_ms() if held is None else held
    payload = {"spec": msgspec.to_builtins(spec), "until": now if until is None else until, "since": since}
    return jobs.enqueue(store, "ingest", payload, model=model, timeout_s=spec.timeout_s, event_time=held)


def ingest_in(tx: sa.Connection, spec: Spec, *, actor: str, until: int, event_time: int | None) -> jobs.Job:
    """`ingest` of a model's own dataset in the caller's transaction; where one waits or runs already, it is that one."""
    payload = {"spec": msgspec.to_builtins(spec), "until": until, "since": None}
    wish: jobs.Wish = {
        "model": spec.model, "key": f"ingest:{spec.dataset}", "timeout_s": spec.timeout_s, "event_time": event_time
    }  # fmt: skip
    return jobs.enqueue_in(tx, "ingest", payload, actor=actor, **wish)


def run_ingest(store: Store, keeper: Keeper, *, allow: Sequence[str] = ()) -> dict[str, Any]:
    """The handler of `ingest` jobs."""
    spec = typed.convert(keeper.job.payload["spec"], Spec)
    keeper.report("locking the environment", 0, 3)
    environment = lock(store, spec, spec.train_requirements)
    keeper.report("creating the environment", 1, 3)
    with workshop(store, keeper, spec, environment.digest, allow, None) as shop:
        functions = json.loads(store.blobs.get(shop.run("describe", outputs=["functions"]).digests["functions"]))
        if "ingest" not in functions:
            raise InvalidInput(
                "ingest-missing", f"{spec.entry} has no function ingest(since, until)", hint="stead data add NAME FILE"
            )
        keeper.report("ingest", 2, 3)
        version = ingest_until(store, shop, spec, keeper.job.payload["until"], since=keeper.job.payload["since"])
    added = version.source.get("job") == keeper.job.id
    keeper.report(f"{version.ref}: {version.rows} rows" + ("" if added else ", no new ones came"), 3, 3)
    return {"dataset": version.dataset, "version": version.version, "rows": version.rows, "added": added}


def workshop(
    store: Store, keeper: Keeper, spec: Spec, environment: str, allow: Sequence[str], run_id: str | None
) -> Workshop:
    return Workshop(
        store,
        keeper,
        spec.subject,
        environment=environment,
        variables=spec.train_env,
        allow=allow,
        run_id=run_id,
        image=spec.train_image,
        executor=spec.executor,
        resources=spec.resources,
    )


def laid_out(store: Store, spec: Spec, table: Any) -> dict[str, str]:
    """Blobs for the steps: `rows` as Parquet in the order of their time, and where `train` is to have them as stored, `order`: the place of each."""
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    blobs = {}
    if spec.time is not None and spec.time in table.column_names:
        order = pc.sort_indices(table, sort_keys=[(spec.time, "ascending")])  # late rows stand in later parts
        table = table.take(order)
        if spec.order == "stored":
            out = io.BytesIO()
            np.save(out, order.to_numpy())
            blobs["order"] = store.blobs.put(out.getvalue())
    out = io.BytesIO()
    pq.write_table(table, out)
    return {"rows": store.blobs.put(out.getvalue())} | blobs


def lock(store: Store, spec: Spec, instead: list[str]) -> environments.Environment:
    """The locked environment of a project, or of the requirements that a stage uses instead."""
    if instead:
        return environments.lock(store, instead, python=spec.python)
    if spec.requirements_file is None:
        return environments.lock(store, spec.requirements, python=spec.python)
    with tempfile.TemporaryDirectory(prefix="stead-lock-") as folder:
        file = Path(folder) / Path(spec.requirements_file["name"]).name
        store.blobs.fetch(spec.requirements_file["digest"], file)
        return environments.lock(store, file, python=spec.python)


def note(store: Store, run_id: str | None, what: str, *records: journal.Record) -> None:
    """Add to the run, if there is one, what the executor knows; a second attempt of the job adds nothing twice."""
    if run_id is None:
        return
    runs.deliver(store, run_id, writer=f"executor-{what}", first=1, records=list(records))
