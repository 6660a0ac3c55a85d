"""The queue: enqueue, look, cancel; and its keeper's side: claim, beat, finish."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import sqlalchemy as sa

from stead.errors import Conflict, NotFound
from stead.jobs.clocks import held_at, unsettle_clock
from stead.jobs.tables import agents, job_logs, jobs
from stead.jobs.types import ENDED, Agent, Job, Progress
from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.store import Store, checked_limit, from_row

LEASE_MS = 10_000
BACKOFF_S = (1, 5, 25, 120, 600)
AGENT_ALIVE_MS = 10_000


class Wish(TypedDict, total=False):
    """How a job is to be done."""

    model: str | None
    key: str | None
    """Where a job with the same key has not ended yet, it is that one."""
    run_after: int
    priority: int
    max_attempts: int
    timeout_s: int
    event_time: int | None


def enqueue(store: Store, kind: str, payload: dict[str, Any], **wish: Unpack[Wish]) -> Job:
    """Put a job into the queue. Where one with the same `key` has not ended yet, that one is returned instead."""
    with store.db.write("jobs.enqueue") as tx:
        return enqueue_in(tx, kind, payload, actor=store.actor, **wish)


def enqueue_in(tx: sa.Connection, kind: str, payload: dict[str, Any], *, actor: str, **wish: Unpack[Wish]) -> Job:
    """`enqueue` in the transaction of the change that asks for it."""
    key = wish.get("key")
    if key is not None:
        open_one = sa.select(jobs).where(jobs.c.key == key, jobs.c.state.not_in(ENDED))
        if (row := tx.execute(open_one).mappings().first()) is not None:
            return from_row(row, Job)
    now = now_ms()
    values = {"run_after": now, "priority": 0, "max_attempts": 3, "timeout_s": 3600, **wish} | {
        "id": new_id(),
        "kind": kind,
        "payload": payload,
        "state": "queued",
        "attempt": 0,
        "fence": 0,
        "cancel_requested": False,
        "requested_by": actor,
        "created_at": now,
    }
    tx.execute(sa.insert(jobs).values(values))
    if wish.get("event_time") is not None:
        unsettle_clock(tx, wish.get("model") or "")
    return from_row(tx.execute(sa.select(jobs).where(jobs.c.id == values["id"])).mappings().one(), Job)


def get_job(store: Store, job_id: str) -> Job:
    """One job, by its id or the unique beginning of it. Raises NotFound (`job-unknown`)."""
    with store.db.read() as tx:
        rows = (
            tx.execute(sa.select(jobs).where(jobs.c.id.startswith(job_id, autoescape=True)).limit(2)).mappings().all()
        )
    if len(rows) != 1:
        what = "no job" if not rows else "more than one job"
        raise NotFound("job-unknown", f"{what} has an id that begins with {job_id!r}", hint="stead jobs list")
    return from_row(rows[0], Job)


def list_jobs(
    store: Store, *, model: str | None = None, kind: str | None = None, state: str | None = None, limit: int = 50
) -> list[Job]:
    """Jobs, newest first."""
    query = sa.select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(checked_limit(limit))
    for column, value in ((jobs.c.model, model), (jobs.c.kind, kind), (jobs.c.state, state)):
        if value is not None:
            query = query.where(column == value)
    with store.db.read() as tx:
        return [from_row(row, Job) for row in tx.execute(query).mappings()]


def open_jobs(
    store: Store, *, model: str | None = None, kind: str | None = None, timed: bool | None = None
) -> list[Job]:
    """Jobs that have not ended, oldest first; `timed` asks for those (not) triggered at an event time."""
    query = sa.select(jobs).where(jobs.c.state.not_in(ENDED)).order_by(jobs.c.created_at, jobs.c.id)
    if model is not None:
        query = query.where(jobs.c.model == model)
    if kind is not None:
        query = query.where(jobs.c.kind == kind)
    if timed is not None:
        query = query.where(jobs.c.event_time.is_not(None) if timed else jobs.c.event_time.is_(None))
    with store.db.read() as tx:
        return [from_row(row, Job) for row in tx.execute(query).mappings()]


def open_in(tx: sa.Connection, model: str, kinds: Sequence[str]) -> Job | None:
    """The oldest job of a model of these kinds that has not ended, in the caller's transaction."""
    query = sa.select(jobs).where(jobs.c.model == model, jobs.c.kind.in_(kinds), jobs.c.state.not_in(ENDED))
    row = tx.execute(query.order_by(jobs.c.created_at, jobs.c.id).limit(1)).mappings().first()
    return None if row is None else from_row(row, Job)


def list_agents(store: Store) -> list[Agent]:
    """Agents that take jobs, as they last told."""
    query = sa.select(agents).where(agents.c.beat_at > now_ms() - AGENT_ALIVE_MS).order_by(agents.c.id)
    with store.db.read() as tx:
        return [from_row(row, Agent) for row in tx.execute(query).mappings()]


def cancel_job(store: Store, job_id: str) -> Job:
    """Ask a job to stop: one that waits ends at once, one that runs is stopped by its keeper within seconds.

    Raises NotFound, Conflict (`job-ended`).
    """
    job = get_job(store, job_id)
    with store.db.write("jobs.cancel") as tx:
        now = now_ms()
        waiting = sa.update(jobs).where(jobs.c.id == job.id, jobs.c.state == "queued")
        stopped = tx.execute(waiting.values(state="cancelled", cancel_requested=True, ended_at=now)).rowcount
        running = sa.update(jobs).where(jobs.c.id == job.id, jobs.c.state == "running")
        if not stopped and not tx.execute(running.values(cancel_requested=True)).rowcount:
            raise Conflict("job-ended", f"job {job.id[-12:]} has ended: {get_job(store, job.id).state}")
    return get_job(store, job.id)


def retry_job(store: Store, job_id: str) -> Job:
    """Do a job that failed or was cancelled again, as a new one; where it has one of its kind under way already, that one.

    Raises NotFound, Conflict (`job-not-retried`): it has not ended or ended well, or is a deployment's, which has ended with it.
    """
    job = get_job(store, job_id)
    if job.state not in ("failed", "cancelled"):
        raise Conflict("job-not-retried", f"job {job.id[-12:]} is {job.state}", hint=f"stead jobs show {job.id[-12:]}")
    if job.kind == "deploy":
        raise Conflict("job-not-retried", "its deployment has ended with it", hint=f"stead deploy {job.model}")
    return enqueue(
        store, job.kind, job.payload, model=job.model, key=job.key, priority=job.priority,
        max_attempts=job.max_attempts, timeout_s=job.timeout_s, event_time=held_at(store, job.model or ""),
    )  # fmt: skip


def job_log(store: Store, job_id: str, *, after: int = 0) -> list[tuple[int, int, str]]:
    """Pieces of a job's log after piece `after`: (number, time, text). Ask again with the last number to follow."""
    query = sa.select(job_logs).where(job_logs.c.job_id == job_id, job_logs.c.seq > after).order_by(job_logs.c.seq)
    with store.db.read() as tx:
        return [(row["seq"], row["at"], row["text"]) for row in tx.execute(query.limit(1000)).mappings()]


# The keeper's side


def claim(
    store: Store, owner: str, kinds: list[str], *, job_id: str | None = None, lease_ms: int = LEASE_MS
) -> Job | None:
    """Take the most urgent due job of these kinds, or one whose keeper stopped beating; None where there is none.

    The fence grows with every claim: a former keeper's writes fail from then on.
    """
    now = now_ms()
    due = sa.or_(
        sa.and_(jobs.c.state == "queued", jobs.c.run_after <= now),
        sa.and_(jobs.c.state == "running", jobs.c.lease_until < now),
    )
    query = sa.select(jobs).where(due, jobs.c.kind.in_(kinds))
    if job_id is not None:
        query = query.where(jobs.c.id == job_id)
    query = query.order_by(jobs.c.priority.desc(), jobs.c.run_after, jobs.c.id).limit(1)
    with store.db.read() as tx:
        if tx.execute(query).first() is None:
            return None  # the common case takes no write lock
    with store.db.write("jobs.claim") as tx:
        if not store.db.is_sqlite:
            query = query.with_for_update(skip_locked=True)
        row = tx.execute(query).mappings().first()
        if row is None:
            return None
        job = from_row(row, Job)
        if job.cancel_requested:
            tx.execute(
                sa.update(jobs).where(jobs.c.id == job.id).values(state="cancelled", ended_at=now, fence=job.fence + 1)
            )
            return None
        if job.state == "running" and job.attempt >= job.max_attempts:
            error = {
                "code": "job-lost",
                "message": f"its process died {job.attempt} times",
                "hint": f"stead jobs log {job.id[-12:]}",
            }
            ended = {"state": "failed", "ended_at": now, "fence": job.fence + 1, "error": error, "lease_owner": None}
            tx.execute(sa.update(jobs).where(jobs.c.id == job.id).values(ended))
            return None
        claimed = {
            "state": "running",
            "lease_owner": owner,
            "lease_until": now + lease_ms,
            "fence": job.fence + 1,
            "attempt": job.attempt + 1,
            "started_at": job.started_at or now,
        }
        tx.execute(sa.update(jobs).where(jobs.c.id == job.id).values(claimed))
        return from_row(tx.execute(sa.select(jobs).where(jobs.c.id == job.id)).mappings().one(), Job)


class LeaseLost(Exception):
    """Another keeper has the job now, or it was cancelled from outside: stop, and write nothing more."""


class JobCancelled(Exception):
    """Somebody asked for the job to stop."""


def check_fence(tx: sa.Connection, job_id: str, fence: int) -> None:
    """In a transaction: raise LeaseLost unless this claim of the job still holds. Locks the job's row."""
    query = sa.select(jobs.c.fence, jobs.c.state).where(jobs.c.id == job_id)
    if tx.dialect.name != "sqlite":
        query = query.with_for_update()
    row = tx.execute(query).first()
    if row is None or row.fence != fence or row.state != "running":
        raise LeaseLost(f"job {job_id} is kept by another process now")


def beat(store: Store, job: Job, *, progress: Progress | None = None, text: str = "", lease_ms: int = LEASE_MS) -> bool:
    """Prolong the lease, tell progress, add to the log; returns whether somebody asked to cancel. Raises LeaseLost."""
    with store.db.write("jobs.beat") as tx:
        check_fence(tx, job.id, job.fence)
        values: dict[str, Any] = {"lease_until": now_ms() + lease_ms}
        if progress is not None:
            values["progress"] = {"doing": progress.doing, "done": progress.done, "total": progress.total}
        tx.execute(sa.update(jobs).where(jobs.c.id == job.id).values(values))
        if text:
            _log(tx, job.id, text)
        return bool(tx.execute(sa.select(jobs.c.cancel_requested).where(jobs.c.id == job.id)).scalar_one())


def finish(store: Store, job: Job, result: dict[str, Any]) -> None:
    """End a job well. Raises LeaseLost."""
    with store.db.write("jobs.finish") as tx:
        check_fence(tx, job.id, job.fence)
        finish_in(tx, job, result)


def finish_in(tx: sa.Connection, job: Job, result: dict[str, Any]) -> None:
    values = {
        "state": "succeeded",
        "result": result,
        "error": None,
        "ended_at": now_ms(),
        "lease_owner": None,
        "lease_until": None,
    }
    tx.execute(sa.update(jobs).where(jobs.c.id == job.id).values(values))


def give_up(store: Store, job: Job, error: dict[str, Any], *, retry: bool, cancelled: bool = False) -> None:
    """End a job badly, or queue it again after a while where `retry` and its attempts allow. Raises LeaseLost."""
    with store.db.write("jobs.give_up") as tx:
        check_fence(tx, job.id, job.fence)
        now = now_ms()
        values: dict[str, Any] = {"error": error, "lease_owner": None, "lease_until": None}
        text = error.get("message", "")
        if cancelled:
            values |= {"state": "cancelled", "ended_at": now}
        elif retry and job.attempt < job.max_attempts:
            wait = BACKOFF_S[min(job.attempt, len(BACKOFF_S)) - 1] * random.uniform(0.8, 1.2)
            values |= {"state": "queued", "run_after": now + int(wait * 1000)}
            text += f" (try {job.attempt} of {job.max_attempts}, the next in {max(1, round(wait))} s)"
        else:
            values |= {"state": "failed", "ended_at": now}
        tx.execute(sa.update(jobs).where(jobs.c.id == job.id).values(values))
        _log(tx, job.id, f"{text}\n")


def agent_beat(store: Store, agent: str, *, host: str, pid: int, turned_at: int | None = None) -> None:
    """Tell that an agent is alive, and when its loop last came around."""
    values = {"id": agent, "host": host, "pid": pid, "beat_at": now_ms(), "turned_at": turned_at}
    with store.db.write("jobs.agent_beat") as tx:
        store.db.upsert(tx, agents, values, ["id"])
        tx.execute(sa.delete(agents).where(agents.c.beat_at < now_ms() - 86_400_000))


def agent_gone(store: Store, agent: str) -> None:
    """Tell that an agent has ended."""
    with store.db.write("jobs.agent_beat") as tx:
        tx.execute(sa.delete(agents).where(agents.c.id == agent))


def loop_age(store: Store) -> float | None:
    """Seconds since the loop of some living agent last came around; None where none has."""
    turned = [agent.turned_at for agent in list_agents(store) if agent.turned_at is not None]
    return max(0.0, (now_ms() - max(turned)) / 1000) if turned else None


def agent_alive(store: Store) -> bool:
    """Whether some agent takes jobs now."""
    with store.db.read() as tx:
        return (
            tx.execute(sa.select(agents.c.id).where(agents.c.beat_at > now_ms() - AGENT_ALIVE_MS)).first() is not None
        )


def _log(tx: sa.Connection, job_id: str, text: str) -> None:
    last = tx.execute(sa.select(sa.func.max(job_logs.c.seq)).where(job_logs.c.job_id == job_id)).scalar() or 0
    tx.execute(sa.insert(job_logs).values(job_id=job_id, seq=last + 1, at=now_ms(), text=text.replace("\x00", "�")))
