"""Profiles: what they say, and that parts add up to the whole."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.datasets.profile import LEVELS, merge, profile_of, worn

NUMBERS = st.lists(st.none() | st.floats(width=32) | st.integers(-5, 5).map(float), max_size=60)
TEXTS = st.lists(st.none() | st.sampled_from(["a", "b", "c", "d"]), max_size=60)


@given(st.lists(NUMBERS, min_size=2, max_size=4))
def test_numbers_of_parts_add_up(parts: list[list[float | None]]) -> None:
    tables = [pa.table({"x": pa.array(values, pa.float64())}) for values in parts]
    merged = profile_of(tables[0])
    for table in tables[1:]:
        merged = merge(merged, profile_of(table, merged))
    whole = profile_of(pa.concat_tables(tables))["x"]
    found = merged["x"]
    assert (found["n"], found["null"], found.get("infinite")) == (whole["n"], whole["null"], whole.get("infinite"))
    assert found["n"] == found["null"] + found.get("infinite", 0) + sum(found.get("histogram", {}).get("counts", []))
    json.dumps(found, allow_nan=False)
    if "min" in whole:
        assert (found["min"], found["max"]) == (whole["min"], whole["max"])
        scale = max(abs(whole["min"]), abs(whole["max"]), 1e-300)
        assert found["mean"] / scale == pytest.approx(whole["mean"] / scale, abs=1e-9)
        assert found["sd"] / scale == pytest.approx(whole["sd"] / scale, abs=1e-6)


@given(TEXTS, TEXTS)
def test_levels_of_parts_add_up(one: list[str | None], other: list[str | None]) -> None:
    tables = [pa.table({"x": pa.array(values, pa.string())}) for values in (one, other)]
    first = profile_of(tables[0])
    found = merge(first, profile_of(tables[1], first))["x"]
    assert found["n"] == found["null"] + found["other"] + sum(count for _, count in found["top"])
    for level, count in found["top"]:
        assert count == (one + other).count(level)


def test_the_histogram_has_equally_full_bins() -> None:
    values = np.random.default_rng(1).normal(size=32_000)
    histogram = profile_of(pa.table({"x": values}))["x"]["histogram"]
    assert len(histogram["edges"]) == 33
    assert min(histogram["counts"]) > 990
    assert max(histogram["counts"]) < 1010


def test_other_kinds_of_columns() -> None:
    table = pa.table(
        {
            "flag": [True, False, True],
            "when": pa.array([0, 86_400_000, None], pa.timestamp("ms")),
            "list": [[1], [2], None],
            "many": [str(n) for n in range(3)],
            "none": pa.nulls(3),
        }
    )
    made = profile_of(table)
    assert made["flag"]["top"] == [["true", 2], ["false", 1]]
    assert made["when"] == {"n": 3, "null": 1, "min": 0, "max": 86_400_000}
    assert made["list"] == {"n": 3, "null": 1}
    assert made["none"] == {"n": 3, "null": 3}


def test_only_the_most_frequent_levels_are_named() -> None:
    values = [f"level {n}" for n in range(50) for _ in range(n)] + ["x" * 500] * 100
    made = profile_of(pa.table({"x": values}))["x"]
    assert made["top"][0] == ["level 49", 49]
    assert len(made["top"]) == LEVELS - 1
    assert made["n"] == made["other"] + sum(count for _, count in made["top"])


def test_worn_edges_are_told() -> None:
    made: dict[str, Any] = profile_of(pa.table({"x": [1.0, 2.0]}))
    assert not worn(made, 15)
    assert worn(made, 16)
    assert not worn(profile_of(pa.table({"x": pa.nulls(2)})), 1000)
