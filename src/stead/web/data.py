"""Data: datasets, and one version with schema, profile, where it came from and who used it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from stead import datasets, models
from stead.config.units import number, percent
from stead.datasets import DatasetVersion
from stead.store import Store
from stead.web import charts
from stead.web.frame import day, render, store_of

ASIDE = 20
"""Batches in quarantine that the page lists."""


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
        lines=[line(column.name, column.type, version.profile.get(column.name, {})) for column in version.schema],
        source=source(version),
        verdict=verdict(version),
        used_by=used_by(store, version.ref),
        aside=datasets.list_quarantine(store, dataset=name, limit=ASIDE),
    )


def line(name: str, kind: str, profile: dict[str, Any]) -> Line:
    """One row of the profile; times are told as dates."""
    n, missing = profile.get("n") or 0, profile.get("null") or 0
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
        percent(missing / n) if n and missing else "0",
        bool(missing),
        show(low) if low is not None else "",
        show(high) if high is not None else "",
        number(profile["mean"]) if profile.get("mean") is not None else "",
        number(profile["sd"]) if profile.get("sd") is not None else "",
        shape,
    )


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
    words = {"since": "from", "until": "before", "appends": "appends to", "entry": "code"}
    out = []
    for key, value in version.source.items():
        if value is None or key == "job":
            continue
        text = day(value) if key in ("since", "until") and isinstance(value, int) else str(value)
        out.append((words.get(key, key), text))
    return out


def used_by(store: Store, ref: str) -> list[tuple[str, str, str]]:
    """What was made from it: words and address."""
    out = []
    for edge in models.lineage(store, f"dataset:{ref}"):
        kind, _, name = edge.target.partition(":")
        if edge.source == f"dataset:{ref}" and kind == "run":
            out.append(("run", name[-8:], f"/runs/{name}"))
        elif kind == "version":
            model, _, version = name.partition("@")
            out.append(("version", f"{model} v{version}", f"/models/{model}/versions/{version}"))
    return list(dict.fromkeys(out))


ROUTES = [("/data", listed, ["GET"]), ("/data/{name}", one, ["GET"]), ("/data/{name}/{version:int}", one, ["GET"])]
