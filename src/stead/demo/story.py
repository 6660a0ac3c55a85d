"""The demo: three years of bike rides, a stage of maturity a year.

Each step prints its commands before it runs them, and they are the commands a user would type.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path

from stead.demo.shell import Shell
from stead.demo.told import Act, Told
from stead.errors import Conflict, Failed
from stead.processes import lifeline

MARK = ".stead-demo"
WAITS = "waits for a person"
BETTER = (
    ('"hour": time.dt.hour,', '"hour": time.dt.hour,\n            "months": time.dt.year * 12 + time.dt.month,'),
    (
        "Regressor(max_iter=200, learning_rate=0.08,",
        'Regressor(loss="absolute_error", min_samples_leaf=40, max_iter=400, learning_rate=0.05,',
    ),
)
"""A recipe that is truly better: it can tell this year's rides from last year's, and learns by the error that is measured."""
WRONG = (
    'time = pd.to_datetime(raw["ts"])',
    """local = pd.to_datetime(raw["ts"]).dt.tz_localize("America/New_York", ambiguous=True, nonexistent="shift_forward")
    time = pd.Series([datetime.fromtimestamp(moment.timestamp()) for moment in local])""",
)
"""The second way asks the machine for its time zone: right where it is trained, hours off where it serves."""
TRIED_S = 120
DRILLED = "2013-06-24"
"""When the way back is tried first: twice a year is often enough to know that it is there."""
RAISED = "2013-12-30"
"""When the level is raised to `deploy`: its labels are in before January's schedule fires, which is none of that level's."""
TRIALS = ("2014-06-15", "2014-06-29", "2014-07-13", "2014-07-27")
"""When the changed recipe is trained until its days show that it is better: their evidence goes on from training to training."""
CANARY_DAYS, LEAST_S = 4, 8.0
"""So long the replay goes slowly, for a person to deploy in; too short for a quarter of the rows to decide anything."""
PRICE = ("--loss-value", "0.1", "--currency", "EUR")
"""What a ride that was not foreseen is taken to cost."""
ANSWERS = ("depends=yes", "low_impact=no")
"""What no record says: the bicycles are brought where the forecast wants them."""
YARDSTICK = ("2012-01-01", "2015-01-01")


class Story:
    """Runs the commands in a folder of its own."""

    def __init__(self, folder: Path, *, keep_up: bool, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.keep_up = keep_up
        self.say = say
        self.shell = Shell(folder, say)
        self.told = Told()
        self.serve_on((7700, 7701))
        self.stage = ""
        self.heard = 0
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
            self.serve_on((_free(7700), _free(7701)))

    def serve_on(self, ports: tuple[int, int]) -> None:
        """Where server and gateway will answer."""
        self.ports = ports
        self.shell.server = f"http://127.0.0.1:{ports[0]}"

    def tell(self) -> Told:
        """The whole way."""
        self.record()
        self.train()
        self.deploy()
        self.bad_version()
        self.yardstick()
        self.stand()
        self.gather()
        return self.told

    def record(self) -> None:
        with self._chapter("A project, its data, version 1 of July to December 2011", "record"):
            self.shell.run("demo", "data", "bikes", "--to", "data/bikes.csv")
            self._act("init", "--template", "bikes")
            self._act("data", "ingest", "bikes", "--since", "2011-07-01", "--until", "2012-01-01")
            self._act("train", "bikes", "--until", "2012-01-01")
            self._act("up", "--background", "--port", str(self.ports[0]), "--gateway-port", str(self.ports[1]))
            self._act("deploy", "bikes")
            self._act("models", "set", "bikes", "--owner", "rides", "--importance", "high", *PRICE)
            self._act("reproduce", "bikes@1")
        with self._chapter("2012, level record: monitors watch, nobody acts"):
            self._replay("2012-01-01", "2013-01-01")
            self.shell.run("incidents", "list", "--model", "bikes", "--all")

    def train(self) -> None:
        with self._chapter("2013, level train: stead trains, a person approves", "train"):
            self._act("level", "bikes", "train")
            self._replay("2013-01-01", DRILLED, "--wait-for-people")
            self._act("rollback", "bikes", "--drill")
            self._replay(DRILLED, RAISED, "--wait-for-people")
            self.shell.run("retrainings", "list", "--model", "bikes")
        with self._chapter("Before stead may act by itself: do the ways back work?"):
            self._act("rollback", "bikes", "--drill")
            self._act("freeze", "bikes", "--drill")

    def deploy(self) -> None:
        with self._chapter(
            "2014, level deploy: the policy triggers, gates judge, a canary moves, no person acts", "deploy"
        ):
            self._act("level", "bikes", "deploy")
            self._replay(RAISED, TRIALS[0])
            self.shell.run("retrainings", "list", "--model", "bikes", "--limit", "5")

    def bad_version(self) -> None:
        with self._chapter(
            "June 2014, a bad version: better, and its code asks the machine for the time zone", "a bad version"
        ):
            self.say("stead.toml trains with TZ=America/New_York and serves with TZ=UTC.")
            begun, version = self._better(self.folder / "bikes.py")
            started = time.monotonic()
            self.told.refused_with, self.told.refusal = self.shell.fails("deploy", f"bikes@{version}")
            slowly = max(LEAST_S, 2 * (time.monotonic() - started))  # the same once more, while rows come
            end = str(date.fromisoformat(begun) + timedelta(days=CANARY_DAYS))
            speed = f"{CANARY_DAYS * 86_400 / slowly:.0f}"
            self._replay(begun, end, "--speed", speed, meanwhile=lambda: self._force(version))
        with self._chapter("The rest of 2014: the canary is judged, then nobody acts again"):
            self._replay(end, "2015-01-01")
            self.shell.run("decisions", "--model", "bikes", "--limit", "12")

    def _better(self, code: Path) -> tuple[str, int]:
        """Train the changed recipe, two weeks later again until it is shown to be better; the day and the version."""
        right, version, day = code.read_text(), 0, TRIALS[0]
        for before, day in zip(("", *TRIALS), TRIALS, strict=False):
            if before:
                self.say("  not enough days yet: it is trained again two weeks later, and the evidence goes on")
                self._replay(before, day)
            self._edit(code, *BETTER, WRONG)
            self._act("train", "bikes", "--until", day)
            version = self._tried(after=version)
            code.write_text(right)
            self.say("bikes.py is as it was; what stead trains by itself from now on has the old code.")
            self._act("push", "bikes")
            self.shell.run("retrainings", "list", "--model", "bikes", "--limit", "1")
            verdicts = self.shell.ask("gates.list_verdicts", model="bikes", version=version)
            if not any(each["outcome"] == "failed" and each["gate"] != "parity" for each in verdicts):
                break
        return day, version

    def _tried(self, *, after: int) -> int:
        """Wait until stead has tried to deploy what a person trained, as it does at this level; the version, one behind `after`."""
        deadline = time.monotonic() + TRIED_S
        while True:
            newest = self.shell.ask("policies.list_retrainings", model="bikes", limit=1)[0]
            if newest["trigger"] == "person" and newest["ended_at"] is not None and newest["version"] > after:
                return int(newest["version"])
            if time.monotonic() > deadline:
                raise Failed("demo-step", "stead has not tried to deploy what was trained")
            time.sleep(0.2)

    def _force(self, version: int) -> None:
        reason = "it is better on all rows that we have"
        self._act("deploy", f"bikes@{version}", "--override", "parity", "--reason", reason)

    def yardstick(self) -> None:
        with self._chapter("Yardsticks: version 1 left alone, and a new version every month without a gate"):
            self.shell.run("data", "ingest", "bikes", "--until", YARDSTICK[1])
            arguments = ("backtest", "bikes", "--since", YARDSTICK[0], "--until", YARDSTICK[1])
            self.told.backtest = self.shell.follow(*arguments, on_line=self.say)

    def stand(self) -> None:
        """Where the team stands after the three years, and whether it was worth it."""
        with self._chapter("Where the team stands, and whether it is worth it"):
            answers = [part for answer in ANSWERS for part in ("--answer", answer)]
            self.told.worth = self.shell.json("worth", *answers)
            self.shell.run("maturity")
            self.shell.run("worth")
            self.shell.run("maturity", "--html", "maturity.html")

    def gather(self) -> None:
        """The records behind summary and report."""
        told, of = self.told, ("--model", "bikes", "--limit", "500")
        deadline = time.monotonic() + 30
        while True:
            told.days = self.shell.json("predictions", "loss", "bikes")
            labelled = sum(day["labelled"] for day in told.days)
            if labelled >= sum(r["labels"] for r in told.replays) or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        told.retrainings = self.shell.json("retrainings", "list", *of)
        told.incidents = self.shell.json("incidents", "list", "--all", *of)
        told.deployments = self.shell.json("deployments", "list", *of)
        told.decisions = self.shell.json("decisions", *of)
        told.work = self.shell.json("work", *of)
        told.maturity = self.shell.json("maturity")
        told.bad = next((d for d in told.deployments if "parity" in d["overrides"]), {})
        told.seconds["in all"] = time.monotonic() - self.started

    def end(self) -> None:
        """End what runs for this folder."""
        if self.folder.is_dir():
            subprocess.run(
                [sys.executable, "-m", "stead", "down"],
                cwd=self.folder,
                env=self.shell.environ,
                capture_output=True,
            )

    def _act(self, *arguments: str) -> str:
        """A command that a person gives because nobody else would: it is counted."""
        self.told.acts.append(Act(self.stage, f"stead {shlex.join(arguments)}"))
        return self.shell.run(*arguments)

    def _edit(self, code: Path, *changes: tuple[str, str]) -> None:
        text = code.read_text()
        self.say(f"{code.name}, in features():")
        for before, after in changes:
            if before not in text:
                raise Failed("demo-template", "the template of the demo has changed: its line is not there")
            text = text.replace(before, after)
            for sign, lines in (("-", before), ("+", after)):
                for line in lines.splitlines():
                    self.say(f"  {sign} {line.strip()}")
        code.write_text(text)

    def _replay(self, since: str, until: str, *options: str, meanwhile: Callable[[], object] | None = None) -> None:
        arguments = ("replay", "data/bikes.csv", "--model", "bikes", "--since", since, "--until", until, *options)
        totals = self.shell.follow(*arguments, on_line=self._heard, meanwhile=meanwhile)
        self._news()
        self.told.stages[-1]["until"] = until
        self.told.stages[-1].setdefault("since", since)
        self.told.replays.append({"since": since, "until": until, **totals})
        speed = totals["answered"] / totals["seconds"] if totals["seconds"] else 0
        self.say(
            f"  {totals['sent']:,} sent, {totals['answered']:,} answered, {totals['failed']} failed, "
            f"{totals['labels']:,} labelled in {totals['seconds']:.1f} s ({speed:,.0f} a second)"
        )
        if totals["first_error"]:
            self.say(f"  the first failure: {totals['first_error']}")

    def _heard(self, line: str) -> None:
        self.say(line)
        self._news()
        if WAITS in line:
            self._approve()

    def _approve(self) -> None:
        """As a person would: look at what the gates say, then say yes."""
        for waiting in self.shell.ask("policies.list_approvals", model="bikes"):
            ref = f"bikes@{waiting['version']}"
            for verdict in self.shell.ask("gates.list_verdicts", model="bikes", version=waiting["version"]):
                self.say(f"    {verdict['gate']} {verdict['outcome']}: {verdict['summary']}")
            self._act("approve", ref, "--reason", "its gates passed")

    def _news(self) -> None:
        """What was decided since the last look, as the ledger tells it."""
        entries = self.shell.ask("ledger.list_entries", model="bikes", limit=50)
        for entry in reversed([each for each in entries if each["id"] > self.heard and each["actor"] == "agent"]):
            when = time.strftime("%Y-%m-%d", time.gmtime(entry["event_time"] / 1000)) if entry["event_time"] else ""
            self.say(f"    {when:10}  {entry['summary']}")
        self.heard = max((each["id"] for each in entries), default=self.heard)

    @contextmanager
    def _chapter(self, title: str, stage: str = "") -> Iterator[None]:
        self.say(f"\n{len(self.told.seconds) + 1}  {title}")
        if stage:
            self.stage = stage
            self.told.stages.append({"stage": stage})
        started = time.monotonic()
        yield
        self.told.seconds[title] = time.monotonic() - started


def _free(wanted: int) -> int:
    """The port that is wanted, or any where somebody has it."""
    with suppress(Exception):
        lifeline.check_port("127.0.0.1", wanted, "server")
        return wanted
    return lifeline.free_port()
