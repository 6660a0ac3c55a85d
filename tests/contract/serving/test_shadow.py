"""Versions that score aside what another one answers: nobody waits for them, and labels judge them on the same rows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stead import predictions, serving
from stead.predictions import Label
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from gateway_process import Running, route, until

NOON = 1_700_000_000_000


def scores(store: Store) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = predictions.read_scores(store, "times", since=NOON, until=NOON + 1000).to_pylist()
    return rows


def loaded(gateway: Running, *versions: int) -> bool:
    return all(gateway.row().loaded.get(f"times@{version}") == "ready" for version in versions)


def ask(gateway: Running, x: float) -> str:
    headers = {"X-Stead-Event-Time": str(NOON)}
    answered = gateway.http.post("/predict/times", json={"row": {"x": x}}, headers=headers)
    assert answered.status_code == 200 and answered.json()["predictions"] == [x]
    return str(answered.json()["prediction_id"])


def test_a_shadow_scores_every_row_and_answers_none(shop: Store, run: Callable[..., Running]) -> None:
    gateway = run(shop)
    route(shop, "times", (1, 1.0), shadow=[1, 3])
    until(lambda: loaded(gateway, 1, 3))
    ids = [ask(gateway, float(x)) for x in range(5)]
    until(lambda: len(scores(shop)) == 10)
    rows = scores(shop)
    assert {(row["version"], row["role"]) for row in rows} == {(1, ""), (3, "shadow")}
    assert [row["output"] for row in rows if row["version"] == 3] == [3.0 * x for x in range(5)]
    predictions.add_labels(shop, [Label(ids[x], 3.0 * x) for x in range(5)])
    predictions.refresh_performance(shop)
    days = predictions.performance(shop, "times", role=None)
    assert [(d.version, d.role, d.labelled, d.loss) for d in days] == [(1, "", 5, 4.0), (3, "shadow", 5, 0.0)]
    assert [d.version for d in predictions.performance(shop, "times")] == [1]
    assert predictions.counts(shop, "times").labelled == 5 and predictions.counts(shop, "times").logged == 5
    assert len(predictions.list_predictions(shop, "times")) == 5
    before = scores(shop)
    gateway.end()
    assert predictions.compact(shop) > 0  # what becomes Parquet says the same
    predictions.refresh_performance(shop, model="times")
    again = predictions.performance(shop, "times", role=None)
    assert scores(shop) == before and [(d.version, d.role, d.loss) for d in again] == [(1, "", 4.0), (3, "shadow", 0.0)]


def test_a_shadow_that_fails_harms_nobody(shop: Store, run: Callable[..., Running]) -> None:
    gateway = run(shop)
    route(shop, "times", (1, 1.0), shadow=[2])
    until(lambda: loaded(gateway, 1, 2))
    assert gateway.http.post("/predict/times", json={"row": {"x": -1}}).status_code == 500  # both raise
    for x in range(3):
        ask(gateway, float(x))
    until(lambda: len(scores(shop)) == 6)
    failed = [
        row
        for row in predictions.read_scores(shop, "times", since=0, until=1 << 60).to_pylist()
        if row["status"] == 500
    ]
    assert {row["role"] for row in failed} == {"", "shadow"}
    route(shop, "times", (1, 1.0))
    current = serving.get_route(shop, "times")
    assert current is not None and current.shadow == []
    until(lambda: "times@2" not in gateway.row().loaded)
    ask(gateway, 7.0)
    assert len([row for row in scores(shop) if row["role"] == "shadow"]) == 3
