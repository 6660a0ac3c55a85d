"""Series of runs as curves: smoothed, by step or time, as SVG for the page and as numbers for uPlot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from stead import runs
from stead.config.units import number
from stead.errors import InvalidInput
from stead.runs import Run, Series
from stead.store import Store
from stead.web import charts
from stead.web.frame import as_json, store_of

POINTS = 300
"""Stretches a curve is thinned to in the page; each gives its least and greatest value."""
FINE = 500
"""The same for uPlot, which can zoom."""
MOST = 50
"""Runs in one chart."""
COLOURS = ("c1", "c2", "c3", "c4", "c5", "c6", "c0")


@dataclass(frozen=True)
class How:
    """How curves are drawn; it stands in the address."""

    x: str = "step"
    log: bool = False
    smooth: float = 0.0
    since: int | None = None
    until: int | None = None
    """Steps between which it is zoomed, both included."""

    def query(self) -> list[tuple[str, str]]:
        pairs = [("x", self.x)] if self.x != "step" else []
        pairs += [("log", "1")] if self.log else []
        pairs += [(name, str(v)) for name, v in (("since", self.since), ("until", self.until)) if v is not None]
        return pairs + ([("smooth", f"{self.smooth:g}")] if self.smooth else [])


@dataclass(frozen=True)
class Curve:
    """One run's series for drawing: x in steps, or in seconds since it began; None where the value is no number."""

    run: str
    label: str
    colour: str
    x: list[float]
    y: list[float | None]
    raw: list[float | None]
    """As recorded; empty where nothing is smoothed."""


def how_of(request: Request) -> How:
    """From the address. Raises InvalidInput (`smooth-invalid`, `x-invalid`, `step-invalid`)."""
    asked = request.query_params
    try:
        smooth = float(asked.get("smooth") or 0)
    except ValueError:
        smooth = math.nan
    if not 0 <= smooth < 1:
        raise InvalidInput("smooth-invalid", "smoothing is a number from 0 to 0.99", hint="smooth=0.6")
    x = asked.get("x") or "step"
    if x not in ("step", "time"):
        raise InvalidInput("x-invalid", f"a curve has no x {x!r}", hint="step or time")
    return How(x, bool(asked.get("log")), smooth, _step(asked.get("since")), _step(asked.get("until")))


def _step(text: str | None) -> int | None:
    try:
        step = int(text) if text else None
    except ValueError:
        step = 1 << 63
    if step is not None and abs(step) >= 1 << 63:
        raise InvalidInput("step-invalid", f"{text!r} is no step", hint="since=100&until=200")
    return step


def smoothed(values: Sequence[float | None], weight: float) -> list[float | None]:
    """Exponential moving average, corrected at its beginning; what is no number is passed over.

    >>> smoothed([1.0, 1.0, None, 1.0], 0.9)
    [1.0, 1.0, None, 1.0]
    """
    out: list[float | None] = []
    mean, mass = 0.0, 0.0
    for value in values:
        if value is None or not math.isfinite(value):
            out.append(value)
            continue
        mean = weight * mean + (1 - weight) * value
        mass = weight * mass + (1 - weight)
        out.append(round(mean / mass, 12))
    return out


def curves(store: Store, found: Sequence[Run], key: str, how: How, *, points: int = POINTS) -> list[Curve]:
    """The series of one metric of several runs, in their order."""
    series_ = runs.series(
        store, [run.id for run in found], key, points=points, since_step=how.since, until_step=how.until
    )
    by_run = {series.run_id: series for series in series_}
    out = []
    for at, run in enumerate(found):
        if (series := by_run.get(run.id)) is not None:
            y = smoothed(series.values, how.smooth) if how.smooth else list(series.values)
            raw = list(series.values) if how.smooth else []
            label = run.id[-8:]
            out.append(Curve(run.id, label, COLOURS[at % len(COLOURS)], _x(series, how), y, raw))
    return out


def _x(series: Series, how: How) -> list[float]:
    if how.x == "step":
        return [float(step) for step in series.steps]
    first = min(series.times, default=0)
    return [(time - first) / 1000 for time in series.times]


def chart(
    found: Sequence[Curve], key: str, how: How, *, height: int = 92, labels: bool = False, grey: bool = False
) -> str:
    """Curves as SVG: the range of the data, not from zero."""
    lines = [
        charts.Line(list(zip(curve.x, curve.raw, strict=True)), curve.colour, faint=True)
        for curve in found
        if curve.raw
    ]
    lines += [
        charts.Line(
            list(zip(curve.x, curve.y, strict=True)), "c0" if grey else curve.colour, curve.label if labels else ""
        )
        for curve in found
    ]
    xs = [x for curve in found for x in curve.x]
    ticks = x_ticks(min(xs), max(xs), how.x) if xs else []
    by = "step" if how.x == "step" else "seconds"
    return charts.line_chart(
        lines,
        label=f"{key} by {by}" + (", log scale" if how.log else ""),
        height=height,
        axes=charts.Axes(y_low=None, log=how.log, x_ticks=ticks, most=2 if height < 120 else 4),
    )


def x_ticks(low: float, high: float, x: str, count: int = 4) -> list[tuple[float, str]]:
    """Round places between two ends.

    >>> x_ticks(0, 500, "step", 2)
    [(0.0, '0'), (250.0, '250'), (500.0, '500')]
    """
    if high <= low:
        return [(low, number(low) if x == "step" else f"{low:g} s")]
    step = charts.nice_step((high - low) / count)
    if x == "step":
        step = max(1.0, step)
    first = math.ceil(low / step - 1e-9)
    places = [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]
    return [(place, f"{place:,g}" if x == "step" else f"{place:g} s") for place in places]


def address(run_ids: Sequence[str], key: str, how: How) -> str:
    """Where uPlot finds the numbers."""
    return "/series?" + urlencode([*(("run", run_id) for run_id in run_ids), ("metric", key), *how.query()])


def numbers(request: Request) -> Response:
    """`/series?run=…&metric=…`: curves as numbers."""
    asked, store = request.query_params, store_of(request)
    run_ids, key = asked.getlist("run")[:MOST], asked.get("metric") or ""
    if not run_ids or not key:
        raise InvalidInput("series-invalid", "a series has runs and a metric", hint="/series?run=ID&metric=loss")
    how = how_of(request)
    found = curves(store, runs.get_runs(store, run_ids), key, how, points=FINE)
    return as_json(request, {"metric": key, "x": how.x, "log": how.log, "curves": found}, indent=0)


ROUTES = [("/series", numbers, ["GET"])]
