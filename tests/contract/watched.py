"""A model with a live version, a clock and rows of any day, for the tests of the monitors: all through the public doors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stead import environments, jobs, models, monitors, predictions
from stead.predictions import Label, Logged, PredictionLog
from stead.runtime.clock import now_ms, to_ms
from stead.runtime.ids import new_id
from stead.store import Store

START = to_ms("2012-01-02")
HOUR = 3_600_000
DAY = 24 * HOUR
Row = dict[str, Any]


class Watched:
    """Model `m`, whose loss is |label − 10| and whose columns are a number, a level and a place."""

    def __init__(self, store: Store, *, rows_a_day: int = 48, seed: int = 0, delay: str = "0h") -> None:
        self.store = store
        self.random = np.random.default_rng(seed)
        self.rows = rows_a_day
        self.clock = START
        self.ids: dict[int, list[str]] = {}
        self.version = 0
        self.delay = delay
        self.log = PredictionLog(store, "gateway-1")

    def live(
        self,
        holdout: Sequence[float] = (),
        answers: Sequence[float] = (10.0,),
        columns: Sequence[Mapping[str, Any]] = (),
    ) -> int:
        """Log and register a version, and let it be the champion; `columns` is what it takes.

        `holdout` is the loss of the days that it was judged on, `answers` what it answered there: one of 20 cost twice as much.
        """
        text = b"six==1.0 --hash=sha256:" + b"0" * 64 + b"\n"
        lock = environments.add(self.store, lock=self.store.blobs.put(text), python="3.11", platform="linux-x86_64")
        folder = self.store.root / f"m{self.version}"
        folder.mkdir()
        (folder / "MLmodel").write_text('{"flavors": {"python_function": {"loader_module": "x"}}}')
        if columns:
            (folder / "stead").mkdir()
            told = {"flavor": "python_function", "input": "columns", "columns": list(columns)}
            (folder / "stead" / "model.json").write_text(json.dumps(told))
        (folder / "n").write_text(str(self.version))
        judged = {"judged_on": self.judged(holdout, answers)} if holdout else {}
        logged = models.log_model(self.store, folder, name="m", environment=lock.digest, info=judged)
        settings = {"label_delay": self.delay, "time": "t"}
        self.version = models.register(self.store, "m", logged.id, settings=settings).version
        models.set_alias(self.store, "m", "champion", self.version)
        if self.version == 1:
            self.look(0)
        return self.version

    def judged(self, losses: Sequence[float], answers: Sequence[float]) -> dict[str, str]:
        """A time-ordered hold-out of the days before the first: what a training leaves."""
        times = [START + (n - len(losses)) * DAY + place * HOUR for n in range(len(losses)) for place in range(24)]
        predicted = np.array([answers[n % len(answers)] for n in range(len(times))])
        costs = np.concatenate([self.random.gamma(4, loss / 4, 24) for loss in losses]) * predicted / 10
        rows = {"split": ["time"] * len(times), "time": times, "prediction": predicted, "target": predicted + costs}
        pq.write_table(pa.table(rows), path := self.store.root / f"holdouts-{self.version}.parquet")
        return {"holdouts": self.store.blobs.put(path), "time": "t", "target": "y"}

    def row(self) -> Row:
        return {"x": float(self.random.normal(15, 5)), "kind": str(self.random.choice(["a", "b", "c"])), "t": "now"}

    def day(
        self,
        number: int,
        *,
        loss: float = 1.0,
        label: bool = True,
        change: Callable[[Row], Mapping[str, Any]] = lambda row: row,
        rows: int | None = None,
    ) -> None:
        """Serve and label a day, then look when it is over."""
        self.serve(number, change=change, rows=rows)
        if label:
            self.label(number, loss=loss)
        self.look(number + 1)

    def days(self, first: int, end: int, **given: Any) -> None:
        """Days that are looked at together, when the last of them is over."""
        for number in range(first, end):
            self.serve(number, change=given.get("change", lambda row: row), answers=given.get("answers", (10.0,)))
            if given.get("label", True):
                self.label(number, loss=given.get("loss", 1.0))
        self.look(end)

    def serve(
        self,
        number: int,
        *,
        change: Callable[[Row], Mapping[str, Any]] = lambda row: row,
        rows: int | None = None,
        answers: Sequence[float] = (10.0,),
    ) -> None:
        count = self.rows if rows is None else rows
        sent = []
        for place in range(count):
            at = START + number * DAY + place * DAY // max(count, 1)
            sent.append(
                Logged(
                    id=new_id(),
                    model="m",
                    version=self.version,
                    event_time=at,
                    received_at=now_ms(),
                    latency_us=900,
                    status=200,
                    protocol="stead",
                    key=None,
                    header_length=0,
                    body=json.dumps({"row": change(self.row())}).encode(),
                    outputs=msgspec.msgpack.encode([answers[place % len(answers)] + float(self.random.normal(0, 0.1))]),
                )
            )
        self.log.append(sent)
        self.ids.setdefault(number, []).extend(each.id for each in sent)

    def label(self, number: int, *, loss: float = 1.0, share: float = 1.0) -> None:
        ids = self.ids[number][: round(len(self.ids[number]) * share)]
        noise = self.random.gamma(4, loss / 4, len(ids))
        predictions.add_labels(self.store, [Label(one, 10.0 + float(n)) for one, n in zip(ids, noise, strict=True)])

    def look(self, number: int) -> int:
        """Bring the model's clock to the beginning of a day and let the monitors look."""
        predictions.refresh_performance(self.store)
        self.hold(number)  # just before: a holder that is silent for long loses the clock
        moved = monitors.observe(self.store, "m")
        assert monitors.observe(self.store, "m") == 0 or moved
        return moved

    def hold(self, number: int) -> None:
        self.clock = START + number * DAY
        jobs.hold_clock(self.store, "m", now=self.clock, holder="replay-1")

    def incidents(self, state: str | None = None) -> list[tuple[str, str, str]]:
        found = monitors.list_incidents(self.store, model="m", state=state)
        return [(each.cause, each.severity, each.state) for each in found]
