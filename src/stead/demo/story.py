"""The steps of the demo: each prints its commands before it runs them, and they are the commands a user would type."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stead.errors import Conflict, Failed
from stead.processes import lifeline

MARK = ".stead-demo"

RIGHT = 'time = pd.to_datetime(raw["ts"])'
WRONG = """local = pd.to_datetime(raw["ts"]).dt.tz_localize("America/New_York", ambiguous=True, nonexistent="shift_forward")
    time = pd.Series([datetime.fromtimestamp(moment.timestamp()) for moment in local])"""
"""The second way asks the machine for its time zone: right where it is trained, hours off where it serves."""


@dataclass
class Told:
    """What the demo found out, for summary and report."""

    seconds: dict[str, float] = field(default_factory=dict)
    trained: list[dict[str, Any]] = field(default_factory=list)
    compared: dict[str, Any] = field(default_factory=dict)
    replays: list[dict[str, Any]] = field(default_factory=list)
    refusal: str = ""
    refused_with: int = 0
    swap: dict[str, Any] = field(default_factory=dict)
    wrong_day: str = ""
    rollback_seconds: float = 0.0
    """From the wish to the moment when every gateway answered with the old version, as the command tells it."""
    command_seconds: float = 0.0
    """The same with the start of the command."""
    days: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)


class Story:
    """Runs the commands in a folder of its own."""

    def __init__(self, folder: Path, *, keep_up: bool, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.keep_up = keep_up
        self.say = say
        self.told = Told()
        self.ports = (7700, 7701)
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("STEAD_")} | {"PYTHONUNBUFFERED": "1"}
        self.started = time.monotonic()

    def prepare(self) -> None:
        """A fresh folder; what an interrupted demo left there is ended and removed. Raises Conflict (`folder-in-use`)."""
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / MARK).exists():
                raise Conflict(
                    "folder-in-use",
                    f"{self.folder} has files that are not the demo's",
                    hint="stead demo --folder ANOTHER",
                )
            self.end()
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MARK).write_text("made by `stead demo`; may be deleted\n")
        if not self.keep_up:
            self.ports = (lifeline.free_port(), lifeline.free_port())
            for port, wanted in ((0, 7700), (1, 7701)):
                with suppress(Exception):
                    lifeline.check_port("127.0.0.1", wanted, "server")
                    self.ports = (wanted, self.ports[1]) if port == 0 else (self.ports[0], wanted)

    def tell(self) -> Told:
        """The whole way."""
        self.data()
        self.first_version()
        self.two_years()
        self.second_version()
        self.broken_version()
        self.gather()
        return self.told

    def data(self) -> None:
        with self._chapter("1  A project and its data"):
            self._run("demo", "data", "bikes", "--to", "data/bikes.csv")
            self._run("init", "--template", "bikes")
            self._run("data", "ingest", "bikes", "--since", "2011-07-01", "--until", "2012-01-01")

    def first_version(self) -> None:
        with self._chapter("2  Version 1: trained on July to December 2011"):
            self._run("train", "bikes", "--until", "2012-01-01")
            self.told.trained.append(self._json("models", "show", "bikes@1"))
        with self._chapter("3  Deploy it"):
            self._run("up", "--background", "--port", str(self.ports[0]), "--gateway-port", str(self.ports[1]))
            self._run("deploy", "bikes")

    def two_years(self) -> None:
        with self._chapter("4  2012 and 2013, hour by hour over HTTP"):
            self._replay("2012-01-01", "2014-01-01")
            self._run("predictions", "loss", "bikes", "--by", "quarter")
            self.told.status = self._json("status")
            self.say(
                "Nothing failed, every light is green, and the error has doubled: that is why the rest of stead exists."
            )

    def second_version(self) -> None:
        with self._chapter("5  Version 2: trained on the last year, compared on the same rows, deployed under traffic"):
            self._run("data", "ingest", "bikes", "--until", "2014-01-01")
            self._run("train", "bikes", "--since", "2012-12-01", "--until", "2013-12-01")
            self.told.trained.append(self._json("models", "show", "bikes@2"))
            self._run("compare", "bikes@1", "bikes@2", "--since", "2013-12-01", "--until", "2014-01-01")
            self.told.compared = self._json(
                "compare", "bikes@1", "bikes@2", "--since", "2013-12-01", "--until", "2014-01-01"
            )
            with self._replay_beside("2014-01-01", "2014-07-01", days_a_second=15):
                time.sleep(2)
                self._run("deploy", "bikes")
                self.told.swap = self._json("deployments", "list", "--limit", "1")[0]

    def broken_version(self) -> None:
        with self._chapter("6  Version 3: its code asks the machine for the time zone"):
            code = self.folder / "bikes.py"
            text = code.read_text()
            if RIGHT not in text:
                raise Failed("demo-template", "the template of the demo has changed: its line is not there")
            self.say("bikes.py, in features():")
            for line in RIGHT.splitlines():
                self.say(f"  - {line}")
            for line in WRONG.splitlines():
                self.say(f"  + {line.strip()}")
            code.write_text(text.replace(RIGHT, WRONG))
            self.say("stead.toml trains with TZ=America/New_York and serves with TZ=UTC.")
            self._run("train", "bikes", "--since", "2013-07-01", "--until", "2014-07-01")
            self.told.trained.append(self._json("models", "show", "bikes@3"))
            self.told.refused_with, self.told.refusal = self._fails("deploy", "bikes@3")
            self._run("deploy", "bikes@3", "--override", "parity", "--reason", "the demo shows what the gate prevents")
            self.told.wrong_day = "2014-07-01"
            self._replay("2014-07-01", "2014-07-02")
            started = time.perf_counter()
            said = self._run("rollback", "bikes", "--reason", "answers are wrong since version 3")
            self.told.command_seconds = time.perf_counter() - started
            self.told.rollback_seconds = float(said.rpartition("after ")[2].partition(" s")[0])
            code.write_text(text)
            self._replay("2014-07-02", "2015-01-01")
            self._run("decisions", "--model", "bikes")

    def gather(self) -> None:
        """The records behind summary and report."""
        deadline = time.monotonic() + 30
        while True:
            self.told.counts = self._json("predictions", "counts", "bikes")
            self.told.days = self._json("predictions", "loss", "bikes")
            labelled = sum(day["labelled"] for day in self.told.days)
            if labelled >= sum(r["labels"] for r in self.told.replays) or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        self.told.decisions = self._json("decisions", "--model", "bikes", "--limit", "100")
        self.told.seconds["in all"] = time.monotonic() - self.started

    def end(self) -> None:
        """End what runs for this folder."""
        if self.folder.is_dir():
            subprocess.run(
                [sys.executable, "-m", "stead", "down"], cwd=self.folder, env=self.environ, capture_output=True
            )

    def _replay(self, since: str, until: str) -> None:
        self._took(
            self._json_shown("replay", "data/bikes.csv", "--model", "bikes", "--since", since, "--until", until),
            since,
            until,
        )

    @contextmanager
    def _replay_beside(self, since: str, until: str, *, days_a_second: int) -> Iterator[None]:
        """A replay in the background while the block runs."""
        arguments = [
            "replay",
            "data/bikes.csv",
            "--model",
            "bikes",
            "--since",
            since,
            "--until",
            until,
            "--speed",
            str(days_a_second * 86_400),
        ]
        self.say(f"$ stead {shlex.join(arguments)} &")
        process = subprocess.Popen(
            [sys.executable, "-m", "stead", *arguments, "--json"],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield
            out, _ = process.communicate()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(10)
        if process.returncode:
            raise Failed("demo-step", f"the replay of {since} to {until} failed: {out[-300:]}")
        self._took(json.loads(out), since, until)

    def _took(self, totals: dict[str, Any], since: str, until: str) -> None:
        self.told.replays.append({"since": since, "until": until, **totals})
        speed = totals["answered"] / totals["seconds"] if totals["seconds"] else 0
        self.say(
            f"  {totals['sent']:,} sent, {totals['answered']:,} answered, {totals['failed']} failed, "
            f"{totals['labels']:,} labelled in {totals['seconds']:.1f} s ({speed:,.0f} a second)"
        )
        if totals["first_error"]:
            self.say(f"  the first failure: {totals['first_error']}")

    @contextmanager
    def _chapter(self, title: str) -> Iterator[None]:
        self.say(f"\n{title}")
        started = time.monotonic()
        yield
        self.told.seconds[title[3:]] = time.monotonic() - started

    def _run(self, *arguments: str) -> str:
        """A command, as a user sees it; returns what it printed to stdout."""
        self.say(f"$ stead {shlex.join(arguments)}")
        process = subprocess.Popen(
            [sys.executable, "-m", "stead", *arguments],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            self.say(line.rstrip("\n"))
        if process.wait():
            raise Failed(
                "demo-step",
                f"stead {shlex.join(arguments)} ended with {process.returncode}",
                hint=f"the folder is kept: {self.folder}",
            )
        return "".join(said)

    def _fails(self, *arguments: str) -> tuple[int, str]:
        """A command that must be refused: its exit code and what it said."""
        self.say(f"$ stead {shlex.join(arguments)}")
        done = subprocess.run(
            [sys.executable, "-m", "stead", *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
        )
        said = [line for line in done.stderr.splitlines() if line.startswith(("error:", "hint:"))]
        for line in said:
            self.say(f"  {line}")
        if done.returncode == 0:
            raise Failed("demo-step", f"stead {shlex.join(arguments)} was not refused")
        return done.returncode, said[0].removeprefix("error: ") if said else ""

    def _json_shown(self, *arguments: str) -> Any:
        self.say(f"$ stead {shlex.join(arguments)}")
        return self._json(*arguments, show=True)

    def _json(self, *arguments: str, show: bool = False) -> Any:
        """A command's `--json`; its progress is shown where it is part of the story."""
        done = subprocess.run(
            [sys.executable, "-m", "stead", *arguments, "--json"],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise Failed(
                "demo-step",
                f"stead {shlex.join(arguments)} ended with {done.returncode}: {done.stdout[-300:]}",
                hint=f"the folder is kept: {self.folder}",
            )
        return json.loads(done.stdout)
