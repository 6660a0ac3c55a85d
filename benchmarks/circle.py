"""How much the demo's figures owe to chance: the whole demo once a seed, its error by quarter beside the yardsticks.

    python benchmarks/circle.py [--seeds 5] [--out circle.json] [--report]

Boosted trees on a year of hours have no chance of their own, so each seed learns from nine in ten of the rows, drawn by it,
in every training of that run, those of the yardsticks included. A run is `stead demo` through its public commands, in a folder
of its own, on free ports: five take half an hour on two quiet cores. Figures with date and versions go to the file that `--out`
names after each seed; seeds that it has already are not run again. With `--report` the demo's report tells their spread from then on.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from stead.demo import spread, summary
from stead.demo.spread import Spread
from stead.demo.story import Story
from stead.processes import lifeline

FIT = ".fit(X, y)"
SHARE = 0.9


class Seeded(Story):
    """The demo with a training that is drawn by a seed."""

    seed = 0

    def _act(self, *arguments: str) -> str:
        said = super()._act(*arguments)
        if arguments[0] == "init":
            code = self.folder / "bikes.py"
            text = code.read_text()
            assert FIT in text, "the template of the demo has changed"
            drawn = f"    X = X.sample(frac={SHARE}, random_state={self.seed}).sort_index()\n"
            text = text.replace("    return Hist", f"{drawn}    return Hist").replace(FIT, ".fit(X, y.loc[X.index])")
            code.write_text(text)
        return said


def run(seed: int, folder: Path) -> dict[str, Any]:
    """One demo; what it lost by quarter, and what is not as it should be."""
    story = Seeded(folder, keep_up=False, say=lambda text: None)
    story.seed = seed
    try:
        story.prepare()
        story.serve_on((lifeline.free_port(), lifeline.free_port()))
        told = story.tell()
    finally:
        story.end()
    bad = summary.bad(told)
    return {
        "seed": seed,
        "quarters": {q.name: [q.system, q.once, q.monthly] for q in summary.quarters(told)},
        "refused": {stage.name: len(stage.refused) for stage in summary.stages(told)},
        "bad": None
        if bad is None
        else {"state": bad.state, "guard": bad.guard, "rows": bad.answered, "days": bad.days},
        "wrong": summary.right(told),
        "seconds": told.seconds["in all"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("circle.json"))
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    out: Path = options.out
    runs = json.loads(out.read_text())["runs"] if out.exists() else []
    for seed in sorted(set(range(options.seeds)) - {each["seed"] for each in runs}):
        with tempfile.TemporaryDirectory(prefix="stead-circle-") as folder:
            runs.append(run(seed, Path(folder) / "demo"))
        last = runs[-1]
        system, once, monthly = last["quarters"]["in all"]
        print(
            f"seed {seed}: {system:.3f}, version 1 alone {once:.3f}, monthly {monthly:.3f}; {last['seconds']:.0f} s",
            *last["wrong"],
            sep="; ",
            flush=True,
        )
        out.write_text(json.dumps(figures_of(runs), indent=1) + "\n")
    found = spread_of(figures_of(runs))
    print(f"\n{'':8}  {'system: least, median, most':28}  version 1 alone, monthly (medians)")
    for name, (least, median, most) in found.system.items():
        print(
            f"{name:8}  {least:.3f}  {median:.3f}  {most:.3f}          {found.once[name][1]:.3f}  {found.monthly[name][1]:.3f}"
        )
    print(found.said())
    if options.report:
        spread.FILE.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def figures_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The runs with the day and the versions that they were made with."""
    names = ("stead", "scikit-learn", "pandas")
    versions = {"python": platform.python_version()} | {name: version(name) for name in names}
    return {"date": f"{datetime.now(UTC):%Y-%m-%d}", "versions": versions, "runs": runs}


def spread_of(figures: dict[str, Any]) -> Spread:
    """Least, median and most of each way, by quarter."""
    runs, ways = figures["runs"], []
    for way in range(3):
        values = {name: [round(each["quarters"][name][way], 4) for each in runs] for name in runs[0]["quarters"]}
        ways.append({name: (min(v), statistics.median(v), max(v)) for name, v in values.items()})
    bad = [each["bad"] for each in runs if each["bad"] and each["bad"]["state"] == "aborted"]
    rows, days = ([each[name] for each in bad] or [0] for name in ("rows", "days"))
    return Spread(
        date=figures["date"],
        versions=figures["versions"],
        seeds=len(runs),
        system=ways[0],
        once=ways[1],
        monthly=ways[2],
        aborted=len(bad),
        rows=(min(rows), max(rows)),
        days=(min(days), max(days)),
    )


if __name__ == "__main__":
    main()
