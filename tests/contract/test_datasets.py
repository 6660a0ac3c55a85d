"""Dataset versions, on every database; on local files and S3 where bytes matter."""

from __future__ import annotations

import dataclasses
import gzip
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stead import datasets
from stead.api import Embedded
from stead.config import Settings
from stead.errors import Conflict, Failed, InvalidInput, NotFound, SteadError
from stead.runtime.clock import to_ms
from stead.sdk.data import files_into
from stead.store import Blobs, Store

START = datetime(2012, 1, 1)
HOUR = 3_600_000


def table(number: int, *, first: int = 0) -> pa.Table:
    """One row an hour."""
    numbers = range(first, first + number)
    return pa.table(
        {
            "ts": pa.array([START + timedelta(hours=n) for n in numbers], pa.timestamp("ms")),
            "count": list(numbers),
            "temp": [n / 4 for n in numbers],
            "place": ["north" if n % 2 else "south" for n in numbers],
        }
    )


def stored_bytes(store: Store) -> int:
    assert store.blobs.local is not None
    return sum(path.stat().st_size for path in store.blobs.local.rglob("*") if path.is_file())


def code(call: Callable[[], Any], kind: type[SteadError] = InvalidInput) -> str:
    with pytest.raises(kind) as raised:
        call()
    return raised.value.code


def test_a_table_becomes_a_version(any_store: Store) -> None:
    made = datasets.add(any_store, "bikes", table(48), time_column="ts", origin={"kind": "ingest", "until": 7})
    assert (made.ref, made.rows, made.parts, made.created_by) == ("bikes@1", 48, 1, any_store.actor)
    assert (made.time_min, made.time_max) == (to_ms("2012-01-01"), to_ms("2012-01-02T23:00"))
    assert [(c.name, c.type) for c in made.schema][:2] == [("ts", "timestamp[ms]"), ("count", "int64")]
    assert made.source == {"kind": "ingest", "until": 7}
    assert datasets.get_version(any_store, "bikes@1") == datasets.get_version(any_store, "bikes") == made
    assert datasets.read(any_store, "bikes").equals(table(48))
    (part,) = datasets.get_version(any_store, "bikes", with_parts=True).part_list
    assert (part.rows, part.format, part.time_max) == (48, "parquet", made.time_max)
    assert made.profile["temp"]["mean"] == pytest.approx(sum(range(48)) / 4 / 48)


def test_appending_adds_a_part_and_copies_nothing(any_store: Store) -> None:
    datasets.add(any_store, "bikes", table(50_000), time_column="ts")
    before = stored_bytes(any_store)
    made = datasets.add(any_store, "bikes", table(24, first=50_000), append=True)
    assert stored_bytes(any_store) - before < before / 20
    assert (made.version, made.rows, made.parts, made.source["appends"]) == (2, 50_024, 2, 1)
    assert made.profile["count"]["n"] == 50_024
    assert datasets.read(any_store, "bikes").equals(pa.concat_tables([table(50_024)]).combine_chunks())
    assert datasets.read(any_store, "bikes@1").num_rows == 50_000
    first, second = datasets.get_version(any_store, "bikes", with_parts=True).part_list
    assert (first.path, second.path) == ("rows.parquet", "rows-2.parquet")


def test_the_same_content_again_is_the_same_version(any_store: Store) -> None:
    one = datasets.add(any_store, "bikes", table(10), time_column="ts")
    assert datasets.add(any_store, "bikes", table(10), time_column="ts") == one
    assert datasets.add(any_store, "bikes", table(10), append=True) == one
    two = datasets.add(any_store, "bikes", table(5, first=10), append=True)
    assert datasets.add(any_store, "bikes", table(5, first=10), append=True) == two
    assert datasets.add(any_store, "bikes", table(10), time_column="ts") == one
    assert datasets.add(any_store, "bikes", table(10)).version == 3  # without times it is something else
    assert [version.version for version in datasets.list_versions(any_store, "bikes")] == [3, 2, 1]


def test_reading_between_times_opens_only_what_it_needs(any_store: Store) -> None:
    for part in range(5):
        datasets.add(any_store, "bikes", table(24, first=24 * part), append=True, time_column="ts")
    day = to_ms("2012-01-01")
    parts = datasets.get_version(any_store, "bikes", with_parts=True).part_list
    for part in (parts[0], parts[1], parts[4]):
        any_store.blobs.path(part.digest).unlink()
    found = datasets.read(any_store, "bikes", since=day + 60 * HOUR, until=day + 90 * HOUR, columns=["count"])
    assert found.column_names == ["count"]
    assert found["count"].to_pylist() == list(range(60, 90))
    assert datasets.read(any_store, "bikes", since=day + 1000 * HOUR).num_rows == 0
    assert datasets.read(any_store, "bikes", since=day + 1000 * HOUR).schema == table(1).schema
    assert code(lambda: datasets.read(any_store, "bikes"), NotFound) == "blob-missing"


@pytest.mark.parametrize(
    "times",
    [
        pa.array([START, START + timedelta(days=1)], pa.timestamp("ns")),
        pa.array([START.replace(tzinfo=UTC), datetime(2012, 1, 2, tzinfo=UTC)], pa.timestamp("us", "Europe/Berlin")),
        pa.array([date(2012, 1, 1), date(2012, 1, 2)]),
        pa.array(["2012-01-01", "2012-01-02"]),
        pa.array(["2012-01-01T00:00:00Z", "2012-01-02T01:00:00+01:00"]),
        pa.array([to_ms("2012-01-01"), to_ms("2012-01-02")]),
    ],
    ids=lambda times: str(times.type),
)
def test_times_in_any_form(store: Store, times: Any) -> None:
    made = datasets.add(store, "bikes", pa.table({"when": times, "x": [1, 2]}), time_column="when")
    assert (made.time_min, made.time_max) == (to_ms("2012-01-01"), to_ms("2012-01-02"))
    assert datasets.read(store, "bikes", since=to_ms("2012-01-02"))["x"].to_pylist() == [2]


def test_times_that_are_none(store: Store) -> None:
    def add(values: list[Any], column: str = "t") -> str:
        return code(lambda: datasets.add(store, "bikes", pa.table({"t": values}), time_column=column))

    assert add(["soon"]) == "time-unreadable"
    assert add([1.5]) == "time-unreadable"
    assert add([START, None]) == "time-null"
    assert add([START], "tt") == "time-column-unknown"
    assert code(lambda: datasets.get_version(store, "bikes"), NotFound) == "dataset-unknown"


def test_csv_and_parquet_files(any_store: Store, tmp_path: Path) -> None:
    lines = ["ts,count,temp,place", *(f"{START + timedelta(hours=n)},{n},{n / 4},p{n % 2}" for n in range(30))]
    (tmp_path / "bikes.csv").write_text("\n".join(lines))
    with gzip.open(tmp_path / "bikes2.csv.gz", "wt") as file:
        file.write("\n".join(lines))
    one = datasets.add(any_store, "bikes", tmp_path / "bikes.csv", time_column="ts")
    assert [column.type for column in one.schema] == ["timestamp[s]", "int64", "double", "string"]
    assert (one.rows, one.time_max) == (30, to_ms("2012-01-02T05:00"))
    assert datasets.add(any_store, "zipped", tmp_path / "bikes2.csv.gz", time_column="ts").rows == 30

    pq.write_table(table(10), tmp_path / "trips.parquet")
    made = datasets.add(any_store, "trips", tmp_path / "trips.parquet")
    (part,) = datasets.get_version(any_store, made.ref, with_parts=True).part_list
    assert any_store.blobs.get(part.digest) == (tmp_path / "trips.parquet").read_bytes()
    assert part.path == "trips.parquet"


def test_a_folder_of_tables_and_a_folder_of_anything(any_store: Store, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    pq.write_table(table(5, first=5), frames / "b.parquet")
    pq.write_table(table(5).cast(table(5).schema.set(1, pa.field("count", pa.int32()))), frames / "a.parquet")
    made = datasets.add(any_store, "frames", frames, time_column="ts")
    assert (made.rows, made.parts) == (10, 2)
    assert datasets.read(any_store, "frames")["count"].to_pylist() == list(range(10))

    images = tmp_path / "images"
    (images / "cats").mkdir(parents=True)
    (images / "cats" / "ünïcode 1.bin").write_bytes(b"miau")
    (images / "labels.csv").write_text("a,b\n1,2\n")
    made = datasets.add(any_store, "images", images)
    assert (made.rows, made.parts, made.schema, made.profile) == (None, 2, [], {})
    (images / "dog.bin").write_bytes(b"wuff")
    more = datasets.add(any_store, "images", images / "dog.bin", append=True)
    assert [part.path for part in datasets.get_version(any_store, more.ref, with_parts=True).part_list] == [
        "cats/ünïcode 1.bin",
        "labels.csv",
        "dog.bin",
    ]
    assert code(lambda: datasets.read(any_store, "images")) == "dataset-no-frame"
    (images / "dog.bin").write_bytes(b"other")
    assert code(lambda: datasets.add(any_store, "images", images / "dog.bin", append=True), Conflict) == "path-taken"
    assert code(lambda: datasets.add(any_store, "images", table(1), append=True)) == "dataset-kind-differs"
    assert code(lambda: datasets.add(any_store, "images", images, time_column="t")) == "dataset-no-time"


def test_columns_must_agree_on_append(any_store: Store) -> None:
    datasets.add(any_store, "bikes", table(5), time_column="ts")

    def error(changed: pa.Table) -> SteadError:
        with pytest.raises(InvalidInput) as raised:
            datasets.add(any_store, "bikes", changed, append=True)
        return raised.value

    new = table(5, first=5)
    wrong = error(new.set_column(1, "count", pa.array(["a"] * 5)))
    assert wrong.code == "schema-type"
    assert all(word in wrong.message for word in ("'count'", "string", "int64", "bikes@1"))
    assert error(new.set_column(1, "count", pa.array([1.5] * 5))).code == "schema-type"
    gone = error(new.drop_columns(["temp"]))
    assert (gone.code, "'temp'" in gone.message) == ("schema-column", True)
    assert error(new.append_column("more", pa.array([1] * 5))).code == "schema-column"
    assert "'temp'" in str(error(new.rename_columns(["ts", "count", "temq", "place"])))
    assert (
        code(lambda: datasets.add(any_store, "bikes", new, append=True, time_column="count")) == "time-column-differs"
    )
    assert datasets.get_version(any_store, "bikes").version == 1

    turned = new.select(["place", "temp", "count", "ts"]).set_column(1, "temp", pa.array([1, 2, 3, 4, None]))
    made = datasets.add(any_store, "bikes", turned, append=True)
    assert datasets.read(any_store, made.ref).schema == table(1).schema


def test_a_column_of_nulls_becomes_what_comes_later(store: Store) -> None:
    datasets.add(store, "x", pa.table({"a": [1, 2], "b": pa.nulls(2)}))
    made = datasets.add(store, "x", pa.table({"a": [3], "b": ["text"]}), append=True)
    assert made.schema[1].type == "string"
    assert datasets.read(store, "x")["b"].to_pylist() == [None, None, "text"]
    assert datasets.read(store, "x@1")["b"].to_pylist() == [None, None]


def test_categories_are_kept_as_their_values(store: Store) -> None:
    datasets.add(store, "x", pa.table({"a": pa.array(["u", "v", "u"]).dictionary_encode()}))
    assert datasets.read(store, "x")["a"].to_pylist() == ["u", "v", "u"]
    assert datasets.get_version(store, "x").schema[0].type == "string"


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_files_that_are_got_and_verified_bytes(store: Store, kind: str, request: Any, tmp_path: Path) -> None:
    if kind == "s3":
        place = request.getfixturevalue("s3")()
        store = dataclasses.replace(store, blobs=Blobs(**place, cache=tmp_path / "cache"))
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "one.bin").write_bytes(b"one")
    (source / "two.txt").write_text("two")
    datasets.add(store, "files", source)
    assert datasets.verify(store, "files") == 2
    target, caller = tmp_path / "target", Embedded(store, Settings({}, {}))
    for _ in range(2):
        paths = files_into(caller, "files@1", target)[1]
        assert [path.relative_to(target).as_posix() for path in paths] == ["deep/one.bin", "two.txt"]
        assert [path.read_bytes() for path in paths] == [b"one", b"two"]
    paths[1].write_text("mine")
    files_into(caller, "files", target)
    assert paths[1].read_text() == "two"
    assert sorted(path.name for path in target.rglob("*")) == ["deep", "one.bin", "two.txt"]


def test_altered_and_missing_parts_are_named(any_store: Store, tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin", "c.bin"):
        (tmp_path / name).write_text(name)
    datasets.add(any_store, "files", [tmp_path / name for name in ("a.bin", "b.bin", "c.bin")])
    parts = datasets.get_version(any_store, "files", with_parts=True).part_list
    any_store.blobs.path(parts[0].digest).write_text("A.bin")
    any_store.blobs.path(parts[2].digest).unlink()
    with pytest.raises(Failed) as raised:
        datasets.verify(any_store, "files")
    assert raised.value.code == "dataset-corrupt"
    assert "a.bin was altered" in raised.value.message
    assert "c.bin is missing" in raised.value.message
    assert "b.bin" not in raised.value.message


def test_paths_that_escape_and_odd_names(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    assert code(lambda: datasets.add(store, "x", folder)) == "path-escapes"
    (folder / "link").unlink()
    (folder / "up").symlink_to(tmp_path)
    assert code(lambda: datasets.add(store, "x", folder)) == "path-escapes"
    (folder / "up").unlink()
    assert code(lambda: datasets.add(store, "x", folder)) == "dataset-empty"
    (folder / "line\nbreak").write_text("x")
    assert code(lambda: datasets.add(store, "x", folder)) == "path-invalid"
    (folder / "line\nbreak").unlink()
    os.mkfifo(folder / "pipe")
    assert code(lambda: datasets.add(store, "x", folder)) == "path-invalid"
    assert code(lambda: datasets.add(store, "../x", table(1))) == "name-invalid"
    assert code(lambda: datasets.add(store, "x@1", table(1))) == "name-invalid"
    digest = store.blobs.put(b"x")
    for path in ("../x", "/etc/passwd", "a//b", "a\\b", ".", "a\0b", "", "x" * 300):
        assert code(lambda path=path: datasets.add_stored(store, "x", {path: digest})) == "path-invalid"
    assert code(lambda: datasets.add(store, "x", tmp_path / "secrit"), NotFound) == "source-missing"
    assert code(lambda: datasets.add(store, "x", [tmp_path / "secret", tmp_path / "secret"])) == "path-twice"
    assert datasets.list_datasets(store) == []


def test_what_cannot_be_read(store: Store, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3\n")
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    assert code(lambda: datasets.add(store, "x", tmp_path / "x.parquet")) == "frame-unreadable"
    assert code(lambda: datasets.add(store, "x", tmp_path / "x.csv")) == "frame-unreadable"
    assert code(lambda: datasets.add(store, "x", tmp_path / "twice.csv")) == "column-twice"
    datasets.add(store, "x", table(1))
    assert code(lambda: datasets.read(store, "x", since=0)) == "dataset-no-time"
    assert code(lambda: datasets.read(store, "x", columns=["conut"])) == "column-unknown"
    assert code(lambda: datasets.get_version(store, "x@0")) == "ref-invalid"
    assert code(lambda: datasets.get_version(store, "x@2"), NotFound) == "dataset-version-unknown"
    with pytest.raises(NotFound) as raised:
        datasets.get_version(store, "y")
    assert raised.value.code == "dataset-unknown"


def test_bytes_that_a_client_sent_before(any_store: Store, tmp_path: Path) -> None:
    pq.write_table(table(5), tmp_path / "trips.parquet")
    digest = any_store.blobs.put(tmp_path / "trips.parquet")
    local = datasets.add(any_store, "trips", tmp_path / "trips.parquet", time_column="ts")
    assert datasets.add_stored(any_store, "trips", {"trips.parquet": digest}, time_column="ts") == local
    csv = any_store.blobs.put(b"ts,count,temp,place\n2012-01-01 05:00:00,5,1.25,north\n")
    assert datasets.add_stored(any_store, "trips", {"more.csv": csv}, append=True).rows == 6
    assert code(lambda: datasets.add_stored(any_store, "trips", {"a.bin": "0" * 64}), NotFound) == "blob-missing"


def test_listed_are_the_newest(any_store: Store) -> None:
    for name in ("b", "a"):
        datasets.add(any_store, name, table(2))
        datasets.add(any_store, name, table(3))
    assert [version.ref for version in datasets.list_datasets(any_store)] == ["a@2", "b@2"]


def test_adding_at_once_leaves_neither_gap_nor_double(any_store: Store) -> None:
    start = threading.Barrier(6)

    def append(part: int) -> datasets.DatasetVersion:
        start.wait()
        return datasets.add(any_store, "bikes", table(4, first=4 * part), append=True, time_column="ts")

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(append, range(6)))
    assert sorted(version.version for version in made) == [1, 2, 3, 4, 5, 6]
    newest = datasets.get_version(any_store, "bikes")
    assert (newest.version, newest.parts, newest.rows) == (6, 6, 24)
    assert sorted(datasets.read(any_store, "bikes")["count"].to_pylist()) == list(range(24))
    with ThreadPoolExecutor(6) as pool:
        same = list(pool.map(lambda _: datasets.add(any_store, "same", table(4)), range(6)))
    assert {version.version for version in same} == {1}
