"""Data contracts and quarantine on each database: what is read off, what breaks it, and what takes the place of rows."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from stead import datasets
from stead.datasets.contracts import ColumnRule
from stead.errors import InvalidInput
from stead.store import Store

HOUR = 3_600_000


def table(first: int, last: int, **columns: Any) -> pa.Table:
    hours = range(first, last)
    made: dict[str, Any] = {
        "t": pa.array([hour * HOUR for hour in hours], pa.timestamp("ms")),
        "warm": [10.0 + hour % 20 for hour in hours],
        "town": ["ab"[hour % 2] for hour in hours],
        "y": [float(hour % 7) for hour in hours],
    }
    return pa.table(made | columns)


def test_a_contract_is_read_off_written_and_read(any_store: Store) -> None:
    version = datasets.add(any_store, "d", table(0, 600), time_column="t")
    contract = datasets.infer_contract(any_store, "d")
    assert contract.columns["warm"] == ColumnRule("number", 0.01, -9.0, 48.0)
    assert contract.columns["town"].levels == ("a", "b") and contract.columns["t"].type == "time"
    text = datasets.contract_text(contract, version.ref)
    assert datasets.read_contract(text, "d.contract.toml") == contract
    assert datasets.violations(contract, table(600, 700)) == []


@pytest.mark.parametrize(
    ("columns", "said", "rule"),
    [
        ({"warm": [90.0] * 100}, "the column 'warm' is 90 and the like in 100 of 100 rows, -9 to 48 is usual", "max"),
        ({"warm": [None] * 5 + [20.0] * 95}, "'warm' is empty in 5 of 100 rows", "null"),
        ({"warm": [float("nan")] * 5 + [20.0] * 95}, "'warm' is empty in 5 of 100 rows", "null"),
        ({"warm": ["warm"] * 100}, "'warm' is text, not number", "type"),
        ({"town": ["c"] * 2 + ["a"] * 98}, "'town' has 'c' and the like in 2 of 100 rows", "levels"),
    ],
)
def test_what_breaks_it_is_named(store: Store, columns: dict[str, Any], said: str, rule: str) -> None:
    datasets.add(store, "d", table(0, 600), time_column="t")
    (found,) = datasets.violations(datasets.infer_contract(store, "d"), table(600, 700, **columns))
    assert said in found and found.endswith(f'(contract: [columns."{next(iter(columns))}"] {rule})')
    assert datasets.violations(datasets.infer_contract(store, "d"), table(600, 700).drop_columns(["town"])) == [
        "the column 'town' is missing (contract: [columns.\"town\"])"
    ]


def test_few_rows_say_nothing_of_ranges(store: Store) -> None:
    datasets.add(store, "d", table(0, 24), time_column="t")
    assert datasets.violations(datasets.infer_contract(store, "d"), table(24, 48, warm=[90.0] * 24)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("outside = ", "d.contract.toml"),
        ("inside = 1", "inside is not known"),
        ('[columns.x]\ntype = "numbr"', "columns.x.type is 'numbr'"),
        ("[columns.x]\nnul = 0", "columns.x.nul is not known"),
        ("[columns.x]\nnull = 'few'", "columns"),
        ("columns = 3", "d.contract.toml"),
    ],
)
def test_a_contract_that_is_none(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=r"contract\.toml") as raised:
        datasets.read_contract(text, "d.contract.toml")
    assert said in raised.value.message and raised.value.code == "contract-invalid"


def test_a_batch_that_comes_again_is_counted(any_store: Store) -> None:
    digest = any_store.blobs.put(b"rows")
    for job in ("1", "2"):
        put = datasets.put_aside(any_store, "d", digest, rows=3, since=0, until=9, problems=["bad"], job=job)
    assert (put.times, put.job) == (2, "2")
    assert datasets.list_quarantine(any_store, dataset="d") == [put]
    assert datasets.list_quarantine(any_store, dataset="e") == []


def test_new_rows_take_the_place_of_old_ones(any_store: Store) -> None:
    store = any_store
    datasets.add(store, "d", table(0, 100), time_column="t")
    datasets.add(store, "d", table(100, 200), append=True, time_column="t")
    news = table(150, 250, y=[9.0] * 100)
    made = datasets.add(store, "d", news, append=True, time_column="t", replace_since=150 * HOUR)
    assert (made.version, made.rows, made.parts) == (3, 250, 3)
    read = datasets.read(store, "d")
    assert read["y"].to_pylist()[150:] == [9.0] * 100 and read["y"].to_pylist()[149] == 149 % 7
    assert made.profile["y"]["n"] == 250 and made.profile["y"]["max"] == 9.0
    before, after = (datasets.get_version(store, f"d@{n}", with_parts=True).part_list for n in (2, 3))
    assert before[0].digest == after[0].digest and before[1].digest != after[1].digest
    assert datasets.read(store, "d@2").num_rows == 200
