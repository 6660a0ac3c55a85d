"""The calls of `import stead` outside a job. A run is logged to a journal on this machine, whatever becomes of a server;
a thread delivers it to the store, embedded or by URL, exactly once. What a dead process left behind, `sync_journals` delivers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stead.sdk.data import dataset
    from stead.sdk.leftovers import sync_journals
    from stead.sdk.models import log_model, predict
    from stead.sdk.tracking import Run, finish, init, log, log_artifact

__all__ = ["Run", "dataset", "finish", "init", "log", "log_artifact", "log_model", "predict", "sync_journals"]

_HOMES = {
    "dataset": "data",
    "sync_journals": "leftovers",
    "log_model": "models",
    "predict": "models",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'stead.sdk' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"stead.sdk.{_HOMES.get(name, 'tracking')}"), name)
    globals()[name] = value
    return value
