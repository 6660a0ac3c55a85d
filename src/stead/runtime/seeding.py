"""Fixed seeds for what draws numbers in a step: `random`, numpy, and torch, whenever it is imported."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

TORCH = "torch"


def seed(number: int) -> None:
    """Seed all of them; torch, where it is not loaded yet, as soon as it is: no step waits seconds for what it may not need."""
    random.seed(number)
    if "numpy" in sys.modules or importlib.util.find_spec("numpy"):
        import numpy as np

        np.random.seed(number)
    _Later.number = number
    if TORCH in sys.modules:
        _torch(number)
    elif not any(isinstance(finder, _Later) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Later())


def _torch(number: int) -> None:
    """A project's own module of that name has no generator."""
    getattr(sys.modules[TORCH], "manual_seed", int)(number)


class _Later:
    """Finds torch as the finders behind it do, and seeds it when it has been loaded: unseeded it begins the same way whatever the seed."""

    number = 0

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != TORCH:
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        found = next(filter(None, others), None)
        if found is None or found.loader is None:
            return found
        load = found.loader.exec_module

        def seeded(module: ModuleType) -> None:
            load(module)
            _torch(self.number)

        found.loader.exec_module = seeded  # type: ignore[method-assign]
        return found
