"""One run: what it scored, its curves (live while it runs), from which data, code and environment, what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from stead import environments, jobs, models, runs
from stead.config.units import number
from stead.errors import NotFound
from stead.pipelines import Rerun
from stead.runs import Run
from stead.runtime import typed
from stead.runtime.clock import now_ms
from stead.store import Store
from stead.web import curves, live
from stead.web.frame import fragment, render, store_of
from stead.web.runs import CHIPS
from stead.web.version import AGAIN

MOST_CURVES = 30
CONSOLE_CHARS = 12_000
"""The console's end that a page shows."""


@dataclass(frozen=True)
class Figure:
    """A curve of the page."""

    key: str
    unit: str
    svg: str
    series: str
    colour: str


def one(request: Request) -> Response:
    """`/runs/{id}`"""
    store = store_of(request)
    run = runs.get_run(store, request.path_params["run_id"])
    if run.id != request.path_params["run_id"]:
        return RedirectResponse(f"/runs/{run.id}", status_code=303)
    how = curves.how_of(request)
    text = console(store, run)
    job = job_of(store, run)
    log = jobs.job_log(store, job.id) if job else []
    return render(
        request,
        "run.html",
        title=f"{run.id[-8:]} {run.name}",
        crumbs=[("Runs", "/runs"), (run.experiment, "/runs?project=" + quote(run.experiment))],
        crumb=run.id[-8:],
        data={"run": run, "artifacts": runs.list_artifacts(store, run.id)},
        run=run,
        chip=CHIPS[run.status],
        under_way=run.status == "running",
        took=(run.ended_at or now_ms()) - run.started_at,
        became=became(store, run.id),
        figures=figures(store, run, how),
        how=how,
        metrics=metrics(run),
        artifacts=runs.list_artifacts(store, run.id),
        environment=environments.get(store, run.environment) if run.environment else None,
        git=run.source.get("git") or {},
        source=plain(run.source),
        parent=run.parent_id,
        console=text,
        job=job,
        rerun=typed.convert(job.result, Rerun) if job and job.kind == "rerun" and job.result else None,
        verdict_chips=AGAIN,
        log="".join(piece for _, _, piece in log)[-CONSOLE_CHARS:],
    )


def figures(store: Store, run: Run, how: curves.How) -> list[Figure]:
    """A curve for each metric with more than one point; measurements of the machine come last, in grey."""
    keys = sorted(
        (key for key, summary in run.metrics.items() if summary.n > 1),
        key=lambda key: (key.startswith("system/"), key),
    )
    out = []
    for key in keys[:MOST_CURVES]:
        machine = key.startswith("system/")
        used = curves.How("time") if machine else how
        found = curves.curves(store, [run], key, used, points=150)
        name, unit = key.removeprefix("system/"), "seconds since it began" if machine else ""
        out.append(
            Figure(
                name,
                unit,
                curves.chart(found, key, used, grey=machine),
                curves.address([run.id], key, used),
                "c0" if machine else "c1",
            )
        )
    return out


def metrics(run: Run) -> list[tuple[str, str, str, str, int]]:
    """Name, last, least and greatest with their steps, number of points."""
    out = []
    for key, s in sorted(run.metrics.items(), key=lambda item: (item[0].startswith("system/"), item[0])):
        low = f"{number(s.min)} @ {s.min_step}" if s.n > 1 and s.min is not None else ""
        high = f"{number(s.max)} @ {s.max_step}" if s.n > 1 and s.max is not None else ""
        last = "NaN" if s.last is None or math.isnan(s.last) else number(s.last)
        out.append((key, last, low, high, s.n))
    return out


def became(store: Store, run_id: str) -> list[str]:
    """Model versions that this run made: `demand@3`."""
    made = [edge.target for edge in models.arrows_of(store, [f"run:{run_id}"]) if edge.source == f"run:{run_id}"]
    return [target.removeprefix("version:") for target in made if target.startswith("version:")]


def job_of(store: Store, run: Run) -> jobs.Job | None:
    """The job that did it, where the queue still knows it."""
    try:
        return jobs.get_job(store, run.job_id) if run.job_id else None
    except NotFound:
        return None


def console(store: Store, run: Run) -> str:
    """The end of what the run printed."""
    text, after = "", 0
    while True:
        found = runs.console(store, run.id, after=after)
        if not found.text or found.after == after:
            return text
        text, after = (text + found.text)[-CONSOLE_CHARS:], found.after


def plain(source: dict[str, Any]) -> list[tuple[str, str]]:
    """What else the run said of where it came from, besides git."""
    return [
        (name, value if isinstance(value, str) else msgspec.json.encode(value).decode()[:300])
        for name, value in source.items()
        if name != "git" and value not in (None, {}, [], "")
    ]


def follow(request: Request) -> Response:
    """`/runs/{id}/live`: metrics, curves and console as they come."""
    store = store_of(request)
    run_id, how = request.path_params["run_id"], curves.how_of(request)
    runs.get_run(store, run_id)
    seen: dict[str, Run | None] = {"run": None}

    def look() -> tuple[live.Events, bool]:
        run = runs.get_run(store, run_id)
        ended = run.status != "running"
        if run == seen["run"] and not ended:
            return [], False
        seen["run"] = run
        values = {"figures": figures(store, run, how), "metrics": metrics(run), "console": console(store, run)}
        state = fragment("_run_state.html", run=run, chip=CHIPS[run.status])
        return [("now", fragment("_run_now.html", how=how, **values)), ("state", state)], ended

    return live.stream(request, look)


def download(request: Request) -> Response:
    """`/runs/{id}/artifacts/{path}`: always as a file to keep, never shown as a page."""
    store = store_of(request)
    found = runs.get_artifact(store, request.path_params["run_id"], request.path_params["path"])
    name = quote(found.path.rpartition("/")[2], safe="")
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "content-length": str(found.bytes),
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(store.blobs.stream(found.digest), media_type="application/octet-stream", headers=headers)


ROUTES = [
    ("/runs/{run_id}", one, ["GET"]),
    ("/runs/{run_id}/live", follow, ["GET"]),
    ("/runs/{run_id}/artifacts/{path:path}", download, ["GET"]),
]
