"""Data: datasets, and one version with schema, profile, where it came from and who used it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from stead import datasets, lineage
from stead.config.units import number, percent
from stead.datasets import ColumnDiff, DatasetDiff, DatasetVersion, binned
from stead.stats.drift import FLOOR
from stead.store import Store
from stead.web import charts, matrix
from stead.web.frame import day, render, store_of
from stead.web.lineage import href

ASIDE = 20
"""Batches in quarantine that the page lists."""
COLUMNS = 100
"""Columns that a page draws; JSON and the command line have all of them."""
EXAMPLES = 10
HEIGHT, ROOM = 64, 190
"""Pixels of a distribution: how high, and how wide where it has least."""


@dataclass(frozen=True)
class Line:
    """A column of a version, as its profile tells it."""

    name: str
    type: str
    missing: str
    missing_any: bool
    low: str
    high: str
    mean: str
    sd: str
    shape: str


def listed(request: Request) -> Response:
    """`/data`"""
    found = datasets.list_datasets(store_of(request))
    return render(request, "datasets.html", title="Data", data=found, datasets=found)


def one(request: Request) -> Response:
    """`/data/{name}` (the newest) and `/data/{name}/{version}`"""
    store, name = store_of(request), request.path_params["name"]
    number_ = request.path_params.get("version")
    version = datasets.get_version(store, f"{name}@{number_}" if number_ else name, with_parts=True)
    versions = datasets.list_versions(store, name)
    return render(
        request,
        "dataset.html",
        title=version.ref,
        crumbs=[("Data", "/data"), (name, f"/data/{name}")],
        crumb=f"version {version.version}",
        data=version,
        version=version,
        versions=versions,
        lines=[
            line(column.name, column.type, version.profile.get(column.name, {})) for column in version.schema[:COLUMNS]
        ],
        source=source(version),
        verdict=verdict(version),
        used_by=used_by(store, version.ref),
        aside=datasets.list_quarantine(store, dataset=name, limit=ASIDE),
    )


@dataclass(frozen=True)
class Compared:
    """A column of two versions: what differs, in words, and both distributions."""

    name: str
    types: str
    change: str
    distance: float | None
    missing: str
    mean: str
    picture: str


def compared(request: Request) -> Response:
    """`/data/{name}/{version}/diff`: against the version before, or that of `with`; with `key` by row."""
    store, name, number_ = store_of(request), request.path_params["name"], request.path_params["version"]
    versions = datasets.list_versions(store, name)
    asked = request.query_params.get("with", "")
    earlier = int(asked) if asked.isdecimal() else max(number_ - 1, 1)
    key = [each.strip() for each in request.query_params.get("key", "").split(",") if each.strip()]
    found = datasets.diff(store, f"{name}@{earlier}", f"{name}@{number_}", key=key, examples=EXAMPLES)
    return render(
        request,
        "dataset_diff.html",
        title=f"{found.before.ref} and {found.after.ref}",
        crumbs=[("Data", "/data"), (name, f"/data/{name}"), (f"version {number_}", f"/data/{name}/{number_}")],
        crumb=f"against version {earlier}",
        data=found,
        found=found,
        versions=versions,
        columns=[column_of(each) for each in found.by_change[:COLUMNS]],
        key=", ".join(key),
        verdict=changes(found),
    )


def changes(found: DatasetDiff) -> tuple[str, str]:
    """What changed most, first."""
    named = [f"{each.name} {each.change}" for each in found.columns if each.change]
    apart = [each for each in found.by_change if (each.distance or 0) >= FLOOR]
    rows = found.rows
    by_key = (
        f"By {', '.join(rows.key)} {number(rows.added)} rows came, {number(rows.removed)} went, {number(rows.changed)} changed."
        if rows
        else ""
    )
    if named:
        return f"The columns differ: {', '.join(named[:5])}{' …' if len(named) > 5 else ''}.", by_key
    if apart:
        return (
            f"{apart[0].name} differs most:",
            f"its distributions are {number(apart[0].distance, 2)} apart, where 0 is the same and 1 nothing in common. {by_key}",
        )
    moved = [each for each in found.columns if each.change is None and _moved(each)]
    if moved:
        ends = [_mean(each) for each in (moved[0].before, moved[0].after)]
        return f"{moved[0].name} moved:", f"it has {ends[1]} now, and had {ends[0]}. {by_key}"
    return (
        "The columns are the same, and so are their distributions, nearly." if found.files else "Both are the same."
    ), by_key


def _moved(column: ColumnDiff) -> bool:
    """Whether times begin or end elsewhere: they have no distance."""
    ends = [(each.get("min"), each.get("max")) for each in (column.before, column.after)]
    return "mean" not in column.after and ends[0] != ends[1]


def column_of(column: ColumnDiff) -> Compared:
    """A line, with the distributions drawn in the bins of the first."""

    def both(show: Callable[[dict[str, Any]], str]) -> str:
        texts = [show(each) for each in (column.before, column.after) if each]
        return texts[0] if len(set(texts)) == 1 else " → ".join(texts)

    types = [each for each in (column.type_before, column.type_after) if each]
    label = f"distributions of {column.name} in both versions"
    picture = ""
    if column.distance is not None and "histogram" in column.before and "histogram" in column.after:
        edges = column.before["histogram"]["edges"]
        if len(edges) > 2 and edges[-1] > edges[-2]:
            counts = [each["histogram"]["counts"] for each in (column.before, column.after)]
            picture = matrix.density(edges, *counts, label=label, name="after", height=HEIGHT)
        else:
            names = ["less", *(number(value) for value in edges[:-1] or edges), "more"]
            counts = [binned(each) for each in (column.before, column.after)]
            shown = [
                at for at, name in enumerate(names) if name not in ("less", "more") or counts[0][at] + counts[1][at]
            ]
            counts = [[each[at] for at in shown] for each in counts]
            picture = matrix.levels(
                [names[at] for at in shown], *counts, label=label, height=HEIGHT, room=ROOM, ordered=True
            )
    elif "over_time" in column.before:
        edges = column.before["over_time"]["edges"]
        counts = [each["over_time"]["counts"] for each in (column.before, column.after)]
        ends = day(int(edges[0])), day(int(edges[-1]))
        picture = matrix.density(edges, *counts, label=label, name="after", height=HEIGHT, ends=ends)
    elif column.distance is not None and "top" in column.before and "top" in column.after:
        names = [str(level) for level, _ in column.before["top"]]
        counts = [[count for _, count in each["top"]] for each in (column.before, column.after)]
        if any(rest := [each["other"] for each in (column.before, column.after)]):
            names, counts = [*names, "others"], [[*some, more] for some, more in zip(counts, rest, strict=True)]
        picture = matrix.levels(names, *counts, label=label, height=HEIGHT, room=ROOM)
    mean = both(_mean)
    return Compared(
        column.name,
        " → ".join(dict.fromkeys(types)),
        column.change or "",
        column.distance,
        both(missing_of),
        mean,
        picture,
    )


def _mean(profile: dict[str, Any]) -> str:
    """The mean of numbers; of times, which have none, from when to when."""
    if profile.get("mean") is not None:
        return number(profile["mean"])
    return f"{day(profile['min'])} – {day(profile['max'])}" if "min" in profile else ""


def line(name: str, kind: str, profile: dict[str, Any]) -> Line:
    """One row of the profile; times are told as dates."""
    time = kind.startswith(("timestamp", "date"))

    def show(value: float) -> str:
        return day(int(value)) if time else number(value)

    low, high = profile.get("min"), profile.get("max")
    shape = ""
    if "histogram" in profile:
        found = profile["histogram"]
        shape = charts.histogram(found["edges"], found["counts"], label=f"distribution of {name}")
    elif "top" in profile:
        shape = tops(profile)
    return Line(
        name,
        kind,
        missing_of(profile),
        bool(profile.get("null")),
        show(low) if low is not None else "",
        show(high) if high is not None else "",
        number(profile["mean"]) if profile.get("mean") is not None else "",
        number(profile["sd"]) if profile.get("sd") is not None else "",
        shape,
    )


def missing_of(profile: dict[str, Any]) -> str:
    """The share of missing values."""
    n, missing = profile.get("n"), profile.get("null")
    return percent(missing / n) if n and missing else "0"


def tops(profile: dict[str, Any]) -> str:
    """The most frequent levels as text."""
    from markupsafe import escape

    n = profile.get("n") or 1
    if not profile["top"] or profile["top"][0][1] / n < 0.02:
        return "many levels, none frequent"
    shown = [f"{str(level)[:16]} {percent(count / n)}" for level, count in profile["top"][:2]]
    more = len(profile["top"]) - len(shown) + bool(profile.get("other"))
    return str(escape(", ".join(shown) + (" …" if more else "")))


def verdict(version: DatasetVersion) -> tuple[str, str]:
    """Whether values are missing, first."""
    bad = {name: p["null"] for name, p in version.profile.items() if p.get("null")}
    span = (
        f" From {day(version.time_min)} to {day(version.time_max)} in {version.time_column}."
        if version.time_min is not None
        else ""
    )
    if not version.schema:
        return f"{version.parts} files.", "They are kept as they are; nothing is known of their columns."
    if not bad:
        return "No value is missing.", span.strip()
    worst = max(bad, key=lambda name: bad[name])
    what = f"{len(bad)} of {len(version.schema)} columns have missing values"
    return f"{what},", f"most in {worst}: {percent(bad[worst] / (version.profile[worst]['n'] or 1))}.{span}"


def source(version: DatasetVersion) -> list[tuple[str, str]]:
    """Where it came from, in words."""
    words = {"since": "from", "until": "before", "appends": "appends to", "entry": "code", "paths": "files"}
    told = {"path", "kind"} if version.source.get("paths") else set()
    out = []
    for key, value in version.source.items():
        if value is None or key == "job" or key in told:
            continue
        text = day(value) if key in ("since", "until") and isinstance(value, int) else str(value)
        if key == "paths":
            text = ", ".join(value)
        out.append((words.get(key, key), text))
    return out


def used_by(store: Store, ref: str) -> list[tuple[str, str, str]]:
    """What was made from it: words and address."""
    found = lineage.trace(store, f"dataset:{ref}", direction="down").of("run", "version")
    return [(node.kind, node.name, href(node)) for node in found if not node.edge]


ROUTES = [
    ("/data", listed, ["GET"]),
    ("/data/{name}", one, ["GET"]),
    ("/data/{name}/{version:int}", one, ["GET"]),
    ("/data/{name}/{version:int}/diff", compared, ["GET"]),
]
