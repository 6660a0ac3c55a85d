"""The dead-man signal stands for turns of the loop: it ends when the loop hangs, though its process and its other threads live on."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stead import fleet, jobs
from stead.config import load_settings
from stead.processes import agent as module
from stead.processes import lifeline
from stead.store import Store


@pytest.fixture
def pinged() -> Iterator[tuple[str, list[str]]]:
    got: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append(self.path)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        threading.Event().wait(0.02)


def test_it_is_sent_while_the_loop_turns_and_no_longer(
    store: Store, pinged: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, got = pinged
    monkeypatch.setattr(module, "HEARTBEAT_MS", 50)
    monkeypatch.setattr(module, "TURN_S", 0.02)
    monkeypatch.setenv("BEAT", f"{url}/s3cret")
    settings = load_settings(environ={"STEAD_HEARTBEAT_URL": "env:BEAT", "STEAD_WEBHOOK_ALLOW": "127.0.0.1"})
    agent = module.Agent(store, settings)
    release, hung = threading.Event(), threading.Event()
    turn = fleet.tick

    def sometimes_hangs(store: Store) -> fleet.Turn:
        if hung.is_set():
            release.wait(30)
        return turn(store)

    monkeypatch.setattr(fleet, "tick", sometimes_hangs)
    agent.start()
    try:
        until(lambda: len(got) >= 2)
        assert set(got) == {"/s3cret"}
        until(lambda: jobs.loop_age(store) is not None)
        assert (lifeline.turn_age(store.root) or 0) < 20
        hung.set()
        last = agent.turned_at
        until(lambda: agent.turned_at != last or threading.Event().wait(0.2) or True)
        stands = len(got) + 1  # one turn may have come around before
        beat = jobs.list_agents(store)[0].beat_at
        until(lambda: jobs.list_agents(store)[0].beat_at > beat)  # two seconds later: the other threads live
        assert len(got) <= stands
        release.set()
        hung.clear()
        until(lambda: len(got) > stands)
    finally:
        release.set()
        agent.stop()
