"""Models, routes and gateways as processes, for the tests beside this file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from stead import serving
from stead.config import load_settings
from stead.store import Store, open_store

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
ROWS = [
    dict(zip(COLUMNS, row, strict=True)) for row in ([5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 5.6, 2.4], [5.9, 3.0, 4.2, 1.5])
]


def opened(root: Path) -> Store:
    return open_store(load_settings(environ={"STEAD_STORE": str(root), "STEAD_USER": "ada"}))


def times(factor: int) -> Callable[[Any], Any]:
    """A plain model: `factor` times x, and what goes wrong where x is -1 to -6; 3 times x hangs at -7, raises at -8."""
    leaked: list[bytearray] = []

    def predict(columns: Any) -> Any:
        import os
        import time

        values = [float(value) for value in columns["x"]]
        if -1.0 in values:
            raise ValueError("x is -1")
        if -2.0 in values:
            os._exit(3)
        if -3.0 in values:
            time.sleep(600)
        if -7.0 in values and factor == 3:
            time.sleep(600)
        if -8.0 in values and factor == 3:
            raise ValueError("x is -8")
        if -4.0 in values:
            time.sleep(0.5)
        if -5.0 in values:
            leaked.append(bytearray(200 << 20))
        if -6.0 in values:
            print("the word is", os.environ["WORD"], flush=True)
            raise ValueError(f"cannot reach {os.environ['WORD']}@db")
        return [factor * value for value in values]

    return predict


def route(
    store: Store, model: str, *arms: tuple[int, float], warm: Sequence[int] = (), shadow: Sequence[int] = ()
) -> int:
    """Change a route as a deployment would."""
    made = [serving.Arm(*arm) for arm in arms]
    with store.db.write("deployments.switch") as tx:
        return serving.set_route(store.db, tx, model, arms=made, warm=warm, shadow=shadow)


class Running:
    """A gateway process."""

    def __init__(self, store: Store, log: Path, *, port: int = 0, **settings: Any) -> None:
        self.store = store
        self.log = log
        environ = {key: value for key, value in os.environ.items() if not key.startswith("STEAD_")}
        environ |= {"STEAD_STORE": str(store.root), "STEAD_WORKERS": "2"}
        environ |= {f"STEAD_{name.upper()}": str(value) for name, value in settings.items()}
        read, self.lifeline = os.pipe()
        command = [sys.executable, "-m", "stead.processes", "gateway", "--port", str(port), "--parent-fd", str(read)]
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                command, env=environ, stdout=subprocess.PIPE, stderr=errors, pass_fds=(read,), text=True
            )
        os.close(read)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready "), log.read_text()
        self.url = line.split()[1]
        self.port = int(self.url.rpartition(":")[2])
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def row(self) -> serving.Gateway:
        return next(g for g in serving.gateways(self.store) if g.url == self.url)

    def workers(self) -> list[int]:
        return list(self.row().stats["worker_pids"])

    def end(self) -> int:
        """SIGTERM, then its exit code."""
        self.http.close()
        self.process.terminate()
        code = self.process.wait(30)
        self._closed()
        return code

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        self.process.kill()
        self.process.wait(10)
        self._closed()

    def _closed(self) -> None:
        self.http.close()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1


def until(condition: Callable[[], Any], timeout_s: float = 120.0) -> Any:
    """Poll until something is so; longer than it takes where the machine does other things, too."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return value
