"""The demo's report: one HTML file that needs nothing else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from stead import __version__
from stead.demo import summary
from stead.demo.story import Told
from stead.predictions import DayLoss
from stead.web import charts, frame
from stead.web.deployments import COLOURS, buckets, by_version, takeovers, time_ticks

STYLES = ("tokens.css", "stead.css", "pages.css")
HOT = 2
"""The version that the story ends with."""


def write(told: Told, path: Path) -> Path:
    """Write the report and return its path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters.update(frame.FILTERS)
    days = msgspec.convert(told.days, list[DayLoss])
    daily, beyond = day_chart(days)
    steps = [(name, took) for name, took in told.seconds.items() if name != "in all"]
    text = environment.get_template("report.html").render(
        version=__version__,
        style="\n".join((frame.HERE / "static" / name).read_text(encoding="utf-8") for name in STYLES),
        told=told,
        story=story(told),
        totals=summary.totals(told),
        wrong=summary.right(told),
        quarters=quarter_chart(told),
        daily=daily,
        beyond=beyond,
        versions=versions(told, days),
        compared=told.compared,
        interval=interval(told.compared),
        seconds=steps,
        longest=max((took for _, took in steps), default=1.0),
    )
    path.write_text(text, encoding="utf-8")
    return path


def story(told: Told) -> list[str]:
    """What happened, in a few sentences, with the figures as they came out."""
    first = [q for q in summary.quarters(told.days) if q.version == 1 and q.loss is not None]
    out = []
    if first:
        worst = max(first, key=lambda q: q.loss or 0.0)
        out.append(
            f"The error of version 1 was {frame.figure(first[0].loss)} in {first[0].name} and {frame.figure(worst.loss)} in {worst.name}; "
            "no request failed meanwhile, and no technical light showed it."
        )
    compared = told.compared
    if compared:
        less = "less" if compared["difference"] < 0 else "no less"
        sure = compared["high"] is not None and compared["high"] < 0
        out.append(
            f"Version 2, trained on the last year, erred {less} on the same {compared['rows']:,} rows: "
            f"{frame.figure(compared['second_loss'])} against {frame.figure(compared['first_loss'])}"
            f"{'' if sure else ', though the 95 % interval of the difference reaches zero'}. "
            "It took over while requests flowed."
        )
    if told.refusal:
        out.append(
            "Version 3 computed a feature differently in serving and was refused before any request reached it; "
            f"forced through, it answered one day, and a roll-back took {told.rollback_seconds:.2f} s."
        )
    return out


def quarter_chart(told: Told) -> str:
    """Error by quarter and version."""
    bars = [
        charts.Bar(q.name, q.loss, colour(q.version), f"v{q.version}")
        for q in summary.quarters(told.days)
        if q.loss is not None
    ]
    return charts.bar_chart(bars, label="error by quarter and version", height=220)


def day_chart(days: list[DayLoss]) -> tuple[str, str]:
    """Error by day, faint, and by week, with the takeovers marked; and which days the picture cuts off."""
    known = sorted({d.version for d in days})
    own = {version: [d for d in days if d.version == version] for version in known}
    weekly = {v: buckets(own[v], 7) for v in known}
    highest = max((y for points in weekly.values() for _, y in points if y is not None), default=1.0)
    top = math.ceil(highest * 6) / 4
    lines = [charts.Line(cut(buckets(own[v], 1), top), colour(v), faint=True) for v in known]
    lines += [charts.Line(weekly[v], colour(v), f"v{v}") for v in known]
    beyond = [d for d in days if d.loss is not None and d.loss > top]
    worst = max(beyond, key=lambda d: d.loss or 0.0, default=None)
    told = (
        f"{len(beyond)} days are beyond {top:g}, the worst {frame.day(worst.day)} with {frame.figure(worst.loss)} on {worst.weight_sum:,.0f} rides."
        if worst
        else ""
    )
    svg = charts.line_chart(
        lines,
        label="error by day and week of event time",
        height=260,
        axes=charts.Axes(y_high=top, x_ticks=time_ticks(days)),
        marks=takeovers(days),
    )
    return svg, told


def cut(points: list[charts.Point], top: float) -> list[charts.Point]:
    """Values above the top stay at the top."""
    return [(x, None if y is None else min(y, top)) for x, y in points]


def colour(version: int) -> str:
    """The version that the story ends with is the accent."""
    return "c1" if version == HOT else COLOURS[0] if version < HOT else COLOURS[1]


def versions(told: Told, days: list[DayLoss]) -> list[dict[str, Any]]:
    """Each version's hold-outs and what it lost when it served."""
    served = {version: loss for version, _, _, _, loss in by_version(days)}
    out = []
    for each in told.trained:
        number, metrics = each["version"]["version"], each["logged_model"]["metrics"]
        out.append(
            {
                "version": number,
                "random": metrics.get("holdout_random"),
                "time": metrics.get("holdout_time"),
                "served": served.get(number),
            }
        )
    return out


def interval(compared: dict[str, Any]) -> str:
    if not compared or compared["low"] is None:
        return ""
    return charts.interval(
        compared["low"], compared["difference"], compared["high"], label="difference in loss with its 95 % interval"
    )
