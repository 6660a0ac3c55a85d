"""The demo's report: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

import jinja2

from stead import __version__
from stead.config import LEVELS
from stead.config.units import figure
from stead.demo import spread, summary
from stead.demo.summary import DAY, Bad, Quarter
from stead.demo.told import Told
from stead.deployments import Deployment
from stead.predictions import DayLoss
from stead.runtime import typed
from stead.runtime.clock import to_ms
from stead.web import canary, charts, frame, matrix
from stead.web.deployments import buckets

AROUND = 7
"""Days that are drawn before and after the bad version's canary."""
WEEK = 7
APART = 90
"""Days between words that do not stand on one another."""


def write(told: Told, path: Path) -> Path:
    """Write the report and return its path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters.update(frame.FILTERS)
    days = typed.convert(told.days, list[DayLoss])
    quarters, stages, bad = summary.quarters(told), summary.stages(told), summary.bad(told)
    measured = spread.load()
    steps = [(name, took) for name, took in told.seconds.items() if name != "in all"]
    text = environment.get_template("report.html").render(
        version=__version__,
        style=frame.styles(),
        told=told,
        story=story(told),
        totals=summary.totals(told),
        wrong=summary.right(told),
        quarters=quarters,
        spread=measured,
        spread_of=lambda name: _ends(measured, name),
        stages=stages,
        changes=summary.changes(told),
        rows=[(name, [words(stage) for stage in stages]) for name, words in summary.ROWS],
        lanes=lanes(told, days),
        by_quarter=quarter_chart(told, quarters[:-1], days),
        by_week=week_chart(told, days),
        bad=bad,
        bad_chart=bad_chart(told, bad, days),
        bad_canary=bad_canary(told),
        judged=[entry for entry in told.decisions if entry["judgement"]],
        seconds=steps,
        longest=max((took for _, took in steps), default=1.0),
    )
    path.write_text(text, encoding="utf-8")
    return path


def _ends(measured: spread.Spread, name: str) -> str:
    found = measured.system.get(name)
    return "–" if found is None else f"{found[0]:.3f} to {found[2]:.3f}"


def story(told: Told) -> list[str]:
    """What happened, in a few sentences, with the figures as they came out."""
    whole = summary.quarters(told)[-1]
    out = []
    if whole.system is not None:
        beside = " ".join(summary.against(told))
        out.append(f"Over three years the error of what answered was {figure(whole.system)}. {beside}".strip())
    out += filter(None, map(_stage, summary.stages(told)))
    if (bad := summary.bad(told)) is not None:
        out.append(
            f"The bad version of June 2014 was refused by the parity gate. Let through by a person it was {bad.state} "
            f"after {bad.answered} labelled answers and {bad.days:.0f} days of event time."
        )
    return out


def _stage(stage: summary.Stage) -> str:
    year = frame.day((stage.since + stage.until) // 2)[-4:]
    if stage.name == "record":
        if stage.notice is None:
            return f"{year}, level record: no incident was opened."
        mended = f"; {stage.mend:.0f} days later, at the next level, a new version mended it" if stage.mend else ""
        return f"{year}, level record: the loss rose, an incident told so after {stage.notice:.0f} days, and nobody acted{mended}."
    trained = f"trained by stead {sum(stage.reasons.values())}, took over {stage.took_over}, kept from it {len(stage.refused)}"
    if stage.name == "train":
        return f"{year}, level train: {trained}; commands by hand {len(stage.acts)}, most of them to approve."
    if stage.name == "deploy":
        return f"{year}, level deploy: {trained}; commands by hand {len(stage.acts)}, to raise the level."
    return ""


def span_of(days: list[DayLoss]) -> tuple[float, float]:
    """From the first day to the end of the last: what the pictures above one another share."""
    return (min(d.day for d in days), max(d.day for d in days) + DAY) if days else (0.0, 1.0)


def axes_of(days: list[DayLoss], *, ticks: bool) -> charts.Axes:
    """A shared time axis, with a tick at each half year where it has any."""
    low, high = span_of(days)
    places = [
        (to_ms(f"{year}-{month}"), name)
        for year in range(2012, 2016)
        for month, name in (("01-01", f"{year}"), ("07-01", "July"))
    ]
    return charts.Axes(
        span=(low, high), x_ticks=[(float(at), name) for at, name in places if ticks and low <= at <= high]
    )


def most_by_day(days: list[DayLoss]) -> list[DayLoss]:
    """Of each day, the version that answered most."""
    most: dict[int, DayLoss] = {}
    for each in days:
        if each.day not in most or each.predictions > most[each.day].predictions:
            most[each.day] = each
    return [most[at] for at in sorted(most)]


def lanes(told: Told, days: list[DayLoss]) -> str:
    """Which version answered when, and what was trained: hollow where it did not take over."""
    live: list[matrix.Live] = []
    for each in most_by_day(days):
        name = f"v{each.version}"
        since = live.pop().since if live and live[-1].name == name else each.day
        live.append(matrix.Live(name, since, each.day + DAY))
    marks = [
        matrix.Trained(f"v{r['version']}" if r["version"] else "failed", r["event_time"] or 0, r["state"] == "done")
        for r in reversed(told.retrainings)
    ]
    return matrix.lanes(live, marks, span_of(days), label="versions that answered, and trainings")


def quarter_chart(told: Told, quarters: list[Quarter], days: list[DayLoss]) -> str:
    """Error by quarter of the three, each at the middle of its quarter, and where the level was raised."""
    middle = {q.name: to_ms(f"{q.name[:4]}-{int(q.name[-1]) * 3 - 1:02}-15") for q in quarters}
    ways = (("once", "c0", "v1 alone"), ("monthly", "c2", ""), ("system", "c1", "stead"))
    lines = [
        charts.Line([(middle[q.name], getattr(q, way)) for q in quarters], colour, label) for way, colour, label in ways
    ]
    marks = [charts.Mark(stage.since, stage.name) for stage in summary.stages(told) if stage.name in LEVELS]
    label = "error by quarter: stead, version 1 left alone, a new version every month without a gate"
    return charts.line_chart(lines, label=label, height=220, axes=axes_of(days, ticks=True), marks=marks)


def week_chart(told: Told, days: list[DayLoss]) -> str:
    """Error by week of whatever answered, with incidents and the bad version marked."""
    marks: list[charts.Mark] = []
    for at in sorted(incident["event_time"] for stage in summary.stages(told) for incident in stage.incidents):
        near = bool(marks) and at - marks[-1].x < APART * DAY
        marks.append(charts.Mark(at, "" if near else "incident"))
    if told.bad.get("shares"):
        marks.append(charts.Mark(told.bad["shares"][0]["event_time"], f"v{told.bad['version']}"))
    lines = [charts.Line(buckets(days, WEEK), "c1")]
    return charts.line_chart(lines, label="error by week", height=150, axes=axes_of(days, ticks=True), marks=marks)


def bad_chart(told: Told, bad: Bad | None, days: list[DayLoss]) -> str:
    """Error by day of the bad version and of the champion, on the rows that each of them answered."""
    if bad is None:
        return ""
    begun = told.bad["shares"][0]["event_time"] // DAY * DAY
    low, high = begun - AROUND * DAY, begun + (int(bad.days) + AROUND) * DAY
    near = [d for d in days if low <= d.day <= high]
    ways = ((told.bad["previous"], "c0"), (bad.version, "c1"))
    lines = [
        charts.Line([(d.day, d.loss) for d in near if d.version == version], colour, f"v{version}")
        for version, colour in ways
    ]
    ticks = [(float(at), frame.day(at)[:-5]) for at in range(low, high + 1, 7 * DAY)]
    marks = [charts.Mark(begun, "canary"), charts.Mark(begun + bad.days * DAY, bad.state)]
    return charts.line_chart(
        lines, label="error by day of both versions", height=200, axes=charts.Axes(x_ticks=ticks), marks=marks
    )


def bad_canary(told: Told) -> str:
    """The evidence that ended the bad version's canary, as the page of its deployment shows it."""
    if not told.bad.get("shares"):
        return ""
    deployment = typed.convert(told.bad, Deployment)
    return frame.fragment("_canary.html", canary=canary.view(deployment, "WAPE"), deployment=deployment)
