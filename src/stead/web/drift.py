"""A model's drift: features by week with the distributions behind each cell, who was live, and the loss on the same axis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from stead import models, monitors, policies
from stead.config.units import number, percent
from stead.errors import NotFound
from stead.monitors import ColumnProfile, ColumnWeek, Expected, LossDay, ModelDrift, Monitoring
from stead.policies import Retraining
from stead.store import Store
from stead.web import charts, live, matrix
from stead.web.fleet import DAY_MS
from stead.web.frame import BROKEN, day, fragment, here, render, store_of
from stead.web.incidents import since_of

WEEKS = (4, 12, 52)
MOST_ROWS = 40
"""Columns that are shown, the furthest first, unless all are asked for."""
SPECIAL = ("null", "wrong type", "below", "above", "other", "unseen")
"""Parts of a distribution that are no value."""
WORDS = {"null": "empty", "below": "below the reference", "above": "above the reference", "other": "other levels"}


@dataclass(frozen=True)
class Chosen:
    """One cell: a column in a week, with both distributions."""

    column: str
    week: ColumnWeek
    reference: Expected
    picture: str
    facts: list[tuple[str, str, str]]
    """Name, this week, and what it is held against."""


def index(request: Request) -> Response:
    """`/drift`: every model with a live version, those with something to look at first."""
    store = store_of(request)
    watched = [monitors.monitoring(store, model.name) for model in models.list_models(store)]
    shown = [(each, chip(each), *sentence(store, each)) for each in watched if each.version is not None]
    order = ("bad", "note", "ok", "idle")
    shown.sort(key=lambda row: (order.index(row[1][0]), row[0].model))
    return render(request, "drifts.html", title="Drift", data=[row[0] for row in shown], shown=shown)


def one(request: Request) -> Response:
    """`/models/{model}/drift`"""
    store, name = store_of(request), request.path_params["model"]
    model = models.get_model(store, name)
    weeks = weeks_of(request)
    watched = monitors.monitoring(store, name)
    try:
        found: ModelDrift | None = monitors.drift_by_week(store, name, weeks=weeks)
    except NotFound as missing:
        if missing.code != "reference-missing":
            raise
        found = None
    seen = shown(request, store, found, weeks) if found is not None else {}
    return render(
        request,
        "drift.html",
        title=f"{name}: drift and loss",
        crumbs=[("Models", "/models"), (name, f"/models/{name}")],
        crumb="Drift",
        data={"drift": found, "cell": seen.get("profile")},
        model=model,
        watched=watched,
        weeks=weeks,
        spans=[(each, here(request, weeks=str(each), week=None, format=None)) for each in WEEKS],
        stream=here(request, format=None).replace("/drift", "/drift/live", 1),
        chip=chip(watched),
        verdict=sentence(store, watched),
        found=found,
        **seen,
    )


def weeks_of(request: Request) -> int:
    """How many weeks are asked for, of those that are offered."""
    asked = request.query_params.get("weeks", "")
    return int(asked) if asked.isdigit() and int(asked) in WEEKS else 12


def follow(request: Request) -> Response:
    """`/models/{model}/drift/live`: the page's pictures anew when a monitor has looked or labels have come."""
    store, name = store_of(request), request.path_params["model"]
    models.get_model(store, name)
    weeks = weeks_of(request)
    shown_at: list[tuple[int, int]] = [monitors.looks(store, name)]

    def look() -> tuple[live.Events, bool]:
        now = monitors.looks(store, name)
        if shown_at == [now]:
            return [], False
        shown_at[:] = [now]
        found = monitors.drift_by_week(store, name, weeks=weeks)
        watched = monitors.monitoring(store, name)
        seen = shown(request, store, found, weeks)
        text = fragment(
            "_drift.html",
            model=models.get_model(store, name),
            watched=watched,
            verdict=sentence(store, watched),
            found=found,
            weeks=weeks,
            **seen,
        )
        return [("drift", text)], False

    return live.stream(request, look)


def shown(request: Request, store: Store, found: ModelDrift, weeks: int) -> dict[str, Any]:
    """What both the page and its stream draw."""
    starts = list(range(found.since, found.until, 7 * DAY_MS))
    asked = request.query_params
    page = f"/models/{found.model}/drift"
    cell = chosen_of(found, asked.get("column"), asked.get("week"))
    rows = found.columns if asked.get("all") else found.columns[:MOST_ROWS]
    profile = None
    if cell is not None:
        profile = monitors.column_profile(store, found.model, cell[0], weeks=weeks, until=found.until)
    trained = policies.list_retrainings(store, model=found.model, limit=500)
    return {
        "page": page,
        "heat": heat_of(found, rows, starts, cell, page, weeks),
        "hidden": len(found.columns) - len(rows),
        "lanes": lanes_of(found, trained),
        "loss": loss_of(found),
        "labels": labels_of(found, starts),
        "estimate": estimate_of(found),
        "columns": [each.column for each in found.columns],
        "starts": [(iso(start), f"{week_name(start)}, from {day(start)}") for start in starts],
        "cell": cell_of(profile, cell[1]) if profile is not None and cell is not None else None,
        "profile": profile,
        "done": done(store, found, trained),
        "day": day,
    }


def chip(watched: Monitoring) -> tuple[str, str]:
    """The status beside the title."""
    kinds = {each.kind for each in watched.incidents}
    if "data" in kinds:
        return "bad", "data is broken"
    if "drift" in kinds:
        return "note", "drifts"
    known = {each.monitor: each.outcome for each in watched.monitors}
    return ("ok", "as its reference") if known.get("drift") == "ok" else ("idle", "nothing to compare yet")


def sentence(store: Store, watched: Monitoring) -> tuple[str, str]:
    """The answer first: what drifts or is broken since when, what the loss does meanwhile, and what comes next."""
    told = [each for each in watched.incidents if each.kind in ("data", "drift")]
    told.sort(key=lambda each: each.kind != "data")
    bold = "Its columns are as in the reference."
    if told:
        opened = f"incident {told[0].id}, opened {day(told[0].event_time)}"
        bold = f"Since {day(since_of(told[0]))} ({opened}): {told[0].summary}."
    elif watched.version is None:
        bold = "No version is live."
    loss = next((each for each in watched.monitors if each.monitor == "loss"), None)
    said = ""
    if loss is not None:
        word = {
            "alarm": "The loss suffers: ",
            "watching": "The loss is high: ",
            "ok": "The monitor of the loss is quiet: ",
        }.get(loss.outcome, "The loss: ")
        said = f"{word}{loss.said}. "
    under_way = policies.list_retrainings(store, model=watched.model, limit=1)
    if under_way and under_way[0].state in policies.OPEN:
        said += f"Retraining {under_way[0].id} is under way: {under_way[0].state}."
    elif told and all(each.kind == "drift" for each in told) and (loss is None or loss.outcome != "alarm"):
        said += "Drift by itself is a note: nobody is called and nothing is trained because of it."
    return bold, said


def week_name(start: int) -> str:
    """The week of the year that a Monday begins.

    >>> week_name(1325462400000)
    'W1'
    """
    return f"W{datetime.fromtimestamp(start / 1000, UTC).isocalendar().week}"


def iso(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y-%m-%d")


def chosen_of(found: ModelDrift, column: str | None, week: str | None) -> tuple[str, int] | None:
    """The cell that is open: the one that was asked for, else the furthest column in its furthest week of late."""
    by_name = {each.column: each for each in found.columns if each.weeks}
    profile = by_name.get(column or "") or next(iter(by_name.values()), None)
    if profile is None:
        return None
    starts = {iso(each.since): each.since for each in profile.weeks}
    if week in starts:
        return profile.column, starts[week]
    late = profile.weeks[-4:]
    return profile.column, max(late, key=lambda each: each.distance or 0.0).since


def heat_of(
    found: ModelDrift, rows: list[ColumnProfile], starts: list[int], cell: tuple[str, int] | None, page: str, weeks: int
) -> str:
    names = [week_name(start) for start in starts]
    table = []
    for profile in rows:
        by_week = {each.since: each for each in profile.weeks}
        cells: list[matrix.Cell | None] = []
        for start, name in zip(starts, names, strict=True):
            seen = by_week.get(start)
            if seen is None:
                cells.append(None)
                continue
            distance = "–" if seen.distance is None else f"{seen.distance:.2f}"
            level = -1 if seen.broken else matrix.level_of(seen.distance, seen.p_value)
            why = f", broken data: {BROKEN.get(seen.broken, seen.broken)}" if seen.broken else ""
            href = f"{page}?{urlencode({'weeks': weeks, 'column': profile.column, 'week': iso(start)})}#cell"
            title = f"{profile.column} {name}: {distance}, {number(seen.rows)} rows of v{seen.version}{why}"
            cells.append(matrix.Cell(level, distance.lstrip("0"), title, href, cell == (profile.column, start)))
        table.append((profile.column, cells))
    heads = [name if at == 0 else name[1:] for at, name in enumerate(names)]
    return matrix.heat(table, heads, label=f"Drift of {len(rows)} columns in {len(starts)} weeks")


def most_by_day(days: list[LossDay]) -> list[LossDay]:
    """Of each day the version that answered most."""
    most: dict[int, LossDay] = {}
    for each in days:
        if each.day not in most or each.rows > most[each.day].rows:
            most[each.day] = each
    return [most[at] for at in sorted(most)]


def lanes_of(found: ModelDrift, trained: list[Retraining]) -> str:
    live: list[matrix.Live] = []
    for each in most_by_day(found.days):
        if live and live[-1].name == f"v{each.version}":
            live[-1] = matrix.Live(live[-1].name, live[-1].since, each.day + DAY_MS)
        else:
            live.append(matrix.Live(f"v{each.version}", each.day, each.day + DAY_MS))
    marks = [
        matrix.Trained(
            f"v{each.version}" if each.version else f"retraining {each.id}",
            each.event_time or each.at,
            each.state == "done",
            f"/approvals/{each.id}",
        )
        for each in reversed(trained)
    ]
    label = "Versions that were live and retrainings"
    return matrix.lanes(live, marks, (found.since, found.until), label=label)


def loss_of(found: ModelDrift) -> str:
    """Loss by day of the version that answered most, with the bound of its monitor."""
    curve: list[charts.Point] = []
    bound: list[charts.Point] = []
    before: LossDay | None = None
    days = most_by_day(found.days)
    for each in days:
        if before is not None and each.day - before.day > DAY_MS:
            curve.append((each.day, None))
        if before is not None and each.version != before.version:
            bound.append((each.day, None))
        curve.append((each.day + DAY_MS / 2, each.loss))
        bound.append((each.day + DAY_MS / 2, each.bound))
        before = each
    lines = [charts.Line(bound, "bound", dashed=True), charts.Line(curve, "ink0")]
    marks = [
        charts.Mark(after.day, f"v{after.version}")
        for before, after in pairwise(days)
        if before.version != after.version
    ]
    axes = charts.Axes(span=(found.since, found.until), unit="loss", most=3, y_low=None)
    return charts.line_chart(lines, label=f"loss of {found.model} by day", height=130, axes=axes, marks=marks)


def estimate_of(found: ModelDrift) -> str:
    """The loss to expect without labels by window against the most that is usual; empty where no version has an estimate."""
    if not any(each.value is not None for each in found.estimates):
        return ""
    curve: list[charts.Point] = []
    bound: list[charts.Point] = []
    before = None
    for each in found.estimates:
        if before is not None and each.version != before:
            bound.append((each.day, None))
            curve.append((each.day, None))
        curve.append((each.day + DAY_MS / 2, each.value))
        bound.append((each.day + DAY_MS / 2, each.bound))
        before = each.version
    lines = [charts.Line(bound, "bound", dashed=True), charts.Line(curve, "c0")]
    axes = charts.Axes(span=(found.since, found.until), unit="loss", most=3, y_low=None)
    return charts.line_chart(lines, label=f"loss of {found.model} to expect without labels", height=100, axes=axes)


def labels_of(found: ModelDrift, starts: list[int]) -> str:
    """Share of the rows whose label has come, on the same axis."""
    sums: dict[int, list[int]] = {}
    for each in found.days:
        total = sums.setdefault(each.day, [0, 0])
        total[0] += each.labelled
        total[1] += each.rows
    points: list[charts.Point] = [
        (at + DAY_MS / 2, labelled / rows if rows else None) for at, (labelled, rows) in sorted(sums.items())
    ]
    every = max(1, len(starts) // 6)
    ticks = [(float(start), datetime.fromtimestamp(start / 1000, UTC).strftime("%-d %b")) for start in starts[::every]]
    axes = charts.Axes(
        y_high=1.0, y_format="{:.0%}", most=2, span=(found.since, found.until), x_ticks=ticks, unit="labelled"
    )
    label = f"share of {found.model}'s rows with a label, by day"
    return charts.line_chart([charts.Line(points, "c0")], label=label, height=54, axes=axes)


def cell_of(profile: ColumnProfile, start: int) -> Chosen | None:
    week = next((each for each in profile.weeks if each.since == start), None)
    reference = next((each for each in profile.references if week is not None and each.version == week.version), None)
    if week is None or reference is None:
        return None
    values = [(name, rows) for name, rows in week.parts if name not in SPECIAL]
    usual = [rows for name, rows in reference.parts if name not in SPECIAL]
    label = f"distributions of {profile.column}: reference and {week_name(start)}"
    edges, counts = reference.edges, [rows for _, rows in values]
    if len(edges) > 2 and edges[-1] > edges[-2]:
        picture = matrix.density(edges, usual, counts, label=label, name=week_name(start))
    else:
        names = [f"{edge:.4g}" for edge in edges[:-1]] if edges else [name for name, _ in values]
        picture = matrix.levels(names, usual, counts, label=label, ordered=bool(edges))
    return Chosen(profile.column, week, reference, picture, facts_of(week, reference))


def facts_of(week: ColumnWeek, reference: Expected) -> list[tuple[str, str, str]]:
    facts = [
        ("Distance", number(week.distance, 2), "Jensen–Shannon, 0 to 1"),
        ("Chance", f"p {number(week.p_value, 2)}", "of a week like the reference’s own"),
    ]
    if week.broken:
        facts.append(("Broken", BROKEN.get(week.broken, week.broken), "by the monitors of data and units"))
    if week.mean is not None:
        facts.append(("Mean", number(week.mean), f"was {number(reference.mean)}"))
    usual = dict(reference.parts)
    for name, rows in week.parts:
        if name in SPECIAL and (rows or name == "null"):
            before = usual.get(name, 0) / reference.rows if reference.rows else None
            share = percent(rows / week.rows if week.rows else None)
            facts.append((WORDS.get(name, name).capitalize(), share, f"was {percent(before)}"))
    facts.append(
        ("Rows", number(week.rows), f"of v{week.version}, against {number(reference.rows)} of its {reference.source}")
    )
    return facts


def done(store: Store, found: ModelDrift, trained: list[Retraining]) -> list[tuple[str, str, str, str, int]]:
    """What was seen and done over these weeks: chip, name, what, where, when; newest first."""
    out = []
    for each in monitors.list_incidents(store, model=found.model, limit=200):
        chip = "idle" if each.state != "open" else "bad" if each.severity == "page" else "note"
        what = each.summary + ("" if each.state == "open" else "; it is over")
        out.append((chip, f"Incident {each.id}", what, f"/incidents/{each.id}", each.event_time))
    for one in trained:
        name = f"Retraining {one.id}" + (f", v{one.version}" if one.version else "")
        chip = {"done": "ok", "refused": "bad", "failed": "bad", "waiting": "warn"}.get(one.state, "active")
        out.append((chip, name, f"{one.reason}: {one.state}", f"/approvals/{one.id}", one.event_time or one.at))
    inside = [each for each in out if found.since <= each[4] < found.until + 7 * DAY_MS]
    return sorted(inside, key=lambda each: -each[4])[:8]


ROUTES = [
    ("/drift", index, ["GET"]),
    ("/models/{model}/drift", one, ["GET"]),
    ("/models/{model}/drift/live", follow, ["GET"]),
]
