"""How much of the demo's figures is chance: the whole demo by several seeds of training, as `benchmarks/circle.py` measured it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from stead.runtime import typed

FILE = Path(__file__).with_name("spread.json")


class Spread(msgspec.Struct):
    """Of several runs of the demo: least, median and most error by quarter and in all, and what came of the bad version."""

    date: str
    versions: dict[str, str]
    seeds: int
    system: dict[str, tuple[float, float, float]]
    once: dict[str, tuple[float, float, float]]
    monthly: dict[str, tuple[float, float, float]]
    aborted: int
    """Runs in which the canary took the bad version back by itself."""
    rows: tuple[int, int]
    """Labelled answers of the bad version until then, fewest and most."""
    days: tuple[float, float]
    """Days of event time until then, fewest and most."""

    def said(self) -> str:
        """The figures in a sentence or two."""
        least, median, most = self.system["in all"]
        by = ", ".join(f"{name} {version}" for name, version in sorted(self.versions.items()) if name != "stead")
        return (
            f"Over {self.seeds} seeds of training, each with nine in ten of the rows ({self.date}, {by}): {least:.3f} to {most:.3f}, "
            f"median {median:.3f}; every month without a gate {self.monthly['in all'][0]:.3f} to {self.monthly['in all'][2]:.3f}. "
            f"The canary took the bad version back in {self.aborted} of {self.seeds}, after {self.rows[0]} to {self.rows[1]} labelled "
            f"answers of its own and {self.days[0]:.0f} to {self.days[1]:.0f} days."
        )


def load() -> Spread:
    return msgspec.json.decode(FILE.read_bytes(), type=typed.ready(Spread))
