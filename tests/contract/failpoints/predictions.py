"""kill -9 anywhere between a request and its day's loss: nothing that was acknowledged is lost, nothing counts twice."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow as pa
from dying import Scenario, dies
from traffic import hours, label, log

from stead import datasets, ledger
from stead.errors import NotFound
from stead.predictions import Counts, compact, counts, erase_key, performance, read, refresh_performance
from stead.predictions.compaction import clear_erased
from tests.conftest import new_store

# three rounds, the third of which makes segments enough to be merged; each acknowledgement is printed
_SCRIPT = """
import sys
from pathlib import Path
from tests.conftest import new_store
from traffic import hours, label, log
from stead.predictions import compact, refresh_performance
from stead.predictions import compaction
compaction.MERGE_AT, compaction.KEPT_MS = 2, -1
store = new_store(Path(sys.argv[1]))
for n in range(3):
    requests = hours(4, first=4 * n)
    print("sent", *(each.id for each in requests), flush=True)
    ids = log(store, requests)
    print("logged", *ids, flush=True)
    label(store, ids, [110.0 + 4 * n + k for k in range(4)])
    print("labelled", *ids, flush=True)
    refresh_performance(store)
    compact(store)
"""


def _life(root: Path, point: str) -> None:
    new_store(root).close()
    out = dies(point, _SCRIPT, str(root))
    told: dict[str, set[str]] = {"sent": set(), "logged": set(), "labelled": set()}
    for line in out.splitlines():
        word, *ids = line.split()
        told[word] |= set(ids)
    store = new_store(root)
    before = counts(store, "bikes")
    for _ in range(3):
        compact(store)
        refresh_performance(store)
        assert counts(store, "bikes") == before
    rows = read(store, "bikes").to_pylist()
    ids = [row["id"] for row in rows]
    assert len(ids) == len(set(ids)) == before.rows
    assert told["logged"] <= set(ids) <= told["sent"]
    labelled = {row["id"] for row in rows if row["label"] is not None}
    assert told["labelled"] <= labelled
    (day,) = performance(store, "bikes") or [None]
    if day is not None:
        assert (day.predictions, day.labelled) == (len(ids), len(labelled))
        assert day.loss == (10.0 if labelled else None)
    refresh_performance(store, model="bikes")
    assert performance(store, "bikes") == ([day] if day else [])
    assert not list((root / "log").rglob("*.log"))
    store.close()


_ERASE = """
import sys; from pathlib import Path; from tests.conftest import new_store; from stead.predictions import erase_key
erase_key(new_store(Path(sys.argv[1])), "bikes", "ada")
"""


def _erase(root: Path, point: str) -> None:
    store = new_store(root)
    hers = [msgspec.structs.replace(each, key="ada") for each in hours(2)]
    label(store, log(store, [*hers, *hours(2, first=2)]), [1.0] * 4)
    compact(store)
    datasets.add(store, "trips", pa.table({"who": ["ada", "bob"], "n": [1, 2]}))
    dies(point, _ERASE, str(root))
    with suppress(NotFound):
        erase_key(store, "bikes", "ada")
    clear_erased(store)
    assert len(datasets.get_version(store, "trips@1").marks) == 1
    assert [entry.action for entry in ledger.list_entries(store)].count("rows.erased") >= 1
    assert counts(store, "bikes") == Counts(2, 2, 0, 2, 0)
    trips = datasets.get_version(store, "trips", with_parts=True)
    data = {trips.manifest, *(part.digest for part in trips.part_list)}
    blobs = [path for path in (root / "blobs").rglob("*") if path.is_file()]
    left = [path.read_bytes() for path in blobs if path.parent.name + path.name not in data]
    assert len(left) == 2 and not any(each.id.encode() in data for data in left for each in hers)
    store.close()


POINTS: dict[str, Scenario] = dict.fromkeys(
    (
        "predictions.append",
        "predictions.labels",
        "predictions.compact",
        "predictions.merge",
        "predictions.performance",
        "predictions.remove",
        "predictions.sweep",
    ),
    _life,
)
POINTS["predictions.erase"] = POINTS["predictions.erasure"] = _erase
