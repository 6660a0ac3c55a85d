"""Asks the site as a browser does, and parses what comes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
from bs4 import BeautifulSoup

from stead.api.app import Guard
from stead.config import load_settings
from stead.store import Store, open_store
from stead.web import create_site

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


def run(coroutine: object) -> object:
    import asyncio

    return asyncio.run(coroutine)  # type: ignore[arg-type]


def opened(root: Path) -> Store:
    return open_store(load_settings(environ={"STEAD_STORE": str(root), "STEAD_USER": "ada"}))
