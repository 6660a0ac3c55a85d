"""Keeping a claimed job: a thread that beats, fenced writes, progress, log, cancel; and running commands for it."""

from __future__ import annotations

import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from stead.errors import Failed, SteadError
from stead.jobs import operations
from stead.jobs.children import Child, Hear, Hosts
from stead.jobs.limits import KILLED, Limits
from stead.jobs.operations import JobCancelled, LeaseLost
from stead.jobs.ray import Ray
from stead.jobs.types import Job, Progress
from stead.runtime.secrets import hidden_text
from stead.store import Store

Handler = Callable[[Store, "Keeper"], dict[str, Any]]
"""Does one kind of job: gets the store and the keeper, returns the result, may be called again after a crash."""


class Inside(Protocol):
    """An image that is ready to be run."""

    @property
    def digest(self) -> str: ...

    def command(
        self,
        arguments: Sequence[str],
        *,
        name: str,
        variables: Mapping[str, str],
        mounts: Sequence[str],
        network: str,
        limits: Limits,
        workdir: Path | None = None,
    ) -> tuple[list[str], dict[str, str]]: ...

    def remove(self, name: str) -> None: ...

    def own(self, folder: Path) -> None: ...


Contain = Callable[[Store, str, Callable[[str], None]], Inside]
Archive = Callable[[Store, str, Limits, Callable[[str], None]], dict[str, Any]]


class Keeper:
    """What a handler has of its job. Its writes are fenced; `check` raises JobCancelled or LeaseLost."""

    def __init__(
        self,
        store: Store,
        job: Job,
        *,
        hosts: Hosts | None = None,
        echo: Callable[[str], None] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.store = store
        self.job = job
        self.limits = limits or Limits()
        self.progress: Progress | None = None
        self.secrets: tuple[str, ...] = ()
        """Values that its processes were given; no log and no error of the job has them."""
        self.contain: Contain | None = None
        """Gives what a step runs in, by the digest of its environment, where the owner of this keeper can."""
        self.archive: Archive | None = None
        """Gives the same for a machine of a cluster: the image as a blob, and the command that runs it there."""
        self.cluster: Callable[[], Ray] | None = None
        """Gives the cluster for steps that do not run here."""
        self._echo = echo
        self._hosts = hosts or Hosts()
        self._hosts_end = hosts is None
        self._text: list[str] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._cancelled = False
        self._lost = False
        self._deadline = time.monotonic() + job.timeout_s
        self._thread = threading.Thread(target=self._beats, name=f"keeper-{job.id[-6:]}", daemon=True)
        self._thread.start()

    @contextmanager
    def write(self, name: str) -> Iterator[sa.Connection]:
        """A transaction that commits only while this claim of the job holds."""
        with self.store.db.write(name) as tx:
            operations.check_fence(tx, self.job.id, self.job.fence)
            yield tx

    def report(self, doing: str, done: float = 0, total: float | None = None) -> None:
        """Tell how far the job is."""
        changed = self.progress is None or self.progress.doing != doing
        self.progress = Progress(doing, done, total)
        if changed:
            self.log(doing + "\n")
            self._wake.set()

    def log(self, text: str) -> None:
        """Add to the log; it is in the store within a second."""
        text = hidden_text(text, self.secrets)
        if self._echo:
            self._echo(text)
        with self._lock:
            self._text.append(text)

    def check(self) -> None:
        """Raise where the job must stop: cancelled, lost to another keeper, or out of time."""
        if self._cancelled:
            raise JobCancelled
        if self._lost:
            raise LeaseLost(f"job {self.job.id} is kept by another process now")
        if time.monotonic() > self._deadline:
            raise Failed(
                "job-timeout",
                f"the job took longer than {self.job.timeout_s} s",
                hint="raise timeout_s of the model in stead.toml",
            )

    def flush(self) -> None:
        """Beat now: what was logged is in the store afterwards."""
        with self._lock:
            text, self._text = hidden_text("".join(self._text), self.secrets), []
        try:
            if operations.beat(self.store, self.job, progress=self.progress, text=text):
                self._cancelled = True
        except LeaseLost:
            self._lost = True
            raise

    def close(self) -> None:
        (self._hosts.close if self._hosts_end else self._hosts.part)()
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=10)

    def _beats(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(1.0)
            self._wake.clear()
            try:
                self.flush()
            except LeaseLost:
                return
            except SteadError:
                continue  # the database is away for a moment: the lease decides

    def run(
        self,
        name: str,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        on_tick: Callable[[], None] | None = None,
        limited: bool = True,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        """Run a command to its end within the limits, unless it sets them itself; its output goes to the log, its processes end with this one.

        Raises Failed (`step-failed`, `step-killed`, `step-memory`, `step-files`) with what it said last where it fails, JobCancelled, LeaseLost.
        """
        child = Child(self.limits.around(command) if limited else command, cwd=cwd, env=env, stdin=stdin)
        try:
            self.follow(name, child.wait, on_tick)
        finally:
            child.close()

    def step(
        self,
        name: str,
        command: Sequence[str],
        request: Mapping[str, Any],
        *,
        env: Mapping[str, str],
        on_tick: Callable[[], None] | None = None,
    ) -> None:
        """Have a host of `command` in `env` run a step.

        Raises what `run` raises.
        """
        limited = self.limits.around(command)
        self.follow(name, lambda hear: self._hosts.step(limited, env, request, hear), on_tick)

    def follow(self, name: str, finish: Callable[[Hear], int], on_tick: Callable[[], None] | None) -> None:
        """Follow what `finish` lets be heard to its end, which it gives as an exit code. Raises what `run` raises."""
        tail = ""

        def hear(text: str) -> None:
            nonlocal tail
            if text:
                tail = hidden_text(tail + text, self.secrets)[-8192:]
                self.log(text)
            if on_tick:
                on_tick()
            self.check()

        if code := finish(hear):
            raise self._failure(name, code, [line for line in tail.splitlines() if line.strip()])

    def _failure(self, name: str, code: int, tail: list[str]) -> Failed:
        """What a command said last: its own `error:` and `hint:` lines, else the end of its output."""
        said = next((line.removeprefix("error: ") for line in reversed(tail) if line.startswith("error: ")), None)
        hint = next((line.removeprefix("hint: ") for line in reversed(tail) if line.startswith("hint: ")), None)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        message = f"{name}: {said}" if said else f"{name} {how}: {tail[-1]}" if tail else f"{name} {how}"
        if limited := self.limits.told(message, code, "\n".join(tail[-20:])):
            return limited
        return Failed("step-failed", message, hint=hint or f"stead jobs log {self.job.id[-12:]}")


def work(
    store: Store,
    handlers: Mapping[str, Handler],
    *,
    owner: str,
    job_id: str | None = None,
    hosts: Hosts | None = None,
    echo: Callable[[str], None] | None = None,
    limits: Limits | None = None,
) -> Job | None:
    """Claim one due job and do it; returns it as it is afterwards, or None where nothing was due.

    Its steps run in `hosts`, which go on to the next job where they are given, and end with it where not.
    """
    job = operations.claim(store, owner, list(handlers), job_id=job_id)
    if job is None:
        return None
    keeper = Keeper(store.acting(job.requested_by), job, hosts=hosts, echo=echo, limits=limits)
    try:
        result = handlers[job.kind](keeper.store, keeper)
        keeper.flush()
        operations.finish(store, job, result)
    except LeaseLost:
        pass
    except (JobCancelled, KeyboardInterrupt) as stopped:
        with suppress(LeaseLost):
            keeper.flush()
            body = {"code": "job-cancelled", "message": "cancelled on request"}
            operations.give_up(store, job, body, retry=False, cancelled=True)
        if isinstance(stopped, KeyboardInterrupt):
            raise
    except SteadError as error:
        with suppress(LeaseLost):
            keeper.flush()
            operations.give_up(
                store, job, error.as_dict()["error"], retry=error.http_status == 503 or error.code == KILLED
            )
    except Exception as error:
        with suppress(LeaseLost):
            keeper.log(traceback.format_exc())
            keeper.flush()
            body = {
                "code": "job-crashed",
                "message": f"{type(error).__name__}: {error}",
                "hint": f"stead jobs log {job.id[-12:]}",
            }
            operations.give_up(store, job, body, retry=True)
    finally:
        keeper.close()
    return operations.get_job(store, job.id)
