"""Commands as a person types them, each shown before it runs, and the HTTP operations behind the pages."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stead.errors import Failed


class Shell:
    """Runs commands in a folder."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        self.server = "http://127.0.0.1:7700"
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("STEAD_")} | {"PYTHONUNBUFFERED": "1"}

    def run(self, *arguments: str) -> str:
        """A command, as a user sees it; returns what it printed to stdout. Raises Failed (`demo-step`)."""
        self._show(arguments)
        process = self._begin(arguments, stdout=subprocess.PIPE)
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            self.say(line.rstrip("\n"))
        self._check(arguments, process.wait(), "")
        return "".join(said)

    def fails(self, *arguments: str) -> tuple[int, str]:
        """A command that must be refused: its exit code and what it said."""
        self._show(arguments)
        process = self._begin(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _, errors = process.communicate()
        said = [line for line in errors.splitlines() if line.startswith(("error:", "hint:"))]
        for line in said:
            self.say(f"  {line}")
        if process.returncode == 0:
            raise Failed("demo-step", f"stead {shlex.join(arguments)} was not refused")
        return process.returncode, said[0].removeprefix("error: ") if said else ""

    def json(self, *arguments: str) -> Any:
        """A command's `--json`. Raises Failed (`demo-step`)."""
        process = self._begin((*arguments, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, errors = process.communicate()
        self._check(arguments, process.returncode, f": {out[-300:]}{errors[-300:]}")
        return json.loads(out)

    def follow(
        self, *arguments: str, on_line: Callable[[str], None], meanwhile: Callable[[], object] | None = None
    ) -> Any:
        """A long command's `--json`, its progress line by line; with `meanwhile`, what is done from its first word on.

        It writes its progress into a pipe of ours: should we die, it ends, too. Raises Failed (`demo-step`).
        """
        self._show(arguments, " &" if meanwhile else "")
        process = self._begin((*arguments, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stderr is not None and process.stdout is not None
        try:
            for line in process.stderr:
                on_line(line.rstrip("\n"))
                if meanwhile is not None:
                    meanwhile()
                    meanwhile = None
            out = process.stdout.read()
        finally:
            if sys.exc_info()[0] is not None:
                process.send_signal(signal.SIGINT)
            code = process.wait(30)
        self._check(arguments, code, f": {out[-300:]}")
        return json.loads(out)

    def ask(self, operation: str, **arguments: Any) -> Any:
        """An operation over HTTP: `POST /api/v1/NAME`."""
        request = urllib.request.Request(
            f"{self.server}/api/v1/{operation}", json.dumps(arguments).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def _show(self, arguments: tuple[str, ...], after: str = "") -> None:
        self.say(f"$ stead {shlex.join(arguments)}{after}")

    def _begin(self, arguments: tuple[str, ...], **streams: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "stead", *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=self.environ, text=True, **streams)

    def _check(self, arguments: tuple[str, ...], code: int, said: str) -> None:
        if code:
            raise Failed(
                "demo-step",
                f"stead {shlex.join(arguments)} ended with {code}{said}",
                hint=f"the folder is kept: {self.folder}",
            )
