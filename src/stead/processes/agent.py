"""The agent: takes jobs from the queue and keeps the house. `python -m stead.processes agent`."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable

from stead import care, fleet, gates, jobs, ledger, monitors, predictions, runs
from stead.api.caller import Embedded
from stead.config import Settings
from stead.errors import SteadError
from stead.processes import lifeline
from stead.processes.beginning import begin
from stead.processes.handlers import LANES, handlers
from stead.runtime import loading
from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.sdk import sync_journals
from stead.store import Store

POLL_S = 0.2
TURN_S = 0.5
"""Between turns of the loop."""
HEARTBEAT_MS = 60_000
PRUNE_S = 21_600.0
SAMPLE_S = 3_600.0
HURRY_S = 0.01
"""After a turn that moved something where a replay waits; longer from turn to turn, up to `TURN_S`, while its clock stands still: a job needs the processor."""
ASK_S = 0.005
"""Between looks whether a replay asks for its next moment."""


class Agent:
    """A thread for each lane of jobs, one for the house, one that beats."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store.acting("agent")
        self.settings = settings
        self.caller = Embedded(self.store, settings)
        self.handlers = handlers(settings)
        self.limits = jobs.Limits.of(settings)
        self.id = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        self.stopping = threading.Event()
        self.news = threading.Condition()
        self.turned_at: int | None = None
        self.held = False
        self._told_until = 0
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._beat()
        for lane, kinds in LANES.items():
            self._thread(f"lane-{lane}", lambda kinds=kinds: self._lane(kinds))  # type: ignore[misc]
        self._thread("beat", lambda: self._every(2.0, self._beat))
        self._thread("observe", lambda: self._every(1.0, self._observe))
        self._thread("circle", self._circle)
        self._thread("journals", lambda: self._every(5.0, lambda: sync_journals(self.caller, self.store.root)))
        self._thread("tell", lambda: self._every(1.0, lambda: monitors.deliver(self.store, self.settings)))
        if self.settings.heartbeat_url:
            self._thread("heartbeat", lambda: self._every(1.0, self._heartbeat))
        if care.rules_of(self.settings) != care.Rules():
            self._thread("prune", lambda: self._every(PRUNE_S, self._prune))
        if self.settings.reproduce_sample:
            self._thread("sample", lambda: self._every(SAMPLE_S, self._sample))
        self._thread("accelerate", lambda: self._every(60.0, lambda: gates.accelerate_idle(self.store)))
        self._thread("seal", lambda: self._every(60.0, self._seal))

    def stop(self) -> None:
        """Let the jobs go: another agent takes them up where they are."""
        self.stopping.set()
        self._nudge()
        for thread in self._threads:
            thread.join(timeout=1.0)
        jobs.agent_gone(self.store, self.id)

    def _thread(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _lane(self, kinds: tuple[str, ...]) -> None:
        mine, hosts = {kind: self.handlers[kind] for kind in kinds}, jobs.Hosts()
        while not self.stopping.is_set():
            done = self._quietly(lambda: jobs.work(self.store, mine, owner=self.id, hosts=hosts, limits=self.limits))
            hosts.tidy()
            if done is None:
                self._wait(POLL_S)
            else:
                self._nudge()
        hosts.close()

    def _circle(self) -> None:
        pause = TURN_S
        while not self.stopping.is_set():
            turn = self._quietly(lambda: fleet.tick(self.store))
            if isinstance(turn, fleet.Turn):
                self.turned_at, self.held = now_ms(), turn.held
                lifeline.mark_turn(self.store.root)
                pause = HURRY_S if turn.hurried else min(2 * pause, TURN_S)
                if turn.moved:
                    self._nudge()
                self._rest(pause)

    def _rest(self, pause: float) -> None:
        """Wait for the next turn; the end of a job begins it, and a replay that asks for its next moment."""
        until = time.monotonic() + pause
        while not self.stopping.is_set() and (left := until - time.monotonic()) > 0:
            if self.held and self._quietly(lambda: jobs.clocks_asked(self.store)):
                return
            if self._wait(min(left, ASK_S) if self.held else left):
                return

    def _wait(self, seconds: float) -> bool:
        """Wait for a while, or until another thread has done something that this one may go on from: true then."""
        with self.news:
            return self.news.wait(seconds)

    def _nudge(self) -> None:
        with self.news:
            self.news.notify_all()

    def _beat(self) -> None:
        me = {"host": socket.gethostname(), "pid": os.getpid()}
        jobs.agent_beat(self.store, self.id, **me, turned_at=self.turned_at)  # type: ignore[arg-type]

    def _heartbeat(self) -> None:
        """Each signal stands for a turn of the loop that came around since the one before: none is sent for a loop that hangs."""
        turned = self.turned_at
        if turned is not None and turned >= self._told_until:
            self._told_until = turned + HEARTBEAT_MS
            monitors.ping(self.settings)

    def _every(self, seconds: float, what: Callable[[], object]) -> None:
        while not self.stopping.is_set():
            self._quietly(what)
            self.stopping.wait(seconds)

    def _observe(self) -> None:
        predictions.compact(self.store)
        if not self.held:  # else each turn does
            predictions.refresh_performance(self.store)

    def _prune(self) -> None:
        care.prune(self.store, rules=care.rules_of(self.settings))

    def _sample(self) -> None:
        fleet.sample_reproductions(self.store, self.settings.reproduce_sample)

    def _seal(self) -> None:
        ledger.checkpoint(self.store)
        runs.end_silent(self.store)

    def _quietly(self, what: Callable[[], object]) -> object:
        """One failing duty is told and tried again; it ends neither the others nor the agent."""
        try:
            return what()
        except SteadError as error:
            hint = f" (hint: {error.hint})" if error.hint else ""
            print(f"{time.strftime('%H:%M:%S')} {error.code}: {error.message}{hint}", file=sys.stderr, flush=True)
        except Exception as error:
            print(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        self.stopping.wait(1.0)
        return None


def main() -> int:
    store, settings, done = begin()
    agent = Agent(store, settings)
    agent.start()
    loading.settle()
    print("ready agent", flush=True)
    done.wait()
    agent.stop()
    os._exit(0)  # threads inside a job's step end with the process; their leases run out
