"""Status, adds that go on where they were broken off, repair, and what is freed; through functions and commands."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from test_packs import MB, age, first_chunk, flip, noise

from stead import care, datasets
from stead.api import Embedded
from stead.cli import cli
from stead.config import Settings
from stead.errors import Failed, NotFound, SteadError
from stead.sdk.data import files_into
from stead.store import Store, packs
from tests.conftest import new_store


def folder_of(root: Path, number: int = 60) -> Path:
    folder = root / "data"
    (folder / "deep").mkdir(parents=True)
    for name in range(number):
        (folder / "deep" / f"{name}.bin").write_bytes(noise(3000, name))
    (folder / "big.bin").write_bytes(noise(9 * MB, 99))
    settle(folder)
    return folder


def settle(folder: Path) -> None:
    """Its files were written a minute ago, so that their stamps can be trusted."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 60,) * 2)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read to be stored or compared."""
    seen: list[str] = []
    opened, digest_of = packs._opened, datasets.scanning.digest_of

    def watched(thing: Any) -> Any:
        seen.append(str(thing) if isinstance(thing, Path) else "")
        return opened(thing)

    def hashed(path: Path) -> str:
        seen.append(str(path))
        return digest_of(path)

    monkeypatch.setattr(packs, "_opened", watched)
    monkeypatch.setattr(datasets.scanning, "digest_of", hashed)
    return seen


def test_status_reads_only_what_was_touched(store: Store, tmp_path: Path, read: list[str]) -> None:
    folder = folder_of(tmp_path)
    datasets.add(store, "d", folder)
    assert len(read) == 61
    read.clear()
    assert datasets.status(store, "d", folder) == ("d@1", [], [], [], 61, 0) and read == []
    (folder / "deep" / "3.bin").write_bytes(b"other")
    (folder / "deep" / "4.bin").touch()
    (folder / "deep" / "5.bin").unlink()
    (folder / "new.bin").write_bytes(b"new")
    found = datasets.status(store, "d", folder)
    assert found == ("d@1", ["new.bin"], ["deep/3.bin"], ["deep/5.bin"], 59, 2)
    assert sorted(Path(path).name for path in read) == ["3.bin", "4.bin"]
    same = tmp_path / "copy"
    files_into(Embedded(store, Settings({}, {})), "d", same)
    assert datasets.status(store, "d@1", same)[1:5] == ([], [], [], 61)
    with pytest.raises(NotFound):
        datasets.status(store, "d", tmp_path / "nowhere")


def test_a_change_that_leaves_size_and_time_is_seen_where_it_can_be(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for _ in range(20):  # written, added and changed at the same time of the file system
        (folder / "a.bin").write_bytes(b"one")
        first = datasets.add(store, "d", folder).version
        (folder / "a.bin").write_bytes(b"two")
        assert datasets.status(store, f"d@{first}", folder).changed == ["a.bin"]
        assert datasets.add(store, "d", folder).version == 2


def test_tables_by_status(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.csv").write_text("n\n1\n")
    (folder / "b.csv").write_text("n\n2\n")
    settle(folder)
    datasets.add(store, "d", folder)
    assert datasets.status(store, "d", folder)[1:] == ([], [], [], 2, 0)
    (folder / "b.csv").write_text("n\n3\n")
    assert datasets.status(store, "d", folder).changed == ["b.csv"]


def test_what_was_added_is_not_read_again(store: Store, tmp_path: Path, read: list[str]) -> None:
    folder = folder_of(tmp_path)
    made = datasets.add(store, "d", folder)
    read.clear()
    assert datasets.add(store, "d", folder) == made and read == []
    (folder / "more.bin").write_bytes(b"more")
    assert datasets.add(store, "d", folder).version == 2
    assert read == []
    age(store)
    care.prune(store, rules=care.Rules())
    (folder / "more.bin").unlink()
    read.clear()
    assert datasets.add(store, "d", folder) == made and read == []
    store2 = new_store(tmp_path / "other")
    datasets.add(store2, "d", folder)
    assert len(read) == 61 and datasets.verify(store2, "d") == 61, "what this store has is known of this store"
    store2.close()


def test_one_that_was_broken_off_goes_on(
    store: Store, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in range(9):
        (folder / f"{name}.bin").write_bytes(noise(9 * MB, name))
    settle(folder)
    monkeypatch.setattr(packs, "FULL", 10 * MB)
    monkeypatch.setattr(packs, "WINDOW", packs.WHOLE)
    monkeypatch.setattr(datasets.scanning, "SAVE_S", 0.0)
    opened = packs._opened

    def broken(thing: Any) -> Any:
        if thing.name == "8.bin":
            raise KeyboardInterrupt
        return opened(thing)

    with monkeypatch.context() as patched:
        patched.setattr(packs, "_opened", broken)
        with pytest.raises(KeyboardInterrupt):
            datasets.add(store, "d", folder)
    assert datasets.list_datasets(store) == []
    before, done = sum(blob.bytes for blob in store.blobs.all()), len(read)
    read.clear()
    datasets.add(store, "d", folder)
    assert 1 <= len(read) < 9 and done == 8, "those whose packs were whole are known"
    assert sum(blob.bytes for blob in store.blobs.all()) < 9 * 9 * MB + 100_000 and before > 9 * MB
    assert datasets.verify(store, "d") == 9


@pytest.mark.parametrize("place", ["backup", "one backup", "other store"])
def test_what_is_damaged_is_taken_from_elsewhere(store: Store, tmp_path: Path, place: str) -> None:
    folder = folder_of(tmp_path)
    datasets.add(store, "d", folder)
    small = datasets.add(store, "small", pa.table({"n": [1, 2]}))
    source = tmp_path / "place"
    if place == "other store":
        other = new_store(source)
        datasets.add(other, "x", noise_first(tmp_path))
        datasets.add(other, "d", folder / "big.bin")
        datasets.add(other, "e", folder)
        datasets.add(other, "small", pa.table({"n": [1, 2]}))
        other.close()
    else:
        made = care.back_up(store, source)
        source = source / made.name if place == "one backup" else source
    parts = {p.path: p.digest for p in datasets.get_version(store, "d", with_parts=True).part_list}
    flip(store, first_chunk(store, parts["big.bin"], 5))
    flip(store, first_chunk(store, parts["big.bin"], 50))
    flip(store, first_chunk(store, parts["deep/7.bin"]))
    (part,) = datasets.get_version(store, small.ref, with_parts=True).part_list
    store.blobs.path(part.digest).write_bytes(b"damaged")
    with pytest.raises(Failed) as raised:
        datasets.verify(store, "d")
    assert "deep/7.bin bytes 0 to 3000" in str(raised.value) and "--repair-from" in str(raised.value.hint)
    with pytest.raises(NotFound) as missing:
        care.repair(store, "d", tmp_path / "data")
    assert missing.value.code == "repair-source"
    done = care.repair(store, "d", source)
    assert set(done.parts) == {"big.bin", "deep/7.bin"} and done.parts["deep/7.bin"] == 3000
    assert care.repair(store, "small", source).parts == {"rows.parquet": part.bytes}
    assert care.repair(store, "d", source).parts == {}
    for name in ("small", "d"):
        datasets.verify(store, name)
    assert care.check(store, contents=True) == []
    recipe = store.packs.recipe_name(parts["big.bin"])
    assert recipe is not None
    store.blobs.path(recipe).write_bytes(b"no recipe")
    with pytest.raises(Failed, match="cannot be put together"):
        datasets.verify(store, "d")
    care.repair(store, "d", source)
    store.blobs.path(recipe).unlink()
    assert "big.bin" in care.repair(store, "d", source).parts
    pack = first_chunk(store, parts["deep/8.bin"]).pack.hex()
    store.blobs.path(pack).unlink()
    care.repair(store, "d", source)
    assert datasets.verify(store, "d") == 61


def noise_first(root: Path) -> Path:
    (root / "first.bin").write_bytes(noise(9 * MB, 7))
    return root / "first.bin"


def test_what_is_whole_nowhere_is_told(store: Store, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    datasets.add(store, "d", folder)
    parts = {p.path: p.digest for p in datasets.get_version(store, "d", with_parts=True).part_list}
    flip(store, first_chunk(store, parts["big.bin"], 5))
    flip(store, first_chunk(store, parts["deep/7.bin"]))
    other = new_store(tmp_path / "other")
    datasets.add(other, "e", folder / "big.bin")
    other.close()
    with pytest.raises(Failed) as raised:
        care.repair(store, "d", tmp_path / "other")
    assert "deep/7.bin" in str(raised.value) and "big.bin" not in str(raised.value)


def lone_part(store: Store) -> str:
    (part,) = datasets.get_version(store, "t", with_parts=True).part_list
    return part.digest


def big_part(store: Store) -> str:
    return next(p.digest for p in datasets.get_version(store, "d", with_parts=True).part_list if p.path == "big.bin")


HARM: dict[str, Any] = {
    "bytes of chunks": lambda store: [flip(store, first_chunk(store, big_part(store), n)) for n in (5, 50)],
    "a part": lambda store: store.blobs.path(lone_part(store)).write_bytes(b"damaged"),
    "a recipe": lambda store: store.blobs.path(store.packs.recipe_name(big_part(store))).write_bytes(b"no recipe"),
    "a manifest": lambda store: store.blobs.path(datasets.get_version(store, "d").manifest).write_bytes(b"{}"),
    "a pack": lambda store: store.blobs.path(first_chunk(store, big_part(store)).pack.hex()).unlink(),
    "the only chunk of a pack": lambda store: flip(
        store, first_chunk(store, datasets.get_version(store, "same", with_parts=True).part_list[0].digest)
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_adding_it_again_mends_what_verify_found(store: Store, tmp_path: Path, read: list[str], harm: str) -> None:
    folder, same = folder_of(tmp_path), tmp_path / "same"
    same.mkdir()
    for name in range(20):
        (same / f"{name}.bin").write_bytes(noise(3000, 500))
    sources: dict[str, Any] = {"d": folder, "t": pa.table({"n": [1, 2]}), "same": same}
    made = {name: datasets.add(store, name, source) for name, source in sources.items()}
    HARM[harm](store)
    broken = []
    for name in sources:
        try:
            datasets.verify(store, name)
        except Failed:
            broken.append(name)
    assert len(broken) == 1
    read.clear()
    assert {name: datasets.add(store, name, source) for name, source in sources.items()} == made
    assert len(set(read) & {str(path) for path in folder.rglob("*.bin")}) <= (61 if harm == "a pack" else 1)
    assert [datasets.verify(store, name) for name in sources] == [61, 1, 20]
    assert care.check(store, contents=True) == []
    before = sum(blob.bytes for blob in store.blobs.all())
    assert {name: datasets.add(store, name, source) for name, source in sources.items()} == made
    assert sum(blob.bytes for blob in store.blobs.all()) == before, "what was mended is not stored once more"


DAMAGE: dict[str, Any] = {
    "altered": lambda path: path.write_bytes(path.read_bytes()[:-1] + b" "),
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_list_of_parts_is_named_and_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("STEAD_STORE", str(tmp_path / "store"))
    store = new_store(tmp_path / "store")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.bin").write_bytes(noise(3000))
    (folder / "b.bin").write_bytes(noise(9 * MB))
    first = datasets.add(store, "d", folder)
    datasets.add(store, "d", pa.table({"n": [1]}))
    datasets.add(store, "e", pa.table({"n": [1, 2]}))
    care.back_up(store, tmp_path / "place")
    whole = store.blobs.path(first.manifest).read_bytes()
    big = datasets.get_version(store, first.ref, with_parts=True).part_list[1].digest
    DAMAGE[damage](store.blobs.path(first.manifest))
    (part,) = datasets.get_version(store, "e", with_parts=True).part_list
    store.blobs.path(part.digest).write_bytes(b"damaged")
    why = "is missing" if damage == "deleted" else "was altered"
    for arguments in (
        ["data", "verify", "d@1"],
        ["data", "get", "d@1", str(tmp_path / "out")],
        ["data", "show", "d@1"],
    ):
        refused = run(*arguments).exception
        assert isinstance(refused, Failed) and refused.code == "dataset-corrupt", arguments
        assert refused.message == f"d@1: its manifest {first.manifest[:12]}, the list of its parts, {why}"
        assert refused.hint == "stead data verify d@1 --repair-from BACKUPS"
    with pytest.raises(Failed, match="d@1: its manifest"):
        datasets.status(store, "d@1", folder)
    assert {(each.what, why in each.why) for each in care.check(store)} == {("d@1", True)}
    said = run("doctor", "--store")
    assert f"d@1: its manifest {first.manifest[:12]}, the list of its parts, {why}" in said.output
    assert "e@1 rows.parquet" in said.output and "d@2" not in said.output
    (tmp_path / "empty" / "blobs").mkdir(parents=True)
    refused = run("data", "verify", "d@1", "--repair-from", str(tmp_path / "empty")).exception
    assert isinstance(refused, Failed) and refused.code == "dataset-corrupt"
    assert refused.message.startswith(
        f"d@1: its manifest {first.manifest[:12]}, the list of its parts, {why}, and is not"
    )
    flip(store, first_chunk(store, big, 3))
    done = care.repair(store, "d@1", tmp_path / "place")
    assert done.manifest == len(whole) and list(done.parts) == ["b.bin"]
    assert store.blobs.path(first.manifest).read_bytes() == whole and datasets.verify(store, "d@1") == 2
    DAMAGE[damage](store.blobs.path(first.manifest))
    said = run("data", "verify", "d@1", "--repair-from", str(tmp_path / "place"))
    assert "the list of its parts: " in said.output and "d@1: as it was stored" in said.output
    store.close()


def test_adding_to_a_version_whose_list_of_parts_is_damaged_names_it(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(noise(3000))
    (tmp_path / "b.bin").write_bytes(noise(3000, 1))
    made = datasets.add(store, "d", tmp_path / "a.bin")
    store.blobs.path(made.manifest).write_bytes(b"{}")
    with pytest.raises(Failed, match="d@1: its manifest") as raised:
        datasets.add(store, "d", tmp_path / "b.bin", append=True)
    assert raised.value.code == "dataset-corrupt"
    assert datasets.add(store, "d", tmp_path / "a.bin") == made, "this one tells what it was"
    assert datasets.add(store, "d", tmp_path / "b.bin", append=True).parts == 2


def test_a_doctor_that_reads_no_contents_lists_what_else_there_is_beside_an_altered_recipe(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "big.bin").write_bytes(noise(9 * MB))
    made = datasets.add(store, "d", tmp_path / "big.bin")
    lone = datasets.add(store, "e", pa.table({"n": [1]}))
    (part,) = datasets.get_version(store, made.ref, with_parts=True).part_list
    store.blobs.path(store.packs.recipe_name(part.digest) or "").write_bytes(b"no recipe")
    store.blobs.path(lone.manifest).unlink()
    assert {each.what for each in care.check(store)} == {"d@1 big.bin", "e@1"}


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, list(arguments))


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEAD_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    folder = folder_of(tmp_path)
    assert "d@1: 61 files" in run("data", "add", "d", "data").output
    assert "d@1: 61 the same, 0 new, 0 changed, 0 gone" in run("data", "status", "d", "data").output
    (folder / "deep" / "0.bin").write_bytes(b"x")
    assert "changed: deep/0.bin\n" in run("data", "status", "d", "data").output
    assert json.loads(run("data", "status", "d", "data", "--json").output)["changed"] == ["deep/0.bin"]
    assert run("data", "get", "d", "out").exit_code == 0
    assert (tmp_path / "out" / "big.bin").read_bytes() == noise(9 * MB, 99)
    assert os.stat(tmp_path / "out" / "big.bin").st_mode & 0o200, "a copy of one's own"
    assert "0 B to free" in run("data", "gc").output
    store = new_store(tmp_path / "store")
    list(store.blobs.keep([random.Random(1).randbytes(9 * MB)]))
    age(store)
    said = run("data", "gc")
    assert "9.0 MB to free" in said.output or "9.4 MB to free" in said.output
    assert "next: stead data gc --yes" in said.output
    assert datasets.verify(store, "d") == 61
    assert "freed" in run("data", "gc", "--yes").output and "0 B to free" in run("data", "gc").output
    assert datasets.verify(store, "d") == 61
    care.back_up(store, tmp_path / "backups")
    parts = {p.path: p.digest for p in datasets.get_version(store, "d", with_parts=True).part_list}
    flip(store, first_chunk(store, parts["big.bin"], 5))
    refused = run("data", "verify", "d").exception
    assert isinstance(refused, SteadError) and refused.code == "dataset-corrupt"
    assert "d@1: as it was stored" in run("data", "verify", "d", "--repair-from", "backups").output
    assert "1 " not in run("data", "verify", "d").output.replace("d@1", "").replace("61", "")
    import sqlite3

    with sqlite3.connect(tmp_path / "x.db") as con:
        con.execute("create table x as select 1 as a, 2.5 as b")
    con.close()
    url = f"sqlite:///{tmp_path / 'x.db'}"
    assert "q@1: 1 rows" in run("data", "add", "q", "--sql", url, "--query", "select * from x").output
    for wrong in (["q"], ["q", "--sql", url], ["q", "data", "--sql", url, "--query", "x"]):
        failed = run("data", "add", *wrong).exception
        assert isinstance(failed, SteadError) and failed.code == "source-missing"
    store.close()


def test_the_same_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stead.sdk import connection, data

    monkeypatch.setenv("STEAD_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(connection, "_caller", None, raising=False)
    folder = folder_of(tmp_path)
    assert data.add("d", folder).parts == 61
    assert data.status("d", folder).same == 61 and data.verify("d") == 61 and data.gc() == 0
    assert len(data.dataset_files("d", tmp_path / "out")) == 61
