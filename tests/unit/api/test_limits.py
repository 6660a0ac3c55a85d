"""Each operation that takes a limit refuses what is none, with the same error."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from stead.api import Embedded
from stead.api.table import Operation, operations
from stead.config import load_settings
from stead.errors import InvalidInput
from tests.conftest import new_store

WITH_LIMIT = [o for o in operations().values() if "limit" in o.parameters]


@pytest.mark.parametrize("operation", WITH_LIMIT, ids=lambda o: o.name)
@pytest.mark.parametrize("limit", [0, -1, 10**30])
def test_a_limit_is_a_count(operation: Operation, limit: int, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    caller = Embedded(store, load_settings(environ={"STEAD_STORE": str(tmp_path)}))
    needed = {p.name: "x" for p in operation.parameters.values() if p.default is inspect.Parameter.empty}
    with pytest.raises(InvalidInput) as raised:
        caller.call(operation.name, **needed, limit=limit)
    assert raised.value.code == "limit-invalid" and str(limit) in raised.value.message
    caller.close()
