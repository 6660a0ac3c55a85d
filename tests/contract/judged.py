"""Versions with known answers on known rows, for the tests of the gates of a training: no environment, no process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stead import datasets, environments, gates, models
from stead.config import GatesConfig
from stead.gates import Verdict
from stead.pipelines import Candidate, Spec
from stead.predictions import Logged, PredictionLog
from stead.runtime.clock import now_ms, to_ms
from stead.runtime.ids import new_id
from stead.store import Store

START = to_ms("2012-01-02")
DAY = 86_400_000
HOUR = 3_600_000
Row = dict[str, Any]


class Judged:
    """Model `m` on hourly rows: truth about 100, and versions that are off by about a given error each hour."""

    def __init__(self, store: Store, *, seed: int = 0, loss: str = "mae") -> None:
        self.store = store
        self.loss = loss
        self.random = np.random.default_rng(seed)
        hours = np.arange(400 * 24)
        self.truth = 100 + 20 * np.sin(hours / 24 * 2 * np.pi) + self.random.normal(0, 5, len(hours))
        self.hard = self.random.gamma(2, 0.5, len(hours)) * self.random.choice([-1, 1], len(hours))
        self.errors: dict[int, float] = {}
        self.asked = 0

    def rows(self, first: int, last: int) -> pa.Table:
        """Rows of the days from `first` until before `last`."""
        hours = np.arange(first * 24, last * 24)
        time = pa.array(START + hours * HOUR, pa.timestamp("ms"))
        kind = ["night" if hour % 24 < 6 else "day" for hour in hours]
        return pa.table({"t": time, "kind": kind, "warm": 10.0 + hours % 24, "y": self.truth[hours]})

    def serve(self, first: int, last: int, version: int, change: Callable[[Row], Row] = lambda row: row) -> None:
        """Log that a version was asked for the rows of some days, as `change` has them."""
        sent = []
        for row in self.rows(first, last).drop_columns(["y"]).to_pylist():
            at = int(row["t"].replace(tzinfo=UTC).timestamp() * 1000)
            body = {"row": change({**row, "t": row["t"].isoformat(), "warm": row["warm"]})}
            sent.append(
                Logged(
                    id=new_id(),
                    model="m",
                    version=version,
                    event_time=at,
                    received_at=now_ms(),
                    latency_us=900,
                    status=200,
                    protocol="stead",
                    key=None,
                    header_length=0,
                    body=json.dumps(body).encode(),
                    outputs=msgspec.msgpack.encode([1.0]),
                )
            )
        PredictionLog(self.store, "gateway-1").append(sent)

    def says(self, rows: pa.Table, error: float, own: float = 0.0, seed: int = 1) -> np.ndarray[Any, Any]:
        """Answers that are off by `error` times how hard the hour is, and by noise of their own."""
        hours = (rows["t"].cast(pa.int64()).to_numpy() - START) // HOUR
        noise = np.random.default_rng(seed).normal(0, 1, len(self.truth))[hours]
        return np.asarray(self.truth[hours] + error * self.hard[hours] + own * noise)

    def train(
        self,
        until: int,
        error: float,
        *,
        recipe: str = "a",
        first: int = 0,
        own: float = 0.0,
        days: int = 28,
        size: int = 100,
        seconds: float = 0.01,
        slices: tuple[str, ...] = (),
        margin: float = 0.1,
        spoil: Any = None,
    ) -> Candidate:
        """Register a version trained on the days before `until`, whose twin is off by `error`."""
        store = self.store
        rows = self.rows(first, until)
        data = datasets.add(store, "m", rows, time_column="t")
        place = np.flatnonzero(rows["t"].cast(pa.int64()).to_numpy() >= START + (until - days) * DAY)
        held = rows.take(place)
        predicted = self.says(held, error, own, seed=until)
        if spoil is not None:
            predicted = spoil(held, predicted)
        holdouts = pa.table(
            {
                "split": ["recent"] * len(place),
                "row": place,
                "target": held["y"],
                "prediction": predicted,
                "time": held["t"],
            }
        )
        blobs = {"rows": self._blob(rows), "holdouts": self._blob(holdouts)}
        spec = self.spec(recipe, slices, margin)
        number = len(self.errors) + 1
        text = b"six==1.0 --hash=sha256:" + b"0" * 64 + b"\n"
        lock = environments.add(store, lock=store.blobs.put(text), python="3.11", platform="linux-x86_64")
        folder = store.root / f"folder-{number}"
        folder.mkdir()
        (folder / "MLmodel").write_text('{"flavors": {"python_function": {"loader_module": "x"}}}')
        (folder / "n").write_bytes(bytes([number]) * size)
        info = {
            "recipe": spec.recipe,
            "trained_on": {"dataset": data.ref, "since": None, "until": START + until * DAY},
            "judged_on": {**blobs, "time": "t", "target": "y"},
            "seconds_per_1000": seconds,
        }
        metrics = {"holdout_recent": float(np.abs(predicted - held["y"].to_numpy()).mean())}
        logged = models.log_model(store, folder, name="m", environment=lock.digest, info=info, metrics=metrics)
        version = models.register(store, "m", logged.id, loss=self.loss)
        self.errors[version.version] = error
        return Candidate(version, spec, data.ref, blobs["rows"], blobs["holdouts"], metrics, self.answers, str)

    def spec(self, recipe: str, slices: tuple[str, ...] = (), margin: float = 0.1) -> Spec:
        files = {"m.py": recipe}
        gated = GatesConfig(slices=slices, margin=margin)
        return Spec("p", "m", "m.py", "m", files, "y", "t", self.loss, "0h", "m", 60, None, [], None, "", gates=gated)

    def again(self, number: int, recipe: str) -> Candidate:
        """A version that was trained before, as the training that goes on after a crash brings it."""
        version = models.get_version(self.store, f"m@{number}")
        logged = models.get_logged_model(self.store, version.logged_model)
        judged, data = logged.info["judged_on"], logged.info["trained_on"]["dataset"]
        spec = self.spec(recipe)
        return Candidate(
            version, spec, data, judged["rows"], judged["holdouts"], logged.metrics, self.answers, str
        )  # fmt: skip

    def answers(self, version: models.Version, rows: str) -> np.ndarray[Any, Any]:
        self.asked += 1
        return self.says(pq.read_table(io.BytesIO(self.store.blobs.get(rows))), self.errors[version.version])

    def champion(self, candidate: Candidate) -> None:
        models.set_alias(self.store, "m", "champion", candidate.version.version)

    def judge(self, candidate: Candidate) -> dict[str, Verdict]:
        for gate in gates.TRAINED:
            gate(self.store, candidate)
        found = gates.list_verdicts(self.store, "m", version=candidate.version.version)
        assert len(found) == len(gates.TRAINED), "each gate has one verdict"
        return {verdict.gate: verdict for verdict in found}

    def _blob(self, table: pa.Table) -> str:
        out = io.BytesIO()
        pq.write_table(table, out)
        return self.store.blobs.put(out.getvalue())
