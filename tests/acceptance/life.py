"""A project of its own on Beijing's air, made by `stead init`, and the commands that drive it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stead.demo.data import fetch
from tests.support.commands import stead

CODE = '''"""Fine dust an hour ahead, from the weather and the last hours."""

import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

import stead
from seasons import season


def ingest(since, until):
    rows = pd.read_parquet("data/air.parquet")
    return rows[(rows["time"] >= since) & (rows["time"] < until)]


def features(raw):
    time = pd.to_datetime(raw["time"])
    wind = raw["wind"].map({"NW": 0, "NE": 1, "SE": 2, "cv": 3}).fillna(-1)
    return pd.DataFrame(
        {"hour": time.dt.hour, "season": season(time), "wind": wind, "dew": raw["dew"], "warm": raw["temp"], "iws": raw["iws"]}
    )


def train(X, y):
    stead.log({"rows": len(X)}, step=0)
    return HistGradientBoostingRegressor(max_iter=60, random_state=0).fit(X, y)
'''

SEASONS = """def season(time):
    return (time.dt.month % 12) // 3
"""

TOML = """[project]
name = "air"
requirements = ["pandas>=2.2", "pyarrow", "scikit-learn>=1.5"]

[models.air]
code = "air.py"
target = "pm"
time = "time"
loss = "wape"
label_delay = "6h"
"""


def make_table(to: Path) -> None:
    """Hours of 2010 to 2014 with a measured value, as a project would have them."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.parquet as pq

    csv = to.with_suffix(".csv")
    fetch("air", csv)
    raw = pyarrow.csv.read_csv(csv, convert_options=pyarrow.csv.ConvertOptions(null_values=["NA"]))
    raw = raw.filter(pc.is_valid(raw["pm2.5"]))
    text = [
        "{:04}-{:02}-{:02} {:02}:00:00".format(*row)
        for row in zip(*(raw[c].to_pylist() for c in ("year", "month", "day", "hour")), strict=True)
    ]
    time = pc.strptime(pa.array(text), format="%Y-%m-%d %H:%M:%S", unit="us")
    columns = {
        "time": time,
        "dew": raw["DEWP"],
        "temp": raw["TEMP"],
        "wind": raw["cbwd"],
        "iws": raw["Iws"],
        "pm": raw["pm2.5"].cast(pa.float64()),
    }
    pq.write_table(pa.table(columns), to)


@dataclass
class Life:
    """One project folder and its store."""

    folder: Path
    ports: tuple[int, int]
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        mine = {k: v for k, v in os.environ.items() if not k.startswith("STEAD_")}
        return (
            mine
            | {"OMP_NUM_THREADS": "1", "STEAD_PORT": str(self.ports[0]), "STEAD_GATEWAY_PORT": str(self.ports[1])}
            | self.extra
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """A command, in this process; its standard output. The exit code must be `code`."""
        done = stead(arguments, cwd=self.folder, environ=self.environ)
        assert done.returncode == code, f"stead {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """A command in the background."""
        command = [sys.executable, "-m", "stead", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"

    def pids(self) -> dict[str, int]:
        return {name: process["pid"] for name, process in self.json("status")["processes"]["processes"].items()}


def make(folder: Path, ports: tuple[int, int]) -> Life:
    """`stead init`, then the user's own files."""
    life = Life(folder, ports)
    folder.mkdir()
    life.run("init", "--name", "air")
    (folder / "stead.toml").write_text(TOML)
    (folder / "air.py").write_text(CODE)
    (folder / "seasons.py").write_text(SEASONS)
    (folder / "data").mkdir()
    make_table(folder / "data" / "air.parquet")
    return life
