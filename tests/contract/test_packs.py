"""Data in chunks and packs: on each database, on local files and S3."""

from __future__ import annotations

import dataclasses
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from stead import care, datasets
from stead.api import Embedded
from stead.care import Rules
from stead.config import Settings
from stead.datasets.tables import dataset_versions
from stead.errors import Failed, InvalidInput, NotFound
from stead.runtime.clock import now_ms
from stead.sdk.data import files_into
from stead.store import Blobs, Store, digest_of, hold_bytes
from stead.store import blobs as blobs_module
from stead.store import packs as packs_module
from stead.store.chunks import MOST
from stead.store.packfile import WHOLE, Pack, unpacked_recipe
from stead.store.packs import FULL, WINDOW, Packs
from stead.store.repacking import mend
from stead.store.tables import chunks, files, packs
from tests.conftest import BLOBS, new_store

MB = 1 << 20
DAYS = 3 * 24 * 3_600_000


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture(params=BLOBS)
def packed(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Iterator[Store]:
    """A store whose bytes are local files, or lie in a bucket."""
    if request.param == "local":
        yield store
        return
    blobs = Blobs(**request.getfixturevalue("s3")(), cache=tmp_path / "cache")
    blobs.packs = Packs(store.db, blobs)
    yield dataclasses.replace(store, blobs=blobs)


def keep(store: Store, *things: bytes | Path) -> list[str]:
    return [digest for _, digest, _ in sorted(store.blobs.keep(things))]


def stored(store: Store) -> int:
    return sum(blob.bytes for blob in store.blobs.all())


def age(store: Store) -> None:
    """Make everything that is stored now three days old."""
    then = now_ms() - DAYS
    with store.db.write("care.record") as tx:
        for table in (packs, chunks, files):
            tx.execute(sa.update(table).values(at=then))
    for path in Path(store.blobs.local or "").glob("??/*"):
        os.utime(path, (then / 1000, then / 1000))


def test_what_is_kept_comes_back_in_every_way(packed: Store, tmp_path: Path) -> None:
    blobs = packed.blobs
    (tmp_path / "file").write_bytes(noise(11 * MB, 1))
    things: list[bytes | Path] = [noise(9 * MB), b"small", b"", tmp_path / "file", b"small", b"text " * 3_000_000]
    digests = keep(packed, *things)
    assert keep(packed, *things) == digests
    for thing, digest in dict(zip(things, digests, strict=True)).items():
        data = thing if isinstance(thing, bytes) else thing.read_bytes()
        assert digest == digest_of(data)
        assert (blobs.has(digest), blobs.size(digest), blobs.get(digest) == data) == (True, len(data), True)
        assert b"".join(blobs.stream(digest)) == data
        opened: Any = blobs.open(digest)
        assert not isinstance(opened, Path)
        for start, size in ((0, 10), (len(data) // 2, 300_000), (max(0, len(data) - 7), 100)):
            opened.seek(start)
            assert opened.read(size) == data[start : start + size]
        blobs.fetch(digest, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == blobs.path(digest).read_bytes() == data
    assert stored(packed) < 21 * MB, "text is compressed, and nothing is stored twice"
    assert not blobs.has("0" * 64)
    for ask in (blobs.get, blobs.size, blobs.path, blobs.open, lambda d: list(blobs.stream(d))):
        with pytest.raises(NotFound) as raised:
            ask("0" * 64)
        assert raised.value.code == "blob-missing"


def test_what_comes_in_between_is_all_that_is_stored(packed: Store) -> None:
    data = noise(20 * MB)
    keep(packed, data)
    before = stored(packed)
    keep(packed, data[: 7 * MB] + noise(200_000, 1) + data[7 * MB :])
    assert stored(packed) - before < 200_000 + 600_000


def test_many_small_files_lie_in_few_packs(packed: Store, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.bin").write_bytes(noise(3000, number))
    made = datasets.add(packed, "files", sorted(tmp_path.glob("*.bin")))
    assert made.parts == 300
    assert len(list(packed.blobs.all())) == 2, "a pack and a manifest"
    assert datasets.verify(packed, "files") == 300
    files_into(Embedded(packed, Settings({}, {})), "files", tmp_path / "out")
    for number in (0, 17, 299):
        assert (tmp_path / "out" / f"{number}.bin").read_bytes() == noise(3000, number)
    assert care.check(packed, contents=True) == []


def test_more_than_one_pack(store: Store) -> None:
    data = noise(FULL + 10 * MB)
    (digest,) = keep(store, data)
    with store.db.read() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(packs)).scalar() == 2
    assert store.blobs.get(digest) == data


def test_windows_that_are_used_again_change_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs_module, "FULL", 2 * WINDOW)
    room = WINDOW - MOST
    sizes = [room, 5, 2 * room + 1, WHOLE - 1, 0, WHOLE, room - 1, 3000, 3 * room, WHOLE - 7, 40_000]
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}.bin").write_bytes(noise(size, number))
    things: list[Path] = [tmp_path / f"{number}.bin" for number in range(len(sizes))]
    told: list[int] = []
    kept = {place: (digest, size) for place, digest, size in store.blobs.keep(things, told.append)}
    assert told[-1] == sum(sizes)
    for place, size in enumerate(sizes):
        data = noise(size, place)
        assert kept[place] == (digest_of(data), size) and store.blobs.get(kept[place][0]) == data
    before = stored(store)
    assert keep(store, *(thing.read_bytes() for thing in things)) == [kept[place][0] for place in range(len(sizes))]
    assert stored(store) == before, "bytes are cut where files are"
    (tmp_path / "2.bin").write_bytes(noise(100_000, 99) + noise(sizes[2], 2))
    (digest,) = keep(store, tmp_path / "2.bin")
    assert stored(store) - before < 100_000 + 600_000
    assert store.blobs.get(digest) == (tmp_path / "2.bin").read_bytes()
    assert not problems(store)


def problems(store: Store) -> list[str]:
    """The packs whose bytes are not those of their names."""
    return [blob.digest for blob in store.blobs.all() if not store.blobs.intact(blob.digest)]


def test_what_compresses_is_compressed_whatever_lies_beside_it(store: Store, tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number:03}.jpg").write_bytes(noise(20_000, number))
        (tmp_path / f"{number:03}.json").write_bytes(b'{"number": %d, "text": "some text"}' % number * 500)
    digests = keep(store, *sorted(tmp_path.glob("*.j*")))
    assert stored(store) < 200 * 20_000 + 200 * 1500
    assert [store.blobs.get(digest) for digest in digests] == [
        path.read_bytes() for path in sorted(tmp_path.glob("*.j*"))
    ]


def test_a_file_that_grows_while_it_is_read_is_kept_whole(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(noise(9 * MB))

    def grow(read: int) -> None:
        with open(path, "ab") as file:
            file.write(noise(1000, read))

    (place,) = store.blobs.keep([path], grow)
    assert store.blobs.get(place[1]) == path.read_bytes()[: place[2]] and place[2] >= 9 * MB


def table(rows: int, first: int = 0) -> pa.Table:
    numbers = random.Random(first)
    return pa.table({"n": list(range(first, first + rows)), "x": [numbers.random() for _ in range(rows)]})


def test_a_table_is_read_from_its_chunks_without_a_copy(packed: Store, tmp_path: Path) -> None:
    rows = table(1_500_000)
    datasets.add(packed, "t", rows)
    assert datasets.read(packed, "t").equals(rows)
    assert datasets.read(packed, "t", columns=["x"])["x"].equals(rows["x"])
    assert not [path for path in tmp_path.rglob("cache/**/*") if path.is_file() and path.stat().st_size > MB]
    more = pa.concat_tables([rows.slice(0, 700_000), table(15_000, 5_000_000), rows.slice(700_000)])
    before = stored(packed)
    datasets.add(packed, "t", more)
    assert (stored(packed) - before) / before < 0.12
    assert datasets.read(packed, "t").equals(more.combine_chunks())
    found = datasets.diff(packed, "t@1", "t@2", key=["n"]).rows
    assert found is not None and (found.added, found.removed, found.changed) == (15_000, 0, 0)


def first_chunk(store: Store, digest: str, place: int = 0) -> Any:
    return store.packs.chunks_of(digest)[place]


def flip(store: Store, chunk: Any) -> None:
    path = store.blobs.path(chunk.pack.hex())
    data = bytearray(path.read_bytes())
    data[chunk.offset + chunk.stored // 2] ^= 1
    path.write_bytes(data)


def test_a_flipped_byte_is_found_and_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(noise(9 * MB))
    (tmp_path / "other.bin").write_bytes(noise(9 * MB, 1))
    made = datasets.add(store, "d", [tmp_path / "big.bin", tmp_path / "other.bin"])
    part = datasets.get_version(store, made.ref, with_parts=True).part_list[0]
    chunk = first_chunk(store, part.digest, 20)
    flip(store, chunk)
    with pytest.raises(Failed) as raised:
        datasets.verify(store, "d")
    offset = sum(each.bytes for each in store.packs.chunks_of(part.digest)[:20])
    assert raised.value.code == "dataset-corrupt"
    assert f"d@1: big.bin bytes {offset} to {offset + chunk.bytes} (chunk {chunk.digest.hex()[:12]})" in str(
        raised.value
    )
    assert "other.bin" not in str(raised.value)
    with pytest.raises(Failed) as raised:
        store.blobs.get(part.digest)
    assert raised.value.code == "blob-corrupt"
    (problem,) = care.check(store, contents=True)
    assert problem.what == "d@1 big.bin" and "were altered: 1 of" in problem.why
    store.blobs.path(chunk.pack.hex()).unlink()
    assert {each.what for each in care.check(store)} == {"d@1 big.bin", "d@1 other.bin"}
    with pytest.raises(Failed) as raised:
        datasets.verify(store, "d")
    assert "is missing, with the pack" in str(raised.value)


def pack_of(store: Store) -> Path:
    """The file of the only pack that there is."""
    with store.db.read() as tx:
        (name,) = tx.execute(sa.select(packs.c.digest)).scalars()
    return store.blobs.path(bytes(name).hex())


def test_no_byte_of_a_pack_changes_unseen(store: Store, tmp_path: Path) -> None:
    keep(store, *(b"text " * (3000 + number) for number in range(10)), *(noise(300, number) for number in range(10)))
    path = pack_of(store)
    name, data = f"{path.parent.name}{path.name}", path.read_bytes()
    assert store.blobs.intact(name) and store.blobs.get(name) == data and len(data) < 6000, "texts are compressed"
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        assert not store.blobs.intact(name), place
    for other in (b"", data[:13], data[:-1], data + b"x", data[:13] + data[-4:], data[:-4] + b"\xff" * 4, data[13:]):
        path.write_bytes(other)
        assert not store.blobs.intact(name)
        with pytest.raises(Failed, match="do not match their name"):
            store.blobs.get(name)
        with pytest.raises(Failed, match="do not match their name"):
            store.blobs.fetch(name, tmp_path / "copy")
        assert not store.blobs.put_named(name, path) and not (tmp_path / "copy").exists()


def test_a_pack_that_someone_keeps_is_a_file_as_any_other(store: Store, tmp_path: Path) -> None:
    keep(store, *(noise(300, number) for number in range(20)))
    data = pack_of(store).read_bytes()
    (tmp_path / "pack").write_bytes(data)
    for digest in (store.blobs.put(data), store.blobs.put(tmp_path / "pack"), *keep(store, *[data] * 20)):
        assert digest == digest_of(data) and store.blobs.get(digest) == data
    assert not problems(store)


def test_packs_that_were_named_by_all_their_bytes_are_read_and_written_anew(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older(blobs: Blobs, pack: Pack) -> bytes:
        pack.pieces[0] = b"stead pack 1\n"
        return bytes.fromhex(blobs.put(b"".join(pack.pieces)))

    for number in range(20):
        (tmp_path / f"{number}.bin").write_bytes(noise(3000, number))
    with monkeypatch.context() as then:
        then.setattr(packs_module, "put_pack", older)
        datasets.add(store, "files", sorted(tmp_path.glob("*.bin")))
    assert pack_of(store).read_bytes().startswith(b"stead pack 1\n")
    assert care.check(store, contents=True) == [] and datasets.verify(store, "files") == 20
    (tmp_path / "3.bin").write_bytes(noise(3000, 99))
    datasets.add(store, "files", sorted(tmp_path.glob("*.bin")))
    age(store)
    with store.db.write("care.record") as tx:
        tx.execute(sa.update(dataset_versions).values(created_at=0))
    care.prune(store, rules=Rules(data="7d"))
    assert not has(store, noise(3000, 3)) and datasets.verify(store, "files@2") == 20
    assert care.check(store, contents=True) == []


def test_a_backup_has_packs_and_what_lies_in_them(any_store: Store, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(noise(9 * MB))
    datasets.add(any_store, "d", tmp_path / "big.bin")
    care.back_up(any_store, tmp_path / "place")
    copy = new_store(tmp_path / "copy")
    care.restore(copy, tmp_path / "place")
    assert care.check(copy, contents=True) == [] and datasets.verify(copy, "d") == 1
    keep(copy, noise(10 * MB, 5))  # numbers of packs go on
    copy.close()


def test_what_no_version_needs_goes_out_of_its_pack_and_the_rest_stays(any_store: Store, tmp_path: Path) -> None:
    store, person = any_store, noise(5000, 7)
    for number in range(40):
        (tmp_path / f"{number}.bin").write_bytes(noise(4000, number))
    (tmp_path / "person.bin").write_bytes(person)
    (tmp_path / "big.bin").write_bytes(noise(9 * MB, 99))
    datasets.add(store, "d", sorted(tmp_path.glob("*.bin")))
    (tmp_path / "person.bin").unlink()
    (tmp_path / "big.bin").unlink()
    datasets.add(store, "d", sorted(tmp_path.glob("*.bin")))
    alone = keep(store, noise(9 * MB, 100))[0]  # added, and then the process was killed
    assert has(store, person)
    store.blobs.path(alone)
    for _ in range(2):
        assert care.prune(store, rules=care.Rules(), dry_run=True).bytes == 0, "all of it is young"
        assert care.prune(store, rules=care.Rules()).bytes == 0
    age(store)
    with hold_bytes(store, "backup"), pytest.raises(Exception, match="backup"):
        care.prune(store, rules=care.Rules())
    said = care.prune(store, rules=care.Rules(), dry_run=True).bytes
    assert 9 * MB < said < 9.1 * MB and has(store, person)
    assert abs(care.prune(store, rules=care.Rules()).bytes - said) < 20_000
    assert not store.blobs.has(alone) and datasets.verify(store, "d@1") == 42 and has(store, person)
    with store.db.write("care.record") as tx:
        tx.execute(sa.update(dataset_versions).values(created_at=0))
    age(store)
    said = care.prune(store, rules=care.Rules(data="7d"), dry_run=True).bytes
    assert 9 * MB < said < 9.1 * MB
    care.prune(store, rules=care.Rules(data="7d"))
    assert not has(store, person)
    assert datasets.verify(store, "d@2") == 40 and care.check(store, contents=True) == []
    with pytest.raises(NotFound):
        datasets.get_version(store, "d@1")
    assert stored(store) < 200_000, [(b.digest[:8], b.bytes, b.at) for b in store.blobs.all()]
    assert care.prune(store, rules=care.Rules()).bytes == 0


def has(store: Store, data: bytes) -> bool:
    """Whether bytes that do not compress lie in any blob."""
    return any(data in store.blobs.get(blob.digest) for blob in store.blobs.all())


def test_a_pack_in_a_bucket_is_written_anew_under_a_reader(packed: Store) -> None:
    small = [noise(2000, number) for number in range(30)]
    digests = keep(packed, *small)
    opened: Any = packed.blobs.open(digests[3])
    age(packed)
    with packed.db.write("care.record") as tx:
        datasets_need = f'{{"digests": "{" ".join(digests[:10])}"}}'
        tx.execute(
            sa.text("insert into datasets (name, description, created_at) values ('x', :d, 0)"), {"d": datasets_need}
        )
    care.prune(packed, rules=care.Rules())
    assert opened.read() == small[3]
    assert [packed.blobs.has(digest) for digest in digests] == [True] * 10 + [False] * 20


def test_what_is_stored_again_is_fresh_and_stays(store: Store) -> None:
    data = noise(9 * MB)
    (digest,) = keep(store, data)
    age(store)
    assert care.prune(store, rules=care.Rules(), dry_run=True).bytes > 9 * MB
    assert keep(store, data) == [digest]
    assert care.prune(store, rules=care.Rules()).bytes == 0
    age(store)
    assert store.blobs.renew([digest]) == {digest} and care.prune(store, rules=care.Rules()).bytes == 0
    assert store.blobs.get(digest) == data
    age(store)
    care.prune(store, rules=care.Rules())
    assert not store.blobs.has(digest) and not store.blobs.renew([digest]) and stored(store) == 0


def test_a_damaged_pack_is_not_written_anew_and_is_mended_from_elsewhere(store: Store) -> None:
    small = [noise(2000, number) for number in range(30)]
    digests = keep(store, *small)
    chunk = first_chunk(store, digests[0])
    flip(store, chunk)
    age(store)
    with store.db.write("care.record") as tx:
        names = " ".join(digests[:10])
        tx.execute(sa.text("insert into datasets (name, description, created_at) values ('x', :d, 0)"), {"d": names})
    care.prune(store, rules=care.Rules())
    assert store.blobs.get(digests[1]) == small[1]
    with pytest.raises(ValueError, match="not the bytes"):
        mend(store.packs, {chunk.digest: b"other"})
    mend(store.packs, {chunk.digest: small[0]})
    assert [store.blobs.get(digest) for digest in digests[:10]] == small[:10]
    age(store)
    care.prune(store, rules=care.Rules())
    assert [store.blobs.get(digest) for digest in digests[:10]] == small[:10]
    assert stored(store) < 21_000


def test_many_at_once_store_the_same_and_other_things(any_store: Store) -> None:
    common = noise(9 * MB)

    def one(number: int) -> list[str]:
        return keep(any_store, common, noise(9 * MB, 1 + number % 2), *(b"%d" % n for n in range(number, number + 20)))

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(one, range(4)))
    assert {digests[0] for digests in made} == {digest_of(common)}
    for number, digests in enumerate(made):
        assert any_store.blobs.get(digests[1]) == noise(9 * MB, 1 + number % 2)
        assert [any_store.blobs.get(digest) for digest in digests[2:]] == [
            b"%d" % n for n in range(number, number + 20)
        ]


def test_copies_that_are_not_used_make_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs_module, "CACHE", 20 * MB)
    digests = keep(store, *(noise(9 * MB, number) for number in range(4)))
    paths = []
    for digest in digests:
        store.blobs._cached = 1 << 40
        paths.append(store.blobs.path(digest))
        os.utime(paths[-1], (time.time() - 5000 + len(paths),) * 2)
    store.blobs._make_room(1 << 40)
    assert [path.exists() for path in paths] == [False, False, True, True]
    assert store.blobs.path(digests[0]).read_bytes() == noise(9 * MB, 0)


def test_recipes_tell_the_chunks_of_a_file(store: Store) -> None:
    data = noise(9 * MB)
    (digest,) = keep(store, data)
    with store.db.read() as tx:
        recipe = tx.execute(sa.select(files.c.recipe)).scalar_one()
    parts = unpacked_recipe(store.blobs.get(bytes(recipe).hex()))
    at = 0
    for name, size in parts:
        assert digest_of(data[at : at + size]) == name.hex()
        at += size
    assert at == len(data) and digest_of(data) == digest


def test_what_is_stored_again_is_whole_where_its_pack_is_gone(packed: Store, tmp_path: Path) -> None:
    things: list[bytes | Path] = [noise(9 * MB), *(noise(3000, seed) for seed in range(1, 20))]
    before = keep(packed, *things)
    with packed.db.read() as tx:
        lost = [bytes(digest).hex() for digest in tx.execute(sa.select(packs.c.digest)).scalars()]
    for digest in lost:
        packed.blobs.delete(digest)
    assert keep(packed, *things) == before
    assert [packed.blobs.get(digest) for digest in before] == things


def test_the_same_files_in_another_order_at_once(any_store: Store) -> None:
    things = [b"%d" % number for number in range(4000)]
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda some: {d for _, d, _ in any_store.blobs.keep(some)}, (things, things[::-1])))
    assert made[0] == made[1] and len(made[0]) == 4000


def test_what_became_a_pipe_is_refused(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for things in ([tmp_path / "pipe"], [noise(100, seed) for seed in range(20)] + [tmp_path / "pipe"]):
        with pytest.raises(InvalidInput) as raised:
            keep(store, *things)
        assert raised.value.code == "file-unreadable"


def test_what_a_killed_write_left_goes_after_a_day(store: Store) -> None:
    (digest,) = keep(store, noise(9 * MB))
    pack = store.blobs.path(store.packs.chunks_of(digest)[0].pack.hex())
    halves = [pack.with_name(f"{pack.name}#{number}") for number in (1, 2)]
    for half in halves:
        half.write_bytes(b"half")
    os.utime(halves[0], (time.time() - 3 * 86_400,) * 2)
    care.prune(store, rules=Rules())
    assert [half.exists() for half in halves] == [False, True]


@pytest.mark.parametrize("how", ["altered", "gone"])
def test_nothing_goes_where_a_list_of_parts_is_damaged(store: Store, tmp_path: Path, how: str) -> None:
    (tmp_path / "big.bin").write_bytes(noise(9 * MB))
    datasets.add(store, "files", tmp_path / "big.bin")
    age(store)
    with store.db.read() as tx:
        manifest = store.blobs.path(tx.execute(sa.select(dataset_versions.c.manifest)).scalar_one())
    whole = manifest.read_bytes()
    manifest.write_bytes(b"?" + whole[1:]) if how == "altered" else manifest.unlink()
    for dry_run in (True, False):
        with pytest.raises(Failed, match="files@1") as raised:
            care.prune(store, rules=Rules(), dry_run=dry_run)
        assert raised.value.code == "dataset-corrupt"
    manifest.write_bytes(whole)
    assert datasets.verify(store, "files") == 1 and care.prune(store, rules=Rules()).bytes == 0


@pytest.mark.parametrize("how", ["altered", "gone"])
def test_nothing_goes_where_a_recipe_is_damaged_and_its_version_is_named(
    store: Store, tmp_path: Path, how: str
) -> None:
    (tmp_path / "big.bin").write_bytes(noise(9 * MB))
    datasets.add(store, "files", tmp_path / "big.bin")
    (part,) = datasets.get_version(store, "files", with_parts=True).part_list
    keep(store, noise(9 * MB, 1))
    age(store)
    recipe = store.blobs.path(store.packs.recipe_name(part.digest) or "")
    whole, before = recipe.read_bytes(), sorted(store.blobs.all())
    recipe.write_bytes(whole[:-1] + b"?") if how == "altered" else recipe.unlink()
    for dry_run in (True, False):
        with pytest.raises(Failed, match=r"files@1 big\.bin cannot be put together: the recipe") as raised:
            care.prune(store, rules=Rules(), dry_run=dry_run)
        assert raised.value.code == "dataset-corrupt" and "no bytes were freed" in raised.value.message
        assert (raised.value.hint or "").startswith("stead data verify files@1 ")
    recipe.write_bytes(whole)
    assert {blob.digest for blob in store.blobs.all()} == {blob.digest for blob in before}
    assert care.prune(store, rules=Rules()).bytes > 9 * MB and datasets.verify(store, "files") == 1


def test_a_damaged_recipe_of_what_nothing_names_is_told_as_that(store: Store) -> None:
    (digest,) = keep(store, noise(9 * MB))
    store.blobs.path(store.packs.recipe_name(digest) or "").write_bytes(b"no recipe")
    with pytest.raises(Failed, match=digest[:12]) as raised:
        care.prune(store, rules=Rules())
    assert raised.value.code == "blob-corrupt" and "nothing names them" in (raised.value.hint or "")
    age(store)
    assert care.prune(store, rules=Rules()).bytes > 9 * MB and stored(store) == 0
