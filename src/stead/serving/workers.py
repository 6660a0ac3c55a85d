"""The gateway's end of a worker process: started here or in a container, asked over a socket."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stead.errors import Failed, SteadError, from_dict
from stead.images import Container
from stead.jobs import Limits
from stead.runtime import frames, secrets, typed
from stead.runtime.frames import Frame
from stead.runtime.ids import new_id
from stead.runtime.worker import Facts
from stead.serving.calls import Call

if TYPE_CHECKING:
    from stead.serving.pool import Pool

LOAD_TIMEOUT_S = 600.0
START_TIMEOUT_S = 120.0
_TAIL = 4000
_LINE = 1 << 16


class WorkerLost(Exception):
    """The process ended while it was asked for something."""


@dataclass(frozen=True)
class Launch:
    """How the workers of an environment are started."""

    python: str
    variables: Mapping[str, str]
    runtime_path: Path
    folder: Path
    """Working directory."""
    key: str
    """Name of the pool, for logs and metrics."""
    limits: Limits = field(default_factory=Limits)
    container: Container | None = None
    """What they run in, where it is not a process of this machine."""


class Worker(asyncio.Protocol):
    """The gateway's end of one worker process."""

    def __init__(self, pool: Pool, slot: int) -> None:
        self.pool = pool
        self.label = f"{pool.launch.key}-{slot}"
        self.process: asyncio.subprocess.Process | None = None
        self.ready = False
        self.loading: bytes | None = None
        """The version that it loads; requests that came after wait for it."""
        self.loaded: set[bytes] = set()
        self.inflight: dict[int, Call] = {}
        self.given_up: set[int] = set()
        """Requests that were answered without it when they had waited too long; it may still compute them."""
        self.ahead: set[int] = set()
        """Requests that it had before it was told to load something."""
        self.loading_since = 0.0
        self.busy_since = 0.0
        self.cost = 0.0
        """Smoothed processor time of a batch, in tenths of milliseconds."""
        self.inside = ""
        """Name of its container, where it has one."""
        self.tail = deque[bytes](maxlen=8)
        self.gone = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._reader = frames.Reader()
        self._outgoing: list[bytes] = []
        self._seen = self._quiet = 0
        self._asked: dict[int, asyncio.Future[Frame]] = {}
        self._hello: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Start the process and wait until it listens. Raises WorkerLost, or OSError where it cannot be started."""
        launch = self.pool.launch
        launch.folder.mkdir(parents=True, exist_ok=True)
        ours = await (
            self._start_here(launch) if launch.container is None else self._start_inside(launch, launch.container)
        )
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)
        async with asyncio.timeout(START_TIMEOUT_S):
            await self._hello

    async def _start_here(self, launch: Launch) -> socket.socket:
        """A process of this machine, which inherits its end of a pair of sockets."""
        ours, theirs = socket.socketpair()
        try:
            self.process = await asyncio.create_subprocess_exec(
                *launch.limits.around([launch.python, "-m", "stead.runtime.worker", "--fd", str(theirs.fileno())]),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(launch.variables) | {"PYTHONPATH": str(launch.runtime_path), "PYTHONSAFEPATH": "1"},
                cwd=launch.folder,
                pass_fds=(theirs.fileno(),),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.pool.spawn(self._listen(self.process))
        return ours

    async def _start_inside(self, launch: Launch, container: Container) -> socket.socket:
        """A container, which connects to a socket in a folder that is mounted there; the folder is gone when it has."""
        self.inside = f"stead-worker-{new_id()}"
        with tempfile.TemporaryDirectory(prefix="stead-worker-") as folder, socket.socket(socket.AF_UNIX) as listener:
            shared = Path(folder) / "shared"  # nobody else comes through the folder above
            shared.mkdir()
            listener.bind(str(shared / "socket"))
            os.chmod(shared, 0o755)
            os.chmod(shared / "socket", 0o666)
            listener.listen(1)
            listener.setblocking(False)
            command, environ = container.command(
                ["-m", "stead.runtime.worker", "--socket", "/run/stead/socket"],
                name=self.inside,
                variables=launch.variables,
                mounts=[f"{shared}:/run/stead:ro"],
                network="none",
                limits=launch.limits,
            )
            self.process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=environ,
                cwd=launch.folder,
            )
            self.pool.spawn(self._listen(self.process))
            accept = asyncio.create_task(asyncio.get_running_loop().sock_accept(listener))
            ended = asyncio.create_task(self.process.wait())
            await asyncio.wait((accept, ended), timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if not accept.done():
                accept.cancel()
                raise WorkerLost
            return accept.result()[0]

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Keep the last words of the process, for its error, and pass all of them on to our own log, stars for its secrets."""
        assert process.stdout is not None
        names = self.pool.launch.variables.get(secrets.NAMES, "").split(",")
        values = [self.pool.launch.variables[name] for name in names if name]
        rest = b""
        while data := await process.stdout.read(_LINE):
            whole, end, rest = (rest + data).rpartition(b"\n")  # a secret may come in two pieces
            if len(rest) >= _LINE:
                whole, rest = whole + end + rest, b""
            self._tell(secrets.hidden(whole, values))
        self._tell(secrets.hidden(rest, values))

    def _tell(self, data: bytes) -> None:
        if data:
            self.tail.append(data[-_TAIL:] + b"\n")
        for line in data.decode("utf-8", "replace").splitlines():
            print(f"[{self.label}] {line}", file=sys.stderr)

    def last_words(self) -> str:
        lines = b"".join(self.tail).decode("utf-8", "replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-3:])[-600:]

    async def load(self, name: bytes, folder: str) -> Facts:
        """Load a version. Raises WorkerLost, or the worker's own error."""
        self.loading = name
        self.loading_since = time.monotonic()
        self.ahead = {*self.inflight, *self.given_up}
        self.pool.refresh()
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                frame = await self._ask(frames.LOAD, name, folder.encode())
        except TimeoutError:
            self.kill()
            raise Failed("load-timeout", f"loading took more than {LOAD_TIMEOUT_S:g} s") from None
        except asyncio.CancelledError:
            self.kill()  # nobody wants the version any more, and nothing else ends a load
            raise
        finally:
            self.loading = None
            self.pool.refresh()
        if frame.kind == frames.ERROR:
            raise from_dict(msgspec.json.decode(frame.body))
        self.loaded.add(name)
        self.pool.refresh()
        return msgspec.json.decode(frame.body, type=typed.ready(Facts))

    def unload(self, name: bytes) -> asyncio.Future[Frame]:
        """Forget a version; what is asked after this is answered without it."""
        self.loaded.discard(name)
        return self._ask(frames.UNLOAD, name)

    def _ask(self, kind: int, name: bytes, part: bytes = b"") -> asyncio.Future[Frame]:
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        if self._transport is None or self.gone.done():
            future.set_exception(WorkerLost())
            return future
        number = self.pool.next_number()
        self._asked[number] = future
        self._flush()  # in the order of asking
        self._transport.write(frames.pack(kind, number, name, part=part))
        return future

    def send(self, call: Call) -> None:
        assert self._transport is not None
        if not self.inflight:
            self.busy_since = time.monotonic()
        self.inflight[call.number] = call
        if not self._outgoing:
            self._seen = self._quiet = 0
            asyncio.get_running_loop().call_soon(self._settle)
        self._outgoing.append(
            frames.pack(
                call.kind,
                call.number,
                call.name,
                prediction_id=call.id.encode(),
                protocol=call.protocol,
                flags=frames.ALONE if call.alone else 0,
                header_length=call.header_length,
                body=call.body,
            )
        )
        if len(self._outgoing) >= self.pool.lump:
            self._flush()  # the worker begins while the rest is still being read

    def _settle(self) -> None:
        """Write when half of what is under way has gathered, or when two turns of the loop have brought nothing more.

        The worker wakes once and finds a batch, and computes it while the other half is read and answered here. Where
        the loop has nothing else to do this costs some microseconds; nobody waits for a timer.
        """
        gathered = len(self._outgoing)
        if gathered >= self.pool.lump or self._quiet == 2:
            self._flush()
        elif gathered:
            self._quiet = self._quiet + 1 if gathered == self._seen else 0
            self._seen = gathered
            asyncio.get_running_loop().call_soon(self._settle)

    def _flush(self) -> None:
        data, self._outgoing = b"".join(self._outgoing), []
        if data and self._transport is not None:
            self._transport.write(data)

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
        if self.inside and self._transport is not None:
            self._transport.abort()  # a container outlives its engine's process, but not its connection

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def reap(self) -> None:
        """Wait for the end of a process that was told to end, and end it where it does not listen."""
        if self.process is None:
            return
        try:
            async with asyncio.timeout(5):
                code = await self.process.wait()
        except TimeoutError:
            self.kill()
            code = await self.process.wait()
        container = self.pool.launch.container
        if code and self.inside and container:  # its engine's process ended, it need not have
            await asyncio.to_thread(container.remove, self.inside)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        try:
            arrived = self._reader.feed(data)
        except SteadError as error:
            print(f"[{self.label}] {error}", file=sys.stderr)
            self.kill()
            return
        done: list[tuple[Call, Frame]] = []
        for frame in arrived:
            if frame.kind == frames.ANSWER:
                call = self.inflight.pop(frame.number, None)
                if call is not None:
                    done.append((call, frame))
                else:  # it timed out before
                    self.given_up.discard(frame.number)
            elif frame.kind == frames.HELLO:
                if not self._hello.done():
                    self._hello.set_result(frame)
            elif (asked := self._asked.pop(frame.number, None)) is not None and not asked.done():
                asked.set_result(frame)
        self.busy_since = time.monotonic()
        if done:
            self.pool.relax()
            self.cost += 0.1 * (done[0][1].cost - self.cost)
            self.pool.answered(done)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ready = False
        for future in (self._hello, *self._asked.values()):
            if not future.done():
                future.set_exception(WorkerLost())
                future.exception()  # nobody may be waiting any more
        self._asked.clear()
        if not self.gone.done():
            self.gone.set_result(None)
        self.kill()
        self.pool.lost(self)
