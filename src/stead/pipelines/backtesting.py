"""What retraining on a calendar would have lost on past rows, without gates and canaries: a yardstick for what a policy did."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from stead import datasets, jobs
from stead.config import duration_ms
from stead.errors import InvalidInput
from stead.jobs import Keeper
from stead.pipelines.training import laid_out, lock, workshop
from stead.pipelines.types import Backtest, Period, Spec
from stead.runtime import typed
from stead.runtime.clock import to_iso
from stead.store import Store

MONTH = "month"
WINDOW = "365d"
MOST_PERIODS = 400


def backtest(
    store: Store,
    model: str,
    *,
    spec: Spec,
    since: int,
    until: int,
    every: str = MONTH,
    window: str = WINDOW,
    data: str | None = None,
) -> jobs.Job:
    """Queue a backtest: what retraining on a calendar would have lost.

    At `since` and from then on `every` month or duration a model is trained on the `window` before (`all` for all rows) and answers
    until the next one; beside it the first one answers to the end.

    A row is learned from when its label was known, `label_delay` after its time. Nothing is registered.
    The order is that of prequential evaluation (Dawid 1984): each row is predicted before it is learned from.
    Raises NotFound (`dataset-unknown`), InvalidInput (`range-invalid`, `time-missing`, `duration-invalid`, `periods-many`).
    """
    if spec.model != model:
        raise InvalidInput("model-mismatch", f"the code was packed for {spec.model!r}, not {model!r}")
    if since >= until:
        raise InvalidInput("range-invalid", f"since {to_iso(since)} is not before until {to_iso(until)}")
    if spec.time is None:
        raise InvalidInput("time-missing", f"{model} has no time column, so nothing can be tested in the order of time")
    starts = periods(since, until, every)
    payload = {
        "spec": msgspec.to_builtins(spec),
        "starts": starts,
        "until": until,
        "every": every,
        "window": None if window == "all" else duration_ms(window),
        "data": datasets.get_version(store, data or spec.dataset).ref,
    }
    return jobs.enqueue(store, "backtest", payload, model=model, timeout_s=spec.timeout_s, priority=1)


def periods(since: int, until: int, every: str) -> list[int]:
    """Where periods begin: at `since`, then at the first of each month or after each duration.

    >>> [datetime.fromtimestamp(t / 1000, UTC).strftime("%d.%m.") for t in periods(1_357_344_000_000, 1_364_774_400_000, "month")]
    ['05.01.', '01.02.', '01.03.']
    """
    if every != MONTH:
        step = duration_ms(every)
        if step <= 0 or (until - since) / step > MOST_PERIODS:
            raise InvalidInput(
                "periods-many", f"every {every} makes more than {MOST_PERIODS} periods", hint="--every 7d"
            )
        return list(range(since, until, step))
    starts = [since]
    first = datetime.fromtimestamp(since / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while True:
        first = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
        if (start := int(first.timestamp() * 1000)) >= until:
            return starts
        starts.append(start)


def run_backtest(store: Store, keeper: Keeper, *, allow: Sequence[str] = ()) -> dict[str, Any]:
    """The handler of `backtest` jobs: the result is a `Backtest`."""
    import pyarrow.parquet as pq

    payload = keeper.job.payload
    spec = typed.convert(payload["spec"], Spec)
    starts, window, until = payload["starts"], payload["window"], payload["until"]
    keeper.report("creating the environment", 0, 3)
    environment = lock(store, spec, spec.train_requirements)
    table = datasets.read(store, payload["data"], since=starts[0] - window if window else None, until=until)
    if table.num_rows == 0:
        raise InvalidInput("no-rows", f"{payload['data']} has no rows in that time", hint="stead data ingest MODEL")
    rows = laid_out(store, spec, table)
    with workshop(store, keeper, spec, environment.digest, allow, None) as shop:
        keeper.report("features", 1, 3)
        made = shop.run("features", inputs={"rows": rows["rows"]}, outputs=["features", "target"]).digests
        keeper.report(f"{len(starts)} trainings", 2, 3)
        delay = duration_ms(spec.label_delay)
        answers = shop.run(
            "backtest",
            inputs=rows | {"features": made["features"], "target": made["target"]},
            outputs=["answers"],
            params={"starts": starts, "until": until, "window": window, "delay": delay},
        ).digests["answers"]
    found = pq.read_table(io.BytesIO(store.blobs.get(answers)))
    tested = Backtest(
        model=spec.model,
        loss=spec.loss,
        dataset=payload["data"],
        every=payload["every"],
        window_days=window / 86_400_000 if window else None,
        periods=_by_period(found, starts, until, spec.loss),
    )
    return dict(msgspec.to_builtins(tested))


def _by_period(answers: Any, starts: list[int], until: int, loss: str) -> list[Period]:
    import numpy as np

    from stead.stats import losses

    columns = {name: answers.column(name).to_numpy(zero_copy_only=False) for name in answers.column_names}
    once, weight = losses.row_losses(loss, columns["once"], columns["target"])
    again, _ = losses.row_losses(loss, columns["again"], columns["target"])
    out = []
    for start, end in zip(starts, [*starts[1:], until], strict=True):
        these = (columns["time"] >= start) & (columns["time"] < end)
        sums = [float(np.sum(part[these])) for part in (weight, once, again)]
        out.append(Period(start, end, int(these.sum()), *sums))
    return out
