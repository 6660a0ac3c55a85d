"""kill -9 while data is put into packs, and while packs are written anew."""

from __future__ import annotations

import os
import random
from pathlib import Path

import sqlalchemy as sa
from dying import Scenario, dies

from stead import care, datasets
from stead.errors import Failed, NotFound
from stead.runtime.clock import now_ms
from stead.store import Store
from stead.store.tables import chunks, files, packs
from tests.conftest import new_store

_ADD = """
import sys; from pathlib import Path; from tests.conftest import new_store; from stead import datasets
datasets.add(new_store(Path(sys.argv[1]) / "s"), "x", Path(sys.argv[1]) / "data")
"""


def _age(store: Store) -> None:
    then = now_ms() - 3 * 24 * 3_600_000
    with store.db.write("care.record") as tx:
        for table in (packs, chunks, files):
            tx.execute(sa.update(table).values(at=then))
    for path in (store.root / "blobs").glob("??/*"):
        os.utime(path, (then / 1000, then / 1000))


def _given(root: Path) -> Path:
    folder = root / "data"
    folder.mkdir()
    for name in range(20):
        (folder / f"{name}.bin").write_bytes(random.Random(name).randbytes(2000))
    (folder / "big.bin").write_bytes(random.Random(99).randbytes(9 << 20))
    return folder


def _keep(root: Path, point: str) -> None:
    folder = _given(root)
    store = new_store(root / "s")
    if point.startswith("packs.renew"):
        list(store.blobs.keep(sorted(folder.iterdir())))
        _age(store)
    dies(point, _ADD, str(root))
    assert datasets.list_datasets(store) == [] and care.check(store, contents=True) == []
    before = sum(blob.bytes for blob in store.blobs.all())
    assert datasets.add(store, "x", folder).version == 1
    if point != "packs.keep:before":
        assert sum(blob.bytes for blob in store.blobs.all()) < before + 10_000, "what was there is not stored again"
    assert datasets.verify(store, "x") == 21 and care.check(store, contents=True) == []
    _age(store)
    care.prune(store, rules=care.Rules())
    assert datasets.verify(store, "x") == 21
    assert sum(blob.bytes for blob in store.blobs.all()) < (9 << 20) + 80_000
    store.close()


def _keep_or_mend(root: Path, point: str) -> None:
    """The same when chunks are stored, and when one that was found damaged is stored anew."""
    for name, scenario in (("new", _keep), ("damaged", _mend)):
        (root / name).mkdir()
        scenario(root / name, point)


def _mend(root: Path, point: str) -> None:
    folder = _given(root)
    store = new_store(root / "s")
    made = datasets.add(store, "x", folder)
    parts = datasets.get_version(store, "x", with_parts=True).part_list
    chunk = store.packs.chunks_of(next(part.digest for part in parts if part.path == "big.bin"))[7]
    pack = store.blobs.path(chunk.pack.hex())
    data = bytearray(pack.read_bytes())
    data[chunk.offset] ^= 1
    pack.write_bytes(data)
    try:
        datasets.verify(store, "x")
        raise AssertionError("a byte was flipped")
    except Failed:
        pass
    dies(point, _ADD, str(root))
    assert datasets.add(store, "x", folder) == made and datasets.verify(store, "x") == 21
    _age(store)
    care.prune(store, rules=care.Rules())
    assert datasets.verify(store, "x") == 21 and care.check(store, contents=True) == []
    assert all(store.blobs.intact(blob.digest) for blob in store.blobs.all()), "what was damaged is gone"
    store.close()


_PRUNE = """
import sys; from pathlib import Path; from tests.conftest import new_store; from stead import care
care.prune(new_store(Path(sys.argv[1]) / "s"), rules=care.Rules())
"""


def _sweep(root: Path, point: str) -> None:
    folder = _given(root)
    store = new_store(root / "s")
    datasets.add(store, "x", folder)
    (gone,) = (digest for _, digest, _ in store.blobs.keep([random.Random(5).randbytes(9 << 20)]))
    list(store.blobs.keep([random.Random(6).randbytes(500), *sorted(folder.iterdir())]))
    _age(store)
    dies(point, _PRUNE, str(root))
    assert datasets.verify(store, "x") == 21 and care.check(store, contents=True) == []
    _age(store)
    care.prune(store, rules=care.Rules())
    assert datasets.verify(store, "x") == 21 and care.check(store, contents=True) == []
    assert sum(blob.bytes for blob in store.blobs.all()) < (9 << 20) + 80_000
    try:
        store.blobs.get(gone)
        raise AssertionError("nothing names it")
    except NotFound:
        pass
    store.close()


POINTS: dict[str, Scenario] = {
    "packs.files": _keep,
    "packs.keep": _keep_or_mend,
    "packs.renew": _keep,
    "packs.sweep": _sweep,
    "packs.move": _sweep,
}
