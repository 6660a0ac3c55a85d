"""Tracking against MLflow: what a server spends to take in runs and points. `python benchmarks/tracking.py [--quick]`

Two kinds of work, each by one client over one kept-alive connection, rounds of both servers in turn, medians:

- a run with 10 parameters and 10 metrics, from its start to its end. MLflow gets it in the three requests that its own
  batch call allows, and once more in the 23 that its fluent calls make. stead gets what its SDK sends: one request.
- 1,000 points of one metric a request. And the same from user code, until all points are at the server: `log_batch`
  of MLflow's REST call again, `run.log` of our SDK, whose sender puts several calls into one request.

Server CPU is user + system time of all of a server's processes. The peer is `mlflow server --workers 1` on SQLite: with
its default of four workers each request on a kept-alive connection waits 40 ms. It lives in an environment of its own under
`~/.cache/stead-bench`, made by uv on the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil

import stead
from stead.runtime import journal as j
from stead.runtime.ids import new_id

MLFLOW = "3.17.2"
CACHE = Path.home() / ".cache" / "stead-bench"
POINTS = 1_000


@dataclass
class Server:
    process: psutil.Process
    url: str
    client: httpx.Client

    def cpu(self) -> float:
        """Seconds of CPU that the server has used, all its processes."""
        total = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
        return total


@dataclass
class Spent:
    """What a number of units cost: server CPU and wall-clock milliseconds each."""

    cpu_ms: float
    wall_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it works")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    rounds, runs, batches = (2, 10, 10) if options.quick else (5, 60, 20)
    with tempfile.TemporaryDirectory(prefix="stead-bench-") as place:
        folder = Path(place)
        with mlflow_server(folder / "mlflow") as theirs, stead_server(folder / "stead") as ours:
            note(f"mlflow {MLFLOW} at {theirs.url}, stead {stead.__version__} at {ours.url}")
            work: dict[str, tuple[Server, Callable[[int], None], int]] = {
                "mlflow run, 3 requests": (theirs, MlflowRuns(theirs), runs),
                "mlflow run, 23 requests": (theirs, MlflowFluentRuns(theirs), max(runs // 6, 2)),
                "stead run, 1 request": (ours, SteadRuns(ours), runs),
                "mlflow 1,000 points a request": (theirs, MlflowPoints(theirs), batches),
                "stead 1,000 points a request": (ours, SteadPoints(ours), batches),
                "stead run.log of 1,000 points, SDK": (ours, SteadSdk(ours, folder / "client"), batches),
            }
            figures = measure(work, rounds)
    report(figures, options.json)


def measure(work: dict[str, tuple[Server, Callable[[int], None], int]], rounds: int) -> dict[str, Spent]:
    """Medians over rounds; in each round everything has its turn."""
    taken: dict[str, list[Spent]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, (server, do, count) in work.items():
            note(f"round {number} of {rounds}: {name}")
            cpu, wall = server.cpu(), time.perf_counter()
            do(count)
            spent = Spent(1e3 * (server.cpu() - cpu) / count, 1e3 * (time.perf_counter() - wall) / count)
            if number:  # the first one warms up
                taken[name].append(spent)
    return {
        name: Spent(statistics.median(s.cpu_ms for s in all_), statistics.median(s.wall_ms for s in all_))
        for name, all_ in taken.items()
    }


def report(figures: dict[str, Spent], target: Path | None) -> None:
    print(f"{'work':38} {'server CPU ms':>14} {'wall ms':>9} {'a second':>12}")
    for name, spent in figures.items():
        unit = POINTS if "points" in name else 1
        print(f"{name:38} {spent.cpu_ms:14.2f} {spent.wall_ms:9.2f} {unit * 1e3 / spent.wall_ms:12,.0f}")
    theirs, ours = figures["mlflow run, 3 requests"], figures["stead run, 1 request"]
    fluent = figures["mlflow run, 23 requests"]
    batch, single = figures["mlflow 1,000 points a request"], figures["stead 1,000 points a request"]
    sdk = figures["stead run.log of 1,000 points, SDK"]
    ratios = {
        "server CPU a run, MLflow in 3 requests / stead": theirs.cpu_ms / ours.cpu_ms,
        "server CPU a run, MLflow in 23 requests / stead": fluent.cpu_ms / ours.cpu_ms,
        "server CPU a point, MLflow / stead": batch.cpu_ms / single.cpu_ms,
        "points/s, stead by request / MLflow": batch.wall_ms / single.wall_ms,
        "points/s, stead SDK until stored / MLflow": batch.wall_ms / sdk.wall_ms,
        "server CPU a point, MLflow / stead SDK": batch.cpu_ms / sdk.cpu_ms,
    }
    print()
    for name, ratio in ratios.items():
        print(f"{name:52} {ratio:6.1f} ×")
    versions = {
        "mlflow": MLFLOW,
        "stead": stead.__version__,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
    print("\n" + ", ".join(f"{name} {version}" for name, version in versions.items()))
    if target is not None:
        body = {"versions": versions, "figures": {n: vars(s) for n, s in figures.items()}, "ratios": ratios}
        target.write_text(json.dumps(body, indent=1))


class MlflowRuns:
    """A run in the fewest requests that MLflow's API allows."""

    def __init__(self, server: Server) -> None:
        self.post = poster(server, "/api/2.0/mlflow/")
        self.experiment = self.post("experiments/create", name="bench runs")["experiment_id"]

    def __call__(self, count: int) -> None:
        for _ in range(count):
            now = int(time.time() * 1000)
            run = self.post("runs/create", experiment_id=self.experiment, start_time=now, run_name="r")
            run_id = run["run"]["info"]["run_id"]
            self.post(
                "runs/log-batch",
                run_id=run_id,
                params=[{"key": f"p{n}", "value": str(n)} for n in range(10)],
                metrics=[{"key": f"m{n}", "value": n / 2, "timestamp": now, "step": 0} for n in range(10)],
            )
            self.post("runs/update", run_id=run_id, status="FINISHED", end_time=now)


class MlflowFluentRuns(MlflowRuns):
    """A run as `mlflow.log_param` and `mlflow.log_metric` send it."""

    def __init__(self, server: Server) -> None:
        self.post = poster(server, "/api/2.0/mlflow/")
        self.experiment = self.post("experiments/create", name="bench fluent")["experiment_id"]

    def __call__(self, count: int) -> None:
        for _ in range(count):
            now = int(time.time() * 1000)
            run = self.post("runs/create", experiment_id=self.experiment, start_time=now, run_name="r")
            run_id = run["run"]["info"]["run_id"]
            for n in range(10):
                self.post("runs/log-parameter", run_id=run_id, key=f"p{n}", value=str(n))
            for n in range(10):
                self.post("runs/log-metric", run_id=run_id, key=f"m{n}", value=n / 2, timestamp=now, step=0)
            self.post("runs/update", run_id=run_id, status="FINISHED", end_time=now)
            self.post("runs/set-tag", run_id=run_id, key="a", value="b")


class MlflowPoints:
    def __init__(self, server: Server) -> None:
        self.post = poster(server, "/api/2.0/mlflow/")
        experiment = self.post("experiments/create", name="bench points")["experiment_id"]
        self.run_id = self.post("runs/create", experiment_id=experiment, start_time=1)["run"]["info"]["run_id"]
        self.step = 0

    def __call__(self, count: int) -> None:
        for _ in range(count):
            now = int(time.time() * 1000)
            steps = range(self.step, self.step + POINTS)
            points = [{"key": "loss", "value": 1 / (s + 1), "timestamp": now, "step": s} for s in steps]
            self.post("runs/log-batch", run_id=self.run_id, metrics=points)
            self.step += POINTS


class SteadRuns:
    """A run as the SDK sends it when it was short."""

    def __init__(self, server: Server) -> None:
        self.deliver = deliverer(server)

    def __call__(self, count: int) -> None:
        for _ in range(count):
            now = int(time.time() * 1000)
            self.deliver(
                new_id(),
                1,
                j.Started(now, "bench runs", "r"),
                j.Params(now, {f"p{n}": str(n) for n in range(10)}),
                j.Metrics(now, 0, {f"m{n}": n / 2 for n in range(10)}),
                j.Ended(now, "finished"),
            )


class SteadPoints:
    def __init__(self, server: Server) -> None:
        self.deliver = deliverer(server)
        self.run_id = new_id()
        self.deliver(self.run_id, 1, j.Started(1, "bench points", "r"))
        self.sent = 0

    def __call__(self, count: int) -> None:
        for _ in range(count):
            now = int(time.time() * 1000)
            steps = range(self.sent * POINTS, (self.sent + 1) * POINTS)
            times = struct.pack(f"<{POINTS}q", *[now] * POINTS)
            values = struct.pack(f"<{POINTS}d", *[1 / (s + 1) for s in steps])
            points = j.Points(now, "loss", struct.pack(f"<{POINTS}q", *steps), times, values)
            self.deliver(self.run_id, self.sent + 2, points)
            self.sent += 1


class SteadSdk:
    """`run.log` with 1,000 points a call in this process, until the run is finished and all of it at the server."""

    def __init__(self, server: Server, folder: Path) -> None:
        os.environ["STEAD_URL"], os.environ["STEAD_STORE"] = server.url, str(folder)

    def __call__(self, count: int) -> None:
        with stead.init(project="bench sdk", watch=False) as run:
            for number in range(count):
                run.log({"loss": [1 / (s + 1) for s in range(number * POINTS, (number + 1) * POINTS)]})


def deliverer(server: Server) -> Callable[..., None]:
    encode = msgspec.msgpack.Encoder().encode

    def deliver(run_id: str, first: int, *records: j.Record) -> None:
        body = encode(j.Delivery(run_id, "bench", first, list(records)))
        server.client.post("/api/hot/deliver", content=body).raise_for_status()

    return deliver


def poster(server: Server, prefix: str) -> Callable[..., Any]:
    def post(path: str, **body: Any) -> Any:
        answer = server.client.post(prefix + path, json=body)
        answer.raise_for_status()
        return answer.json()

    return post


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    python = mlflow_python()
    folder.mkdir()
    port = free_port()
    command = [str(python), "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    with running(command, port, {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, folder) as server:
        yield server


@contextmanager
def stead_server(folder: Path) -> Iterator[Server]:
    folder.mkdir()
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STEAD_")}
    environ["STEAD_STORE"] = str(folder / "store")
    command = [sys.executable, "-m", "stead.processes", "server", "--port", str(port)]
    with running(command, port, environ, folder) as server:
        yield server


@contextmanager
def running(command: list[str], port: int, environ: dict[str, str], folder: Path) -> Iterator[Server]:
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # every start would compile everything again
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=folder)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{' '.join(command)} does not answer:\n{(folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.1)
        with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
            yield Server(psutil.Process(process.pid), url, client)
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        for child in children:
            child.terminate() if child.is_running() else None
        process.wait(30)


def mlflow_python() -> Path:
    """The interpreter of the environment that the full MLflow lives in."""
    home = CACHE / f"mlflow-{MLFLOW}"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        note(f"installing mlflow {MLFLOW} into {home}: 850 MB")
        uv = [str(Path(sys.executable).parent / "uv")]
        subprocess.run([*uv, "venv", "-q", "--clear", "--python", sys.executable, str(home)], check=True)
        subprocess.run([*uv, "pip", "install", "-q", "--python", str(python), f"mlflow=={MLFLOW}"], check=True)
        (home / "ready").touch()
    return python


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
