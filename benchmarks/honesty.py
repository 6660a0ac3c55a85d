"""How often stead says harm, better or broken where there is none, and how late it says so where there is: beside what others do.

`python benchmarks/honesty.py [--quick] [--seed N]`. The truth is known: simulated streams, or two fits of one recipe on real rides and air. A canary
is looked at after every batch; it is judged from 30 labelled rows in its arm on. Each line is a count with Wilson's 95 % interval. Rules beside:
`z > 1.96` at each look, the asymptotic confidence sequence with rows as the unit (as ville has it), savvi's multinomial test, river's ADWIN and Page–Hinkley.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stead.demo import data
from stead.deployments.evidence import DAY, SHIFT, Paired, beyond, beyond_own, block_of, harm, turned
from stead.stats import promotion, risk, sequential, shift

Array = NDArray[np.float64]
HOUR = DAY // 24
ROWS = 30
MARGIN = 0.02
SAVVI, RIVER = "savvi==0.3.1", "river==0.26.1"
MOVES = ("stead", "no guard broken")
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulations: about a minute")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    few = 10 if asked.quick else 1
    names = ("stead", "numpy", "scikit-learn", "pandas")
    print(
        f"Python {platform.python_version()}, {', '.join(f'{each} {version(each)}' for each in names)}, seed {asked.seed}"
    )
    print("| what | rule | said | of | share, 95 % | median until said |\n|---|---|---|---|---|---|")
    for part in (synthetic, errors, recipes, refreshes, monitors, real):
        part(rng, few)


def tell(what: str, rule: str, first: Iterable[float], unit: str = "") -> None:
    """One line: how many said something, and when; infinite = never."""
    found = np.array(list(first), dtype=np.float64)
    said, of = int(np.isfinite(found).sum()), len(found)
    low, high = wilson(said, of)
    until = "" if not unit or said * 2 < of else f"{np.median(found):,.0f} {unit}"
    print(f"| {what} | {rule} | {said} | {of} | {said / of:.1%} ({low:.1%} to {high:.1%}) | {until} |", flush=True)


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson 1927, JASA 22: the score interval of a proportion."""
    p, middle = k / n, (k + z * z / 2) / (n + z * z)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


# --- canaries


def by_block(seen: Paired, margin: float, span: int) -> bool:
    return harm(seen, margin, block_of(span)).low > 0 or turned(seen, span) is not None


def by_row(seen: Paired, margin: float, span: int) -> bool:
    value, error, n = excess(seen, margin)
    if n < ROWS or error == 0:
        return False
    return value > error * float(sequential.reach(sequential.best_time(0.05) * n / sequential.TUNED_ROWS, 0.05, n - 1))


def by_z(seen: Paired, margin: float, span: int) -> bool:
    value, error, n = excess(seen, margin)
    return n >= ROWS and 0 < 1.96 * error < value


def excess(seen: Paired, margin: float) -> tuple[float, float, int]:
    """Loss beyond the margin by weight, rows taken as independent; its standard error (Cochran 1977, section 6.4); rows."""
    gap, n = seen.second - (1 + margin) * seen.first, len(seen.weight)
    value = float(gap.sum() / seen.weight.sum())
    return (
        value,
        float(np.std(gap - value * seen.weight) * math.sqrt(n / max(n - 1, 1)) / seen.weight.mean() / math.sqrt(n)),
        n,
    )


RULES: dict[str, Callable[[Paired, float, int], bool]] = {
    "stead": by_block,
    "confidence sequence by row": by_row,
    "z > 1.96 by row": by_z,
}


@dataclass(frozen=True)
class Back:
    """When a canary was taken back: event days, rows in its arm, rows in all; infinite = never."""

    days: float = math.inf
    arm: float = math.inf
    rows: float = math.inf


def canary(found: Paired, looks: Array, margin: float) -> dict[str, Back]:
    """When each rule takes a canary back that begins at event time 0."""
    backs = dict.fromkeys(RULES, Back())
    for now in looks.tolist():
        block = block_of(int(now))
        n = int(np.searchsorted(found.time, int(now) // block * block))
        arm = int(found.arm[:n].sum())
        if arm < ROWS:
            continue
        seen = first_rows(found, n)
        for name, rule in RULES.items():
            if math.isinf(backs[name].days) and rule(seen, margin, int(now)):
                backs[name] = Back(now / DAY, arm, n)
    return backs


def first_rows(found: Paired, n: int) -> Paired:
    return Paired(found.first[:n], found.second[:n], found.weight[:n], found.time[:n], found.arm[:n], 0)


def taken_over(found: Paired, offline: float) -> dict[str, float]:
    """The day on which a version takes over, infinite where it is taken back or still waits after 56 days: by stead's rule, and by
    one that asks no more than that no guard is broken once the least evidence is there. A look each midnight."""
    days = dict.fromkeys(MOVES, math.inf)
    for day in range(2, 57):
        now = day * DAY
        n = int(np.searchsorted(found.time, now))
        if found.arm[:n].sum() < ROWS:
            continue
        seen = first_rows(found, n)
        bounds, own = harm(seen, MARGIN, block_of(now)), beyond_own(offline, seen, now)
        if bounds.low > 0 or turned(seen, now) is not None or (own is not None and own.low > 0):
            break
        if math.isfinite(bounds.high):
            for rule in MOVES[0 if bounds.estimate <= 0 else 1 :]:
                days[rule] = min(days[rule], float(day))
        if math.isfinite(days[MOVES[0]]):
            break
    return days


def tell_canaries(what: str, found: list[dict[str, Back]], field: str = "", unit: str = "") -> None:
    for name in RULES:
        tell(what, name, (getattr(each[name], field or "days") for each in found), unit)


def correlated(rng: np.random.Generator, shape: tuple[int, int], phi: float) -> Array:
    """AR 1 along the second axis, sd 1."""
    z = rng.normal(size=shape)
    for n in range(1, shape[1]):
        z[:, n] = phi * z[:, n - 1] + math.sqrt(1 - phi**2) * z[:, n]
    return z


def synthetic(rng: np.random.Generator, few: int) -> None:
    """Equal versions on 24 rows a day whose loss differences are AR 1; a look at each of 60 midnights, margin 0."""
    for phi in (0.0, 0.4, 0.8):
        gaps = correlated(rng, (300 // few, 60 * 24), phi)
        usual, time = np.full(60 * 24, 5.0), np.arange(60 * 24) * HOUR
        found = [
            canary(Paired(usual, usual + gap, np.ones_like(gap), time, rng.random(len(gap)) < 0.25, 0), DAY * np.arange(1.0, 61), 0.0)
            for gap in gaps
        ]  # fmt: skip
        tell_canaries(f"equal versions, hourly rows, AR {phi:g}, 60 days: taken back", found)


def errors(rng: np.random.Generator, few: int) -> None:
    """Right or wrong at 2,000 rows an hour, a tenth of them the canary's; a look every 500 requests."""
    for wrong, sims, rows in ((0.15, 300, 20_000), (0.20, 60, 12_000), (0.30, 100, 5_000)):
        found, failed = [], []
        for _ in range(max(20, sims // few)):
            time = np.sort(rng.integers(0, rows * HOUR // 2000, rows))
            first, second, arm = (rng.random(rows) < each for each in (0.15, wrong, 0.1))
            pair = Paired(first.astype(float), second.astype(float), np.ones(rows), time, arm, 0)
            found.append(canary(pair, time[499::500].astype(np.float64) + 1, 0.0))
            parts = np.stack([(first & ~arm).reshape(-1, 500).sum(1), (second & arm).reshape(-1, 500).sum(1)], 1)
            failed.append(parts.tolist())
        what = f"15 → {wrong:.0%} wrong, a tenth of the requests: taken back".replace("%", " %")
        tell_canaries(what, found, "rows", "requests")
        if (said := peer("savvi_errors.py", failed, SAVVI, "matplotlib")) is not None:
            tell(what, SAVVI.replace("==", " "), (math.inf if k is None else (k + 1) * 500 for k in said), "requests")


def peer(script: str, asked: Any, *requirements: str) -> Any:
    """What another library says, from an environment of its own; None where it cannot be installed."""
    home = data.cache() / script.removesuffix(".py")
    uv = [sys.executable, "-m", "uv"]
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([*uv, "venv", "-q", str(home)], check=True)
    if subprocess.run(
        [*uv, "pip", "install", "-q", "--python", str(python), *requirements], capture_output=True
    ).returncode:
        return None
    done = subprocess.run(
        [str(python), str(HERE / "peers" / script)], input=json.dumps(asked), text=True, capture_output=True, check=True
    )  # fmt: skip
    return json.loads(done.stdout)


def real(rng: np.random.Generator, few: int) -> None:
    """Fits of one recipe, each on a random 80 % of the year before; 60 days after it; a quarter of the traffic."""
    looks = DAY * np.arange(1.0, 61)
    for what, rows in (("bikes", rides()), ("air", air())):
        every = list(fits(*rows, step_days=45 * (5 if few > 1 else 1)))

        def pairs(first: int, second: int, margin: float, every: list[Start] = every) -> list[dict[str, Back]]:
            found = []
            for each in every:
                said = [*each.said, each.off]
                old, new = (np.abs(said[k] - each.truth) for k in (first, second))
                arm = rng.random(len(each.truth)) < 0.25
                found.append(canary(Paired(old, new, each.truth, each.time, arm, 0), looks, margin))
            return found

        for margin in (MARGIN, 0.0):
            equal = [each for a, b in ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)) for each in pairs(a, b, margin)]
            told = f"{what}, two fits of one recipe, 60 days, margin {margin:.0%}: taken back"
            tell_canaries(told.replace("%", " %"), equal)
        off = pairs(0, 3, MARGIN)
        tell_canaries(f"{what}, the hour five off: taken back", off, "days", "days")
        tell_canaries("the same", off, "arm", "rows in the arm")
        takeovers(what, rng, every)
        shifts(what, every)


def takeovers(what: str, rng: np.random.Generator, made: list[Start]) -> None:
    """Who takes over, of good and bad versions; a canary at a quarter of the traffic."""
    kinds: dict[str, list[tuple[Start, Array, Array]]] = {}
    for each in made:
        lost = [np.abs(said - each.truth) for said in (*each.said, each.off)]
        for a, b in ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)):
            if lost[b].sum() <= (1 + MARGIN) * lost[a].sum():
                kinds.setdefault("a fit that lost no more in 60 days", []).append((each, lost[a], lost[b]))
        for worse in (0.1, 0.25, 0.5):
            kinds.setdefault(f"{100 * worse:g} % more loss", []).append((each, lost[0], (1 + worse) * lost[1]))
        kinds.setdefault("the hour five off", []).append((each, lost[0], lost[3]))
    for kind, pairs in kinds.items():
        said: dict[str, list[float]] = {rule: [] for rule in MOVES}
        for each, old, new in pairs:
            arm = rng.random(len(old)) < 0.25
            offline = float(np.abs(each.twin - each.recent).sum() / np.abs(each.recent).sum())
            for rule, day in taken_over(Paired(old, new, np.abs(each.truth), each.time, arm, 0), offline).items():
                said[rule].append(day)
        for rule, days in said.items():
            tell(f"{what}, {kind}: took over in 56 days", rule, days, "days")


def shifts(what: str, made: list[Start]) -> None:
    """The guard on outputs, without labels, a look at each of 14 midnights: refreshes of stale champions, and outputs that are broken."""
    for low, high in ((0, 1), (1, 2), (2, 9)):
        refreshed = [
            shifted(each.time, old, each.said[0])
            for each in made for age, old in each.older.items() if low * 365 < age <= high * 365
        ]  # fmt: skip
        tell(f"{what}, refresh of a champion {low} to {high} years old: taken back for its outputs", "stead", refreshed)
    for outputs, make in (
        ("constant", lambda start: np.full(len(start.truth), start.said[0].mean())),
        ("in thousands", lambda start: start.said[0] / 1000),
        ("the logarithm", lambda start: np.log1p(np.abs(start.said[0]))),
        ("with the hour five off", lambda start: start.off),
    ):
        tell(
            f"{what}, outputs {outputs}: taken back for them",
            "stead",
            (shifted(each.time, each.said[1], make(each)) for each in made),
            "days",
        )


def shifted(time: NDArray[np.int64], old: Array, new: Array, bound: float = SHIFT) -> float:
    """The day on which outputs are shown to be too far apart."""
    for day in range(2, 15):
        seen, block = time < day * DAY, block_of(day * DAY)
        same, usual = shift.apart(old[seen], new[seen])
        if len(same) >= ROWS and beyond(same, bound * usual, np.ones(len(same)), time[seen] // block).low > 0:
            return float(day)
    return math.inf


Rows = tuple[Any, Any, Any]
"""Times, features with a column `hour`, target."""


def read(name: str) -> Any:
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        data.fetch(name, Path(folder) / name)
        return pd.read_csv(Path(folder) / name)


def rides() -> Rows:
    """Bike rides an hour, with the recipe of the demo."""
    import pandas as pd
    from pandas.tseries.holiday import USFederalHolidayCalendar

    raw = read("bikes")
    times = pd.to_datetime(raw["ts"])
    weekday = times.dt.day_of_week
    holiday = times.dt.normalize().isin(USFederalHolidayCalendar().holidays("2010", "2020"))
    table = pd.DataFrame(
        {
            "hour": times.dt.hour, "weekday": weekday, "holiday": holiday.astype(int),
            "working": ((weekday < 5) & ~holiday).astype(int), "tmin": raw["tmin"], "tmax": raw["tmax"], "rain": raw["pn"],
        }
    )  # fmt: skip
    return times, table, raw["count"]


def air() -> Rows:
    """Beijing's PM2.5 an hour from the weather."""
    import pandas as pd

    raw = read("air").dropna(subset="pm2.5").reset_index(drop=True)
    times = pd.to_datetime(raw[["year", "month", "day", "hour"]])
    table = raw[["hour", "month", "DEWP", "TEMP", "PRES", "Iws", "Is", "Ir"]].assign(
        wind=raw["cbwd"].astype("category").cat.codes
    )
    return times, table, raw["pm2.5"]


@dataclass(frozen=True)
class Start:
    """60 days of a set, and what fits of one recipe that learned from the time before say of them; arrays by row."""

    time: NDArray[np.int64]
    """From 0."""
    truth: Array
    said: list[Array]
    """Of three fits, each on a random 80 % of the rows before."""
    off: Array
    """The third with its hour five off."""
    older: dict[int, Array]
    """The first fits of earlier starts, by age in days."""
    recent: Array
    """The truth of the 28 days before."""
    twin: Array
    """What a fit says of them that ends before and learned from as many days, where there are."""


def fits(
    times: Any, table: Any, target: Any, *, step_days: int, after_days: int = 0, history_days: int = 365
) -> Iterable[Start]:
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingRegressor

    models: dict[Any, Any] = {}
    day = pd.Timedelta(days=1)
    recent_days = 28 * day

    def fit(since: Any, until: Any, seed: int) -> Any:
        own = np.flatnonzero((times >= since) & (times < until))
        some = np.random.default_rng(seed).choice(own, int(0.8 * len(own)), replace=False)
        model = HistGradientBoostingRegressor(max_iter=100, learning_rate=0.08, max_leaf_nodes=31)
        return model.fit(table.iloc[some], target.iloc[some])

    first = times.min().normalize() + (history_days + 1 + after_days) * day
    for start in pd.date_range(first, times.max() - 60 * day, freq=f"{step_days}D"):
        since = start - history_days * day
        after = np.flatnonzero((times >= start) & (times < start + 60 * day))
        recent = np.flatnonzero((times >= start - recent_days) & (times < start))
        if ((times >= since) & (times < start)).sum() < 2000 or min(len(after) / 2, len(recent)) < 24 * 15:
            continue  # a gap in the data
        rows = table.iloc[after]
        made = [fit(since, start, seed) for seed in range(3)]
        models[start] = made[0]
        twin = fit(since - recent_days, start - recent_days, 0)
        yield Start(
            time=((times.iloc[after] - start).dt.total_seconds().to_numpy() * 1000).astype(np.int64),
            truth=target.iloc[after].to_numpy(np.float64),
            said=[each.predict(rows) for each in made],
            off=made[2].predict(rows.assign(hour=(rows["hour"] + 5) % 24)),
            older={(start - then).days: each.predict(rows) for then, each in models.items() if then < start},
            recent=target.iloc[recent].to_numpy(np.float64),
            twin=twin.predict(table.iloc[recent]),
        )


# --- promotion


def recipes(rng: np.random.Generator, few: int) -> None:
    """Recipes that are no better, looked at each week of a year: promoted at least once. A day's difference has sd 1."""
    for phi in (0.0, 0.4):
        for what, number, days in (("one recipe all year", 1, 364), ("a new recipe each month", 13, 28)):
            stead, naive = [], []
            for _ in range(200 // few):
                gaps = correlated(rng, (number, days), phi)
                stead.append(math.inf if not promoted(gaps) else 0.0)
                means = np.array([[each[:n].mean() / (each[:n].std(ddof=1) / math.sqrt(n)) for n in range(14, days + 1, 7)] for each in gaps])  # fmt: skip
                naive.append(math.inf if not (means < -1.96).any() else 0.0)
            for rule, found in (("stead", stead), ("z < −1.96 each week", naive)):
                tell(f"{what}, no better, days AR {phi:g}: promoted in a year", rule, found)


def promoted(recipes_gaps: Array) -> bool:
    budget = promotion.Budget()
    for gaps in recipes_gaps:
        budget, alpha = promotion.spend(budget)
        state = sequential.Paired()
        for day, gap in enumerate(gaps, 1):
            state = sequential.observe_day(state, gap, 1.0)
            if day % 7 == 0 and promotion.judge_change(state, alpha).verdict == "better":
                return True
    return False


def refreshes(rng: np.random.Generator, few: int) -> None:
    """28 days of 24 rows, which differ by 30 %."""
    day = np.repeat(np.arange(28), 24)
    for worse, phi, spread in (
        (-0.05, 0.0, 0.05), (0.0, 0.0, 0.05), (0.0, 0.4, 0.05), (0.02, 0.0, 0.05), (0.05, 0.0, 0.05), (0.05, 0.4, 0.05),
        (0.1, 0.0, 0.05), (-0.1, 0.0, 0.2), (0.0, 0.0, 0.2), (0.05, 0.0, 0.2), (0.05, 0.4, 0.2), (0.1, 0.0, 0.2), (0.1, 0.4, 0.2),
        (0.12, 0.4, 0.2),
    ):  # fmt: skip
        said: dict[str, list[float]] = {
            "stead": [],
            "stead, margin 10 %": [],
            "the estimate": [],
            "lower loss wins": [],
        }
        for noise in spread * correlated(rng, (1000 // few, 28), phi):
            weight = rng.gamma(4, 25, len(day))
            old = 0.25 * weight * rng.gamma(2, 0.5, len(day))
            new = old * (1 + worse) * (1 + np.repeat(noise, 24)) * np.exp(0.3 * rng.normal(size=len(day)) - 0.045)
            found, wide = (
                promotion.judge_refresh(new, old, weight, day, margin=each) for each in (promotion.MARGIN, 0.1)
            )
            passed = (found.verdict == "pass", wide.verdict == "pass", found.verdict != "refuse", found.relative < 0)
            for rule, yes in zip(said, passed, strict=True):
                said[rule].append(0.0 if yes else math.inf)
        kind = f"{abs(worse):.0%} {'worse' if worse > 0 else 'better'}".replace("%", " %") if worse else "as good"
        for rule, first in said.items():
            tell(f"a refresh {kind}, days AR {phi:g} of sd {100 * spread:g} %: passed", rule, first)


# --- monitors


def monitors(rng: np.random.Generator, few: int) -> None:
    """Healthy years of daily losses after 28 days that were judged: pages of the risk test; a doubled loss beside."""
    for phi, season in ((0.0, 0.0), (0.4, 0.0), (0.4, 0.1)):
        pages, naive, late, streams = [], [], [], []
        for z in correlated(rng, (200 // few, 28 + 365), phi):
            wave = 1 + season * np.sin(2 * np.pi * (np.arange(len(z)) + rng.integers(365)) / 365)
            loss = 0.3 * np.exp(0.2 * z - 0.02) * wave
            streams.append(loss.tolist())
            reference = risk.risk_reference(loss[:28], np.ones(28))
            pages.append(opened(risk.replay(reference, ((each, 1.0) for each in loss[28:]))))
            late.append(opened(risk.replay(reference, ((2 * each, 1.0) for each in loss[28:]))))
            high = np.flatnonzero(loss[28:] > loss[:28].mean() + 1.96 * loss[:28].std(ddof=1))
            naive.append(float(high[0] + 1) if len(high) else math.inf)
        kind = f"daily loss, AR {phi:g}{', a season of ±10 %' if season else ''}"
        tell(f"{kind}, healthy: paged in a model-year", "stead", pages)
        tell(f"{kind}, healthy: paged in a model-year", "a day over mean + 1.96 sd", naive)
        tell(f"{kind}, doubled: paged", "stead", late, "days")
        doubled = [each[:28] + [2 * loss for loss in each[28:]] for each in streams]
        for what, these in (("healthy: paged in a model-year", streams), ("doubled: paged", doubled)):
            said = peer("river_drift.py", {"reference": 28, "streams": these}, RIVER)
            for detector, first in (said or {}).items():
                days = (math.inf if day is None else float(day) for day in first)
                tell(f"{kind}, {what}", f"{detector} of {RIVER.replace('==', ' ')}", days, "days")


def opened(states: list[risk.RiskState]) -> float:
    return next((float(day) for day, each in enumerate(states, 1) if each.open), math.inf)


if __name__ == "__main__":
    main()
