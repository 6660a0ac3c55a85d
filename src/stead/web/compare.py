"""Runs side by side: curves over one another, parameters that differ, metrics."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stead import environments, runs
from stead.config.units import number
from stead.errors import NotFound
from stead.runs import Comparison, Run
from stead.store import Store
from stead.web import curves
from stead.web.frame import here, render, store_of


@dataclass(frozen=True)
class Line:
    """A row: a name and one text a run; `differs` marks those unlike the first."""

    name: str
    texts: list[str]
    differs: list[bool]


def compared(request: Request) -> Response:
    """`/compare?run=…&run=…`"""
    store, asked = store_of(request), request.query_params
    wanted = list(dict.fromkeys(asked.getlist("run")))
    if not wanted:
        return RedirectResponse("/runs", status_code=303)
    found = runs.get_runs(store, wanted)
    comparison = runs.compare(store, [run.id for run in found])
    how = curves.how_of(request)
    key = metric_of(asked.get("metric") or "", found)
    drawn = curves.curves(store, found[: curves.MOST], key, how) if key else []
    shown = [curve for curve in drawn if len(curve.x) > 1]
    return render(
        request,
        "compare.html",
        title=f"Compare {len(found)} runs" if len(found) != 1 else "One run",
        crumbs=[("Runs", "/runs")],
        crumb="Compare",
        data=comparison,
        runs=found,
        colours={run.id: curves.COLOURS[at % len(curves.COLOURS)] for at, run in enumerate(found)},
        verdict=verdict(found, key),
        metric=key,
        metrics=sorted({name for run in found for name in run.metrics}),
        how=how,
        whole=here(request, since=None, until=None) if (how.since, how.until) != (None, None) else "",
        chart=curves.chart(shown, key, how, height=300, labels=len(shown) <= 7) if shown else "",
        series=curves.address([run.id for run in found[: curves.MOST]], key, how) if shown else "",
        only_point=bool(drawn) and not shown,
        params=lines(comparison.params),
        tags=lines(comparison.tags),
        same=comparison.same,
        results=results(comparison),
        facts=lines(comparison.facts),
        packages=lines(packages(store, found)),
    )


def metric_of(wanted: str, found: list[Run]) -> str:
    """The metric asked for, else one that most runs have, judged on held-out rows by its name, with most points. Raises NotFound (`metric-unknown`)."""
    known: dict[str, tuple[bool, int, bool, int]] = {}
    for run in found:
        for key, summary in run.metrics.items():
            _, count, judged, points = known.get(key, (False, 0, "val" in key or "test" in key, 0))
            known[key] = (not key.startswith("system/"), count + 1, judged, points + summary.n)
    if wanted and wanted not in known:
        raise NotFound("metric-unknown", f"none of these runs has a metric {wanted!r}", hint="/runs")
    return wanted or max(sorted(known), key=lambda key: known[key], default="")


def verdict(found: list[Run], key: str) -> str:
    """Which run ends lowest and which highest; what is better nobody has told."""
    ends = [(summary.last, run) for run in found if (summary := run.metrics.get(key)) and summary.last is not None]
    if len(ends) < 2:
        return ""
    low, high = min(ends, key=lambda end: end[0]), max(ends, key=lambda end: end[0])
    if low[0] == high[0]:
        return f"{key} ends at {number(low[0])} in all of them."
    return (
        f"{key} ends lowest in {low[1].id[-8:]} ({number(low[0])}), highest in {high[1].id[-8:]} ({number(high[0])})."
    )


def lines(table: dict[str, list[str | None]]) -> list[Line]:
    return [
        Line(name, ["–" if v is None else v for v in values], [v != values[0] for v in values])
        for name, values in table.items()
    ]


def results(comparison: Comparison) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Metrics: for each run last, least, greatest."""
    return [
        (
            key,
            [
                ("–", "", "")
                if s is None
                else (number(s.last), *((number(s.min), number(s.max)) if s.n > 1 else ("", "")))
                for s in summaries
            ],
        )
        for key, summaries in comparison.metrics.items()
    ]


def packages(store: Store, found: list[Run]) -> dict[str, list[str | None]]:
    """Packages that differ between the runs' environments."""
    digests = list(dict.fromkeys(run.environment for run in found if run.environment))
    if len(digests) < 2:
        return {}
    place = {digest: at for at, digest in enumerate(digests)}
    return {
        difference.name: [difference.values[place[run.environment]] if run.environment else None for run in found]
        for difference in environments.compare(store, digests)
    }


ROUTES = [("/compare", compared, ["GET"]), *curves.ROUTES]
