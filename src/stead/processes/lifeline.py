"""Processes that end with the one that started them, and the lock that lets only one `stead up` keep a store."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
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
            who = f"process {state['pid']}" if state else "another process"
            raise Conflict(
                "already-up", f"stead is up for {root} already: {who}", hint="stead status; stead down"
            ) from None
        (folder / "up.json").unlink(missing_ok=True)  # of one that was killed
        yield
    finally:
        os.close(handle)


def is_up(root: Path) -> bool:
    """Whether some process holds the store's lock."""
    path = root / "run" / "up.lock"
    if not path.exists():
        return False
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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
    check_ports(host, {what: port})


def check_ports(host: str, ports: Mapping[str, int], *, command: str = "stead up") -> None:
    """Raises InvalidInput (`port-in-use`) where another program has a port of `server` or `gateway`; the hint names free ones."""
    taken = {what: why for what, port in ports.items() if (why := _taken(host, port))}
    if not taken:
        return
    said = [f"port {ports[what]} of {host} cannot be used for the {what}: {why}" for what, why in taken.items()]
    free = {what: _free_near(host, ports[what], ports.values()) for what in taken}
    options = [f"{'--port' if what == 'server' else '--gateway-port'} {port}" for what, port in free.items()]
    raise InvalidInput("port-in-use", "; ".join(said), hint=" ".join([command, *options]))


def _free_near(host: str, port: int, other: Collection[int]) -> int:
    near = (each for each in range(port + 10, 1 << 16, 10) if each not in other and not _taken(host, each))
    return next(near, None) or free_port()


def _taken(host: str, port: int) -> str | None:
    """Why a port cannot be listened on; None where it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            return error.strerror
    return None


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
