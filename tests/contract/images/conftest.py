"""Images: a store with a version, a base that is only looked into, and whoever is asked to run or keep images for real."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "serving"))
from image_parts import make_base, register, thin_environment

from stead.store import Store
from tests.conftest import new_store


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with `demand@1` in an environment of two small packages."""
    store = new_store(tmp_path_factory.mktemp("shelf") / "store")
    register(store, thin_environment(store))
    yield store
    store.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout that has an interpreter by name, and a list of packages."""
    return make_base(tmp_path_factory.mktemp("base") / "base")
