"""Commands that a job runs: their output by lines, their end with the job's, and hosts that run many steps one by one."""

from __future__ import annotations

import codecs
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

Hear = Callable[[str], None]
"""Gets what a command says, by whole lines, and an empty text at least five times a second; may raise to end it."""
REST_S = 60.0
MOST_HOSTS = 3
"""A host that rests keeps its libraries in memory: some 200 MB."""


class Child:
    """A command in a session of its own. It ends when this process ends, at kill -9 too: its pipe then reads as empty."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
    ) -> None:
        alive_read, self._alive = os.pipe()
        os.set_inheritable(alive_read, True)
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**env, "STEAD_ALIVE_FD": str(alive_read)},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(alive_read, *pass_fds),
            start_new_session=True,
        )
        os.close(alive_read)

    def wait(self, hear: Hear) -> int:
        """Its exit code, when it and its pipe have ended."""
        assert self._process.stdout is not None
        for text in _lines(self._process.stdout.fileno(), ended=lambda: self._process.poll() is not None):
            hear(text)
        return self._process.wait()

    def close(self) -> None:
        """End it and all that it started."""
        _end_group(self._process)
        os.close(self._alive)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()


class Host(Child):
    """A process that has loaded what steps need and runs each of them apart, so that it is loaded once for many.

    It reads one request a line and tells the exit code of each on a pipe of its own.
    """

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        self._told, theirs = os.pipe()
        os.set_blocking(self._told, False)
        super().__init__([*command, str(theirs)], cwd=cwd, env=env, stdin=subprocess.PIPE, pass_fds=(theirs,))
        os.close(theirs)
        self._codes = b""

    def step(self, request: Mapping[str, Any], hear: Hear) -> int:
        """Run one step; its exit code, or the host's own where that died."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):  # it died: its exit code follows
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        for text in _lines(process.stdout.fileno(), ended=self._ended, also=self._told):
            hear(text)
        line, newline, self._codes = self._codes.partition(b"\n")
        return int(line) if newline else process.wait()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def alone(self) -> bool:
        """Whether it runs and no process of its steps is there any more; only Linux tells."""
        own = str(self._process.pid)
        if not self.running or not Path("/proc/self/stat").is_file():
            return False
        return all(each == own or _session(each) != own for each in os.listdir("/proc") if each.isdigit())

    def _ended(self) -> bool:
        with suppress(BlockingIOError):
            self._codes += os.read(self._told, 256)
        return b"\n" in self._codes or self._process.poll() is not None

    def close(self) -> None:
        super().close()
        os.close(self._told)


class Hosts:
    """Hosts by command and environment, for one thread. They go on from job to job until they have rested for `REST_S`, or newer ones need the place."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, ...], tuple[Host, float]] = {}

    def step(self, command: Sequence[str], env: Mapping[str, str], request: Mapping[str, Any], hear: Hear) -> int:
        """Have a host run a step, a new one where none is there; where `hear` raises, that host is ended with its step."""
        key = (*command, *(f"{k}={v}" for k, v in sorted(env.items())))
        if key in self._hosts and not self._hosts[key][0].running:
            self._end(key)
        host = (
            self._hosts.pop(key)[0] if key in self._hosts else Host(command, cwd=Path(tempfile.gettempdir()), env=env)
        )
        try:
            code = host.step(request, hear)
        except BaseException:
            host.close()
            raise
        self._hosts[key] = host, time.monotonic()
        return code

    def part(self) -> None:
        """At a job's end: those whose steps left processes behind end with these."""
        for key, (host, _) in list(self._hosts.items()):
            if not host.alone():
                self._end(key)

    def tidy(self) -> None:
        """End those that have rested for long, and the oldest of too many."""
        now = time.monotonic()
        for place, (key, (_, since)) in enumerate(reversed(list(self._hosts.items()))):
            if place >= MOST_HOSTS or now - since > REST_S:
                self._end(key)

    def _end(self, key: tuple[str, ...]) -> None:
        self._hosts.pop(key)[0].close()

    def close(self) -> None:
        for key in list(self._hosts):
            self._end(key)


def _session(pid: str) -> str:
    """The session of a process, empty where it has ended (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3]
    except OSError:
        return ""


def _lines(fd: int, *, ended: Callable[[], bool], also: int | None = None) -> Iterator[str]:
    """Output by whole lines, and something at least five times a second, until `ended`; all that was written till then.

    Half a line comes alone when nothing follows it for a while: a bar, a question. `also` is watched for news of the end.
    """
    os.set_blocking(fd, False)
    decode, held = codecs.getincrementaldecoder("utf-8")("replace").decode, ""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        if also is not None:
            selector.register(also, selectors.EVENT_READ)
        while True:
            came = selector.select(0.2)
            over = ended() if also is not None or not came else False
            piece = _read(fd)
            if piece:
                lines, newline, held = (held + decode(piece)).rpartition("\n")
                yield lines + newline
                continue
            if piece is None and not over:  # nothing for a while
                yield held
                held = ""
                continue
            yield held + decode(b"", True)
            return


def _read(fd: int) -> bytes | None:
    """What is there to be read; empty at the end, None where nothing has come."""
    try:
        return os.read(fd, 65536)
    except BlockingIOError:
        return None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            if number == signal.SIGTERM:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            return
