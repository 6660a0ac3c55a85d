"""Erasing a person's rows by key: from every part of the log, and from nobody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from click.testing import CliRunner

from stead import datasets, ledger, predictions
from stead.cli import cli
from stead.errors import Conflict, Failed, InvalidInput, NotFound
from stead.predictions import Counts, Label, PredictionLog, compaction, reading
from stead.store import Store, hold_bytes
from tests.contract.traffic import hours, label, log


def test_a_key_is_gone_from_merged_and_single_segments_labels_and_shadows(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = any_store
    monkeypatch.setattr(compaction, "MERGE_AT", 2)
    ids: list[str] = []
    for n in range(3):
        mixed = hours(4, first=4 * n)
        mixed[0] = msgspec.structs.replace(mixed[0], key="ada@example.org")
        mixed[1] = msgspec.structs.replace(mixed[1], key="bob")
        label(store, log(store, mixed), [1.0] * 4)
        aside = PredictionLog(store, "gateway-1", kind="shadows")
        aside.append([msgspec.structs.replace(each, version=2) for each in mixed])
        aside.close()
        ids.append(mixed[0].id)
        predictions.compact(store)
        predictions.refresh_performance(store)
    made = predictions.erase_key(store, "bikes", "ada@example.org", reason="asked for")
    assert made.requests == 3 and made.segments >= 3
    assert predictions.counts(store, "bikes") == Counts(9, 9, 0, 9, 0)
    rows = predictions.read(store, "bikes").to_pylist()
    assert {row["key"] for row in rows} == {None, "bob"}
    assert predictions.read_scores(store, "bikes", since=0, until=1 << 60).num_rows == 18
    for path in Path(store.root).rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"ada@example.org" not in data, path
            assert "blobs" not in path.parts or not any(one.encode() in data for one in ids), path
    (entry,) = [each for each in ledger.list_entries(store) if each.action == "rows.erased"]
    assert entry.subject == f"key {predictions.key_digest('bikes', 'ada@example.org')}"
    with pytest.raises(NotFound):
        predictions.erase_key(store, "bikes", "ada@example.org")
    predictions.compact(store)
    assert predictions.counts(store, "bikes").logged == 9


def test_what_a_process_still_writes_to_is_waited_for(store: Store) -> None:
    made = PredictionLog(store, "gateway-1")
    (hers,) = [msgspec.structs.replace(each, key="ada") for each in hours(1)]
    made.append([hers])
    with pytest.raises(Conflict) as raised:
        predictions.erase_key(store, "bikes", "ada")
    assert raised.value.code == "erase-waits"
    made.close()
    predictions.add_labels(store, [Label(hers.id, 1.0)])
    with hold_bytes(store, "backup"), pytest.raises(Conflict):
        predictions.erase_key(store, "bikes", "ada")
    assert predictions.erase_key(store, "bikes", "ada").requests == 1
    assert predictions.counts(store, "bikes") == Counts(0, 0, 0, 0, 0)


def test_data_that_holds_the_key_is_marked_and_has_a_successor_without_it(any_store: Store, tmp_path: Path) -> None:
    store = any_store
    first = pa.table({"who": ["7", "bob"], "hour": [7, 7], "at": [1000, 2000]})
    datasets.add(store, "trips", first, time_column="at", origin={"until": 3000})
    datasets.add(store, "trips", pa.table({"who": ["eve"], "hour": [9], "at": [3000]}), append=True)
    datasets.add(store, "visits", pa.table({"customer": pa.array(["7", "8"]).dictionary_encode(), "n": [0.5, 1.0]}))
    datasets.add(store, "others", pa.table({"n": [8, 9]}))
    (tmp_path / "notes.txt").write_text("customer-7")
    datasets.add(store, "notes", [tmp_path / "notes.txt"])
    everywhere = predictions.erase_key(store, "bikes", "7")
    assert everywhere.marked == ["notes@1", "trips@1", "trips@2", "visits@1"] and everywhere.requests == 0
    (mark,) = datasets.get_version(store, "trips@2").marks
    assert (mark.rows, mark.key, mark.by) == ({"who": 1, "hour": 2}, everywhere.digest, "person:ada")
    assert datasets.get_version(store, "trips").marked_for.startswith("trips@2 may hold rows of 1 erased key")
    assert not datasets.get_version(store, "others").marks
    (entry,) = ledger.list_entries(store)
    assert entry.evidence["data"] == everywhere.marked
    with pytest.raises(NotFound):
        predictions.erase_key(store, "bikes", "7")
    datasets.add(store, "trips", pa.table({"who": ["7"], "hour": [1], "at": [4000]}), append=True)
    assert len(datasets.get_version(store, "trips@3").marks) == 1, "what is appended to may hold them still"


def test_with_its_column_named_the_next_training_learns_without_the_person(any_store: Store) -> None:
    store = any_store
    first = pa.table({"who": ["7", None, "bob"], "hour": [7, 7, 7], "at": [1000, 1500, 2000]})
    datasets.add(store, "trips", first, time_column="at", origin={"until": 3000})
    datasets.add(
        store, "trips", pa.table({"who": ["7"], "hour": [9], "at": [3000]}), append=True, origin={"until": 4000}
    )
    before = datasets.get_version(store, "trips@2", with_parts=True).part_list
    made = predictions.erase_key(store, "bikes", "7", column="who")
    assert (made.marked, made.without) == (["trips@1", "trips@2"], ["trips@3"])
    newest = datasets.get_version(store, "trips")
    assert (newest.ref, newest.rows, newest.marks, newest.source["until"]) == ("trips@3", 2, [], 4000)
    assert datasets.read(store, "trips@3")["who"].to_pylist() == [None, "bob"]
    assert datasets.read(store, "trips@3", since=0).num_rows == 2
    assert datasets.get_version(store, "trips@2", with_parts=True).part_list == before, "versions do not change"
    assert datasets.add(store, "trips", pa.table({"who": ["x"], "hour": [1], "at": [5000]}), append=True).marks == []


def test_a_column_that_no_data_has_is_refused_before_anything_is_erased(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(store, [msgspec.structs.replace(each, key="7") for each in hours(2)])
    datasets.add(store, "trips", pa.table({"who": ["7"], "hour": [7]}))
    with pytest.raises(InvalidInput, match="nothing was erased") as raised:
        predictions.erase_key(store, "bikes", "7", column="nope")
    assert raised.value.code == "column-unknown" and "hour, who" in str(raised.value.hint)
    assert predictions.counts(store, "bikes").logged == 2
    datasets.add(store, "nobody", pa.table({"place": ["x"]}))
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    told = CliRunner().invoke(cli, ["erase", "bikes", "--key", "7", "--column", "place", "--yes"]).output
    assert "2 requests erased" in told and "no data that was not marked before holds the key in place" in told


def test_a_reader_that_finds_a_listed_file_gone_looks_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    log(store, hours(2))
    predictions.compact(store)
    listed, looks = reading.paths, []

    def gone_at_first(*args: Any) -> list[str]:
        looks.append(0)
        return listed(*args) if len(looks) > 1 else [str(store.root / "blobs" / "d3" / "gone")]

    monkeypatch.setattr(reading, "paths", gone_at_first)
    assert predictions.read_requests(store, "bikes", came=0).num_rows == 2
    monkeypatch.setattr(reading, "paths", lambda *_: [str(store.root / "gone")])
    with pytest.raises(Failed, match="No files found"):
        predictions.read_requests(store, "bikes", came=0)
