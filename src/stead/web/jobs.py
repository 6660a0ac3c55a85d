"""Jobs: what runs, waits or has ended, and what the clock brings next; one job with its log; cancel, retry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import jobs, policies
from stead.api import tokens
from stead.config.units import took
from stead.jobs import ENDED, Job
from stead.policies import Retraining, Schedule
from stead.runtime.clock import now_ms
from stead.store import Store
from stead.web import live
from stead.web.fleet import DAY_MS
from stead.web.frame import back, fragment, here, need, person, render, store_of, when

PAGE = 100
LOG_CHARS = 30_000
"""The log's end that a page shows."""
LANES = (
    ("deploy",),
    ("train", "ingest", "compare", "backtest", "reproduce", "rerun", "vendor"),
    ("accelerate", "drill"),
)
"""Kinds that wait for one another, as an agent takes them."""
CHIPS = {"queued": "idle", "running": "active", "succeeded": "ok", "failed": "bad", "cancelled": "warn"}


@dataclass(frozen=True)
class Row:
    """One job of a table."""

    job: Job
    by: str
    """Who asked for it, or what: a person, a schedule, a signal."""
    href: str
    """The page of what asked for it."""
    took: int | None
    usual: int | None
    """Milliseconds that the last ones like it took, at the median."""
    part: int | None
    """Per cent of it that are done."""
    waits: str = ""


def listed(request: Request) -> Response:
    """`/jobs`"""
    store, asked = store_of(request), request.query_params
    model, state = asked.get("model") or None, asked.get("state") or None
    found = jobs.list_jobs(store, model=model, state=state, limit=PAGE)
    seen = now_of(store, model, state)
    failed = jobs.list_jobs(store, model=model, state="failed", limit=PAGE)
    lately = [job for job in failed if job.created_at > now_ms() - 30 * DAY_MS] if state is None else []
    about = asking(store, [*found, *lately])
    return render(
        request,
        "jobs.html",
        title="Jobs",
        data={
            "running": [row.job for row in seen["running"]],
            "waiting": [row.job for row in seen["waiting"]],
            "ended": [job for job in found if job.state in ENDED],
            "schedules": seen["schedules"],
            "agents": seen["agents"],
        },
        failures=[row_of(job, about, {}) for job in lately[:20]],
        ended=[row_of(job, about, {}) for job in found if job.state in ENDED],
        model=model,
        state=state,
        states=list(CHIPS),
        stream=here(request, format=None).replace("/jobs", "/jobs/live", 1),
        **seen,
    )


def now_of(store: Store, model: str | None, state: str | None) -> dict[str, Any]:
    """What runs, what waits and what the clock brings next."""
    under_way = [job for job in jobs.open_jobs(store, model=model) if state in (None, job.state)]
    about = asking(store, under_way)
    usual = usually(jobs.list_jobs(store, model=model, state="succeeded", limit=PAGE)) if under_way else {}
    rows = [row_of(job, about, usual) for job in under_way]
    running = [row for row in rows if row.job.state == "running"]
    queued = [row for row in rows if row.job.state == "queued"]
    queued.sort(key=lambda row: (-row.job.priority, row.job.run_after, row.job.id))
    agents = jobs.list_agents(store)
    waiting = [replace(row, waits=waits_for(row.job, bool(agents), [r.job for r in running])) for row in queued]
    schedules = policies.list_schedules(store, model=model)
    week = [
        job
        for job in jobs.list_jobs(store, model=model, state="failed", limit=PAGE)
        if job.created_at > now_ms() - 7 * DAY_MS
    ]
    return {
        "running": running,
        "waiting": waiting,
        "schedules": schedules,
        "agents": agents,
        "week": len(week),
        "verdict": sentence(running, waiting, len(week), schedules, bool(agents)),
        "chips": CHIPS,
        "now": now_ms(),
    }


def sentence(
    running: list[Row], waiting: list[Row], failed: int, schedules: list[Schedule], agents: bool
) -> tuple[str, str]:
    """The answer first: what runs and waits, whether anything failed for good, what comes next."""
    bold = f"{_count(len(running), 'job runs', 'jobs run')}, {len(waiting) or 'none'} {'waits' if len(waiting) <= 1 else 'wait'}."
    if not agents:
        bold = f"No agent runs{', so nothing is done' if waiting else ''}: stead up."
    said = f"{_count(failed, 'job', 'jobs')} failed for good in 7 days. " if failed else "Nothing failed in 7 days. "
    broken = [each for each in schedules if each.state == "failed"]
    if broken:
        said += f"The last {broken[0].kind} of {broken[0].model} by schedule failed. "
    coming = next((each for each in schedules if each.next_fire is not None), None)
    if coming is not None and coming.next_fire is not None:
        said += f"Next by the clock: {coming.kind} {coming.model}, {in_time(coming.next_fire - coming.now)}."
    return bold, said


def _count(number: int, one: str, many: str) -> str:
    return f"{number or 'No'} {one if number <= 1 else many}"


def in_time(ms: int) -> str:
    """
    >>> in_time(90_000), in_time(5 * 3_600_000), in_time(3 * 86_400_000)
    ('in 1 min 30 s', 'in 5 h 0 min', 'in 3 days')
    """
    if ms <= 0:
        return "now"
    return f"in {ms // DAY_MS} days" if ms >= 2 * DAY_MS else f"in {took(ms)}"


def asking(store: Store, found: list[Job]) -> dict[str, Retraining]:
    """The retrainings that some of the jobs belong to."""
    if not any(job.kind == "train" for job in found):
        return {}
    return {each.job: each for each in policies.list_retrainings(store, limit=500) if each.job}


def usually(done: list[Job]) -> dict[tuple[str, str | None], int]:
    """By kind and model what jobs that ended well took, at the median."""
    times: dict[tuple[str, str | None], list[int]] = {}
    for job in done:
        if job.started_at is not None and job.ended_at is not None:
            times.setdefault((job.kind, job.model), []).append(job.ended_at - job.started_at)
    return {key: int(median(found)) for key, found in times.items()}


def row_of(job: Job, about: dict[str, Retraining], usual: dict[tuple[str, str | None], int]) -> Row:
    by, href = person(job.requested_by), ""
    if (retraining := about.get(job.id)) is not None:
        by, href = f"retraining {retraining.id}, {retraining.trigger}", f"/approvals/{retraining.id}"
    elif job.kind == "deploy" and job.payload.get("deployment"):
        by, href = f"deployment {job.payload['deployment']}", f"/deployments/{job.payload['deployment']}"
    elif job.kind == "ingest" and job.requested_by == "agent":
        by = "schedule"
    progress = job.progress
    part = round(100 * progress.done / progress.total) if progress is not None and progress.total else None
    return Row(job, by, href, took_of(job), usual.get((job.kind, job.model)), part)


def waits_for(job: Job, agents: bool, running: list[Job]) -> str:
    if job.run_after > now_ms() + 1000:
        return f"tries again {in_time(job.run_after - now_ms())}"
    if not agents:
        return "an agent: stead up"
    lane = next((kinds for kinds in LANES if job.kind in kinds), ())
    ahead = next((each for each in running if each.kind in lane), None)
    return f"{ahead.kind} {ahead.model or ''} that runs".replace("  ", " ") if ahead is not None else "its turn"


def follow_all(request: Request) -> Response:
    """`/jobs/live`: what runs, waits and comes next, anew whenever it changes."""
    store, asked = store_of(request), request.query_params
    model, state = asked.get("model") or None, asked.get("state") or None
    role = request.state.role
    shown: list[Any] = [None]

    def look() -> tuple[live.Events, bool]:
        seen = now_of(store, model, state)
        jobs_now = [
            (row.job.id, row.job.state, row.job.progress, row.job.attempt, row.job.cancel_requested)
            for row in (*seen["running"], *seen["waiting"])
        ]
        fires = [(each.model, each.kind, each.next_fire, each.outcome, each.state) for each in seen["schedules"]]
        key = (jobs_now, fires, [agent.id for agent in seen["agents"]])
        if shown == [key]:
            return [], False
        shown[:] = [key]
        may_stop = tokens.ROLES.index(role) >= tokens.ROLES.index("write")
        text = fragment("_jobs_now.html", may=lambda needed: may_stop, state=state, **seen)
        return [("jobs", text)], False

    return live.stream(request, look)


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
        took_ms=took_of(job),
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
    both = payload | {k: v for k, v in (job.result or {}).items() if v is not None}
    return [(name, _text(name, value)) for name, value in both.items()]


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


async def retry(request: Request) -> Response:
    """`POST /jobs/{id}/retry`"""
    need(request, "write")
    again = await run_in_threadpool(jobs.retry_job, store_of(request), request.path_params["job_id"])
    return back(request, f"/jobs/{again.id}")


def _text(name: str, value: Any) -> str:
    if name in ("since", "until") and isinstance(value, int):
        return when(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()[:300]


ROUTES = [
    ("/jobs", listed, ["GET"]),
    ("/jobs/live", follow_all, ["GET"]),
    ("/jobs/{job_id}", one, ["GET"]),
    ("/jobs/{job_id}/live", follow, ["GET"]),
    ("/jobs/{job_id}/cancel", cancel, ["POST"]),
    ("/jobs/{job_id}/retry", retry, ["POST"]),
]
