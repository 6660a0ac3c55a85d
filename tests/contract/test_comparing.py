"""What changed from one dataset version to another: columns, distributions, files, rows by key."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from stead import datasets
from stead.cli import cli
from stead.errors import InvalidInput, NotFound
from stead.store import Store


def table(**columns: object) -> pa.Table:
    return pa.table(columns)


def test_columns_that_come_go_change_their_type_or_their_values(any_store: Store) -> None:
    rng = np.random.default_rng(0)
    same, moved = rng.normal(size=4000), rng.normal(size=4000)
    who = ["ann", "bob"] * 2000
    before = table(id=range(4000), same=same, moved=moved, who=who, gone=[1] * 4000, kind=[1] * 4000)
    after = table(
        id=range(4000), same=rng.normal(size=4000), moved=moved + 2, who=["ann"] * 4000, kind=["1"] * 4000, new=[None] * 4000
    )  # fmt: skip
    datasets.add(any_store, "d", before)
    datasets.add(any_store, "d", after)
    found = datasets.diff(any_store, "d@1", "d@2")
    by_name = {column.name: column for column in found.columns}
    assert {name: column.change for name, column in by_name.items() if column.change} == {
        "gone": "removed", "kind": "changed", "new": "added",
    }  # fmt: skip
    assert (by_name["kind"].type_before, by_name["kind"].type_after) == ("int64", "string")
    apart = {name: column.distance for name, column in by_name.items()}
    assert apart["kind"] is apart["new"] is apart["gone"] is None
    assert apart["id"] == 0.0 and 0 < (apart["same"] or 0) < 0.08
    assert (apart["moved"] or 0) > 0.5 and (apart["who"] or 0) > 0.4
    edges = [side["histogram"]["edges"] for side in (by_name["moved"].before, by_name["moved"].after)]
    assert edges[0] == edges[1] and sum(by_name["moved"].after["histogram"]["counts"]) == 4000
    assert found.rows is None and [file.change for file in found.files] == ["changed"]
    again = datasets.diff(any_store, "d@2", "d@2", key=["id"])
    assert again.files == [] and again.rows is not None and (again.rows.same, again.rows.changed) == (4000, 0)
    assert all(column.distance in (0.0, None) for column in again.columns)


def test_numbers_of_few_values_are_as_far_apart_as_their_shares(any_store: Store) -> None:
    rng = np.random.default_rng(0)
    flag, stars = (rng.random(10_000) < 0.3).astype(int), rng.integers(0, 3, 10_000)
    datasets.add(any_store, "d", table(flag=flag, stars=stars, one=[1] * 10_000, two=[0, 1] * 5_000, same=flag))
    datasets.add(any_store, "d", table(flag=1 - flag, stars=stars % 2, one=[2] * 10_000, two=[0, 2] * 5_000, same=flag))
    apart = {column.name: column.distance for column in datasets.diff(any_store, "d@1", "d@2").columns}
    assert (apart["flag"] or 0) > 0.3 and (apart["stars"] or 0) > 0.3, apart
    assert apart["one"] == 1.0 and 0.5 < (apart["two"] or 0) < 0.8 and apart["same"] == 0.0, apart


def test_times_are_told_by_the_rows_of_both_over_time(any_store: Store) -> None:
    days = [86_400_000 * number for number in range(200)]
    for some, late in ((days[:100], None), (days[40:], 7)):
        moments = pa.array([*some, late], pa.timestamp("ms"))
        datasets.add(any_store, "d", table(at=moments, day=pa.array(moments.cast(pa.date32())), x=[0] * len(moments)))
    by_name = {column.name: column for column in datasets.diff(any_store, "d@1", "d@2").columns}
    for name in ("at", "day"):
        sides = [side["over_time"] for side in (by_name[name].before, by_name[name].after)]
        assert sides[0]["edges"] == sides[1]["edges"]
        assert (sides[0]["edges"][0], sides[0]["edges"][-1], len(sides[0]["edges"])) == (0, days[199], 33)
        assert [sum(side["counts"]) for side in sides] == [100, 161]
        assert sum(sides[0]["counts"][:16]) == 100 and sum(sides[1]["counts"][16:]) == 100
        assert by_name[name].distance is None
    assert "over_time" not in by_name["x"].before
    same = datasets.diff(any_store, "d@1", "d@1").columns
    assert all("over_time" not in column.before for column in same)


def test_rows_by_key_that_come_go_and_change(any_store: Store) -> None:
    datasets.add(
        any_store,
        "d",
        table(a=[1, 1, 2, None], b=["x", "y", "x", "x"], v=[1.0, 2.0, float("nan"), None], w=[1, 1, 1, 1]),
    )
    datasets.add(
        any_store, "d", table(a=[1, 1, 3, None], b=["x", "y", "x", "x"], v=[1.0, 2.5, 4.0, 5.0], w=[1, 2, 1, 1])
    )
    found = datasets.diff(any_store, "d@1", "d@2", key=["a", "b"], examples=2).rows
    assert found is not None and (found.added, found.removed, found.changed, found.same) == (1, 1, 2, 1)
    assert found.columns == {"v": 2, "w": 1}
    changed = [each for each in found.examples if each.change == "changed"]
    assert {(each.key["a"], each.key["b"]) for each in changed} == {("1", "y"), (None, "x")}
    first = next(each for each in changed if each.key["b"] == "y")
    assert (first.before, first.after) == ({"v": "2.0", "w": "1"}, {"v": "2.5", "w": "2"})
    gone = next(each for each in found.examples if each.change == "removed")
    assert gone.key == {"a": "2", "b": "x"} and gone.before == {"v": "nan", "w": "1"} and gone.after == {}


def test_the_same_values_in_other_types_are_the_same(any_store: Store) -> None:
    """pandas makes large strings and microseconds where a CSV gives strings and seconds; whole numbers with a gap are floats."""
    at = pa.array([0, 86_400], pa.timestamp("s"))
    names, calls = ["ann", "bob"], [1, 2]
    plain = table(who=pa.array(names), at=at, calls=calls, n=[1, 2])
    wide = table(who=pa.array(names, pa.large_string()), at=at.cast(pa.timestamp("us")), calls=[1.0, 2.5], n=[1.0, 2.0])
    datasets.add(any_store, "d", wide)
    datasets.add(any_store, "d", plain)
    for key in ("who", "at", "n"):
        found = datasets.diff(any_store, "d@1", "d@2", key=[key])
        assert found.rows is not None and (found.rows.same, found.rows.changed) == (1, 1), key
        assert (found.rows.added, found.rows.removed, found.rows.columns) == (0, 0, {"calls": 1})
    by_name = {column.name: column for column in found.columns}
    assert {name: column.change for name, column in by_name.items()} == {
        "who": None, "at": "changed", "calls": "changed", "n": "changed"
    }  # fmt: skip
    assert by_name["who"].distance == by_name["n"].distance == 0.0 and (by_name["calls"].distance or 0) > 0


def test_versions_of_many_parts_and_of_none(any_store: Store) -> None:
    for start in range(0, 50, 10):
        datasets.add(any_store, "d", table(id=range(start, start + 10), x=[float(start)] * 10), append=True)
    found = datasets.diff(any_store, "d@1", "d@5", key=["id"])
    assert found.rows is not None and (found.rows.added, found.rows.removed, found.rows.same) == (40, 0, 10)
    assert [file.change for file in found.files] == ["added"] * 4
    empty = table(id=pa.array([], pa.int64()), x=pa.array([], pa.float64()))
    datasets.add(any_store, "d", empty)
    found = datasets.diff(any_store, "d@5", "d", key=["id"])
    assert found.rows is not None and (found.rows.added, found.rows.removed, found.rows.same) == (0, 50, 0)


def test_files_that_are_no_tables(any_store: Store, tmp_path: Path) -> None:
    for version in ("one", "two"):
        folder = tmp_path / version
        folder.mkdir()
        (folder / "same.bin").write_bytes(b"same")
        (folder / "changed.bin").write_text(version)
        (folder / f"{version}.bin").write_bytes(b"x")
        datasets.add(any_store, "pictures", folder)
    found = datasets.diff(any_store, "pictures@1", "pictures@2")
    assert found.columns == []
    assert [(file.path, file.change) for file in found.files] == [
        ("changed.bin", "changed"), ("one.bin", "removed"), ("two.bin", "added"),
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="holds files, not rows"):
        datasets.diff(any_store, "pictures@1", "pictures@2", key=["id"])


def test_what_cannot_be_compared_is_named(store: Store) -> None:
    datasets.add(store, "d", table(id=[1, 1, 2], text=["a", "b", "c"]))
    datasets.add(store, "d", table(id=["1", "2", "3"], text=["a", "b", "c"]))
    for arguments, code in (
        ({"key": ["ID"]}, "column-unknown"),
        ({"key": ["id"]}, "key-type-differs"),
        ({"key": ["text"], "examples": -1}, "limit-invalid"),
    ):
        with pytest.raises(InvalidInput) as refused:
            datasets.diff(store, "d@1", "d@2", **arguments)  # type: ignore[arg-type]
        assert refused.value.code == code and refused.value.hint
    with pytest.raises(InvalidInput) as refused:
        datasets.diff(store, "d@1", "d@1", key=["id"])
    assert refused.value.code == "key-not-unique" and "2 rows with id 1" in refused.value.message
    with pytest.raises(NotFound):
        datasets.diff(store, "d@1", "d@7")


def test_what_is_shown_of_a_file_that_is_no_table(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    (tmp_path / "code.py").write_text("1")
    run = CliRunner()
    run.invoke(cli, ["data", "add", "d", str(tmp_path / "code.py")], catch_exceptions=False)
    shown = run.invoke(cli, ["data", "show", "d"], catch_exceptions=False).output
    assert f"source   files {tmp_path / 'code.py'}\n" in shown and "no columns: files, not tables" in shown


def test_commands_tell_what_changed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    odd = 'a "quoted" name'
    datasets.add(store, "d", table(**{"id": [1, 2, 3], odd: [1, 2, 3]}))
    datasets.add(store, "d", table(**{"id": [1, 2, 4], odd: [1, 9, 4]}))

    def said(*arguments: str) -> str:
        return CliRunner().invoke(cli, ["data", "diff", *arguments], catch_exceptions=False).output

    text = said("d", "--key", "id")
    assert "d@1 → d@2" in text and "by id: 1 rows added, 1 removed, 1 changed, 1 the same" in text
    assert f"{odd} changed in 1" in text
    assert "nothing yet" not in said("d@1", "d@1", "--key", "id") and "nothing yet" not in said(
        "d", "--key", "id", "--examples", "0"
    )
    told = json.loads(said("d@2", "d@1", "--key", odd, "--json"))
    assert (told["rows"]["added"], told["rows"]["removed"], told["rows"]["same"]) == (2, 2, 1)
    with pytest.raises(NotFound, match="d@1 is the first version"):
        said("d@1")
    for last in (60_000, 120_000):
        datasets.add(store, "t", table(at=pa.array([0, last], pa.timestamp("ms"))), time_column="at")
    text = said("t")
    assert "to     1970-01-01 00:01:00 → 1970-01-01 00:02:00" in text and "from  " not in text
    assert "1970-01-01 00:00:00 – 1970-01-01 00:01:00 → 1970-01-01 00:00:00 – 1970-01-01 00:02:00" in text
