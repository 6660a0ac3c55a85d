"""A Ray cluster of a test's own: a head with the Jobs API, further machines, and their loss. `ray stop` is never called: it ends every Ray here."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import free_ports, needs
from tests.support import power

ROOT = Path(__file__).parents[2]
RAY = ROOT / ".venv-ray" / "bin" / "ray"


def install() -> None:
    """Ray in `.venv-ray`: made in CI, elsewhere by `make ray`, which downloads 70 MB."""
    if os.environ.get("CI"):
        with open(Path(tempfile.gettempdir()) / "stead-make-ray.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
            subprocess.run(["make", "ray"], cwd=ROOT, check=True)
    needs("Ray", RAY.exists(), "make ray")


class Cluster:
    """A head, and nodes by name. Where the token is asked for, only who has it is let in."""

    def __init__(self) -> None:
        install()
        self.token = secrets.token_hex(24)
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # sockets lie in it: their paths must be short
        self._started: dict[str, list[subprocess.Popen[bytes]]] = {}
        self._id = secrets.token_hex(4)
        self._gcs, dashboard, client = free_ports(3)
        self.address = f"http://127.0.0.1:{dashboard}"
        self._ports = ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        head = ["--head", f"--port={self._gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
        self._start("head", [*head, "--dashboard-host=127.0.0.1", f"--temp-dir={self.folder / 't'}"], {"home": 1})
        self._until(lambda: self.jobs() is not None, "no head")

    def jobs(self) -> dict[str, dict[str, Any]] | None:
        """The cluster's own jobs by name; None while it does not answer."""
        try:
            answer = httpx.get(
                f"{self.address}/api/jobs/", headers={"authorization": f"Bearer {self.token}"}, timeout=10
            )
        except httpx.TransportError:
            return None
        return {each["submission_id"]: each for each in answer.json()} if answer.status_code == 200 else None

    def node(self, name: str) -> None:
        """Another machine, which has a resource of its name."""
        address = f"--address={socket.gethostbyname('localhost')}:{self._gcs}"
        self._start(name, [address], {name: 1})

    def lose(self, name: str) -> None:
        """kill -9 of all that runs on a machine, at once."""
        power.cut(f"STEAD_TEST_NODE={self._id}-{name}")
        for process in self._started.pop(name, []):
            process.wait()

    def close(self) -> None:
        for name in list(self._started):
            self.lose(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, name: str, options: list[str], resources: dict[str, int]) -> None:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("STEAD_", "RAY_"))} | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv"),
            "STEAD_TEST_NODE": f"{self._id}-{name}",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
            "ON_NODE": "only the machines of the cluster know this",
        }
        memory = ["--object-store-memory=80000000", "--num-cpus=1", f"--resources={json.dumps(resources)}"]
        command = [str(RAY), "start", "--block", "--disable-usage-stats", *self._ports, *memory, *options]
        with open(self.folder / f"{name}.log", "wb") as log:
            started = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._started.setdefault(name, []).append(started)

    def _until(self, there: Any, otherwise: str) -> None:
        end = time.monotonic() + 120
        while not there():
            logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
            assert time.monotonic() < end, f"{otherwise}: {logs}"
            time.sleep(0.3)
