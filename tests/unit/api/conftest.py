"""A real server over a fresh store."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import uvicorn

from stead.api import Remote
from stead.api.app import Guard, create_app
from stead.config import load_settings
from stead.store import Store


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    """Its address; the port is free."""
    settings = load_settings(environ={"STEAD_STORE": "unused"})
    listener = socket.create_server(("127.0.0.1", 0))
    app = Guard(create_app(store, settings), store, settings)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture
def remote() -> Callable[..., Remote]:
    """A caller of a server: `remote(url, token)`."""
    return lambda url, token="": Remote(load_settings(environ={"STEAD_URL": url, "STEAD_TOKEN": token}))
