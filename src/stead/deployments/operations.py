"""Asking for deployments and roll-backs, and looking at them."""

from __future__ import annotations

import socket
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from stead import environments, gates, jobs, ledger, models, serving
from stead.config import ROLLOUTS, RolloutConfig
from stead.deployments.tables import deployments
from stead.deployments.types import UNDER_WAY, WAS_LIVE, Deployment
from stead.errors import Conflict, InvalidInput, NotFound, Refused, did_you_mean
from stead.runtime import typed
from stead.runtime.clock import now_ms
from stead.store import Store, checked_limit, from_row

SWAP = RolloutConfig(kind="swap")
DAY = 86_400_000
AWAITED = "waits for the rows that come after"


def deploy(
    store: Store,
    model: str,
    *,
    version: int | None = None,
    override: Sequence[str] = (),
    reason: str | None = None,
    plan: str | None = None,
    undoes: int | None = None,
    fast: bool = True,
) -> Deployment:
    """Ask that a version (default: the newest) takes over the model's route: warm it, check it, then by the plan.

    `plan` is a kind of rollout (`swap`, `canary`, …) to take instead of the model's own. `override` names gates whose refusal a person overrides; that needs a `reason`, and both are in the ledger.
    With `fast=False` it goes its usual path, even where its fast one holds.
    A version that the gates of its training refused takes an override from level `train` on; at `record` their verdicts are advice.
    Raises NotFound, InvalidInput (`override-unknown`, `reason-missing`, `plan-unknown`, `version-elsewhere`), Conflict (`deployment-under-way`,
    `already-live`), Refused (`gate-refused`).
    """
    if plan is not None and plan not in ROLLOUTS:
        hint = did_you_mean(plan, ROLLOUTS) or f"one of {', '.join(ROLLOUTS)}"
        raise InvalidInput("plan-unknown", f"there is no rollout {plan!r}", hint=hint)
    chosen = models.get_version(store, f"{model}@{version}") if version is not None else _newest(store, model)
    for gate in override:
        if gate not in gates.GATES:
            hint = did_you_mean(gate, gates.GATES) or f"gates: {', '.join(gates.GATES)}"
            raise InvalidInput("override-unknown", f"there is no gate {gate!r}", hint=hint)
    if override and not (reason or "").strip():
        raise InvalidInput("reason-missing", "to override a gate takes a reason", hint='--reason "why this is right"')
    _must_load(store, chosen)
    return _request(
        store, model, chosen.version, kind="deploy", overrides=list(override), reason=reason, plan=plan, undoes=undoes,
        fast=fast,
    )  # fmt: skip


def _must_load(store: Store, version: models.Version) -> None:
    """Nothing is asked of gateways that are known not to be able to: those of this machine, for a version locked for another platform."""
    alive = serving.gateways(store, alive=True)
    known = all(gateway.host == socket.gethostname() for gateway in alive) if alive else store.db.is_sqlite
    if not known or version.serving_image:
        return
    if why := environments.foreign(store, environments.get(store, version.serving_environment)):
        raise InvalidInput(
            "version-elsewhere",
            f"{version.ref} cannot be loaded here: {why}",
            hint=f"train it here: stead train {version.model}; or serve it from an image, which takes its wheels for Linux: stead image build {version.ref}",
        )


def rollback(
    store: Store, model: str, *, to: int | None = None, reason: str | None = None, undoes: int | None = None
) -> Deployment:
    """Go back to the last good version, which is kept warm: done when this returns, no gate asked.

    `to` names any earlier version that was live; one that is not warm is loaded first, by a job, while the present one answers.
    Where a model was taken out of service, it is the version that answered last.
    While another version has a share of the traffic, cancelling that is what goes back.
    Raises NotFound, Conflict (`nothing-to-roll-back`, `never-live`, `deployment-under-way`, `moved-on`).
    """
    models.get_model(store, model)
    live = live_deployment(store, model)
    if undoes is not None and live is not None:
        _still_stands(store, undoes, live)
    target = way_back(store, model, to)
    route = serving.get_route(store, model)
    warm = set(route.warm) if route else set()
    if target not in warm or not loaded_everywhere(store, model, target):
        return _request(store, model, target, kind="rollback", overrides=[], reason=reason, undoes=undoes)
    with store.db.write("deployments.rollback") as tx:
        live = _live_in(tx, model)
        if live is None or live.version == target:
            raise Conflict("already-live", f"{model}@{target} is live")
        number = _insert(tx, store, model, target, live.version, kind="rollback", overrides=[], reason=reason)
        made = switch(tx, store, get_in(tx, number), undoes=undoes)
    serving.wait_applied(store, made, timeout_s=10)
    return get_deployment(store, number)


def way_back(store: Store, model: str, to: int | None = None) -> int:
    """The version that a roll-back goes to; raises as `rollback` does where there is none."""
    models.get_model(store, model)
    live = live_deployment(store, model)
    target = to if to is not None else _last_good(store, model, live)
    coming = under_way(store, model)
    if coming is not None and (coming.state == "canary" or target is None):
        raise _busy(coming, f"stead deployments cancel {coming.id}")
    if target is None and live is None:
        raise Conflict("nothing-to-roll-back", f"no version of {model} was ever live", hint=f"stead deploy {model}")
    if target is None:
        assert live is not None
        hint = f"stead undeploy {model}"
        raise Conflict("nothing-to-roll-back", f"{model}@{live.version} is the first version that was live", hint=hint)
    if live is not None and target == live.version:
        raise Conflict("already-live", f"{model}@{target} is live")
    models.get_version(store, f"{model}@{target}")
    if not _was_live(store, model, target):
        raise Conflict("never-live", f"{model}@{target} was never live", hint=f"stead deploy {model}@{target}")
    return target


def warm_up(tx: sa.Connection, store: Store, model: str, version: int, *, fast: bool = True) -> int:
    """Ask the gateways to load a version beside what answers, by its fast path where it has one; the route's revision."""
    route = serving.route_in(tx, model)
    arms, warm, shadow = (route.arms, route.warm, route.shadow) if route else ([], [], [])
    after = serving.fast_after(tx, model, version, fast and serving.may_be_fast(tx, model, version))
    return serving.set_route(store.db, tx, model, arms=arms, warm=[*warm, version], shadow=shadow, fast=after)


def _still_stands(store: Store, undoes: int, live: Deployment) -> None:
    """That the move of a route which is to be undone is the last one: undoing an earlier one would undo what was decided since."""
    moved = ledger.get_entry(store, undoes).evidence.get("deployment")
    if moved not in (None, live.id):
        raise Conflict(
            "moved-on",
            f"decision {undoes} has been overtaken: {live.model}@{live.version} answers since, by deployment {live.id}",
            hint=f"stead rollback {live.model} --to N goes to an earlier version",
        )


def switch(
    tx: sa.Connection,
    store: Store,
    deployment: Deployment,
    *,
    undoes: int | None = None,
    evidence: dict[str, Any] | None = None,
) -> int:
    """Move the route to a deployment's version, in the caller's transaction; returns the route's revision.

    Route, champion alias, the states of this deployment and of the one before, and the ledger change together.
    """
    model, version = deployment.model, deployment.version
    before = _live_in(tx, model)
    ref = f"{model}@{version}"
    if before is not None and before.id != deployment.id:
        state = "rolled_back" if deployment.kind == "rollback" else "replaced"
        advance(tx, before, state, f"by deployment {deployment.id}", ended=True)
    back = deployment.kind == "rollback"
    warm = [before.version] if before is not None and before.version != version and not back else []
    judging = warm if judged_for(tx, deployment) else []  # what it displaced goes on scoring aside
    revision = serving.set_route(store.db, tx, model, arms=[serving.Arm(version, 1.0)], warm=warm, shadow=judging)
    models.set_alias_in(store, tx, model, "champion", version)
    advance(tx, deployment, "live", f"route {revision}")
    said = f"{ref} took over from version {before.version}" if before else f"{ref} answers, where none did before"
    if back:
        said = f"rolled {model} back to version {version}" + (f" from version {before.version}" if before else "")
    undo = ledger.Undo("deployments.withdraw", {"model": model, "version": version})
    if before:
        undo = ledger.Undo("deployments.rollback", {"model": model, "to": before.version})
    entry = ledger.record(
        tx,
        actor=deployment.requested_by,
        action="route.rolled_back" if back else "route.changed",
        model=model,
        subject=f"route {model}",
        summary=said,
        reason=deployment.reason,
        evidence={
            "deployment": deployment.id,
            "revision": revision,
            "before": before.version if before else None,
            "after": version,
            **({"canary": evidence} if evidence else {}),
        },
        undo=undo,
        undoes=undoes,
        event_time=jobs.held_in(tx, model),
        alternatives=["keep the version before", "wait for more evidence"],
        policy=models.policy_of(tx, model),
    )
    if judging:
        begin_judging(tx, deployment, entry, "promotion")
    return revision


def judged_for(tx: sa.Connection, deployment: Deployment) -> int:
    """Days for which the version that does not answer goes on scoring aside; 0 where a person swaps at level `record`."""
    by_hand = models.rollout_of(tx, deployment.model)[1] == "record" and not deployment.shares
    return 0 if by_hand else deployment.plan.judge_days


def begin_judging(tx: sa.Connection, deployment: Deployment, entry: int, kind: Literal["promotion", "abort"]) -> None:
    """Have the decision of a ledger entry judged by the rows that come after it, in the caller's transaction."""
    held = jobs.held_in(tx, deployment.model)
    now = now_ms() if held is None else held
    until = now + deployment.plan.judge_days * DAY
    ledger.await_judgement(
        tx, ledger.Judgement(entry, deployment.model, kind, deployment.id, now, until, said=AWAITED, seen=now)
    )


def withdraw(
    store: Store, model: str, *, version: int | None = None, reason: str | None = None, undoes: int | None = None
) -> Deployment:
    """Take a model out of service: requests that are on their way are answered, later ones get `model-not-deployed`.

    With `version` only if that one answers. `rollback` brings back what was taken out, without asking a gate.
    Raises NotFound (`model-unknown`), Conflict (`not-live`, `deployment-under-way`).
    """
    models.get_model(store, model)
    with store.db.write("deployments.withdraw") as tx:
        _check_idle(tx, model)
        live = _live_in(tx, model)
        if live is None or (version is not None and live.version != version):
            what = f"{model}@{version} is not live" if version is not None else f"no version of {model} is live"
            raise Conflict("not-live", what, hint=f"stead deployments list --model {model}")
        revision = serving.set_route(store.db, tx, model, arms=[])
        models.delete_alias_in(tx, model, "champion", version=live.version)
        advance(tx, live, "withdrawn", f"by {store.actor}", ended=True)
        ledger.record(
            tx,
            actor=store.actor,
            action="route.removed",
            model=model,
            subject=f"route {model}",
            summary=f"took {model} out of service; version {live.version} answered",
            reason=reason,
            evidence={"deployment": live.id, "revision": revision, "before": live.version, "after": None},
            undo=ledger.Undo("deployments.rollback", {"model": model, "to": live.version}),
            undoes=undoes,
            event_time=jobs.held_in(tx, model),
        )
    serving.wait_applied(store, revision, timeout_s=10)
    return get_deployment(store, live.id)


def cancel_deployment(store: Store, number: int, *, reason: str | None = None, undoes: int | None = None) -> Deployment:
    """Stop a deployment that is under way; the present version goes on answering. Raises Conflict (`deployment-ended`)."""
    with store.db.write("deployments.cancel") as tx:
        deployment = get_in(tx, number)
        if deployment.state not in UNDER_WAY:
            raise Conflict("deployment-ended", f"deployment {number} has ended: {deployment.state}")
        let_go(tx, store, deployment)
        advance(tx, deployment, "cancelled", reason or "on request", ended=True)
        said = f"the deployment of {deployment.model}@{deployment.version} was cancelled"
        record_end(tx, store.actor, deployment, "deployment.cancelled", said, reason, undoes=undoes)
    return get_deployment(store, number)


def get_deployment(store: Store, number: int) -> Deployment:
    """One deployment. Raises NotFound (`deployment-unknown`)."""
    with store.db.read() as tx:
        return get_in(tx, number)


def list_deployments(store: Store, *, model: str | None = None, limit: int = 50) -> list[Deployment]:
    """Deployments, newest first."""
    query = sa.select(deployments).order_by(deployments.c.id.desc()).limit(checked_limit(limit))
    if model is not None:
        query = query.where(deployments.c.model == model)
    with store.db.read() as tx:
        return [from_row(row, Deployment) for row in tx.execute(query).mappings()]


def canaries(store: Store) -> list[Deployment]:
    """Deployments whose version has a share of the traffic or scores aside, oldest first: canaries, shadows, A/B tests."""
    with store.db.read() as tx:
        rows = tx.execute(sa.select(deployments).where(deployments.c.state == "canary").order_by(deployments.c.id))
        return [from_row(row, Deployment) for row in rows.mappings()]


def live_deployment(store: Store, model: str) -> Deployment | None:
    """The deployment whose version answers now."""
    with store.db.read() as tx:
        return _live_in(tx, model)


def under_way(store: Store, model: str) -> Deployment | None:
    """The deployment of a model that has not ended and is not live yet."""
    with store.db.read() as tx:
        return under_way_in(tx, model)


def let_go(tx: sa.Connection, store: Store, deployment: Deployment, *, aside: bool = False) -> int | None:
    """Let go of a version that does not take over; what was live answers everything again. The route's revision if it moved.

    It stays warm where it is kept for a roll-back; with `aside` it goes on scoring what the live one answers.
    """
    route = serving.route_in(tx, deployment.model)
    if route is None:
        return None
    live = _live_in(tx, deployment.model)
    if live is not None and live.version == deployment.version:
        return None
    arms = [serving.Arm(live.version, 1.0)] if live is not None else []
    kept = {live.previous} if live is not None else set()
    warm = [version for version in route.warm if version != deployment.version or version in kept]
    shadow = [] if deployment.shares else [version for version in route.shadow if version != deployment.version]
    shadow += [deployment.version] if aside and live is not None else []
    if (arms, warm, shadow) == (route.arms, route.warm, route.shadow):
        return None
    return serving.set_route(store.db, tx, deployment.model, arms=arms, warm=warm, shadow=shadow)


def _request(
    store: Store,
    model: str,
    version: int,
    *,
    kind: str,
    overrides: list[str],
    reason: str | None,
    undoes: int | None = None,
    plan: str | None = None,
    fast: bool = True,
) -> Deployment:
    with store.db.write("deployments.request") as tx:
        number = request_in(
            tx, store, model, version, kind=kind, overrides=overrides, reason=reason, undoes=undoes, plan=plan,
            fast=fast,
        )  # fmt: skip
        return get_in(tx, number)


def request_in(
    tx: sa.Connection,
    store: Store,
    model: str,
    version: int,
    *,
    kind: str = "deploy",
    overrides: Sequence[str] = (),
    reason: str | None = None,
    undoes: int | None = None,
    plan: str | None = None,
    timed: bool = False,
    fast: bool = True,
) -> int:
    """Ask for a deployment as part of a larger change: its row, its job and its ledger entry; returns its number.

    A replay that holds the model's clock waits for a `timed` one, and for one by a plan with steps, whose first day begins
    where the clock stands. Raises Conflict (`deployment-under-way`, `already-live`),
    Refused (`gate-refused`).
    """
    _check_idle(tx, model)
    live = _live_in(tx, model)
    if live is not None and live.version == version:
        raise Conflict("already-live", f"{model}@{version} is live already")
    refused = _refused(tx, model, version, overrides) if kind == "deploy" else []
    chosen = _plan(tx, model, plan if live is not None and kind == "deploy" else "swap")
    number = _insert(
        tx,
        store,
        model,
        version,
        live.version if live else None,
        kind=kind,
        overrides=list(overrides),
        reason=reason,
        plan=chosen,
    )
    ledger.record(
        tx,
        actor=store.actor,
        action="deployment.requested",
        model=model,
        subject=f"deployment {number}",
        summary=f"asked to {'deploy' if kind == 'deploy' else 'roll back to'} {model}@{version}"
        + (f", overriding {', '.join(overrides)}" if overrides else ""),
        reason=reason,
        evidence={"deployment": number, "kind": kind, "overrides": list(overrides), "undoes": undoes},
        undo=ledger.Undo("deployments.cancel_deployment", {"number": number}),
        event_time=jobs.held_in(tx, model),
        alternatives=["keep the version that answers", "ask a person"],
        policy=models.policy_of(tx, model),
    )
    job = jobs.enqueue_in(
        tx,
        "deploy",
        {"deployment": number, "undoes": undoes} | ({} if fast else {"fast": False}),
        actor=store.actor,
        model=model,
        key=f"deploy:{number}",
        priority=10,
        max_attempts=10,
        event_time=jobs.held_in(tx, model) if timed or chosen.kind != "swap" else None,
    )
    tx.execute(sa.update(deployments).where(deployments.c.id == number).values(job=job.id))
    for verdict in refused:
        said = f"{verdict.gate} was overridden for {model}@{version}: {verdict.summary}"
        record_end(tx, store.actor, get_in(tx, number), "gate.overridden", said, reason, verdict.evidence)
    return number


def _refused(tx: sa.Connection, model: str, version: int, overrides: Sequence[str]) -> list[gates.Verdict]:
    """What the gates of the training refused and a person overrides. Raises Refused where one is left that nobody does."""
    refused = gates.refused_in(tx, model, version)
    left = [verdict for verdict in refused if verdict.gate not in overrides]
    if left and models.rollout_of(tx, model)[1] != "record":
        said = "; ".join(f"{verdict.gate}: {verdict.summary}" for verdict in left)
        forced = " ".join(f"--override {verdict.gate}" for verdict in left)
        raise Refused(
            "gate-refused",
            f"gates refused {model}@{version}: {said}",
            hint=f"stead models show {model}@{version}; or stead deploy {model}@{version} {forced} --reason …",
        )
    return [verdict for verdict in refused if verdict.gate in overrides]


def _plan(tx: sa.Connection, model: str, kind: str | None) -> RolloutConfig:
    """The model's own plan; from level `deploy` on a canary where none was chosen, else a swap."""
    settings, level = models.rollout_of(tx, model)
    plan = typed.convert(settings, RolloutConfig)
    return replace(plan, kind=kind or plan.kind or ("canary" if level in ("deploy", "manage") else "swap"))


def _check_idle(tx: sa.Connection, model: str) -> None:
    if (other := under_way_in(tx, model)) is not None:
        raise _busy(other, f"stead deployments show {other.id}; stead deployments cancel {other.id}")


def _busy(other: Deployment, hint: str) -> Conflict:
    said = f"deployment {other.id} of {other.model}@{other.version} is under way ({other.state})"
    return Conflict("deployment-under-way", said, hint=hint)


def _insert(
    tx: sa.Connection,
    store: Store,
    model: str,
    version: int,
    previous: int | None,
    *,
    kind: str,
    overrides: list[str],
    reason: str | None,
    plan: RolloutConfig = SWAP,
) -> int:
    now = now_ms()
    values = {
        "model": model,
        "version": version,
        "previous": previous,
        "kind": kind,
        "state": "requested",
        "overrides": overrides,
        "reason": reason,
        "plan": msgspec.to_builtins(plan),
        "shares": [],
        "steps": [{"state": "requested", "at": now, "note": f"by {store.actor}"}],
        "requested_by": store.actor,
        "created_at": now,
        "event_time": jobs.held_in(tx, model),
    }
    key = tx.execute(sa.insert(deployments).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def advance(
    tx: sa.Connection,
    deployment: Deployment,
    state: str,
    note: str,
    *,
    error: dict[str, Any] | None = None,
    ended: bool = False,
) -> None:
    """Write a deployment's next state and the step that led to it."""
    steps = tx.execute(sa.select(deployments.c.steps).where(deployments.c.id == deployment.id)).scalar_one()
    values: dict[str, Any] = {"state": state, "steps": [*steps, {"state": state, "at": now_ms(), "note": note}]}
    if error is not None:
        values["error"] = error
    if ended:
        values["ended_at"] = now_ms()
    tx.execute(sa.update(deployments).where(deployments.c.id == deployment.id).values(values))


def record_end(
    tx: sa.Connection,
    actor: str,
    deployment: Deployment,
    action: str,
    summary: str,
    reason: str | None = None,
    evidence: dict[str, Any] | None = None,
    *,
    undo: ledger.Undo | None = None,
    undoes: int | None = None,
    alternatives: Sequence[str] = (),
) -> int:
    """The ledger's entry for a step of a deployment, how it ended, or what a person overrode; its number."""
    return ledger.record(
        tx,
        actor=actor,
        action=action,
        model=deployment.model,
        subject=f"deployment {deployment.id}",
        summary=summary,
        reason=reason,
        evidence={"deployment": deployment.id, **(evidence or {})},
        undo=undo,
        undoes=undoes,
        event_time=jobs.held_in(tx, deployment.model),
        alternatives=alternatives,
        policy=models.policy_of(tx, deployment.model),
    )


def get_in(tx: sa.Connection, number: int) -> Deployment:
    """`get_deployment` inside a transaction."""
    row = tx.execute(sa.select(deployments).where(deployments.c.id == number)).mappings().first()
    if row is None:
        raise NotFound("deployment-unknown", f"there is no deployment {number}", hint="stead deployments list")
    return from_row(row, Deployment)


def known_in(tx: sa.Connection, numbers: Collection[int]) -> dict[int, Deployment]:
    """Deployments by number, in one question."""
    rows = tx.execute(sa.select(deployments).where(deployments.c.id.in_(numbers))).mappings()
    return {int(row["id"]): from_row(row, Deployment) for row in rows}


def _live_in(tx: sa.Connection, model: str) -> Deployment | None:
    query = sa.select(deployments).where(deployments.c.model == model, deployments.c.state == "live")
    row = tx.execute(query.order_by(deployments.c.id.desc()).limit(1)).mappings().first()
    return None if row is None else from_row(row, Deployment)


def may_return(tx: sa.Connection, live: Deployment) -> bool:
    """Whether nothing is under way and nobody has asked to go back since a deployment, in vain."""
    later = (deployments.c.model == live.model) & (deployments.c.id > live.id) & (deployments.c.kind == "rollback")
    asked = tx.execute(sa.select(deployments.c.id).where(later).limit(1)).first()
    return live.previous is not None and asked is None and under_way_in(tx, live.model) is None


def under_way_in(tx: sa.Connection, model: str) -> Deployment | None:
    """`under_way` inside a transaction."""
    query = sa.select(deployments).where(deployments.c.model == model, deployments.c.state.in_(UNDER_WAY))
    row = tx.execute(query.limit(1)).mappings().first()
    return None if row is None else from_row(row, Deployment)


def _newest(store: Store, model: str) -> models.Version:
    versions = models.list_versions(store, model)
    if not versions:
        raise NotFound("version-unknown", f"{model} has no version yet", hint=f"stead train {model}")
    return max(versions, key=lambda version: version.version)


def _was_live(store: Store, model: str, version: int) -> bool:
    query = sa.select(deployments.c.id).where(
        deployments.c.model == model,
        deployments.c.version == version,
        deployments.c.state.in_(("live", *WAS_LIVE)),
    )
    with store.db.read() as tx:
        return tx.execute(query.limit(1)).first() is not None


def _last_good(store: Store, model: str, live: Deployment | None) -> int | None:
    """The newest version that was live before the present one and was not rolled back when it last was.

    Where none is live, the one that was taken out of service last.
    """
    query = sa.select(deployments.c.version, deployments.c.state).where(deployments.c.model == model)
    if live is not None:
        query = query.where(deployments.c.id < live.id)
    query = query.where(deployments.c.state.in_(WAS_LIVE)).order_by(deployments.c.id.desc())
    last: dict[int, str] = {}
    with store.db.read() as tx:
        for version, state in tx.execute(query):
            last.setdefault(version, state)
    good, mine = ("withdrawn", None) if live is None else ("replaced", live.version)
    return next((version for version, state in last.items() if state == good and version != mine), None)


def loaded_everywhere(store: Store, model: str, version: int) -> bool:
    """Whether every gateway that runs can answer with a version now."""
    alive = serving.gateways(store, alive=True)
    return bool(alive) and all(gateway.loaded.get(f"{model}@{version}") == "ready" for gateway in alive)
