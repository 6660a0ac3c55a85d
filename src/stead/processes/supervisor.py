"""`stead up`: server, gateway and agent as processes that are started again when they die and end when this one ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from stead.api import tokens
from stead.config import PROCESSES, SETTINGS, Settings
from stead.errors import Failed, InvalidInput, SteadError, Unreachable
from stead.processes import lifeline, systemd
from stead.store import Store, open_store

BACKOFF_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
READY_S = 60
HUNG_S = 900
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass
class Child:
    """One supervised process."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    lifeline: int = -1
    restarts: int = 0
    started: float = 0.0
    due: float = 0.0
    ready: bool = False
    read_from: int = 0
    quick_ends: int = field(default=0)


class Supervisor:
    """Keeps the processes of one store. `run` returns when a signal or `stop` ends it."""

    def __init__(self, settings: Settings, *, say: Callable[[str], None] = print) -> None:
        self.settings = settings
        self.say = say
        self.root = Path(settings.store).expanduser()
        self.stopping = False
        host = settings.host
        shown = f"[{host}]" if ":" in host else host
        self.ports = _ports(settings)
        self.urls = {name: f"http://{shown}:{port}" for name, port in self.ports.items()}
        logs = self.root / "run"
        python = [sys.executable, "-m"]
        place = ["--host", host, "--port"]
        chosen = chosen_processes(settings)
        if "agent" not in chosen:
            chosen.append("compactor")  # what is logged here is brought into the store here
        self.children = [
            Child(
                name,
                [*python, "stead.processes", name, *([*place, str(self.ports[name])] if name in self.ports else [])],
                logs / f"{name}.log",
            )
            for name in chosen
        ]
        self.environ = {
            key: value
            for key, value in os.environ.items()
            if key not in ("STEAD_URL", "STEAD_TOKEN", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        }
        self.environ |= {
            SETTINGS[n].variable: str(v)
            for n, v in settings.values.items()
            if n not in ("url", "token") and v != SETTINGS[n].default
        }
        self.environ["PYTHONUNBUFFERED"] = "1"

    def run(self, *, on_ready: Callable[[], None] | None = None) -> None:
        """Start everything, tell when it is ready, and supervise until told to stop.

        Raises Conflict (`already-up`), InvalidInput (`port-in-use`, `open-without-tokens`), Failed (`start-failed`).
        """
        store = open_store(self.settings)
        with lifeline.only_one(self.root):
            try:
                self._check(store)
                wake_read, wake_write = os.pipe()
                os.set_blocking(wake_write, False)
                signal.set_wakeup_fd(wake_write)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, self._stop_on_signal)
                signal.signal(signal.SIGCHLD, lambda *_: None)
                for child in self.children:
                    self._start(child)
                self._await_ready()
                self._tell()
                if on_ready:
                    on_ready()
                systemd.notify("READY=1")
                while not self.stopping:
                    select.select([wake_read], [], [], 0.2)
                    with suppress(BlockingIOError):
                        os.set_blocking(wake_read, False)
                        os.read(wake_read, 4096)
                    self._tend()
                    systemd.notify("WATCHDOG=1")
            finally:
                systemd.notify("STOPPING=1")
                self._end()
                with suppress(FileNotFoundError):
                    (self.root / "run" / "up.json").unlink()
                store.close()

    def _check(self, store: Store) -> None:
        if self.ports and self.settings.host not in LOCAL and not tokens.any_token(store):
            raise InvalidInput(
                "open-without-tokens",
                f"listening on {self.settings.host} would open the store to everybody: there is no token yet",
                hint="stead tokens create NAME --role admin",
            )
        if len(set(self.ports.values())) < len(self.ports):
            raise InvalidInput(
                "port-in-use",
                f"port {self.settings.port} is meant for the server and for the gateway",
                hint=f"stead up --gateway-port {self.settings.port + 1}",
            )
        lifeline.check_ports(self.settings.host, self.ports)

    def _start(self, child: Child) -> None:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        alive_read, alive_write = os.pipe()
        os.set_inheritable(alive_read, True)
        with open(child.log, "ab") as log:
            child.read_from = log.tell()
            child.process = subprocess.Popen(
                [*child.command, "--parent-fd", str(alive_read)],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(alive_read,),
                start_new_session=True,
            )
        os.close(alive_read)
        child.lifeline = alive_write
        child.started = time.monotonic()
        child.ready = False

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while not self.stopping and not all(child.ready for child in self.children):
            for child in self.children:
                assert child.process is not None
                text = self._new_text(child)
                child.ready = child.ready or "ready " in text
                if child.process.poll() is not None and not child.ready:
                    lines = [line for line in text.splitlines() if line.strip()]
                    what = next(
                        (line.removeprefix("error: ") for line in lines if line.startswith("error: ")),
                        lines[-1] if lines else "it ended without a word, as on a full disk",
                    )
                    raise Failed("start-failed", f"the {child.name} did not start: {what}", hint=f"see {child.log}")
            if time.monotonic() > deadline:
                slow = ", ".join(child.name for child in self.children if not child.ready)
                raise Failed("start-failed", f"not ready after {READY_S} s: {slow}", hint=f"see {self.root / 'run'}")
            time.sleep(0.02)

    def _tend(self) -> None:
        """Start again what has died, a little later each time it dies at once."""
        changed = False
        now = time.monotonic()
        for child in self.children:
            if child.process is not None and (code := child.process.poll()) is not None:
                os.close(child.lifeline)
                child.process = None
                child.quick_ends = child.quick_ends + 1 if now - child.started < 10 else 0
                child.due = now + BACKOFF_S[min(child.quick_ends, len(BACKOFF_S) - 1)]
                self.say(f"{time.strftime('%H:%M:%S')} the {child.name} ended with {code} and is started again")
                changed = True
            if child.name == "agent" and child.process is not None and self._hangs(child, now):
                self.say(
                    f"{time.strftime('%H:%M:%S')} the agent's loop has not come around for {HUNG_S} s: it is ended"
                )
                with suppress(ProcessLookupError):
                    os.killpg(child.process.pid, signal.SIGKILL)
            if child.process is None and now >= child.due:
                child.restarts += 1
                self._start(child)
                changed = True
        if changed:
            self._tell()

    def _hangs(self, agent: Child, now: float) -> bool:
        """A loop that hangs is ended: whatever it was at is in the store, and the next agent goes on with it."""
        age = lifeline.turn_age(self.root)
        return now - agent.started > HUNG_S and (age is None or age > HUNG_S)

    def _tell(self) -> None:
        processes = {
            c.name: {"pid": c.process.pid if c.process else None, "restarts": c.restarts, "log": str(c.log)}
            for c in self.children
        }
        lifeline.write_state(self.root, self.state | {"pid": os.getpid(), "processes": processes})

    @property
    def state(self) -> dict[str, Any]:
        """Where its server and gateway are; None for one that it does not start."""
        return {"server": self.urls.get("server"), "gateway": self.urls.get("gateway")}

    def _new_text(self, child: Child) -> str:
        with open(child.log, "rb") as log:
            log.seek(child.read_from)
            return log.read().decode("utf-8", "replace")

    def _stop_on_signal(self, *_: Any) -> None:
        self.stopping = True

    def _end(self) -> None:
        """Ask everybody to end, the agent first; who does not is killed."""
        for child in reversed(self.children):
            if child.process is not None:
                with suppress(ProcessLookupError):
                    child.process.terminate()
        for child in self.children:
            if child.process is None:
                continue
            try:
                child.process.wait(10)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait(5)
            with suppress(OSError):
                os.close(child.lifeline)


def start_in_background(settings: Settings) -> dict[str, Any]:
    """Start `stead up` in a session of its own and return its state when it is ready.

    Where it is up already, or somebody else starts it at this moment, that state. Raises what `Supervisor.run` raises.
    """
    root = Path(settings.store).expanduser()
    log = root / "run" / "up.log"
    process: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + READY_S + 10
    while time.monotonic() < deadline:
        if (state := lifeline.read_state(root)) is not None:
            return state
        if not lifeline.is_up(root):
            if process is None:
                lifeline.check_ports(settings.host, _ports(settings), command="stead up --background")
                log.parent.mkdir(parents=True, exist_ok=True)
                with open(log, "wb") as out:
                    process = _spawn(settings, out)
            elif process.poll() is not None:
                raise _told(log)
        time.sleep(0.05)
    raise Unreachable("start-failed", "stead up was not ready in time", hint=f"see {log}")


def chosen_processes(settings: Settings) -> list[str]:
    """The processes that the settings name, in the order in which they start. Raises InvalidInput (`setting-invalid`)."""
    named = set(settings.names("processes"))
    if not named or not named <= set(PROCESSES):
        raise InvalidInput(
            "setting-invalid",
            f"processes names {', '.join(sorted(named)) or 'nothing'}",
            hint=f"some of {', '.join(PROCESSES)}, by commas",
        )
    return [name for name in PROCESSES if name in named]


def _ports(settings: Settings) -> dict[str, int]:
    ports = {"server": settings.port, "gateway": settings.gateway_port}
    return {name: ports[name] for name in chosen_processes(settings) if name in ports}


def _spawn(settings: Settings, out: IO[bytes]) -> subprocess.Popen[bytes]:
    environ = dict(os.environ)
    environ |= {
        SETTINGS[n].variable: str(v)
        for n, v in settings.values.items()
        if n not in ("url", "token") and v != SETTINGS[n].default
    }
    return subprocess.Popen(
        [sys.executable, "-m", "stead", "up"],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd="/",
    )


def _told(log: Path) -> SteadError:
    """The error that a background `stead up` printed."""
    lines = log.read_text(errors="replace").splitlines()
    message = next(
        (line.removeprefix("error: ") for line in lines if line.startswith("error: ")),
        lines[-1] if lines else "no word",
    )
    hint = next((line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")), f"see {log}")
    return Failed("start-failed", message, hint=hint)


def stop(settings: Settings, *, timeout_s: float = 20.0) -> bool:
    """End `stead up` of this store; returns whether it was up. Raises Failed (`stop-failed`)."""
    root = Path(settings.store).expanduser()
    state = lifeline.read_state(root)
    if state is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(state["pid"], signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while lifeline.is_up(root):
        if time.monotonic() > deadline:
            raise Failed(
                "stop-failed",
                f"process {state['pid']} did not end within {timeout_s:.0f} s",
                hint=f"kill {state['pid']}",
            )
        time.sleep(0.05)
    return True
