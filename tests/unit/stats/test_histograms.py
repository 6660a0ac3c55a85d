"""Histograms: nothing is lost, merging is exact in any order, and any value has a slot."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.stats.histograms import (
    HIGH,
    LOW,
    NULL,
    OTHER,
    SPECIAL,
    UNSEEN,
    WRONG,
    Bins,
    Histogram,
    histogram,
    make_bins,
    merge_histograms,
    moments,
)

ANY = st.one_of(st.none(), st.floats(), st.integers(-5, 5), st.booleans(), st.sampled_from(["a", "b", "", "7"]))


@given(
    st.lists(ANY, max_size=30),
    st.lists(ANY, max_size=30),
    st.lists(ANY, max_size=30),
    st.sampled_from(["number", "level", None]),
)
def test_every_value_is_counted_once_and_merging_is_exact(a: list, b: list, reference: list, kind: str | None) -> None:
    bins = make_bins(reference, kind=kind)
    one, two, both = (histogram(values, bins) for values in (a, b, a + b))
    assert both.rows == len(a) + len(b)
    assert merge_histograms([one, two]) == both == merge_histograms([two, one])
    assert len(both.counts) == bins.slots
    assert json.loads(json.dumps(asdict(both)))["counts"] == list(both.counts)


def test_bins_hold_equal_parts_of_the_reference() -> None:
    values = np.random.default_rng(0).exponential(1, 32_000)
    found = histogram(values, make_bins(values))
    assert set(found.counts[SPECIAL:]) <= {999, 1000, 1001}
    assert sum(found.counts[:SPECIAL]) == 0
    assert moments(found) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=1e-4))


def test_numbers_outside_missing_and_of_another_type() -> None:
    bins = make_bins([1.0, 2.0, 3.0, None])
    found = histogram([0.0, 9.0, 8.0, math.nan, None, "x", 3, True, math.inf], bins)
    assert [found.counts[slot] for slot in (NULL, WRONG, LOW, HIGH)] == [2, 1, 1, 3]
    assert histogram(np.array([0.0, np.nan, 2.0]), bins).counts[NULL] == 1


def test_levels() -> None:
    bins = make_bins([f"c{i:03}" for i in range(100) for _ in range(100 - i)])
    assert bins.levels[:2] == ("c000", "c001") and len(bins.levels) == 30 and len(bins.seen) == 70
    found = histogram(["c000", "c099", "new", None, None], bins)
    assert [found.counts[slot] for slot in (NULL, OTHER, UNSEEN, SPECIAL)] == [2, 1, 1, 1]
    assert bins.novelty == pytest.approx(1 / 5050)
    assert make_bins([True, False]).levels == make_bins(np.array([0, 1]), kind="level").levels == ("0", "1")


def test_a_column_of_names_has_no_unseen_level() -> None:
    bins = make_bins([f"id{i}" for i in range(3000)])
    assert histogram(["another"], bins).counts[OTHER] == 1


def test_empty_and_constant_references() -> None:
    assert histogram([1.0], make_bins([None, None])).rows == 1
    assert histogram([5.0, 6.0], make_bins([5.0, 5.0])).counts == (0, 0, 0, 1, 1)
    assert histogram([1.0, None], make_bins([None], kind="number")).rows == 2
    assert all(math.isnan(each) for each in moments(Histogram((3, 0, 0, 0, 0))))
    assert make_bins([]) == Bins("level")
    with pytest.raises(ValueError, match="no histograms"):
        merge_histograms([])


def test_few_valued_numbers_have_a_bin_a_value() -> None:
    found = histogram(np.arange(24.0), make_bins(np.tile(np.arange(24), 40)))
    assert found.counts == (0,) * SPECIAL + (1,) * 24
