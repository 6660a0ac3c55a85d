"""A retraining: begun by a signal or a person, judged by gates, approved or let through, deployed.

Its state is a row that only moves forward, each move in a transaction that looks at the state it moves from: two agents
that do the same move do it once.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa

from stead import deployments, gates, jobs, ledger, models
from stead.errors import Conflict, NotFound
from stead.ledger import Undo
from stead.policies.levels import frozen_in
from stead.policies.standing import find_standing
from stead.policies.tables import retrainings as table
from stead.policies.types import BEFORE_DEPLOYMENT, OPEN, Retraining, Signal, Standing
from stead.runtime.clock import now_ms
from stead.store import Store, checked_limit, from_row

RECENT = 20
ENDED = {"refused": ["let a person override the gates, with a reason"], "failed": ["train it again by hand"]}
ALTERNATIVES = ["wait for more evidence", "train on other rows by hand", "go back to an earlier version"]


def begin(store: Store, tx: sa.Connection, standing: Standing, level: str, signal: Signal, *, now: int) -> int | None:
    """Start a retraining because of a signal, in the caller's transaction; None where one is under way already.

    The job, the row and the ledger entry are one change: a storm of signals makes one retraining.
    """
    model = standing.model
    if tx.execute(sa.select(table.c.id).where(table.c.model == model, table.c.state.in_(OPEN)).limit(1)).first():
        return None
    held = jobs.held_in(tx, model)
    payload = {"spec": msgspec.to_builtins(standing.spec), "since": None, "until": now, "data": None}
    job = jobs.enqueue_in(
        tx,
        "train",
        payload,
        actor="agent",
        model=model,
        key=f"retrain:{model}",
        timeout_s=standing.spec.timeout_s,
        event_time=held,
    )
    number = _insert(
        tx,
        model=model,
        trigger=signal.name,
        state="training",
        level=level,
        standing=standing.number,
        job=job.id,
        reason=signal.said,
        evidence=signal.evidence,
        alternatives=ALTERNATIVES,
        event_time=held,
    )
    ledger.record(
        tx,
        actor="agent",
        action="retraining.begun",
        model=model,
        subject=f"retraining {number}",
        summary=f"trains {model} again: {signal.said}",
        evidence={"trigger": signal.name, "said": signal.said, **signal.evidence},
        undo=Undo("policies.cancel_retraining", {"number": number}),
        event_time=held,
        alternatives=ALTERNATIVES,
        policy=f"{model} {standing.number}",
    )
    return number


def adopt(store: Store, model: models.Model, standing: Standing) -> int:
    """Take trainings that people started since the level was set into the same way, from where gates judge the version."""
    with store.db.read() as tx:
        entry = ledger.newest_in(tx, model.name, "level.changed")
        known = set(tx.execute(sa.select(table.c.job).where(table.c.model == model.name)).scalars())
    since = entry.at if entry else 0
    done = [
        job
        for job in jobs.list_jobs(store, model=model.name, kind="train", state="succeeded", limit=RECENT)
        if job.id not in known and job.created_at >= since
    ]
    for job in reversed(done):
        with store.db.write("policies.adopt") as tx:
            if tx.execute(sa.select(table.c.id).where(table.c.job == job.id)).first():
                continue
            _insert(
                tx,
                model=model.name,
                trigger="person",
                state="training",
                level=model.level,
                standing=standing.number,
                job=job.id,
                reason=f"{job.requested_by} trained it",
                evidence={},
                alternatives=[],
                at=job.created_at,
                event_time=job.event_time,
            )
    return len(done)


def advance(store: Store, retraining: Retraining) -> bool:
    """Do the next move of a retraining where there is one; True where it moved."""
    move = {"training": _trained, "judging": _judged, "deploying": _deployed}.get(retraining.state)
    return move(store, retraining) if move is not None else False


def _trained(store: Store, retraining: Retraining) -> bool:
    assert retraining.job is not None
    job = jobs.get_job(store, retraining.job)
    if job.ended_at is None:
        return False
    if job.state != "succeeded" or not job.result:
        return _end(
            store, retraining, "failed", f"training failed: {(job.error or {}).get('message', job.state)}", job.error
        )
    live = deployments.live_deployment(store, retraining.model)
    values = {"version": job.result["version"], "champion": live.version if live else None}
    with store.db.write("policies.move") as tx:
        return _move(tx, retraining, "judging", **values)


def _judged(store: Store, retraining: Retraining) -> bool:
    """Ask what the gates said of the version while it was trained; then wait for a person, or go on."""
    model, version = retraining.model, retraining.version
    assert version is not None
    verdicts = gates.list_verdicts(store, model, version=version)
    refused = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    level = models.get_model(store, model).level
    if level == "record":
        return _end(store, retraining, "done", "at level record people decide")
    if refused:
        said = "; ".join(f"{verdict.gate}: {verdict.summary}" for verdict in refused)
        names = [verdict.gate for verdict in refused]
        forced = Undo("deployments.deploy", {"model": model, "version": version, "override": names})
        return _end(store, retraining, "refused", said, evidence={"gates": names}, undo=forced)
    if retraining.champion == version:
        return _end(store, retraining, "done", f"{model}@{version} is live")
    with store.db.read() as tx:
        frozen = frozen_in(tx, model)
    if level == "deploy" and frozen is None and (asks := _out_of_bounds(store, retraining)) is None:
        return _deploy(store, retraining)
    with store.db.write("policies.move") as tx:
        if not _move(tx, retraining, "waiting"):
            return False
        why = "" if level == "train" else f": {frozen.reason or 'frozen' if frozen else asks}"
        ledger.record(
            tx,
            actor="agent",
            action="approval.asked",
            model=model,
            subject=f"{model}@{version}",
            summary=f"{model}@{version} passed its gates and waits for approval{why}",
            evidence={"retraining": retraining.id, "verdicts": {v.gate: v.outcome for v in verdicts}},
            undo=Undo("policies.reject", {"model": model, "version": version}),
            event_time=jobs.held_in(tx, model),
            alternatives=["keep the version that answers", "deploy without asking: stead level"],
            policy=models.policy_of(tx, model),
        )
    return True


def _out_of_bounds(store: Store, retraining: Retraining) -> str | None:
    """Why stead asks although the level says that it need not; None inside the bounds."""
    week = 7 * 86_400_000
    with store.db.read() as tx:
        standing = find_standing(tx, retraining.model)
    if standing is None:
        return None
    now = jobs.model_now(store, retraining.model)
    recent = [
        deployment
        for deployment in deployments.list_deployments(store, model=retraining.model, limit=100)
        if deployment.kind != "rollback" and now - week < (deployment.event_time or deployment.created_at) <= now
    ]
    most = standing.policy.deployments_a_week
    if len(recent) < most:
        return None
    return f"{len(recent)} deployments in 7 days, and the policy allows {most}"


def _deploy(store: Store, retraining: Retraining) -> bool:
    """Ask for the deployment in the move that remembers it; another one that is under way goes first."""
    assert retraining.version is not None
    try:
        with store.db.write("policies.move") as tx:
            number = deployments.request_in(tx, store.acting("agent"), retraining.model, retraining.version, timed=True)
            return _move(tx, retraining, "deploying", deployment=number)
    except Conflict as conflict:
        if conflict.code == "already-live":
            return _end(store, retraining, "done", conflict.message)
        return False


def _deployed(store: Store, retraining: Retraining) -> bool:
    assert retraining.deployment is not None
    deployment = deployments.get_deployment(store, retraining.deployment)
    if deployment.state in deployments.UNDER_WAY:
        return False
    if deployment.state in ("live", "replaced"):
        return _end(store, retraining, "done", f"{retraining.model}@{retraining.version} took over")
    outcome = (
        "refused" if deployment.state in ("refused", "rolled_back", "cancelled", "aborted", "withdrawn") else "failed"
    )
    said = (deployment.error or {}).get("message") or f"its deployment was {deployment.state}"
    return _end(store, retraining, outcome, said, deployment.error)


def _judge_by(tx: sa.Connection, retraining: Retraining) -> None:
    """Have the decision to train judged by the same rows as what became of its version."""
    begun = ledger.newest_in(tx, retraining.model, "retraining.begun")
    if retraining.deployment is None or begun is None or begun.subject != f"retraining {retraining.id}":
        return
    for judged in ledger.open_judgements(tx, deployment=retraining.deployment):
        if judged.kind != "retraining":
            ledger.await_judgement(tx, replace(judged, entry=begun.id, kind="retraining", verdict=None))


def approve(store: Store, model: str, *, version: int | None = None, reason: str | None = None) -> Retraining:
    """Let the version that waits take over by the rollout plan.

    Raises NotFound (`nothing-waits`), Conflict (`already-decided`, where another person was first).
    """
    return _decide(store, model, version, "deploying", reason)


def reject(
    store: Store, model: str, *, version: int | None = None, reason: str | None = None, undoes: int | None = None
) -> Retraining:
    """Do not deploy the version that waits; the champion goes on. Raises like `approve`."""
    return _decide(store, model, version, "rejected", reason, undoes)


def _decide(
    store: Store, model: str, version: int | None, state: str, reason: str | None, undoes: int | None = None
) -> Retraining:
    waiting = _waiting(store, model, version)
    word = "approved" if state == "deploying" else "rejected"
    with store.db.write("policies.decide") as tx:
        if (other := get_in(tx, waiting.id)).state != "waiting":
            raise _too_late(other)
        values: dict[str, Any] = {"decided_by": store.actor, "decided_at": now_ms(), "decision_reason": reason}
        if state == "rejected":
            values |= {"ended_at": now_ms(), "ended_event_time": jobs.held_in(tx, model)}
        else:
            number = deployments.request_in(tx, store, model, waiting.version or 0, reason=reason, timed=True)
            values |= {"deployment": number}
        if not _move(tx, waiting, state, **values):
            raise _too_late(get_in(tx, waiting.id))
        ledger.record(
            tx,
            actor=store.actor,
            action=f"version.{word}",
            model=model,
            subject=f"{model}@{waiting.version}",
            summary=f"{word} {model}@{waiting.version}",
            reason=reason,
            evidence={"retraining": waiting.id},
            undoes=undoes,
            event_time=jobs.held_in(tx, model),
        )
        return get_in(tx, waiting.id)


def _waiting(store: Store, model: str, version: int | None) -> Retraining:
    models.get_model(store, model)
    query = sa.select(table).where(table.c.model == model, table.c.state == "waiting").order_by(table.c.id.desc())
    if version is not None:
        query = query.where(table.c.version == version)
    with store.db.read() as tx:
        row = tx.execute(query.limit(1)).mappings().first()
    if row is not None:
        return from_row(row, Retraining)
    past = (r for r in list_retrainings(store, model=model, limit=RECENT) if version in (None, r.version))
    last = next((r for r in past if r.decided_by and r.version is not None), None)
    if last is not None and version is not None:
        raise _too_late(last)
    what = f"{model}@{version} does not wait" if version is not None else f"no version of {model} waits"
    before = "" if last is None else f": {_decided(last)}"
    raise NotFound("nothing-waits", f"{what} for approval{before}", hint="stead approvals")


def _too_late(decided: Retraining) -> Conflict:
    """For who decides after another person did."""
    return Conflict("already-decided", f"{_decided(decided)} meanwhile", hint=f"stead retrainings show {decided.id}")


def _decided(retraining: Retraining) -> str:
    word = "rejected" if retraining.state == "rejected" else "approved"
    return f"{retraining.model}@{retraining.version} was {word} by {retraining.decided_by or 'stead'}"


def cancel_retraining(store: Store, number: int, *, reason: str | None = None, undoes: int | None = None) -> Retraining:
    """Stop a retraining that has not come to a deployment. Raises NotFound, Conflict (`retraining-ended`)."""
    with store.db.write("policies.cancel") as tx:
        found = get_in(tx, number)
        if found.state not in BEFORE_DEPLOYMENT:
            raise Conflict("retraining-ended", f"retraining {number} is {found.state}", hint="stead retrainings list")
        values = {"ended_at": now_ms(), "decided_by": store.actor, "decided_at": now_ms(), "decision_reason": reason}
        _move(tx, found, "rejected", **values)
        ledger.record(
            tx,
            actor=store.actor,
            action="retraining.cancelled",
            model=found.model,
            subject=f"retraining {number}",
            summary=f"cancelled the retraining {number} of {found.model}",
            reason=reason,
            undoes=undoes,
        )
    if found.job is not None and found.state == "training":
        with suppress(Conflict):  # it has just ended
            jobs.cancel_job(store, found.job)
    return get_retraining(store, number)


def get_retraining(store: Store, number: int) -> Retraining:
    """One retraining. Raises NotFound (`retraining-unknown`)."""
    with store.db.read() as tx:
        return get_in(tx, number)


def list_retrainings(
    store: Store, *, model: str | None = None, state: str | None = None, limit: int = 50
) -> list[Retraining]:
    """Retrainings, newest first. Raises InvalidInput (`limit-invalid`)."""
    checked_limit(limit)
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if model is not None:
        query = query.where(table.c.model == model)
    if state is not None:
        query = query.where(table.c.state == state)
    with store.db.read() as tx:
        return [from_row(row, Retraining) for row in tx.execute(query).mappings()]


def list_approvals(store: Store, *, model: str | None = None) -> list[Retraining]:
    """Versions that wait for a person, newest first."""
    return list_retrainings(store, model=model, state="waiting", limit=500)


def open_retrainings(store: Store, *, model: str | None = None) -> list[Retraining]:
    """Those that have not ended, of a model or of all, oldest first."""
    query = sa.select(table).where(table.c.state.in_(OPEN)).order_by(table.c.id)
    if model is not None:
        query = query.where(table.c.model == model)
    with store.db.read() as tx:
        return [from_row(row, Retraining) for row in tx.execute(query).mappings()]


def _insert(tx: sa.Connection, **values: Any) -> int:
    key = tx.execute(sa.insert(table).values({"at": now_ms(), **values})).inserted_primary_key
    assert key is not None
    return int(key[0])


def get_in(tx: sa.Connection, number: int) -> Retraining:
    row = tx.execute(sa.select(table).where(table.c.id == number)).mappings().first()
    if row is None:
        raise NotFound("retraining-unknown", f"there is no retraining {number}", hint="stead retrainings list")
    return from_row(row, Retraining)


def _move(tx: sa.Connection, retraining: Retraining, state: str, **values: Any) -> bool:
    here = (table.c.id == retraining.id) & (table.c.state == retraining.state)
    return bool(tx.execute(sa.update(table).where(here).values(state=state, **values)).rowcount)


def _end(
    store: Store,
    retraining: Retraining,
    state: str,
    said: str,
    error: dict[str, Any] | None = None,
    evidence: dict[str, Any] | None = None,
    undo: Undo | None = None,
) -> bool:
    with store.db.write("policies.move") as tx:
        event_time = jobs.held_in(tx, retraining.model)
        values = {
            "ended_at": now_ms(),
            "ended_event_time": event_time,
            "error": error or (None if state == "done" else {"message": said}),
        }
        if not _move(tx, retraining, state, **values):
            return False
        ledger.record(
            tx,
            actor="agent",
            action=f"retraining.{state}",
            model=retraining.model,
            subject=f"retraining {retraining.id}",
            summary=f"retraining {retraining.id} of {retraining.model} is {state}: {said}",
            evidence={"version": retraining.version, "said": said, **(evidence or {})},
            undo=undo,
            event_time=event_time,
            alternatives=ENDED.get(state, []),
            policy=models.policy_of(tx, retraining.model),
        )
        _judge_by(tx, retraining)
    return True
