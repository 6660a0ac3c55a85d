"""What can be added, how it is read, and what is wrong with it: files, frames, streams, queries; larger than what is held at once."""

from __future__ import annotations

import gzip
import importlib.util
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from test_disk_full import file_size_limit

from stead import care, datasets
from stead.api import Embedded
from stead.config import Settings
from stead.datasets import Query, frames, storing
from stead.errors import Conflict, Failed, InvalidInput, NotFound, SteadError
from stead.sdk.data import files_into
from stead.store import Store
from tests.conftest import needs


def code(call: Callable[[], Any], kind: type[SteadError] = InvalidInput) -> str:
    with pytest.raises(kind) as raised:
        call()
    return raised.value.code


def rows(number: int, first: int = 0) -> pa.Table:
    random = np.random.default_rng(first)
    return pa.table(
        {
            "t": pa.array(np.arange(first, first + number) * 60_000, pa.timestamp("ms")),
            "x": random.normal(size=number),
            "level": random.choice(["a", "b", "c"], number),
        }
    )


def test_frames_of_any_kind(store: Store, tmp_path: Path) -> None:
    table = rows(100)
    given: dict[str, Any] = {"arrow": table, "pandas": table.to_pandas(), "stream": table.to_reader(30)}
    needs("polars", importlib.util.find_spec("polars") is not None)
    import polars

    given["polars"] = polars.DataFrame(table)
    for ending, write in (("arrow", pa.ipc.new_file), ("ipc", pa.ipc.new_stream)):
        with pa.OSFile(str(tmp_path / f"x.{ending}"), "wb") as sink, write(sink, table.schema) as writer:
            writer.write_table(table, 30)
        given[ending] = tmp_path / f"x.{ending}"
    for name, source in given.items():
        made = datasets.add(store, name, source, time_column="t")
        assert (made.rows, made.time_max, made.profile["x"]["n"]) == (100, 99 * 60_000, 100), name
        found = datasets.read(store, name)
        assert (
            found["x"].to_pylist() == table["x"].to_pylist()
            and found["level"].to_pylist() == table["level"].to_pylist()
        )
    assert code(lambda: datasets.add(store, "x", 5)) == "source-unknown"


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts as larger than memory."""
    monkeypatch.setattr(frames, "streamed", lambda: 0)


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("kind", ["parquet", "csv", "csv.gz", "arrow"])
def test_what_is_larger_than_memory_is_read_in_pieces(store: Store, tmp_path: Path, kind: str) -> None:
    number = 700_000
    table = rows(number)
    file = tmp_path / f"x.{kind}"
    if kind == "parquet":
        pq.write_table(table, file, row_group_size=100_000)
    elif kind == "arrow":
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, 50_000)
    else:
        with (gzip.open if kind.endswith("gz") else open)(file, "wb") as out:
            pa.csv.write_csv(table, out)
    made = datasets.add(store, "x", file, time_column="t")
    assert (made.rows, made.time_min, made.time_max) == (number, 0, (number - 1) * 60_000)
    found, exact = made.profile, datasets.profile.profile_of(table)
    assert found["level"]["top"] == exact["level"]["top"]
    assert found["x"]["mean"] == pytest.approx(exact["x"]["mean"]) and found["x"]["n"] == sum(
        found["x"]["histogram"]["counts"]
    )
    assert max(found["x"]["histogram"]["counts"]) < 1.2 * number / 32
    pieces = list(datasets.batches(store, "x", columns=["x"]))
    assert pa.concat_tables(pieces)["x"].to_pylist() == table["x"].to_pylist()
    more = datasets.add(store, "x", file, append=False, time_column="t")
    assert more == made
    changed = table.set_column(1, "x", pa.array(np.asarray(table["x"]) + 1))
    datasets.add(store, "x", changed.set_column(0, "t", table["t"].cast(made.schema[0].type)), time_column="t")
    by = {column.name: column.distance for column in datasets.diff(store, "x@1", "x@2").columns}
    assert by["level"] == 0 and (by["x"] or 0) > 0.2


def test_the_profile_of_a_large_table_is_that_of_all_its_rows(store: Store, tmp_path: Path) -> None:
    number, random = 700_000, np.random.default_rng(5)
    x = np.where(random.random(number) < 0.01, np.nan, random.lognormal(0, 2, number))
    x[[3, number - 1]] = np.inf, -np.inf
    table = rows(number).append_column("odd", pa.array(x, mask=random.random(number) < 0.1))
    table = table.append_column("a.b", pa.array(random.integers(0, 9, number)))
    table = table.append_column("a", pa.array(random.random(number)))
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=100_000)
    made = datasets.add(store, "x", tmp_path / "x.parquet", time_column="t")
    assert (made.time_min, made.time_max) == (0, (number - 1) * 60_000)
    wanted = datasets.profile.profile_of(table)
    for name, column in wanted.items():
        for figure, value in column.items():
            found = made.profile[name][figure]
            assert found == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), (name, figure)
    there = x[np.isfinite(x)]
    assert made.profile["odd"]["infinite"] <= 2 and 0.08 < made.profile["odd"]["null"] / number < 0.14
    assert made.profile["a"]["sd"] == pytest.approx(np.asarray(table["a"]).std(), rel=1e-9)
    assert made.profile["odd"]["max"] <= there.max()


@pytest.mark.usefixtures("small_memory")
def test_types_of_a_large_csv_are_those_of_all_its_rows(store: Store, tmp_path: Path) -> None:
    number = 1_500_000
    late = ["1"] * (number - 1)
    lines = {
        "int": [*late, "2"],
        "float": [*late, "2.5"],
        "text": [*late, "two"],
        "none": [*[""] * (number - 1), "7"],
    }
    with open(tmp_path / "x.csv", "w") as out:
        out.write(",".join(lines) + "\n")
        out.writelines(f"{a},{b},{c},{d}\n" for a, b, c, d in zip(*lines.values(), strict=True))
    made = datasets.add(store, "x", tmp_path / "x.csv")
    assert {column.name: column.type for column in made.schema} == {
        "int": "int64",
        "float": "double",
        "text": "string",
        "none": "int64",
    }
    assert (made.rows, made.profile["none"]["null"], made.profile["float"]["max"]) == (number, number - 1, 2.5)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n3\n")
    assert code(lambda: datasets.add(store, "y", tmp_path / "bad.csv")) == "frame-unreadable"


def test_a_stream_that_never_fits_is_added_in_little_memory(store: Store) -> None:
    def batches() -> Any:
        for first in range(30):
            yield rows(200_000, first * 200_000).to_batches()[0]

    before = pa.total_allocated_bytes()
    peak = [0]

    def seen() -> Any:
        for batch in batches():
            peak[0] = max(peak[0], pa.total_allocated_bytes() - before)
            yield batch

    made = datasets.add(store, "x", pa.RecordBatchReader.from_batches(rows(1).schema, seen()), time_column="t")
    assert made.rows == 6_000_000
    assert peak[0] < 700e6
    assert sum(piece.num_rows for piece in datasets.batches(store, "x")) == 6_000_000


def test_what_iterates_over_batches_is_a_stream(store: Store) -> None:
    batches = rows(30).to_batches(max_chunksize=10)
    given: dict[str, Callable[[], Any]] = {
        "iterator": lambda: iter(batches),
        "generator": lambda: (batch for batch in batches),
        "tables": lambda: [pa.Table.from_batches([batch]) for batch in batches],
    }
    for name, source in given.items():
        made = datasets.add(store, name, source(), time_column="t")
        assert (made.version, made.rows) == (1, 30) and datasets.read(store, name).equals(rows(30)), name
    assert datasets.add(store, "frames", (pd.DataFrame({"n": [n, None]}) for n in (1, 2))).rows == 4
    wider = ({"n": pa.array(values)} for values in ([1, 2], [None, None], [2.5]))
    made = datasets.add(store, "wider", map(pa.record_batch, wider))
    assert (made.rows, made.schema[0].type) == (5, "double")
    assert datasets.add(store, "wider", iter([pa.table({"n": [3.5]})]), append=True).rows == 6


def test_a_stream_that_is_empty_or_mixed_changes_nothing(store: Store) -> None:
    one, other, further = (pa.record_batch({name: values}) for name, values in (("a", [1]), ("a", ["x"]), ("b", [1])))
    wrong: list[tuple[Any, str, str]] = [
        (iter([]), "dataset-empty", "no batch of rows came"),
        (iter([one, other]), "schema-type", "column 'a' is string in batch 2 and int64 in batch 1"),
        (iter([one, one, further]), "schema-column", "batch 3 has no column 'a', which batch 1 has"),
        (iter([one, {"a": 1}]), "source-unknown", "dict is nothing that can be added"),
        (pa.RecordBatchReader.from_batches(one.schema, iter([one, other])), "frame-unreadable", "the stream cannot be"),
    ]
    for source, expected, said in wrong:
        with pytest.raises(InvalidInput, match=said) as raised:
            datasets.add(store, "x", source)
        assert raised.value.code == expected
    assert datasets.list_datasets(store) == [] and not list(store.blobs.all())


@pytest.mark.parametrize("kind", ["generator", "reader"])
def test_a_stream_is_whole_where_another_version_came_meanwhile(store: Store, kind: str) -> None:
    batches = rows(30).to_batches(max_chunksize=10)

    def slow() -> Any:
        yield batches[0]
        datasets.add(store, "x", rows(5))
        yield from batches[1:]

    stream = slow() if kind == "generator" else pa.RecordBatchReader.from_batches(batches[0].schema, slow())
    made = datasets.add(store, "x", stream)
    assert (made.version, made.rows) == (2, 30) and datasets.read(store, "x").equals(rows(30))


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with a table of orders."""
    url = request.getfixturevalue("postgres")() if request.param == "postgres" else f"sqlite:///{tmp_path / 'shop.db'}"
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    kind = "double precision" if request.param == "postgres" else "real"
    with engine.begin() as tx:
        tx.execute(sa.text(f"create table orders (id bigint, price {kind}, who text, at timestamp)"))
        tx.execute(
            sa.text("insert into orders values (:id, :price, :who, :at)"),
            [
                {"id": n, "price": n / 2, "who": None if n < 120_000 else "100%", "at": f"2030-01-01 00:00:{n % 60:02}"}
                for n in range(120_500)
            ],
        )
    engine.dispose()
    return url


def test_the_rows_of_a_query(store: Store, database: str) -> None:
    made = datasets.add(store, "orders", Query(database, "select id, price, who from orders order by id"))
    assert made.rows == 120_500
    assert [(column.name, column.type) for column in made.schema] == [
        ("id", "int64"),
        ("price", "double"),
        ("who", "string"),
    ]
    assert made.source["kind"] == "query" and "secret" not in str(made.source)
    found = datasets.read(store, "orders")
    assert found["id"].to_pylist() == list(range(120_500)) and found["who"].null_count == 120_000
    assert datasets.add(store, "orders", Query(database, "select id, price, who from orders order by id")) == made
    more = datasets.add(
        store,
        "orders",
        Query(database, "select id + 1000000 as id, price, who from orders where who like '%0%'"),
        append=True,
    )
    assert more.rows == 121_000
    timed = datasets.add(store, "timed", Query(database, "select id, at from orders where id < 10"), time_column="at")
    assert timed.time_max is not None and timed.time_max % 60_000 == 9_000
    empty = datasets.add(store, "empty", Query(database, "select id from orders where id < 0"))
    assert empty.rows == 0


def test_queries_that_make_no_sense(store: Store, database: str, tmp_path: Path) -> None:
    def add(sql: str, url: str = database, kind: type[SteadError] = InvalidInput) -> str:
        return code(lambda: datasets.add(store, "x", Query(url, sql)), kind)

    assert add("select nothing from orders") == "query-invalid"
    assert add("selec") == "query-invalid"
    assert add("drop table orders") == "query-invalid"
    assert add("select id, id from orders") == "column-twice"
    assert add("select 1", f"sqlite:///{tmp_path / 'none.db'}", NotFound) == "source-missing"
    assert not (tmp_path / "none.db").exists()
    assert add("select 1", "nonsense") == "database-url-invalid"
    assert add("select 1", "oracle+nothing://x") == "database-url-invalid"
    assert add("select 1", "postgresql://ann:secret@127.0.0.1:1/x", Failed) == "query-failed"
    assert datasets.list_datasets(store) == []
    assert datasets.add(store, "x", Query(database, "select count(*) as n from orders")).rows == 1


def test_links_in_a_folder(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "file.bin").write_bytes(b"file")
    (folder / "link.bin").symlink_to(folder / "in" / "file.bin")
    assert datasets.add(store, "x", folder).parts == 2
    for name, target in (("loop", "loop"), ("a", "b"), ("gone", "nothing"), ("up", "."), ("out", "/etc/hostname")):
        (folder / name).symlink_to(target)
        if name == "a":
            (folder / "b").symlink_to("a")
        assert code(lambda: datasets.add(store, "x", folder)) == "path-escapes", name
        for left in (name, "b") if name == "a" else (name,):
            (folder / left).unlink()
    assert [version.version for version in datasets.list_versions(store, "x")] == [1]


def test_the_store_is_no_part_of_the_folder_that_it_lies_in(store: Store, tmp_path: Path) -> None:
    assert store.root.is_relative_to(tmp_path)
    (tmp_path / "rows.bin").write_bytes(b"rows")
    assert datasets.add(store, "x", tmp_path).parts == 1
    assert datasets.status(store, "x", tmp_path)[:5] == ("x@1", [], [], [], 1)


@pytest.mark.parametrize("how", ["written", "replaced", "gone", "cut"])
@pytest.mark.parametrize("size", [5_000, 20_000_000])
def test_a_file_that_changes_while_it_is_added(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, size: int
) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(os.urandom(size))
    stored = storing.stored

    def late(*given: Any) -> Any:
        made = stored(*given)
        if how == "gone":
            file.unlink()
        elif how == "replaced":
            (tmp_path / "new").write_bytes(bytes(size))
            os.replace(tmp_path / "new", file)
        else:
            with open(file, "r+b") as out:
                out.truncate(size // 2) if how == "cut" else out.write(b"other")
        return made

    monkeypatch.setattr("stead.datasets.operations.stored", late)
    assert code(lambda: datasets.add(store, "x", file), Conflict) == "source-changed"
    assert datasets.list_datasets(store) == [] and care.check(store, contents=True) == []


def test_a_file_that_shrinks_and_grows_under_the_reader_breaks_nothing(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(os.urandom(60 << 20))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            os.truncate(file, 30 << 20)
            with open(file, "ab") as out:
                out.write(os.urandom(1 << 20))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            with pytest.raises(Conflict):
                datasets.add(store, "x", file)
    finally:
        stop.set()
        writer.join()
    assert datasets.list_datasets(store) == []
    assert datasets.add(store, "x", file).version == 1 and datasets.verify(store, "x") == 1


def test_a_full_disk(store: Store, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(os.urandom(20 << 20))
    with file_size_limit(10 << 20):
        assert code(lambda: datasets.add(store, "x", tmp_path / "big.bin"), Failed) == "disk-full"
        assert code(lambda: datasets.add(store, "y", rows(1_000_000)), Failed) == "disk-full"
    assert datasets.list_datasets(store) == [] and care.check(store, contents=True) == []
    assert datasets.add(store, "x", tmp_path / "big.bin").version == 1
    assert datasets.add(store, "y", rows(1_000_000)).rows == 1_000_000
    assert datasets.verify(store, "x") == datasets.verify(store, "y") == 1


def test_altered_bytes_are_written_nowhere(store: Store, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"hello")
    datasets.add(store, "x", tmp_path / "x.bin")
    (part,) = datasets.get_version(store, "x", with_parts=True).part_list
    blob = store.blobs.path(part.digest)
    blob.write_bytes(b"hellO")
    with pytest.raises(Failed, match=r"x\.bin of x@1: ") as raised:
        files_into(Embedded(store, Settings({}, {})), "x", tmp_path / "out")
    assert (raised.value.code, raised.value.hint) == ("blob-corrupt", "stead data verify x@1 --repair-from BACKUPS")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_where_files_are_written(store: Store, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "x.bin").write_bytes(data)
    datasets.add(store, "x", tmp_path / "x.bin")
    with file_size_limit(200_000):
        assert code(lambda: files_into(Embedded(store, Settings({}, {})), "x", tmp_path / "out"), Failed) == "disk-full"
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "file").touch()
    assert code(lambda: files_into(Embedded(store, Settings({}, {})), "x", tmp_path / "file")) == "folder-unwritable"
    assert files_into(Embedded(store, Settings({}, {})), "x", tmp_path / "out")[1][0].read_bytes() == data


def test_a_database_is_only_read(store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as con:
        con.execute("create table x (a)")
        con.execute("insert into x values (1)")
    con.close()
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with pytest.raises(SteadError):
        datasets.add(store, "x", Query(url, "insert into x values (2) returning a"))
    assert datasets.add(store, "x", Query(url, "select a from x")).rows == 1


def test_a_delta_table_by_reference(store: Store, tmp_path: Path) -> None:
    needs("deltalake", importlib.util.find_spec("deltalake") is not None)
    import deltalake

    url = str(tmp_path / "table")
    deltalake.write_deltalake(url, rows(1000))
    deltalake.write_deltalake(url, rows(500, 1000), mode="append")
    before = sum(blob.bytes for blob in store.blobs.all())
    one = datasets.add(store, "d", datasets.Delta(url, 0), time_column="t")
    two = datasets.add(store, "d", datasets.Delta(url), time_column="t")
    assert (one.rows, two.rows, two.parts, two.time_max) == (1000, 1500, 2, 1499 * 60_000)
    assert two.source == {"kind": "delta", "url": url, "table_version": 1} and two.profile["x"]["n"] == 1500
    assert datasets.add(store, "d", datasets.Delta(url, 0), time_column="t") == one
    assert sum(blob.bytes for blob in store.blobs.all()) - before < 10_000, "nothing of it is copied"
    deltalake.write_deltalake(url, rows(7), mode="overwrite")
    found = datasets.read(store, "d@2", columns=["x"], since=1400 * 60_000)
    assert found.num_rows == 100 and found.column_names == ["x"]
    assert datasets.read(store, "d@1").sort_by("t")["x"].to_pylist() == rows(1000)["x"].to_pylist()
    assert sum(piece.num_rows for piece in datasets.batches(store, "d@2")) == 1500
    compared = datasets.diff(store, "d@1", "d@2", key=["t"])
    assert compared.rows is not None and (compared.rows.added, compared.rows.same) == (500, 1000)
    assert datasets.verify(store, "d@2") == 2 and care.check(store, contents=True) == []
    assert code(lambda: datasets.add(store, "d", rows(1), append=True)) == "dataset-referenced"
    assert code(lambda: datasets.add(store, "d", datasets.Delta(url), append=True)) == "dataset-referenced"
    assert code(lambda: datasets.add(store, "d", datasets.Delta(url), time_column="tt")) == "time-column-unknown"
    assert code(lambda: datasets.add(store, "d", datasets.Delta(url, 99)), NotFound) == "source-missing"
    assert code(lambda: datasets.add(store, "d", datasets.Delta(f"{url}x")), NotFound) == "source-missing"
    assert code(lambda: files_into(Embedded(store, Settings({}, {})), "d", tmp_path / "out")) == "dataset-referenced"
    for file in (tmp_path / "table").glob("*.parquet"):
        file.unlink()
    with pytest.raises(Failed) as raised:
        datasets.verify(store, "d@2")
    assert raised.value.code == "dataset-corrupt" and raised.value.message.isprintable()


def test_a_delta_table_by_a_path_is_read_from_any_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("deltalake", importlib.util.find_spec("deltalake") is not None)
    import deltalake

    deltalake.write_deltalake(str(tmp_path / "table"), rows(10))
    monkeypatch.chdir(tmp_path)
    datasets.add(store, "d", datasets.Delta("table"))
    monkeypatch.chdir("/")
    assert datasets.read(store, "d").num_rows == 10
    assert datasets.add(store, "d", datasets.Delta(str(tmp_path / "table"))).version == 1


def test_a_pandas_index_is_no_column(store: Store) -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index([5, 6], name="key"))
    assert [column.name for column in datasets.add(store, "x", frame).schema] == ["a"]


def test_thousands_of_columns_take_seconds(store: Store, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pq.write_table(pa.table({f"c{number}": [1.0, 2.0] for number in range(4000)}), tmp_path / f"{name}.parquet")
    began = time.process_time()
    made = datasets.add(store, "wide", [tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert len(made.schema) == 4000 and time.process_time() - began < 10, (
        "a look at all columns for each column takes 25 s"
    )
