"""Two versions on the same rows: each answers in its own environment, and the difference comes with its uncertainty."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from stead import datasets, jobs, models
from stead.errors import InvalidInput
from stead.jobs import Keeper
from stead.pipelines.steps import Workshop
from stead.pipelines.types import Compared, Subject
from stead.store import Store


def compare(
    store: Store,
    first: str,
    second: str,
    *,
    data: str | None = None,
    since: int | None = None,
    until: int | None = None,
) -> jobs.Job:
    """Queue the comparison of two versions of one model on the same rows of a dataset version (default: the newest).

    Raises NotFound, InvalidInput (`models-differ`, `versions-same`).
    """
    a, b = models.get_version(store, first), models.get_version(store, second)
    if a.ref == b.ref:
        raise InvalidInput("versions-same", f"both are {a.ref}", hint=f"stead models show {a.model}")
    if a.model != b.model:
        raise InvalidInput("models-differ", f"{a.ref} and {b.ref} are versions of different models")
    settings = models.get_model(store, a.model).settings
    ref = datasets.get_version(store, data or str(settings.get("dataset") or a.model)).ref
    payload = {"model": a.model, "first": a.version, "second": b.version, "data": ref, "since": since, "until": until}
    return jobs.enqueue(store, "compare", payload, model=a.model, priority=1)


def run_compare(store: Store, keeper: Keeper, *, allow: Sequence[str] = ()) -> dict[str, Any]:
    """The handler of `compare` jobs: the result is a `Compared`. Each version sees the variables that it was trained with."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from stead.stats import intervals, losses

    payload = keeper.job.payload
    model = models.get_model(store, payload["model"])
    target, time = str(model.settings["target"]), model.settings.get("time")
    subject = Subject(target, time, model.loss)
    table = datasets.read(store, payload["data"], since=payload["since"], until=payload["until"])
    if table.num_rows == 0:
        raise InvalidInput(
            "no-rows", f"{payload['data']} has no rows in that time", hint=f"stead data show {payload['data']}"
        )
    out = io.BytesIO()
    pq.write_table(table, out)
    rows = store.blobs.put(out.getvalue())
    answers = []
    for position, number in enumerate((payload["first"], payload["second"])):
        version = models.get_version(store, f"{model.name}@{number}")
        keeper.report(f"{version.ref} answers {table.num_rows} rows", position, 2)
        answers.append(answer(store, keeper, version, rows, subject, allow))
    truth = table.column(target).to_numpy(zero_copy_only=False)
    if time:
        stamps = table.column(time).cast(pa.timestamp("ms")).cast(pa.int64()).to_numpy(zero_copy_only=False)
        days = stamps // 86_400_000
    else:
        days = np.arange(len(truth))
    first, weight = losses.row_losses(model.loss, answers[0], truth)
    second, _ = losses.row_losses(model.loss, answers[1], truth)
    found = intervals.paired_difference(second, first, weight, days)
    compared = Compared(
        model=model.name,
        first=payload["first"],
        second=payload["second"],
        loss=model.loss,
        dataset=payload["data"],
        rows=table.num_rows,
        days=found.clusters,
        first_loss=found.b,
        second_loss=found.a,
        difference=found.difference,
        low=found.low if math.isfinite(found.low) else None,
        high=found.high if math.isfinite(found.high) else None,
        in_sample=[n for n in (payload["first"], payload["second"]) if _saw(store, model.name, n, payload)],
        since=payload["since"],
        until=payload["until"],
    )
    return dict(msgspec.to_builtins(compared))


def answer(
    store: Store, keeper: Keeper, version: models.Version, rows: str, subject: Subject, allow: Sequence[str]
) -> Any:
    """What a version answers to raw rows (a blob), in its own environment with the variables of its training."""
    import pyarrow.parquet as pq

    logged = models.get_logged_model(store, version.logged_model)
    variables = logged.info.get("train_env", {})
    with Workshop(
        store, keeper, subject, environment=logged.environment, variables=variables, allow=allow, run_id=None
    ) as shop:
        made = shop.run(
            "predict",
            inputs={"rows": rows},
            folders={"model": models.materialise(store, logged.id)},
            outputs=["predictions"],
            params={"model": logged.id},
        )
        return (
            pq.read_table(io.BytesIO(store.blobs.get(made.digests["predictions"])))
            .column("prediction")
            .to_numpy(zero_copy_only=False)
        )


def _saw(store: Store, model: str, number: int, payload: dict[str, Any]) -> bool:
    """Whether a version learned from some of the rows in question."""
    info = models.get_logged_model(store, models.get_version(store, f"{model}@{number}").logged_model).info
    learned = info.get("trained_on")
    if not learned:
        return False
    version = datasets.get_version(store, payload["data"])
    low = max(payload["since"] or version.time_min or 0, learned["since"] or 0)
    used = datasets.get_version(store, learned["dataset"])
    highs = [
        v for v in (payload["until"], learned["until"], (used.time_max or 0) + 1, (version.time_max or 0) + 1) if v
    ]
    return low < min(highs)
