"""The site over a full store and over an empty one."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from asking import Site, opened, run
from world import World, fill


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    """A full store, made once; tests that change something copy it."""
    root = tmp_path_factory.mktemp("web") / "store"
    store = opened(root)
    world = fill(store, tmp_path_factory.mktemp("models"))
    store.close()
    return root, world


@pytest.fixture(scope="session")
def world(filled: tuple[Path, World]) -> World:
    return filled[1]


@pytest.fixture(scope="session")
def site(filled: tuple[Path, World]) -> Iterator[Site]:
    """The full site; for reading only."""
    store = opened(filled[0])
    yield Site(store, run)
    store.close()


@pytest.fixture
def own(filled: tuple[Path, World], tmp_path: Path) -> Iterator[Site]:
    """A full site of one's own, to change."""
    shutil.copytree(filled[0], tmp_path / "store")
    store = opened(tmp_path / "store")
    yield Site(store, run)
    store.close()


@pytest.fixture
def bare(store: Store) -> Site:
    """The site of an empty store."""
    return Site(store, run)
