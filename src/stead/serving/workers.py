"""Worker processes: a pool for each environment, its workers supervised, their requests sent again where one dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stead.errors import Failed, SteadError, Unreachable, from_dict
from stead.images import Container
from stead.jobs import Limits
from stead.runtime import frames, secrets, typed
from stead.runtime.frames import Frame
from stead.runtime.ids import new_id
from stead.runtime.worker import BATCH, Facts
from stead.serving.calls import Call, refusal

WINDOW = 2 * BATCH
"""Frames that one worker holds at most: the batch that it computes and the next one. More wait here."""
DEATHS = 3
"""Workers that may die while they compute a request before the request itself is blamed."""
PACK_COST = 50
"""Where a batch takes less processor time than this (tenths of a millisecond), a worker's batch is filled before the next
worker is used: a call for 32 rows costs
hardly more than one for a single row, and waiting for it costs less than sharing the processors with another process.
Slower models are spread over the workers."""
LOAD_TIMEOUT_S = 600.0
START_TIMEOUT_S = 120.0
UNWANTED_S = 5.0
"""So long a worker may go on to load a version that no route names any more and whose requests still wait."""
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


class Pool:
    """The workers of one environment, with the versions that they hold.

    `finish` gets each answer once, also of requests that failed here.
    """

    def __init__(
        self,
        launch: Launch,
        *,
        size: int,
        timeout_s: float,
        max_waiting: int,
        finish: Callable[[Sequence[tuple[Call, Frame]]], None],
    ) -> None:
        self.launch = launch
        self.workers: list[Worker] = []
        self.facts: dict[bytes, Facts] = {}
        self.open = 0
        """Requests that are not answered yet."""
        self.pending = 0
        """Versions that are to be loaded."""
        self.lump = 1
        """How many frames are worth a write: half of the requests that were under way lately, a batch at most."""
        self.restarts = 0
        self._folders: dict[bytes, str] = {}
        self._size = size
        self._timeout_s = timeout_s
        self._max_waiting = max_waiting
        self._finish = finish
        self._queue: deque[Call] = deque()
        self._targets: dict[bytes, list[Worker]] = {}
        self._number = 0
        self._peak = 1
        self._stopping = False
        self._start_error: SteadError | None = None
        self._changed = asyncio.Event()
        self._load_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        for slot in range(self._size):
            self.spawn(self._keep(slot))

    def spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def next_number(self) -> int:
        self._number += 1
        return self._number

    # versions

    async def load(self, name: bytes, folder: str) -> Facts:
        """Load a version in every worker, one after the other, so that the rest keep answering.

        Raises the worker's own error, or Failed (`worker-failed`, `worker-died`) with its last words.
        """
        self.pending += 1
        try:
            async with self._load_lock:
                return await self._load(name, folder)
        finally:
            self.pending -= 1

    async def _load(self, name: bytes, folder: str) -> Facts:
        deaths = 0
        while (worker := await self._without(name)) is not None:
            try:
                facts = await worker.load(name, folder)
            except WorkerLost:
                deaths += 1
                if deaths == DEATHS and name not in self.facts:
                    raise Failed("worker-died", f"the worker died while loading: {worker.last_words()}") from None
                if deaths > DEATHS:
                    break
            else:
                self._folders[name] = folder
                self.facts[name] = facts
                self.refresh()
        return self.facts[name]

    async def _without(self, name: bytes) -> Worker | None:
        """A ready worker that lacks a version; None where all that are ready have it."""
        while True:
            ready = [worker for worker in self.workers if worker.ready]
            lacking = next((worker for worker in ready if name not in worker.loaded), None)
            if lacking is not None or name in self.facts:
                return lacking
            if self._start_error is not None and not ready:
                raise self._start_error
            if self._stopping:
                raise Failed("pool-stopped", "the workers were stopped meanwhile")
            self._changed.clear()
            await self._changed.wait()

    async def unload(self, name: bytes) -> None:
        """Forget a version. Its requests must have been answered. A worker that still loads it is ended, and begins without it."""
        self._folders.pop(name, None)
        self.facts.pop(name, None)
        self.refresh()
        for worker in self.workers:
            if worker.loading == name:
                worker.kill()
        # all are asked before anything is awaited: a load that comes next finds no worker that still has to forget it
        await asyncio.gather(*[worker.unload(name) for worker in self.workers], return_exceptions=True)

    def hurry(self, name: bytes) -> None:
        """End workers that load a version for long which nobody wants any more: others wait for them."""
        for worker in self.workers:
            if worker.loading == name and time.monotonic() - worker.loading_since > UNWANTED_S:
                self._folders.pop(name, None)
                worker.kill()

    def busy_with(self, name: bytes) -> bool:
        calls = [call for worker in self.workers for call in worker.inflight.values()]
        return any(call.name == name for call in (*calls, *self._queue))

    # requests

    def submit(self, call: Call) -> None:
        """Hand a request to a worker: the first one while its batch has room and is quick, else the one with the
        fewest waiting. Raises Unreachable (`too-busy`, `worker-failed`)."""
        if self.open >= self._max_waiting:
            raise Unreachable("too-busy", f"{self.open} requests wait already", hint="try again after a second")
        if self._start_error is not None and not self._targets.get(call.name):
            raise Unreachable("worker-failed", self._start_error.message)
        self.open += 1
        if self.open > self._peak:
            self._peak = self.open
            self.lump = min(BATCH, (self.open + 1) // 2)
        self._dispatch(call)

    def _dispatch(self, call: Call) -> None:
        targets = self._targets.get(call.name)
        if targets:
            worker = targets[0]
            if len(targets) > 1 and (worker.cost > PACK_COST or len(worker.inflight) >= BATCH):
                worker = min(targets, key=_waiting)
            if len(worker.inflight) < WINDOW:
                worker.send(call)
                return
        self._queue.append(call)

    def relax(self) -> None:
        """Forget a peak of traffic, a little with each answer of a worker."""
        self._peak = max(self.open, int(self._peak * 0.95), 1)
        self.lump = min(BATCH, (self._peak + 1) // 2)

    def answered(self, done: Sequence[tuple[Call, Frame]]) -> None:
        self.open -= len(done)
        self._finish(done)
        if self._queue:
            self._pump()

    def _pump(self) -> None:
        """Send what waits as far as the workers have room."""
        room = sum(WINDOW - len(worker.inflight) for worker in self.workers if worker.ready)
        kept: deque[Call] = deque()
        while self._queue and room > 0:
            call = self._queue.popleft()
            targets = self._targets.get(call.name)
            worker = min(targets, key=_waiting) if targets else None
            if worker is not None and len(worker.inflight) < WINDOW:
                worker.send(call)
                room -= 1
            else:
                kept.append(call)
        self._queue.extendleft(reversed(kept))

    def _fail(self, calls: Sequence[Call], error: SteadError, status: int | None = None) -> None:
        self.answered([(call, refusal(call, error, status)) for call in calls])

    def sweep(self) -> None:
        """Give up what waits too long, and end a worker that has not answered anything for as long."""
        oldest = time.time_ns() - int(self._timeout_s * 1e9)
        late = [call for call in self._queue if call.received_ns < oldest]
        if late:
            self._queue = deque(call for call in self._queue if call.received_ns >= oldest)
        for worker in self.workers:
            stuck = [call for call in worker.inflight.values() if call.received_ns < oldest]
            for call in stuck:
                del worker.inflight[call.number]
                worker.given_up.add(call.number)
            late += stuck
            owed = worker.given_up & worker.ahead if worker.loading else worker.given_up
            if owed and time.monotonic() - worker.busy_since > self._timeout_s:
                print(f"[{worker.label}] no answer for {self._timeout_s:g} s: ended", file=sys.stderr)
                worker.kill()
        if late:
            self._fail(late, Unreachable("predict-timeout", f"no answer within {self._timeout_s:g} s"), 504)

    # supervision

    def refresh(self) -> None:
        """Recompute who can answer what, after any change of a worker."""
        targets: dict[bytes, list[Worker]] = {}
        for name in self.facts:
            able = [worker for worker in self.workers if worker.ready and name in worker.loaded]
            targets[name] = [worker for worker in able if not worker.loading] or able
        self._targets = targets
        self._changed.set()
        if self._queue:
            self._pump()

    def lost(self, worker: Worker) -> None:
        """Send a dead worker's requests again; those that it was computing alone, so that a deadly one kills no others."""
        calls = list(worker.inflight.values())
        worker.inflight.clear()
        if worker in self.workers:
            self.workers.remove(worker)
        computing = 1 if calls and calls[0].alone else BATCH
        blamed: list[Call] = []
        again: list[Call] = []
        for place, call in enumerate(calls):
            if place < computing:
                call.deaths += 1
                call.alone = True
            (blamed if call.deaths >= DEATHS else again).append(call)
        self.refresh()
        for call in again:
            self._dispatch(call)
        if blamed:
            self._fail(blamed, Failed("worker-died", "workers died while they computed this request"))

    async def _keep(self, slot: int) -> None:
        """Keep one worker alive: start it again when it ends, after a pause that grows while it does not stay up."""
        failures = 0
        while not self._ends():
            worker = Worker(self, slot)
            begun = time.monotonic()
            self.workers.append(worker)
            try:
                await worker.start()
                await self._load_known(worker)
                worker.ready = True
                self._start_error = None
                self.refresh()
                await worker.gone
            except (OSError, WorkerLost, TimeoutError) as error:
                worker.kill()
                await _reap(worker)
                words = worker.last_words() or str(error)
                if failures >= DEATHS - 1 and not self._stopping:
                    self._start_error = Failed("worker-failed", f"the worker does not start: {words}")
            finally:
                if worker in self.workers:
                    self.workers.remove(worker)
                self.refresh()
            await _reap(worker)
            if self._ends():
                return
            self.restarts += 1
            failures = 0 if time.monotonic() - begun > 10 else failures + 1
            code = worker.process.returncode if worker.process else None
            print(f"[{worker.label}] ended with {code}, starting again", file=sys.stderr)
            if failures > 1:
                await asyncio.sleep(min(10.0, 0.1 * 2**failures))

    def _ends(self) -> bool:
        return self._stopping

    async def _load_known(self, worker: Worker) -> None:
        tried: set[bytes] = set()
        while names := self._folders.keys() - worker.loaded - tried:  # a version may be added meanwhile
            name = names.pop()
            tried.add(name)
            try:
                await worker.load(name, self._folders[name])
            except SteadError as error:
                print(f"[{worker.label}] {name.decode()} could not be loaded again: {error}", file=sys.stderr)

    async def stop(self, *, drain_s: float = 5.0) -> None:
        """Wait until everything is answered, then end the workers."""
        end = time.monotonic() + drain_s
        while self.open and time.monotonic() < end:
            await asyncio.sleep(0.01)
        self._stopping = True
        self._changed.set()
        workers = list(self.workers)
        for worker in workers:
            worker.close()
        for worker in workers:
            await _reap(worker)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _reap(worker: Worker) -> None:
    """Wait for the end of a process that was told to end, and end it where it does not listen."""
    if worker.process is None:
        return
    try:
        async with asyncio.timeout(5):
            code = await worker.process.wait()
    except TimeoutError:
        worker.kill()
        code = await worker.process.wait()
    if code and worker.inside and worker.pool.launch.container:  # its engine's process ended, it need not have
        await asyncio.to_thread(worker.pool.launch.container.remove, worker.inside)


def _waiting(worker: Worker) -> int:
    return len(worker.inflight)
