"""kill -9 while bytes are stored, tables are made, and a checkpoint is written."""

from __future__ import annotations

from pathlib import Path

from dying import Scenario, dies

from stead import ledger
from stead.config import load_settings
from stead.runtime.recordlog import RecordLog, read_records
from stead.store import Blobs, digest_of, open_store
from tests.conftest import new_store


def _put(root: Path, point: str) -> None:
    dies(point, "import sys; from stead.store import Blobs; Blobs(sys.argv[1]).put(b'precious')", str(root))
    blobs = Blobs(root)
    digest = digest_of(b"precious")
    assert blobs.has(digest) == point.endswith(":after")
    assert blobs.put(b"precious") == digest
    assert blobs.get(digest) == b"precious"


def _migrate(root: Path, point: str) -> None:
    dies(
        point,
        "import os, sys; os.environ['STEAD_STORE'] = sys.argv[1]; from stead.store import open_store; open_store()",
        str(root),
    )
    store = open_store(load_settings(environ={"STEAD_STORE": str(root)}))
    assert ledger.list_entries(store) == []
    store.close()


_CHECKPOINT = """
import sys; from pathlib import Path; from tests.conftest import new_store; from stead import ledger
ledger.checkpoint(new_store(Path(sys.argv[1])))
"""


def _checkpoint(root: Path, point: str) -> None:
    store = new_store(root)
    with store.db.write("ledger.checkpoint") as tx:
        ledger.record(tx, actor="me", action="alias.set", subject="x", summary="set")
    dies(point, _CHECKPOINT, str(root))
    assert ledger.verify(store) == (1 if point.endswith(":after") else 0)
    made = ledger.checkpoint(store)
    assert (made is None) == point.endswith(":after")
    assert ledger.verify(store) == 1
    store.close()


_APPEND = """
import sys; from pathlib import Path; from stead.runtime.recordlog import RecordLog
log = RecordLog(Path(sys.argv[1]) / "log"); log.append([b"two", b"three"])
"""


def _append(root: Path, point: str) -> None:
    log = RecordLog(root / "log")
    log.append([b"one"])
    log.close()
    dies(point, _APPEND, str(root))
    kept = [record for _, record in read_records(root / "log")]
    assert kept == [b"one", *([b"two", b"three"] if point.endswith(":after") else [])]


POINTS: dict[str, Scenario] = {
    "blobs.put": _put,
    "store.migrate": _migrate,
    "ledger.checkpoint": _checkpoint,
    "recordlog.append": _append,
}
