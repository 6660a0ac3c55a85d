"""A drill of the switch that stops all automatic action: freeze, see that the loop comes around and does nothing, thaw."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from stead import deployments, jobs, ledger, models
from stead.config.units import some
from stead.errors import Conflict, Unreachable
from stead.ledger import Undo
from stead.ledger.tables import ledger as entries
from stead.policies.levels import frozen_in, record_frozen
from stead.policies.tables import freezes
from stead.policies.types import DRILL, Freeze, FreezeDrill
from stead.runtime.clock import now_ms
from stead.store import Store

TURNS = 3
"""How often each loop must tell of another turn: the first may have begun before the freeze, two have not."""
WAIT_S = 45.0
"""So long it waits for them."""
POLL_S = 0.1
LONGEST_MS = 300_000
"""A drill's freeze that is older was broken off: the loop thaws it."""
AUTOMATIC = ("retraining.begun", "canary.step", "deployment.aborted", "route.changed", "route.rolled_back")
"""Decisions that the loop takes by itself."""
BEGUN = ("train", "ingest", "deploy")
"""Jobs that it begins."""


def drill_freeze(store: Store, model: str, *, reason: str | None = None) -> FreezeDrill:
    """Freeze a model (or every model: `""`) for some seconds, to see whether all automatic action stands still, and thaw it again.

    It waits until every loop that runs has come around twice while frozen, and looks whether anything was decided by itself in that time
    and whether the policies are held back for each model. What people ask for goes on. Its own freeze is thawed at its end, also where
    it is interrupted; where its process dies, by the loop after five minutes. Where somebody freezes meanwhile, that stays.

    Raises NotFound (`model-unknown`), Conflict (`frozen-already`), Unreachable (`agent-missing`): without a loop a drill says nothing.
    """
    known = [models.get_model(store, model)] if model else models.list_models(store)
    loops = {agent.id: agent.turned_at for agent in jobs.list_agents(store)}
    if not loops:
        raise Unreachable(
            "agent-missing",
            "no agent runs, so nothing is done by itself and a drill would say nothing",
            hint="stead up",
        )
    begun = time.monotonic()
    frozen = Freeze(model, f"{DRILL}{store.actor}", now_ms(), "a drill, thawed by itself within five minutes")
    turns, failed, first = 0, ["it was broken off"], 0
    try:
        first = _freeze(store, frozen, reason)
        turns, found = _come_around(store, loops)
        failed = found + _not_held_back(store, known) + _acted(store, model, frozen, first)
    finally:  # also where it is interrupted, be it before it has heard that it froze
        if first or _stands(store, frozen):
            drill = _thaw(store, frozen, known, failed, turns, time.monotonic() - begun, reason)
    return drill


def end_drills(store: Store) -> int:
    """Thaw what drills froze that were broken off; how many there were. The loop does it, since nobody else comes back for them."""
    with store.db.read() as tx:
        found = [Freeze(*row) for row in tx.execute(sa.select(freezes).where(freezes.c.by.startswith(DRILL)))]
    stale = [each for each in found if abs(now_ms() - each.at) > LONGEST_MS]
    for each in stale:
        with store.db.write("policies.freeze") as tx:
            if _take_away(tx, each):
                said = "its drill was broken off"
                record_frozen(tx, store, each.model, "thawed", said, _again(each.model), evidence={"drill": True})
    return len(stale)


def _freeze(store: Store, made: Freeze, reason: str | None) -> int:
    """Make the drill's own freeze stand; the number of its entry."""
    with store.db.write("policies.freeze") as tx:
        if (before := frozen_in(tx, made.model)) is not None:
            what = before.model or "every model"
            said = f"{what} is frozen already, {before.said.removeprefix('frozen: ')}: a drill of it would say nothing"
            hint = f"stead thaw {before.model}".strip()
            raise Conflict("frozen-already", said, hint=hint)
        tx.execute(sa.insert(freezes).values(model=made.model, by=made.by, at=made.at, reason=made.reason))
        undo = Undo("policies.thaw", {"model": made.model or None})
        return record_frozen(tx, store, made.model, "frozen", reason or "a drill", undo, evidence={"drill": True})


def _come_around(store: Store, loops: dict[str, int | None]) -> tuple[int, list[str]]:
    """Wait until each loop has told of turns that began while frozen; the fewest that one told of, and what is wrong."""
    told = dict.fromkeys(loops, 0)
    last = dict(loops)
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        alive = {agent.id: agent.turned_at for agent in jobs.list_agents(store) if agent.id in told}
        for agent, turned in alive.items():
            if turned is not None and turned != last[agent]:
                last[agent], told[agent] = turned, told[agent] + 1
        if not alive:
            return 0, ["the agent ended meanwhile"]
        if all(told[agent] >= TURNS for agent in alive):
            return min(told[agent] for agent in alive), []
        time.sleep(POLL_S)
    return min(told.values()), [f"the loop did not come around twice in {WAIT_S:g} s"]


def _not_held_back(store: Store, known: list[models.Model]) -> list[str]:
    """Models whose policy would not be held back, asked where every automatic action asks."""
    with store.db.read() as tx:
        free = [each.name for each in known if frozen_in(tx, each.name) is None]
    return [f"{some(free)} would have gone on"] if free else []


def _acted(store: Store, model: str, frozen: Freeze, first: int) -> list[str]:
    """What was decided by itself while it was frozen; what had been asked for before goes its way."""
    mine = entries.c.model == model if model else sa.true()
    query = sa.select(entries.c.id, entries.c.action, entries.c.summary, entries.c.evidence).where(
        entries.c.id > first, entries.c.actor == "agent", entries.c.action.in_(AUTOMATIC), mine
    )
    with store.db.read() as tx:
        decided = [row for row in tx.execute(query.order_by(entries.c.id)) if not _asked_before(store, row)]
    begun = [
        job
        for job in jobs.list_jobs(store, model=model or None, limit=200)
        if job.requested_by == "agent" and job.kind in BEGUN and job.created_at > frozen.at
    ]
    return [f"stead {row.summary} (decision {row.id})" for row in decided] + [
        f"stead began to {job.kind} {job.model} (job {job.id[-12:]})" for job in begun
    ]


def _asked_before(store: Store, row: Any) -> bool:
    """Whether an entry is the end of a deployment without a canary, or the first step of one: they follow from what was asked for."""
    number = row.evidence.get("deployment")
    if not isinstance(number, int):
        return False
    asked = deployments.get_deployment(store, number)
    if row.action == "canary.step":
        return bool(asked.shares) and row.evidence.get("share") == asked.shares[0].share
    return row.action == "route.changed" and not asked.shares


def _thaw(
    store: Store,
    frozen: Freeze,
    known: list[models.Model],
    failed: list[str],
    turns: int,
    seconds: float,
    reason: str | None,
) -> FreezeDrill:
    """Take the drill's freeze away, and write down what came of it."""
    what = frozen.model or "every model"
    with store.db.write("policies.freeze") as tx:
        if _take_away(tx, frozen):
            record_frozen(
                tx, store, frozen.model, "thawed", "the drill is over", _again(frozen.model), evidence={"drill": True}
            )
        elif (now := frozen_in(tx, frozen.model)) is None:
            failed = [*failed, "somebody thawed it meanwhile"]
        else:
            what = f"{what} (which stays {now.said})"
        acting = [each for each in known if each.level != "record"]
        if failed:
            said = f"the drill did not work: {'; '.join(failed)}"
        else:
            held = "no model acts by itself yet, so there was little to stop"
            if acting:
                held = f"of {len(acting)} of {len(known)} models stead decides by itself, and did not"
            said = f"{what} stood still for {seconds:.1f} s while the loop came around {turns - 1} times: {held}"
        drill = FreezeDrill(frozen.model, not failed, round(seconds, 3), said, turns, len(acting))
        ledger.record(
            tx,
            actor=store.actor,
            action="drill.freeze",
            model=frozen.model or None,
            subject=f"automation {frozen.model or 'of every model'}",
            summary=said,
            reason=reason,
            evidence={
                "worked": drill.worked,
                "seconds": drill.seconds,
                "said": said,
                "turns": turns,
                "models": len(known),
                "acting": len(acting),
            },
        )
    return drill


def _take_away(tx: sa.Connection, frozen: Freeze) -> bool:
    """Whether a drill's own freeze was still there; another one stays."""
    return bool(tx.execute(sa.delete(freezes).where(_own(frozen))).rowcount)


def _stands(store: Store, frozen: Freeze) -> bool:
    with store.db.read() as tx:
        return tx.execute(sa.select(freezes.c.at).where(_own(frozen))).first() is not None


def _own(frozen: Freeze) -> sa.ColumnElement[bool]:
    return (freezes.c.model == frozen.model) & (freezes.c.by == frozen.by) & (freezes.c.at == frozen.at)


def _again(model: str) -> Undo:
    return Undo("policies.freeze", {"model": model or None})
