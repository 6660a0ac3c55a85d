"""Data versions beside DVC and oxen: adding, growing, many small files, status. `python benchmarks/data.py [--quick]`

Each tool begins with an empty store of its own, the file cache warm, and is called as its users call it; rounds of all tools, each
time another one first, since who comes first in a round pays for memory that the machine has not given out lately; medians.

- 1 GB: the same bytes as a file that no tool looks into, and as Parquet, of which stead also makes schema, counts and profile.
- growth: the same Parquet written anew with 1 % more rows at its end; what the store takes more, in per cent.
- 50,000 files of 4 KiB in 50 folders: the first add, and the status of the folder when nothing has changed.

DVC copies (`cache.type copy`); oxen is its Python package, add and commit in one process. Both live in environments of their own under
`~/.cache/stead-bench`, made by uv on the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import stead

DVC, OXEN = "3.67.1", "0.65.1"
CACHE = Path.home() / ".cache" / "stead-bench"
COLUMNS = 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less data, one round: to see that it works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["large", "small"], help="only the large file, or only the small files")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    rows, number, rounds = (700_000, 2_000, 1) if options.quick else (7_700_000, 50_000, options.rounds)
    with tempfile.TemporaryDirectory(prefix="stead-data-") as folder:
        root = Path(folder)
        tools: list[Tool] = [Stead(), Dvc()]
        if (oxen := peer("oxenai", OXEN)) is not None:
            tools.append(Oxen(oxen))
        figures: dict[str, dict[str, list[float]]] = {}
        for turn in range(rounds):
            order = tools[turn % len(tools) :] + tools[: turn % len(tools)]
            if options.only != "small":
                large(root / f"large{turn}", order, rows, figures)
            if options.only != "large":
                small(root / f"small{turn}", order, number, figures)
    report(figures, rows, number, rounds, options.json)


class Tool:
    """A store in a folder, by commands."""

    name = ""
    store = ""

    def begin(self, folder: Path) -> None:
        """Make an empty store in a folder."""

    def add(self, folder: Path, path: str) -> None: ...

    def status(self, folder: Path, path: str) -> None: ...

    def size(self, folder: Path) -> int:
        return sum(path.stat().st_size for path in (folder / self.store).rglob("*") if path.is_file())


class Stead(Tool):
    name = f"stead {stead.__version__}"
    store = ".stead"

    def begin(self, folder: Path) -> None:
        run([sys.executable, "-m", "stead", "data", "add", "first", __file__], folder, STEAD_STORE=".stead")

    def add(self, folder: Path, path: str) -> None:
        run([sys.executable, "-m", "stead", "data", "add", "d", path], folder, STEAD_STORE=".stead")

    def status(self, folder: Path, path: str) -> None:
        said = run([sys.executable, "-m", "stead", "data", "status", "d", path], folder, STEAD_STORE=".stead")
        assert "0 new, 0 changed, 0 gone" in said, said


class Dvc(Tool):
    name = f"DVC {DVC} copy"
    store = ".dvc/cache"

    def __init__(self) -> None:
        python = peer("dvc", DVC)
        assert python is not None, "DVC cannot be had"
        self.command = [str(python), "-m", "dvc"]

    def begin(self, folder: Path) -> None:
        run(["git", "init", "-q"], folder)
        run([*self.command, "init", "-q"], folder)
        run([*self.command, "config", "cache.type", "copy"], folder)

    def add(self, folder: Path, path: str) -> None:
        run([*self.command, "add", "-q", path], folder, DVC_NO_ANALYTICS="1")

    def status(self, folder: Path, path: str) -> None:
        said = run([*self.command, "status"], folder, DVC_NO_ANALYTICS="1")
        assert "up to date" in said, said


_OXEN = """
import sys, oxen
what, folder, path = sys.argv[1:]
oxen.user.config_user("bench", "bench@example.com") if hasattr(oxen.user, "config_user") else None
repo = oxen.Repo(folder)
if what == "init":
    repo.init()
elif what == "add":
    repo.add(path); repo.commit("add")
else:
    repo.status()
"""


class Oxen(Tool):
    name = f"oxen {OXEN}"
    store = ".oxen"

    def __init__(self, python: Path) -> None:
        self.command = [str(python), "-c", _OXEN]

    def begin(self, folder: Path) -> None:
        run([*self.command, "init", str(folder), "."], folder)

    def add(self, folder: Path, path: str) -> None:
        run([*self.command, "add", str(folder), str(folder / path)], folder)

    def status(self, folder: Path, path: str) -> None:
        run([*self.command, "status", str(folder), path], folder)


def large(root: Path, tools: Sequence[Tool], rows: int, figures: dict[str, dict[str, list[float]]]) -> None:
    """One file of a gigabyte, and one with a hundredth more."""
    root.mkdir()
    note(f"writing {rows} rows")
    whole = table(rows + rows // 100)
    pq.write_table(whole.slice(0, rows), root / "data.parquet")
    pq.write_table(whole, root / "more.parquet")
    for name in ("data.bin", "data.parquet"):
        for tool in tools:
            folder = root / "work"
            folder.mkdir()
            tool.begin(folder)
            shutil.copyfile(root / "data.parquet", folder / name)
            measured(figures, tool, f"add {name}", lambda tool=tool, folder=folder, name=name: tool.add(folder, name))
            if name == "data.parquet":
                before = tool.size(folder)
                shutil.copyfile(root / "more.parquet", folder / name)
                tool.add(folder, name)
                grown = 100 * (tool.size(folder) - before) / before
                figures.setdefault(tool.name, {}).setdefault("growth %", []).append(grown)
            shutil.rmtree(folder)
    shutil.rmtree(root)


def table(rows: int) -> pa.Table:
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {"time": pa.array(np.arange(rows) * 60_000, pa.timestamp("ms"))}
    columns |= {f"x{n}": random.normal(size=rows) for n in range(COLUMNS)}
    return pa.table(columns | {"level": random.choice(["a", "b", "c", "d"], rows)})


def small(root: Path, tools: Sequence[Tool], number: int, figures: dict[str, dict[str, list[float]]]) -> None:
    """Many files of 4 KiB."""
    for tool in tools:
        root.mkdir()
        tool.begin(root)
        random = np.random.default_rng(1)
        for folder in range(50):
            (root / "files" / f"{folder:02}").mkdir(parents=True)
            for name in range(number // 50):
                (root / "files" / f"{folder:02}" / f"{name}.bin").write_bytes(random.bytes(4096))
        measured(figures, tool, "add small", lambda tool=tool: tool.add(root, "files"))
        measured(figures, tool, "status", lambda tool=tool: tool.status(root, "files"))
        shutil.rmtree(root)


def measured(figures: dict[str, dict[str, list[float]]], tool: Tool, what: str, do: Callable[[], None]) -> None:
    os.sync()
    begun, spent = time.perf_counter(), spent_cpu()
    do()
    took, cpu = time.perf_counter() - begun, spent_cpu() - spent
    for of, value in ((what, took), (f"{what}, CPU", cpu)):
        figures.setdefault(tool.name, {}).setdefault(of, []).append(value)
    note(f"{tool.name}: {what} {took:.2f} s, CPU {cpu:.2f} s")


def spent_cpu() -> float:
    """Seconds of CPU, user and system, of all commands so far: on a busy machine they say more than the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(
    figures: dict[str, dict[str, list[float]]], rows: int, number: int, rounds: int, target: Path | None
) -> None:
    middle = {tool: {what: statistics.median(values) for what, values in of.items()} for tool, of in figures.items()}
    columns = list(dict.fromkeys(what for of in middle.values() for what in of))
    print(
        f"{rows} rows, {number} files, {rounds} rounds; seconds by the clock and of CPU, and per cent of growth; {where()}"
    )
    print(f"{'':24}" + "".join(f"{tool:>18}" for tool in middle) + f"{'DVC / stead':>14}")
    mine, theirs = (of for of in list(middle.values())[:2])
    for what in columns:
        ratio = "" if what == "growth %" else f"{theirs[what] / mine[what]:14.2f}"
        print(f"{what:24}" + "".join(f"{of.get(what, float('nan')):>18.2f}" for of in middle.values()) + ratio)
    if target is not None:
        target.write_text(json.dumps({"figures": figures, "where": where()}, indent=1))


def where() -> str:
    return f"Python {platform.python_version()}, pyarrow {version('pyarrow')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def run(command: Sequence[str], folder: Path, **environ: str) -> str:
    environment = {**os.environ, **environ}
    environment.pop("STEAD_URL", None)
    made = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, f"{command}: {made.stderr[-2000:]}"
    return made.stdout


def peer(package: str, wanted: str) -> Path | None:
    """The Python of an environment with a package; None where it cannot be had."""
    from uv import find_uv_bin

    home = CACHE / f"{package}-{wanted}"
    python = home / "bin" / "python"
    if not (home / "whole").exists():
        note(f"making {home}")
        uv = find_uv_bin()
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(home)], check=True)
        if subprocess.run([uv, "pip", "install", "-q", "--python", str(python), f"{package}=={wanted}"]).returncode:
            note(f"{package} {wanted} cannot be had")
            return None
        (home / "whole").touch()
    return python


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
