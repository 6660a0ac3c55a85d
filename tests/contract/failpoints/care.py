"""kill -9 in the middle of a backup or a restore: no half backup, no half store that opens, and the same command goes on."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
import sqlalchemy as sa
from dying import Scenario, dies
from traffic import hours, log

from stead import care, datasets, ledger, runs
from stead.config import load_settings
from stead.errors import Failed, NotFound
from stead.predictions import PredictionLog, compact, counts
from stead.store import may_delete, open_store
from stead.store.opening import open_any
from tests.conftest import new_store

_BACKUP = """
import sys; from pathlib import Path; from tests.conftest import new_store; from stead import care
care.back_up(new_store(Path(sys.argv[1]) / "s"), Path(sys.argv[1]) / "place")
"""


def _backup(root: Path, point: str) -> None:
    store = new_store(root / "s")
    digest = store.blobs.put(b"precious")
    dies(point, _BACKUP, str(root))
    done = point.startswith(("care.backup:after", "care.record"))
    found = care.list_backups(root / "place")
    assert len(found) == done
    assert may_delete(store) == point.startswith(("store.hold:before", "care.record"))
    care.back_up(store, root / "place")
    assert len(care.list_backups(root / "place")) == 1 + done
    assert not list((root / "place").rglob(".partial*"))
    assert [path.read_bytes() for path in (root / "place" / "blobs").glob(f"*/{digest[2:]}")] == [b"precious"]
    store.close()


_RESTORE = """
import sys; from pathlib import Path; from stead.config import load_settings; from stead import care
from stead.store.opening import open_any
root = Path(sys.argv[1])
care.restore(open_any(load_settings(environ={"STEAD_STORE": str(root / "copy")})), root / "place")
"""


def _restore(root: Path, point: str) -> None:
    store = new_store(root / "s")
    with store.db.write("care.record") as tx:
        ledger.record(tx, actor="me", action="alias.set", subject="x", summary="set")
    digest = store.blobs.put(b"precious")
    log = PredictionLog(store, "gateway-1")
    log.append(hours(3))
    log.sync()
    care.back_up(store, root / "place", record=False)
    dies(point, _RESTORE, str(root))
    settings = load_settings(environ={"STEAD_STORE": str(root / "copy"), "STEAD_USER": "ada"})
    with pytest.raises(Failed) as refused:
        open_store(settings)
    assert refused.value.code == "store-restoring"
    again = open_any(settings)
    care.restore(again, root / "place")
    again.close()
    copy = open_store(settings)
    assert counts(copy, "bikes").logged == 3 and copy.blobs.get(digest) == b"precious"
    assert [entry.action for entry in ledger.list_entries(copy)] == ["store.restored", "alias.set"]
    log.close()
    copy.close()
    store.close()


_PRUNE = """
import sys; from pathlib import Path; from tests.conftest import new_store; from stead import care
care.prune(new_store(Path(sys.argv[1])), rules=care.Rules("60d", "7d", "7d"))
"""


def _prune(root: Path, point: str) -> None:
    store = new_store(root)
    old = [msgspec.structs.replace(each, received_at=0) for each in hours(3)]
    log(store, [*old, *hours(1, first=3)])
    compact(store)
    for n in range(2):
        datasets.add(store, "trips", pa.table({"n": [n]}))
    run = runs.end(store, runs.start(store, project="p", name="old").id).id
    with store.db.write("care.record") as tx:
        tx.execute(sa.text("update runs set ended_at = 1"))
        tx.execute(sa.text("update dataset_versions set created_at = 1"))
    for path in (root / "blobs").glob("??/*"):
        os.utime(path, (1, 1))
    dies(point, _PRUNE, str(root))
    assert care.check(store, contents=True) == []
    done = point != "care.prune:before"
    assert [entry.action for entry in ledger.list_entries(store)] == ["store.pruned"] * done
    care.prune(store, rules=care.Rules("60d", "7d", "7d"))
    assert care.check(store, contents=True) == [] and datasets.read(store, "trips@2")["n"].to_pylist() == [1]
    with pytest.raises(NotFound):
        runs.get_run(store, run)
    assert counts(store, "bikes").logged == 1
    assert len(datasets.list_versions(store, "trips")) == 1
    files = [path for path in (root / "blobs").rglob("*") if path.is_file()]
    assert len(files) == 3, "a manifest, its part, the log of the request that is not old"
    store.close()


POINTS: dict[str, Scenario] = {
    "care.prune": _prune,
    "blobs.forget": _prune,
    "care.backup": _backup,
    "care.record": _backup,
    "store.hold": _backup,
    "blobs.copy": _restore,
    "care.restore": _restore,
}
