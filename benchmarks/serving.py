"""Requests per second, latency and processor time of a prediction: stead against MLflow, LitServe and a plain FastAPI app.

`python benchmarks/serving.py [--quick]`. All serve the same scikit-learn model and get one JSON row a request, from a load
generator in a process of its own that checks every answer. stead runs as it is installed, with a second version taking 10 %
and the prediction log on. Each peer runs in its own environment, made by uv in a cache folder, in several settings; its
best one counts. Rounds are interleaved and medians told, so that a busy moment of the machine hits nobody alone.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

HERE = Path(__file__).parent
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
PINS = [f"{name}=={version(name)}" for name in ("scikit-learn", "numpy")]
PACKAGES = {"mlflow": ["mlflow"], "litserve": ["litserve"], "fastapi": ["fastapi", "uvicorn[standard]"]}
WARMUP_S = 1.0


@dataclass
class Server:
    """One way to serve the model: how it is started and how a row is sent to it."""

    name: str
    setting: str
    command: list[str]
    path: str
    body: str
    """The request's JSON with the row in the place of ROW."""
    at: str = "predictions.0"
    environ: dict[str, str] = field(default_factory=dict)
    health: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} ({self.setting})"


class Bench:
    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.cache = Path(options.cache).expanduser()
        rng = np.random.default_rng(7)
        x = rng.normal(size=(20_000, 10))
        from sklearn.ensemble import HistGradientBoostingRegressor

        self.model = HistGradientBoostingRegressor(max_iter=100, max_leaf_nodes=31, early_stopping=False)
        self.model.fit(x, x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=len(x)))
        self.pickle = folder / "model.pkl"
        self.pickle.write_bytes(pickle.dumps(self.model))
        self.rows = rng.normal(size=(512, 10)).round(4)
        self.expected = [float(value) for value in self.model.predict(self.rows)]
        self.versions = {"python": platform.python_version(), "scikit-learn": version("scikit-learn")}

    # servers

    def python(self, peer: str) -> str:
        """The interpreter of a peer's own environment, made where it is missing."""
        import uv

        folder = self.cache / f"{peer}-{platform.python_version()}"
        python = folder / "bin" / "python"
        if not (folder / "complete").exists():
            say(f"making an environment for {peer}")
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([uv.find_uv_bin(), "venv", "-q", "--python", sys.executable, str(folder)], check=True)
            install = [uv.find_uv_bin(), "pip", "install", "-q", "--python", str(python), "--compile-bytecode"]
            subprocess.run([*install, *PINS, *PACKAGES[peer]], check=True)
            (folder / "complete").touch()
        code = f"from importlib.metadata import version; print(version({PACKAGES[peer][0]!r}))"
        self.versions[peer] = subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()
        return str(python)

    def peers(self) -> Iterator[Server]:
        row = '{"row": ROW}'
        if "fastapi" in self.options.peers:
            python, script = self.python("fastapi"), str(HERE / "peers" / "fastapi_server.py")
            for workers in (1, 2):
                command = [python, script, str(self.pickle), "PORT", str(workers)]
                yield Server("fastapi", f"{workers} workers", command, "/predict", row)
        if "litserve" in self.options.peers:
            python, script = self.python("litserve"), str(HERE / "peers" / "litserve_server.py")
            for workers, batch in ((1, 64), (2, 64), (2, 1)):
                command = [python, script, str(self.pickle), "PORT", str(workers), str(batch)]
                yield Server("litserve", f"{workers} workers, batches of {batch}", command, "/predict", row)
        if "mlflow" in self.options.peers:
            python, saved = self.python("mlflow"), self.folder / "mlflow"
            subprocess.run([python, str(HERE / "peers" / "save_mlflow.py"), str(self.pickle), str(saved)], check=True)
            for workers in (1, 2):
                command = [python, "-m", "mlflow", "models", "serve", "-m", str(saved), "--env-manager", "local"]
                command += ["-h", "127.0.0.1", "-p", "PORT", "-w", str(workers)]
                path = f"{Path(python).parent}:{os.environ['PATH']}"
                yield Server(
                    "mlflow", f"{workers} workers", command, "/invocations", '{"inputs": [ROW]}', environ={"PATH": path}
                )

    def stead(self) -> Server:
        """stead with two versions of the model, 90 % and 10 %, set up through its operations."""
        from stead import environments, models, serving
        from stead.config import load_settings
        from stead.runtime import formats
        from stead.store import open_store

        self.versions["stead"] = version("stead")
        root = self.folder / "store"
        store = open_store(load_settings(environ={"STEAD_STORE": str(root)}))
        say("making the environment of the model")
        environment = environments.lock(store, PINS).digest
        environments.ensure(store, environment)
        for number in (1, 2):
            saved = self.folder / f"stead-{number}"
            info = formats.save(self.model, saved, input_example=self.rows[:5])
            logged = models.log_model(store, saved, name="bench", environment=environment, info=info)
            models.register(store, "bench", logged.id)
        with store.db.write("deployments.switch") as tx:
            serving.set_route(store.db, tx, "bench", arms=[serving.Arm(1, 0.9), serving.Arm(2, 0.1)])
        store.close()
        return Server(
            "stead",
            "as installed, 10 % second version, log on",
            [sys.executable, "-m", "stead.processes", "gateway", "--port", "PORT"],
            "/predict/bench",
            '{"row": ROW}',
            environ={"STEAD_STORE": str(root)},
        )

    # measuring

    def measure(self, server: Server, connections: list[int]) -> dict[int, dict[str, Any]]:
        with running(server, self.folder) as (process, port):
            plan = {
                "host": "127.0.0.1",
                "port": port,
                "warmup_s": WARMUP_S,
                "path": server.path,
                "headers": {"Content-Type": "application/json"},
                "bodies": [server.body.replace("ROW", json.dumps(row.tolist())) for row in self.rows],
                "expected": self.expected,
                "at": server.at,
            }
            self._load(plan | {"connections": 1, "seconds": 0.5})  # until it answers, and warm
            return {
                n: self._measured(process, plan | {"connections": n, "seconds": self.options.seconds})
                for n in connections
            }

    def _measured(self, process: psutil.Process, plan: dict[str, Any]) -> dict[str, Any]:
        before = cpu(process)
        result = self._load(plan)
        after = cpu(process)
        spent = sum(after[pid] - before.get(pid, 0.0) for pid in after)
        result["cpu_us"] = spent / max(1, result["all"]) * 1e6
        if result["wrong"] or result["failed"] or result["lost"]:
            say(
                f"  not all well: {result['failed']} failed, {result['wrong']} wrong, {result['lost']} lost {result['examples']}"
            )
        return result

    def _load(self, plan: dict[str, Any]) -> dict[str, Any]:
        path = self.folder / "plan.json"
        path.write_text(json.dumps(plan))
        done = subprocess.run([sys.executable, str(HERE / "load.py"), str(path)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the load generator failed: {done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def cpu(process: psutil.Process) -> dict[int, float]:
    """Processor seconds of a process and all below it."""
    spent: dict[int, float] = {}
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            spent[each.pid] = times.user + times.system
    return spent


@contextmanager
def running(server: Server, folder: Path) -> Iterator[tuple[psutil.Process, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(port) if part == "PORT" else part for part in server.command]
    with open(folder / f"{server.name}.log", "ab") as log:
        process = subprocess.Popen(
            command, env=os.environ | THREADS | server.environ, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{server.label} did not start, see {folder / server.name}.log")
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        time.sleep(2)
        yield psutil.Process(process.pid), port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def summary(bench: Bench, results: dict[str, dict[int, list[dict[str, Any]]]]) -> dict[str, Any]:
    """Medians over the rounds for each setting, and each server's best setting by requests a second."""
    settings: dict[str, Any] = {}
    for label, by_connections in results.items():
        settings[label] = {
            n: {key: statistics.median(run[key] for run in runs) for key in ("rps", "p50_ms", "p99_ms", "cpu_us")}
            | {key: sum(run[key] for run in runs) for key in ("failed", "wrong", "lost")}
            for n, runs in by_connections.items()
        }
    best: dict[str, Any] = {}
    for n in bench.options.connections:
        best[str(n)] = {}
        for name in dict.fromkeys(label.partition(" ")[0] for label in settings):
            label = max((each for each in settings if each.startswith(name)), key=lambda each: settings[each][n]["rps"])
            best[str(n)][name] = settings[label][n] | {"setting": label}
    return {
        "machine": f"{os.cpu_count()} × {platform.processor() or platform.machine()}",
        "load_average_before": bench.options.load_average,
        "versions": bench.versions,
        "rounds": bench.options.rounds,
        "seconds": bench.options.seconds,
        "settings": settings,
        "best": best,
    }


def table(told: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    lines = [versions, f"{told['machine']}, median of {told['rounds']} rounds of {told['seconds']:g} s"]
    lines.append(f"{'':10}{'conn':>5}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs':>9}   stead is")
    for n, servers in told["best"].items():
        ours = servers["stead"]
        for name, one in servers.items():
            ratio = f"{ours['rps'] / one['rps']:.1f} × the requests, {one['cpu_us'] / ours['cpu_us']:.1f} × less CPU"
            lines.append(
                f"{name:10}{n:>5}{one['rps']:>9.0f}{one['p50_ms']:>9.2f}{one['p99_ms']:>9.2f}{one['cpu_us']:>9.0f}   "
                + ("" if name == "stead" else ratio)
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round at 32 connections, without MLflow")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--peers", nargs="*", default=list(PACKAGES), choices=list(PACKAGES))
    parser.add_argument("--cache", default="~/.cache/stead/benchmarks", help="where the peers' environments lie")
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds, options.connections = 3.0, 1, [32]
        options.peers = [peer for peer in options.peers if peer != "mlflow"]
    options.load_average = [round(value, 2) for value in os.getloadavg()]
    with tempfile.TemporaryDirectory(prefix="stead-bench-") as folder:
        bench = Bench(options, Path(folder))
        servers = [bench.stead(), *bench.peers()]
        results: dict[str, dict[int, list[dict[str, Any]]]] = {
            s.label: {n: [] for n in options.connections} for s in servers
        }
        for number in range(options.rounds):
            for server in servers:
                for n, result in bench.measure(server, options.connections).items():
                    results[server.label][n].append(result)
                    say(
                        f"round {number + 1}, {server.label}, {n} connections: {result['rps']:.0f}/s, "
                        f"p99 {result['p99_ms']:.1f} ms, {result['cpu_us']:.0f} µs CPU"
                    )
        told = summary(bench, results)
    if options.json:
        Path(options.json).write_text(json.dumps(told, indent=1))
    print(table(told))


if __name__ == "__main__":
    main()
