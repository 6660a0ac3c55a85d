"""What the schedules of all models say: when they fire next, what they missed, what came of the last fire."""

from __future__ import annotations

import sqlalchemy as sa

from stead import jobs, models
from stead.errors import NotFound
from stead.policies import signals
from stead.policies.levels import frozen_in
from stead.policies.schedules import fire_after
from stead.policies.standing import find_standing
from stead.policies.tables import schedules, standing
from stead.policies.types import Schedule, Standing
from stead.store import Store
from stead.store.database import Row

KINDS = ("ingest", "train")


def list_schedules(store: Store, *, model: str | None = None) -> list[Schedule]:
    """Schedules of a model or of all that stead can train, the next to fire first. Raises NotFound (`model-unknown`)."""
    if model is not None:
        models.get_model(store, model)
    with store.db.read() as tx:
        query = sa.select(standing.c.model).order_by(standing.c.model)
        names = [model] if model is not None else list(tx.execute(query).scalars())
    found = [schedule for name in names for schedule in _of(store, name)]
    return sorted(found, key=lambda each: (each.next_fire is None, (each.next_fire or 0) - each.now, each.model))


def _of(store: Store, name: str) -> list[Schedule]:
    with store.db.read() as tx:
        handed = find_standing(tx, name)
        frozen = frozen_in(tx, name)
        rows = {
            row["kind"]: row for row in tx.execute(sa.select(schedules).where(schedules.c.model == name)).mappings()
        }
    if handed is None:
        return []
    try:
        level, now = models.get_model(store, name).level, jobs.model_now(store, name)
    except NotFound:  # its code was handed over before a first training
        return []
    stopped = frozen.said if frozen is not None else ""
    found = []
    for kind in KINDS:
        if cron := cron_of(handed, kind):
            off = stopped or off_at(handed, kind, level)
            found.append(_schedule(store, handed, kind, cron, off, rows.get(kind), now))
    return found


def cron_of(handed: Standing, kind: str) -> str:
    return handed.policy.ingest if kind == "ingest" else handed.policy.train


def off_at(handed: Standing, kind: str, level: str) -> str:
    """Why a schedule does not fire at a level; empty where it does."""
    if level == "record":
        return "at level record people act"
    if kind == "train" and "schedule" not in signals.triggers_of(handed, level):
        return f"at level {level} it is no trigger: {', '.join(signals.triggers_of(handed, level)) or 'none is'}"
    return ""


def _schedule(store: Store, handed: Standing, kind: str, cron: str, off: str, row: Row | None, now: int) -> Schedule:
    zone = handed.policy.time_zone
    stored = row is not None and (row["cron"], row["zone"]) == (cron, zone) and row["since"] <= now
    after = int(row["next_fire"]) if row is not None and stored else fire_after(cron, zone, now)
    job = None
    if row is not None and row["job"]:
        try:
            job = jobs.get_job(store, row["job"])
        except NotFound:  # taken away with old jobs
            job = None
    return Schedule(
        model=handed.model,
        kind=kind,
        cron=cron,
        zone=zone,
        now=now,
        next_fire=None if off else after,
        off=off,
        fired=row["fired"] if row is not None else None,
        missed=row["missed"] if row is not None else 0,
        outcome=row["outcome"] if row is not None else "",
        job=job.id if job is not None else None,
        state=job.state if job is not None else None,
        error=str((job.error or {}).get("message", "")) or None if job is not None and job.state == "failed" else None,
    )
