"""Making a locked environment whose packages are cached, beside `uv sync` of the same lock: `python benchmarks/environments.py`.

Both make the same packages in a new folder, in turn, and the median of each is told, with their ratio. stead's environment also has
the modules compiled that this interpreter has compiled before, and its checks; uv's has neither.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from stead import environments
from stead.config import load_settings
from stead.environments.uv import run_uv
from stead.store import open_store

ROUNDS = 10
ASKED = ["pandas>=2.2", "pyarrow", "scikit-learn>=1.5", "lightgbm>=4.5"]


def main() -> int:
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
        took: dict[str, list[float]] = {"uv sync": [], "stead": []}

        def sync() -> None:
            run_uv(["sync", "--frozen", "--no-install-project", "--python", sys.executable], cwd=project)

        def ensure() -> None:
            environments.ensure(store, lock.digest)

        for number in range(ROUNDS + 1):  # the first round fills the cache and does not count
            pair = [("uv sync", sync, project / ".venv"), ("stead", ensure, store.root / "environments")]
            for name, make, folder in pair if number % 2 else reversed(pair):
                os.sync()  # what was written before is no part of this
                began = time.perf_counter()
                make()
                if number:
                    took[name].append(time.perf_counter() - began)
                shutil.rmtree(folder)
        store.close()
    median = {name: statistics.median(times) for name, times in took.items()}
    version = run_uv(["--version"]).split()[1]
    print(f"{len(lock.packages)} packages, uv {version}, Python {platform.python_version()}, median of {ROUNDS}")
    for name, times in took.items():
        print(f"  {name:8} {median[name]:.2f} s ({min(times):.2f} to {max(times):.2f})")
    ratio = median["stead"] / median["uv sync"]
    print(f"  ratio    {ratio:.2f} (at most 1.5)")
    return int(ratio > 1.5)


if __name__ == "__main__":
    sys.exit(main())
