"""kill -9 while a version is added, or rows are put aside."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from dying import Scenario, dies

from stead import datasets
from stead.errors import NotFound
from tests.conftest import new_store

_ADD = """
import sys; from pathlib import Path; import pyarrow as pa; from tests.conftest import new_store; from stead import datasets
datasets.add(new_store(Path(sys.argv[1])), "x", pa.table({"a": [1, 2, 3]}))
"""


def _add(root: Path, point: str) -> None:
    store = new_store(root)
    dies(point, _ADD, str(root))
    try:
        assert datasets.get_version(store, "x").rows == 3
        assert point.endswith(":after")
    except NotFound:
        assert point.endswith(":before")
        assert datasets.list_datasets(store) == []
    assert datasets.add(store, "x", pa.table({"a": [1, 2, 3]})).version == 1
    assert datasets.verify(store, "x") == 1
    store.close()


POINTS: dict[str, Scenario] = {"datasets.add": _add}

_ASIDE = """
import sys; from pathlib import Path; from tests.conftest import new_store; from stead import datasets
store = new_store(Path(sys.argv[1]))
datasets.put_aside(store, "x", store.blobs.put(b"rows"), rows=1, since=0, until=1, problems=["bad"], job=None)
"""


def _aside(root: Path, point: str) -> None:
    store = new_store(root)
    dies(point, _ASIDE, str(root))
    done = point.endswith(":after")
    assert [each.times for each in datasets.list_quarantine(store)] == [1] * done
    again = store.blobs.put(b"rows")
    put = datasets.put_aside(store, "x", again, rows=1, since=0, until=1, problems=["bad"], job=None)
    assert datasets.list_quarantine(store) == [put] and put.times == 1 + done
    store.close()


POINTS["datasets.quarantine"] = _aside
