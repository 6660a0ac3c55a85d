"""Making a locked environment whose packages are cached, beside `uv sync` of the same lock: `python benchmarks/environments.py`.

Both make the same packages in a new folder, in turn, and the median of each is told, by the clock and by processor time (user and system,
uv's processes included), with their ratios. stead's environment also gets its checks, and the modules compiled that this interpreter has compiled
before: these come while it is used already, and count in processor time. uv's has neither: with `--compiled`, `uv sync --compile-bytecode` is told, too, once.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from stead import environments
from stead.config import load_settings
from stead.environments.uv import run_uv
from stead.store import open_store

ROUNDS = 10
ASKED = ["pandas>=2.2", "pyarrow", "scikit-learn>=1.5", "lightgbm>=4.5"]


def spent() -> float:
    """Processor time of this process and of those that it has waited for."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main(compiled: bool) -> int:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        project = root / "project"
        project.mkdir()
        store = open_store(load_settings(environ={"STEAD_STORE": str(root / "store")}))
        lock = environments.lock(store, ASKED)
        pins = ", ".join(f'"{name}=={version}"' for name, version in lock.packages.items())
        text = f'[project]\nname = "same"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = [{pins}]\n'
        (project / "pyproject.toml").write_text(text)
        run_uv(["lock", "--python", sys.executable], cwd=project)
        took: dict[str, list[tuple[float, float]]] = {"uv sync": [], "stead": []}

        def sync(*more: str) -> None:
            run_uv(["sync", "--frozen", "--no-install-project", "--python", sys.executable, *more], cwd=project)

        def ensure() -> None:
            environments.ensure(store, lock.digest)

        for number in range(ROUNDS + 1):  # the first round fills the cache and does not count
            pair = [
                ("uv sync", sync, project / ".venv"),
                ("stead", ensure, store.root / "environments" / lock.digest[:16]),
            ]
            for name, make, folder in pair if number % 2 else reversed(pair):
                os.sync()  # what was written before is no part of this
                began = time.perf_counter(), spent()
                make()
                clock = time.perf_counter() - began[0]
                for each in threading.enumerate():
                    if each.name == "bytecode":
                        each.join()
                if number:
                    took[name].append((clock, spent() - began[1]))
                shutil.rmtree(folder)
        store.close()
        began = time.perf_counter(), spent()
        if compiled:
            sync("--compile-bytecode")
            print(
                f"uv sync --compile-bytecode: {time.perf_counter() - began[0]:.1f} s, {spent() - began[1]:.1f} s of CPU"
            )
    version = run_uv(["--version"]).split()[1]
    print(f"{len(lock.packages)} packages, uv {version}, Python {platform.python_version()}, median of {ROUNDS}")
    ratios = []
    for place, told in enumerate(("by the clock", "of CPU")):
        times = {name: [each[place] for each in both] for name, both in took.items()}
        median = {name: statistics.median(each) for name, each in times.items()}
        for name, each in times.items():
            print(f"  {name:8} {median[name]:.3f} s {told} ({min(each):.3f} to {max(each):.3f})")
        ratios.append(median["stead"] / median["uv sync"])
        asked = " (at most 1.5)" if place == 0 else ""
        print(f"  ratio    {ratios[-1]:.2f}{asked}; of the least {min(times['stead']) / min(times['uv sync']):.2f}")
    return int(ratios[0] > 1.5)


if __name__ == "__main__":
    sys.exit(main("--compiled" in sys.argv[1:]))
