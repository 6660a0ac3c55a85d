"""Jobs: what waits, runs or has ended; one with its log; cancel."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import jobs
from stead.jobs import ENDED, Job
from stead.runtime.clock import now_ms
from stead.web import live
from stead.web.frame import back, fragment, need, render, store_of

PAGE = 100
LOG_CHARS = 30_000
"""The log's end that a page shows."""
CHIPS = {"queued": "idle", "running": "active", "succeeded": "ok", "failed": "bad", "cancelled": "warn"}


def listed(request: Request) -> Response:
    """`/jobs`"""
    store, asked = store_of(request), request.query_params
    model, state = asked.get("model") or None, asked.get("state") or None
    under_way = [job for job in jobs.open_jobs(store, model=model) if state in (None, job.state)]
    newest = jobs.list_jobs(store, model=model, state=state, limit=PAGE)
    ended = [job for job in newest if job.state in ENDED]
    return render(
        request,
        "jobs.html",
        title="Jobs",
        data={"open": under_way, "ended": ended},
        under_way=under_way,
        ended=ended,
        agent=jobs.agent_alive(store),
        failed=sum(job.state == "failed" for job in ended),
        chips=CHIPS,
        model=model,
        state=state,
        states=list(CHIPS),
        took={job.id: took_of(job) for job in [*under_way, *ended]},
    )


def one(request: Request) -> Response:
    """`/jobs/{id}`"""
    store = store_of(request)
    job = jobs.get_job(store, request.path_params["job_id"])
    log = "".join(text for _, _, text in jobs.job_log(store, job.id))
    return render(
        request,
        "job.html",
        title=f"{job.kind} {job.model or ''}".strip(),
        crumbs=[("Jobs", "/jobs")],
        crumb=job.id[-8:],
        data={"job": job, "log": log},
        job=job,
        chips=CHIPS,
        under_way=job.state not in ENDED,
        took=took_of(job),
        log=log[-LOG_CHARS:],
        facts=facts(job),
        links=links(job),
        agent=jobs.agent_alive(store),
    )


def took_of(job: Job) -> int | None:
    """Milliseconds from its last start to its end, or until now."""
    if job.started_at is None:
        return None
    return (job.ended_at or now_ms()) - job.started_at


def facts(job: Job) -> list[tuple[str, str]]:
    """What it was asked to do and what came of it, as name and text."""
    payload = {k: v for k, v in job.payload.items() if k != "spec" and v is not None}
    return [(name, _text(value)) for name, value in [*payload.items(), *((job.result or {}).items())]]


def links(job: Job) -> list[tuple[str, str]]:
    """Pages about what it did."""
    result, out = job.result or {}, []
    deployment = job.payload.get("deployment")
    if deployment:
        out.append((f"deployment {deployment}", f"/deployments/{deployment}"))
    if result.get("run_id"):
        out.append((f"run {result['run_id'][-8:]}", f"/runs/{result['run_id']}"))
    if job.kind == "train" and result.get("version"):
        out.append((f"{job.model} v{result['version']}", f"/models/{job.model}/versions/{result['version']}"))
    if job.kind == "ingest" and result.get("version"):
        out.append((f"{result['dataset']}@{result['version']}", f"/data/{result['dataset']}/{result['version']}"))
    return out


def follow(request: Request) -> Response:
    """`/jobs/{id}/live`: state and log as they come."""
    store, job_id = store_of(request), request.path_params["job_id"]
    jobs.get_job(store, job_id)
    seen: dict[str, Any] = {"log": 0, "now": None}

    def look() -> tuple[live.Events, bool]:
        job = jobs.get_job(store, job_id)
        pieces = jobs.job_log(store, job_id, after=seen["log"])
        events = []
        if pieces:
            seen["log"] = pieces[-1][0]
            text = "".join(t for _, _, t in jobs.job_log(store, job_id))[-LOG_CHARS:]
            events.append(("log", fragment("_log.html", log=text)))
        now = (job.state, job.progress)
        if now != seen["now"]:
            seen["now"] = now
            events.append(("state", fragment("_job_state.html", job=job, chips=CHIPS)))
        return events, job.state in ENDED

    return live.stream(request, look)


async def cancel(request: Request) -> Response:
    """`POST /jobs/{id}/cancel`"""
    need(request, "write")
    job_id = request.path_params["job_id"]
    await run_in_threadpool(jobs.cancel_job, store_of(request), job_id)
    return back(request, f"/jobs/{job_id}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()[:300]


ROUTES = [
    ("/jobs", listed, ["GET"]),
    ("/jobs/{job_id}", one, ["GET"]),
    ("/jobs/{job_id}/live", follow, ["GET"]),
    ("/jobs/{job_id}/cancel", cancel, ["POST"]),
]
