"""Which constants the canary's guards would get from air, electricity and traffic: bikes, on which the demo runs, are not asked.

`python benchmarks/constants.py`. Fits of one recipe every 45 days, each three times on a random 80 % of the year before, judged on the 60 days after.
`SHIFT`: refreshes of champions of any age that are taken back for their outputs within 14 days, and outputs that are broken and are found. `BLOCK`: of two
equal fits one is taken back for its loss within 60 days at the margin of 2 %, and the days until one is found whose answers are 30 % too high.
The bound is the least one that errs in 1 % of the runs at most in every set; the block was not chosen here.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from honesty import HOUR, MARGIN, air, canary, correlated, fits, shifted
from numpy.typing import NDArray
from refreshes import electricity, traffic

from stead.deployments import evidence
from stead.deployments.evidence import DAY, Paired

Array = NDArray[np.float64]
LOOKS = DAY * np.arange(1.0, 61)


def main() -> None:
    loads = {"air": air, "electricity": electricity, "traffic": traffic}
    sets = {name: list(fits(*load(), step_days=45)) for name, load in loads.items()}
    print(f"starts: {', '.join(f'{name} {len(found)}' for name, found in sets.items())}")
    print(
        "| SHIFT | set | refreshes taken back | constant outputs found | in thousands | the logarithm |\n|---|---|---|---|---|---|"
    )
    for bound in (0.7, 0.8, 0.85, 0.9, 0.95, 1.0):
        for name, found in sets.items():
            refreshed = [shifted(time, old, said[0], bound) for time, _, said, older in found for old in older.values()]
            ways = [
                [shifted(time, said[0], make(said[0]), bound) for time, _, said, _ in found]
                for make in (lambda said: np.full(len(said), said.mean()), lambda said: said / 1000, lambda said: np.log1p(np.abs(said)))
            ]  # fmt: skip
            print(f"| {bound} | {name} | {share(refreshed)} | {' | '.join(share(way) for way in ways)} |", flush=True)
    print("| BLOCK | set | equal fits taken back | 30 % too high found | median |\n|---|---|---|---|---|")
    rng, usual = np.random.default_rng(0), evidence.BLOCK
    for hours in (1, 3, 6, 12, 24):
        evidence.BLOCK = hours * HOUR
        for phi in (0.0, 0.4, 0.8):
            equal = [taken(*stream(rng, phi), rng) for _ in range(60)]
            print(f"| {hours} h | stream, AR {phi:g} | {share(equal)} | | |", flush=True)
        for name, found in sets.items():
            equal, high = [], []
            for time, truth, said, _ in found:
                losses = [np.abs(each - truth) for each in said[:3]]
                pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
                equal += [taken(time, np.abs(truth), losses[a], losses[b], rng, MARGIN) for a, b in pairs]
                high.append(taken(time, np.abs(truth), losses[0], np.abs(1.3 * said[0] - truth), rng, MARGIN))
            print(f"| {hours} h | {name} | {share(equal)} | {share(high)} | {np.median(high):.0f} days |", flush=True)
    evidence.BLOCK = usual


def share(first: Iterable[float]) -> str:
    found = np.isfinite(np.array(list(first), dtype=np.float64))
    return f"{found.mean():.1%} ({found.sum()} of {len(found)})".replace("%", " %")


def taken(
    time: NDArray[np.int64], weight: Array, first: Array, second: Array, rng: np.random.Generator, margin: float = 0.0
) -> float:
    """The day on which the second is taken back, with a quarter of the traffic."""
    return canary(Paired(first, second, weight, time, rng.random(len(time)) < 0.25, 0), LOOKS, margin)["stead"].days


def stream(rng: np.random.Generator, phi: float) -> tuple[NDArray[np.int64], Array, Array, Array]:
    """60 days of hours: time, weight, and the losses of two equal versions whose difference goes together from hour to hour."""
    hours = 60 * 24
    first = rng.gamma(2, 0.5, hours)
    return np.arange(hours) * HOUR, np.ones(hours), first, first + 0.3 * correlated(rng, (1, hours), phi)[0]


if __name__ == "__main__":
    main()
