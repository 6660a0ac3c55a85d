"""The site over a full store and over an empty one, as a browser sees it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from bs4 import BeautifulSoup

from stead.api.app import Guard
from stead.config import load_settings
from stead.store import Store, open_store
from stead.web import create_site

sys.path.insert(0, str(Path(__file__).parent))
from world import World, fill

HTML = {"accept": "text/html"}


class Site:
    """Asks the site without a socket, and parses what comes."""

    def __init__(self, store: Store, loop: Callable[..., object]) -> None:
        self.store = store
        settings = load_settings(environ={"STEAD_STORE": str(store.root)})
        self.app = Guard(create_site(store, settings), store, settings)
        self._loop = loop

    def ask(self, path: str, method: str = "GET", **options: object) -> httpx.Response:
        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7700") as client:
                headers = HTML | dict(options.pop("headers", {}))  # type: ignore[call-overload]
                return await client.request(method, path, headers=headers, **options)  # type: ignore[arg-type]

        answer = self._loop(one())
        assert isinstance(answer, httpx.Response)
        return answer

    def page(self, path: str, status: int = 200) -> BeautifulSoup:
        answer = self.ask(path)
        assert answer.status_code == status, answer.text[:2000]
        return BeautifulSoup(answer.text, "html.parser")


def _run(coroutine: object) -> object:
    import asyncio

    return asyncio.run(coroutine)  # type: ignore[arg-type]


def opened(root: Path) -> Store:
    return open_store(load_settings(environ={"STEAD_STORE": str(root), "STEAD_USER": "ada"}))


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
    yield Site(store, _run)
    store.close()


@pytest.fixture
def own(filled: tuple[Path, World], tmp_path: Path) -> Iterator[Site]:
    """A full site of one's own, to change."""
    shutil.copytree(filled[0], tmp_path / "store")
    store = opened(tmp_path / "store")
    yield Site(store, _run)
    store.close()


@pytest.fixture
def bare(store: Store) -> Site:
    """The site of an empty store."""
    return Site(store, _run)
