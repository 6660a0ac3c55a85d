"""The gateway: predictions over HTTP. `python -m stead.processes gateway`."""

from __future__ import annotations

import argparse
import asyncio
import hmac
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stead.api import tokens
from stead.config import load_settings
from stead.errors import InvalidInput, SteadError
from stead.processes import lifeline
from stead.runtime import loading
from stead.store import Store, open_store

LOCAL = ("127.0.0.1", "localhost", "::1")
TOKEN_S = 10.0
"""How long a token that was good is taken for good."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stead.processes gateway")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7701)
    parser.add_argument("--parent-fd", type=int)
    options = parser.parse_args()
    lifeline.follow(options.parent_fd, lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        settings = load_settings()
        store = open_store(settings)
        if options.host not in LOCAL and not tokens.any_token(store):
            raise InvalidInput(
                "open-without-tokens",
                f"listening on {options.host} would let everybody predict: there is no token yet",
                hint="stead tokens create NAME --role read",
            )
        listener = _listen(options.host, options.port)
    except SteadError as error:
        print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    return _serve(store, settings, listener, options.host)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InvalidInput(
            "port-in-use",
            f"port {port} of {host} cannot be used for the gateway: {error.strerror}",
            hint=f"stead up --gateway-port {port + 10}",
        ) from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _serve(store: Store, settings: Any, listener: socket.socket, host: str) -> int:
    import uvicorn

    from stead.serving.gateway import Gateway
    from stead.serving.http import LimitedProtocol, close_slow

    url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    secret = secrets.token_urlsafe(32)
    authorize = None if host in LOCAL else _Tokens(store, secret).check
    app = Gateway(store, settings, url=url, names=[host], authorize=authorize, secret=secret)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                loading.settle()
                print(f"ready {url}", flush=True)

        async def on_tick(self, counter: int) -> bool:
            if counter % 10 == 0:
                close_slow(self.server_state.connections, asyncio.get_running_loop().time())
            return await super().on_tick(counter)

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn's own raises the signal again when all is done: a drained gateway has ended well
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self.handle_exit)
            yield

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=LimitedProtocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        access_log=False,
        log_level="error",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )
    server = Server(config)
    server.run(sockets=[listener])
    store.close()
    return 0 if server.started else 1


class _Tokens:
    """Bearer tokens, remembered for a few seconds so that a prediction does not pay for a query."""

    def __init__(self, store: Store, secret: str) -> None:
        self._store = store
        self._secret = secret
        self._good: dict[str, tuple[tokens.Role, float]] = {}

    async def check(self, secret: str, needed: tokens.Role) -> None:
        """Raises Forbidden (`token-missing`, `token-invalid`, `role-too-low`)."""
        role, until = self._good.get(secret, ("read", 0.0))
        if until < time.monotonic():
            if hmac.compare_digest(secret.encode(), self._secret.encode()):
                return
            role = (await asyncio.to_thread(tokens.authenticate, self._store, secret)).role
            if len(self._good) > 1000:
                self._good.clear()
            self._good[secret] = role, time.monotonic() + TOKEN_S
        tokens.permit(role, needed)
