"""Profiles: what they say, and that parts add up to the whole."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stead.datasets.profile import LEVELS, Sampler, merge, profile_of, profile_pieces, worn

NUMBERS = st.lists(st.none() | st.floats(width=32) | st.integers(-5, 5).map(float), max_size=60)
TEXTS = st.lists(st.none() | st.sampled_from(["a", "b", "c", "d"]), max_size=60)


@settings(deadline=None)
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


@pytest.mark.parametrize("kind", ["normal", "lognormal", "integers", "spiked", "two", "tiny", "huge"])
def test_bins_are_counted_exactly(kind: str) -> None:
    random = np.random.default_rng(3)
    values = {
        "normal": lambda: random.normal(size=100_000),
        "lognormal": lambda: random.lognormal(0, 4, size=100_000),
        "integers": lambda: random.integers(0, 40, size=100_000).astype(float),
        "spiked": lambda: np.where(random.random(100_000) < 0.9, 0.0, random.normal(size=100_000)),
        "two": lambda: random.integers(0, 2, size=100_000).astype(float),
        "tiny": lambda: random.normal(size=100_000) * 5e-324,
        "huge": lambda: random.normal(size=100_000) * 1e150,
    }[kind]()
    made = profile_of(pa.table({"x": values}))["x"]["histogram"]
    inner = np.array(made["edges"][1:-1])
    wanted = np.bincount(np.searchsorted(inner, values, side="right"), minlength=len(inner) + 1)
    assert made["counts"] == wanted.tolist()


def test_pieces_add_up_to_the_whole_in_the_edges_of_a_sample() -> None:
    random = np.random.default_rng(4)
    number = 100_000
    whole = pa.table(
        {
            "sorted": np.arange(number) * 1.5,
            "x": pa.array(random.normal(size=number), mask=random.random(number) < 0.1),
            "late": pa.array([None] * (number - 10) + [1.0] * 10, pa.float64()),
            "level": random.choice(["a", "b", "c"], number, p=[0.1, 0.6, 0.3]),
        }
    )
    pieces = [whole.slice(first, 10_000) for first in range(0, number, 10_000)]
    sampler = Sampler(5_000)
    for piece in pieces:
        sampler.see(piece)
    sample = sampler.table()
    assert 2_500 <= sample.num_rows <= 5_000
    found, exact = profile_pieces(pieces, sample=sample), profile_of(whole)
    for name in whole.column_names:
        for figure in ("n", "null", "min", "max", "mean", "sd", "top", "other", "edges_rows"):
            mine, wanted = found[name].get(figure), exact[name].get(figure)
            assert mine == (pytest.approx(wanted, rel=1e-9) if isinstance(wanted, float) else wanted)
    counts = found["sorted"]["histogram"]["counts"]
    assert sum(counts) == number and max(counts) < 1.1 * number / 32
    assert profile_pieces([whole.slice(0, 7)]) == profile_of(whole.slice(0, 7)) and profile_pieces([]) == {}


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
