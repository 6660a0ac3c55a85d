"""Processes that end with the one that started them, and the lock that lets only one `stead up` keep a store."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stead.errors import Conflict, InvalidInput
from stead.runtime.failpoints import failpoint


def follow(fd: int | None, end: Callable[[], None]) -> None:
    """Call `end` when the pipe `fd` reaches its end: the starter has died."""
    if fd is None:
        return

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(fd, 1)
        end()

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


@contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Hold the store's lock. Raises Conflict (`already-up`) with the process that holds it."""
    folder = root / "run"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            state = read_state(root)
            who = f"process {state['pid']} at {state['server']}" if state else "another process"
            raise Conflict(
                "already-up", f"stead is up for {root} already: {who}", hint="stead status; stead down"
            ) from None
        yield
    finally:
        os.close(handle)


def is_up(root: Path) -> bool:
    """Whether some process holds the store's lock."""
    path = root / "run" / "up.lock"
    if not path.exists():
        return False
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def mark_turn(root: Path) -> None:
    """The loop of this store's agent came around: the time of a file says so to the supervisor, whatever the database does."""
    path = root / "run" / "loop"
    try:
        os.utime(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)


def turn_age(root: Path) -> float | None:
    """Seconds since `mark_turn`; None where the loop never came around."""
    try:
        return max(0.0, time.time() - (root / "run" / "loop").stat().st_mtime)
    except FileNotFoundError:
        return None


def write_state(root: Path, state: dict[str, Any]) -> None:
    """Tell other commands which processes run and where."""
    folder = root / "run"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".up-{os.getpid()}.json"
    temporary.write_text(json.dumps(state, indent=1))
    failpoint("processes.state:before")
    os.replace(temporary, folder / "up.json")
    failpoint("processes.state:after")


def read_state(root: Path) -> dict[str, Any] | None:
    """What `write_state` told, while its process lives."""
    try:
        state: dict[str, Any] = json.loads((root / "run" / "up.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return state if is_up(root) else None


def check_port(host: str, port: int, what: str) -> None:
    """Raises InvalidInput (`port-in-use`) where another program has the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            option = "--port" if what == "server" else "--gateway-port"
            raise InvalidInput(
                "port-in-use",
                f"port {port} of {host} cannot be used for the {what}: {error.strerror}",
                hint=f"stead up {option} {port + 10}",
            ) from None


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
