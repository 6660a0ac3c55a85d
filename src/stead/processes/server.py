"""The server: pages and API. `python -m stead.processes server`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys

from stead.api.app import Guard
from stead.config import load_settings
from stead.errors import SteadError
from stead.processes import lifeline
from stead.runtime import loading
from stead.store import open_store


def main() -> int:
    import uvicorn

    from stead.serving.http import StreamingProtocol
    from stead.web import create_site

    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7700)
    parser.add_argument("--parent-fd", type=int)
    options = parser.parse_args()
    lifeline.follow(options.parent_fd, lambda: os.kill(os.getpid(), signal.SIGTERM))
    settings = load_settings()
    try:
        lifeline.check_port(options.host, options.port, "server")
        store = open_store(settings)
    except SteadError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    app = Guard(create_site(store, settings), store, settings)
    listener = socket.create_server(
        (options.host, options.port), family=socket.AF_INET6 if ":" in options.host else socket.AF_INET, backlog=512
    )
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app,
        http=StreamingProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    loading.settle()
    print(f"ready http://{options.host}:{options.port}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])
    return 0
