"""Packing, joining, summing up and thinning: properties over any points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stead.errors import InvalidInput
from stead.runs import points as p

ints = st.integers(-(2**63), 2**63 - 1)
point = st.tuples(st.integers(-1000, 1000), st.integers(0, 50), st.floats())
series = st.lists(point, min_size=1, max_size=150)


def columns(given: list[tuple[int, int, float]]) -> p.Columns:
    return p.Columns([s for s, _, _ in given], [t for _, t, _ in given], [v for _, _, v in given])


def same(a: list[float], b: list[float]) -> bool:
    return len(a) == len(b) and all(x == y or (x != x and y != y) for x, y in zip(a, b, strict=True))


@given(st.lists(st.tuples(ints, ints, st.floats()), max_size=80))
def test_a_block_comes_back_as_it_was(given: list[tuple[int, int, float]]) -> None:
    whole = columns(given)
    back = p.unpack(p.pack(whole))
    assert (back.steps, back.times) == (whole.steps, whole.times)
    assert same(back.values, whole.values)


@given(st.lists(series, min_size=1, max_size=5))
def test_joined_blocks_are_the_points_one_after_the_other(given: list[list[tuple[int, int, float]]]) -> None:
    joined = p.unpack(p.concatenate([p.pack(columns(part)) for part in given]))
    flat = columns([one for part in given for one in part])
    assert joined.steps == flat.steps
    assert same(joined.values, flat.values)


@given(series, series)
def test_summaries_join_and_both_ways_of_making_one_agree(
    a: list[tuple[int, int, float]], b: list[tuple[int, int, float]]
) -> None:
    whole = columns(a + b)
    expected = p.summary_of_block(p.pack(whole))
    assert p.summary_of(whole) == expected
    assert p.summary_of(columns(a)).joined(p.summary_of(columns(b))) == expected
    known = [value for value in whole.values if not math.isnan(value)]
    assert (expected.min, expected.max) == ((min(known), max(known)) if known else (None, None))


@settings(max_examples=200)
@given(st.lists(st.floats(), min_size=1, max_size=300), st.integers(1, 20), st.booleans())
def test_thinning_loses_no_peak_and_no_gap(values: list[float], buckets: int, uneven: bool) -> None:
    steps = np.arange(len(values)) ** (2 if uneven else 1)
    array = np.array(values)
    chosen = p.thin(steps, array, buckets)
    assert len(chosen) <= max(2 * buckets, 3 * buckets + 2)
    assert list(chosen) == sorted(set(chosen.tolist()))
    assert chosen[0] == 0
    assert chosen[-1] == len(values) - 1
    kept = array[chosen]
    assert np.isnan(kept).any() == np.isnan(array).any()
    if not np.isnan(array).all():
        assert np.nanmin(kept) == np.nanmin(array)
        assert np.nanmax(kept) == np.nanmax(array)


def test_order_is_by_step_then_time_then_arrival() -> None:
    block = p.pack(p.Columns([2, 1, 2, 2], [5, 9, 4, 5], [1.0, 2.0, 3.0, 4.0]))
    steps, _, values = p.ordered(block)
    assert steps.tolist() == [1, 2, 2, 2]
    assert values.tolist() == [2.0, 3.0, 1.0, 4.0]
    assert p.summary_of_block(block).last == 4.0


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidInput):
        p.checked(b"12345678", b"", b"12345678")
    with pytest.raises(InvalidInput):
        p.checked(b"1234", b"1234", b"1234")
