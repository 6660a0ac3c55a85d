"""stead: train, register, gate, deploy, predict, observe, decide. `import stead` loads nothing heavy.

>>> import stead
>>> run = stead.init(project="quickstart", config={"depth": 3})  # doctest: +SKIP
>>> stead.log({"loss": 0.5}, step=1)  # doctest: +SKIP
>>> stead.finish()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from stead import api as api
    from stead.sdk import dataset, finish, init, log, log_artifact, log_model, predict

__all__ = ["__version__", "dataset", "finish", "init", "log", "log_artifact", "log_model", "predict"]


def __getattr__(name: str) -> Any:
    import importlib
    import os
    import sys

    if name == "api" and not os.environ.get("STEAD_STEP"):
        return importlib.import_module("stead.api")
    if name not in __all__:
        raise AttributeError(f"module 'stead' has no attribute {name!r}", name=name, obj=sys.modules[__name__])

    # Inside a job the platform is absent: the same names are bound to the runtime, which writes a journal for the executor.
    home = "stead.runtime.sdk" if os.environ.get("STEAD_STEP") else "stead.sdk"
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
