"""The workers of an environment: supervised, their requests shared out and sent again where one dies."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from stead.errors import Failed, SteadError, Unreachable
from stead.runtime.frames import Frame
from stead.runtime.worker import BATCH, Facts
from stead.serving.calls import Call, refusal
from stead.serving.workers import Launch, Worker, WorkerLost

WINDOW = 2 * BATCH
"""Frames that one worker holds at most: the batch that it computes and the next one. More wait here."""
DEATHS = 3
"""Workers that may die while they compute a request before the request itself is blamed."""
PACK_COST = 50
"""Where a batch takes less processor time than this (tenths of a millisecond), a worker's batch is filled before the next
worker is used: a call for 32 rows costs
hardly more than one for a single row, and waiting for it costs less than sharing the processors with another process.
Slower models are spread over the workers."""
UNWANTED_S = 5.0
"""So long a worker may go on to load a version that no route names any more and whose requests still wait."""


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
                await worker.reap()
                words = worker.last_words() or str(error)
                if failures >= DEATHS - 1 and not self._stopping:
                    self._start_error = Failed("worker-failed", f"the worker does not start: {words}")
            finally:
                if worker in self.workers:
                    self.workers.remove(worker)
                self.refresh()
            await worker.reap()
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
            await worker.reap()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _waiting(worker: Worker) -> int:
    return len(worker.inflight)
