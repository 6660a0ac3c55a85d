"""A canary's way: a share of the traffic, evidence, the next share; or back, where a guard breaks.

Nothing here needs a job: a look gathers evidence and makes one move in a transaction that checks the step it moves from,
so two agents that look at once move once, and one that dies has moved or has not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from stead import jobs, ledger, serving
from stead.config import RolloutConfig
from stead.config.units import milliseconds, percent
from stead.deployments import operations
from stead.deployments.evidence import SHIFT, Evidence, gather
from stead.deployments.tables import deployments
from stead.deployments.types import Deployment, Share
from stead.runtime.clock import now_ms, to_iso
from stead.store import Store, from_row

ERRORS = 0.001
"""A higher rate of errors than the other arm's by more than this is harm."""
HANGS = 3
"""A version that took too long for so many requests, where the other one did for none, hangs."""
SLOWER = 1.5
SPLIT = 0.001
LONG = 365
"""Days after which a proof is none to wait for."""
PATIENCE = 56
"""Days after which a version that still does harm by the estimate is taken back: of those that lost no more than the margin in the end,
one in two hundred was still there (docs/statistics.md)."""
CHANCE = 1.645
"""Deviations by which failures beyond the other version's may be chance, at one look; at least `LEAST_FAILED` of them."""
LEAST_FAILED = 3
STOPPED = ("errors", "latency", "outputs")
"""Guards after which a version runs no more, not even aside."""


@dataclass(frozen=True)
class Decision:
    """What follows from the evidence: the next share, back, or waiting for more."""

    action: Literal["advance", "abort", "hold"]
    said: str
    guard: str | None = None


def begin(tx: sa.Connection, store: Store, deployment: Deployment, note: str) -> None:
    """Give a version its first share, in the caller's transaction."""
    _step(tx, store, deployment, _steps(deployment.plan)[0], note)


def observe(
    store: Store, number: int, *, halted: Callable[[sa.Connection], str | None] = lambda tx: None
) -> Deployment:
    """Look at a canary and make the move that its evidence asks for. Does nothing where it is in another state.

    Where `halted` tells why nothing may move by itself, what would follow is told and not done.
    """
    deployment = operations.get_deployment(store, number)
    if deployment.state != "canary":
        return deployment
    evidence = gather(store, deployment, now=jobs.model_now(store, deployment.model))
    decision = judge(evidence, deployment)
    with store.db.read() as tx:
        why = halted(tx)
    if why is not None and decision.action != "hold":
        moves = "taken back" if decision.action == "abort" else "moved on"
        decision = Decision("hold", f"{why}; else it would be {moves}: {decision.said}")
    told = {**msgspec.to_builtins(evidence), "decision": msgspec.to_builtins(decision)}
    if decision.action == "hold" and deployment.evidence == told:
        return deployment
    revision: int | None = None
    with store.db.write("deployments.step") as tx:
        here = sa.select(deployments).where(deployments.c.id == number).with_for_update()
        current = from_row(tx.execute(here).mappings().one(), Deployment)
        if current.state != "canary" or len(current.shares) != len(deployment.shares):
            return current  # somebody else has moved it
        if decision.action != "hold" and halted(tx) is not None:
            return current  # just now: the next look tells
        tx.execute(sa.update(deployments).where(deployments.c.id == number).values(evidence=told))
        if decision.action == "abort":
            revision = _abort(tx, store, current, decision, told)
        elif decision.action == "advance":
            revision = _advance(tx, store, current, decision, told)
    if revision is not None:
        serving.wait_applied(store, revision, timeout_s=10)
    return operations.get_deployment(store, number)


def judge(evidence: Evidence, deployment: Deployment) -> Decision:
    """What follows from the evidence: a broken guard ends it, full evidence with every guard holding moves it on.

    Guards may break at any look, since their intervals hold at all of them. The loss is judged only with `rows` labelled rows
    in the new version's arm. Each step asks for its own rows and days. A guard holds where harm beyond its bound is excluded, or the
    estimate says that there is none: few rows do not excuse what they show. An A/B asks for a version that is better at all, not for one that does no harm.
    """
    plan = deployment.plan
    if (broken := _broken(evidence, deployment)) is not None:
        return broken
    needs = []
    if evidence.step_rows < plan.rows:
        needs.append(f"{evidence.step_rows} of {plan.rows} labelled rows")
    if evidence.step_days < plan.days:
        needs.append(f"{evidence.step_days} of {plan.days} days")
    if "loss" in plan.guards and not needs and evidence.loss.high is None:
        needs.append("losses in more blocks of time (seven, or more where neighbours go together)")
    if needs:
        why = _past(evidence, deployment) or f"{_soon(evidence, plan)}{_proof(evidence)}"
        return Decision("hold", f"waits for evidence: {', '.join(needs)}{why}")
    proven = evidence.loss.high is not None and evidence.loss.high < 0
    if plan.kind == "ab" and not proven:
        return Decision("hold", f"neither is shown to be better{_proof(evidence)}")
    if (doubt := _doubt(evidence, deployment, proven)) is not None:
        return doubt
    said = "harm beyond the margin is excluded" if proven else "least evidence is reached and every guard holds"
    said = "it is shown to be better" if plan.kind == "ab" else said
    return Decision("advance", said)


def _doubt(evidence: Evidence, deployment: Deployment, proven: bool) -> Decision | None:
    """Harm by the estimate that is not beyond doubt: it waits for more rows, and goes back where they do not come to an end."""
    plan, version = deployment.plan, deployment.previous
    beyond = evidence.loss.estimate or 0.0
    scored, failed = evidence.answered + evidence.aside, evidence.failed + evidence.aside_failed
    slow, usual = evidence.latency.low, evidence.other_latency.estimate
    guard, proof = "", ""
    if "loss" in plan.guards and plan.kind != "ab" and not proven and beyond > 0:
        more = f"{percent(beyond + plan.margin)} more than version {version} on the same {evidence.rows:,} rows"
        guard, proof = "loss", _proof(evidence)
        now, then = f"it loses {more}", f"it lost {more}, and it is not shown to be within the margin"
    elif "errors" in plan.guards and fails_more(failed, scored, evidence.other_failed, evidence.other_scored):
        more = f"{failed} of {scored:,} requests, answered or scored aside, version {version} on {evidence.other_failed} of {evidence.other_scored:,}"
        guard, now, then = "errors", f"it fails more: {more}", f"it failed more: {more}"
    elif "latency" in plan.guards and slower(slow, usual):
        assert slow is not None and usual is not None
        more = f"95 % of answers took up to {milliseconds(slow)} and more, of version {version} {milliseconds(usual)}"
        guard, now, then = "latency", f"it is slower: {more}", f"it was slower: {more}"
    if not guard:
        return None
    if evidence.days >= PATIENCE:
        return Decision("abort", f"in {evidence.days} days {then}", guard)
    return Decision("hold", f"by the estimate {now}{proof}; taken back after {PATIENCE} days")


def fails_more(failed: int, scored: int, other_failed: int, other_scored: int) -> bool:
    """Whether a version fails more than another one by more than the bound, and by more than chance at one look.

    >>> fails_more(6, 168, 0, 168), fails_more(2, 168, 0, 168), fails_more(30, 168, 25, 168)
    (True, False, False)
    """
    if not scored or not other_scored:
        return False
    more = failed / scored - other_failed / other_scored
    rate = (failed + other_failed) / (scored + other_scored)
    deviation = math.sqrt(rate * (1 - rate) * (1 / scored + 1 / other_scored))
    return failed - other_failed >= LEAST_FAILED and more > max(ERRORS, CHANCE * deviation)


def slower(low: float | None, usual: float | None) -> bool:
    """Whether most of a version's answers surely take longer than those of the other one, whose usual time is only estimated yet."""
    return low is not None and usual is not None and low > SLOWER * usual


def _broken(evidence: Evidence, deployment: Deployment) -> Decision | None:
    plan = deployment.plan
    if evidence.split < SPLIT:
        return Decision(
            "abort", f"requests do not go by the shares (p {evidence.split:.1g}): nothing can be compared", "split"
        )
    if "errors" in plan.guards and (failed := _failed(evidence)) is not None:
        return Decision("abort", failed, "errors")
    if "outputs" in plan.guards and evidence.unusable > 0:
        return Decision("abort", f"{evidence.unusable} outputs are no usable number", "outputs")
    slow, usual = evidence.latency.low, evidence.other_latency.high
    if "latency" in plan.guards and slow is not None and usual is not None and slow > SLOWER * usual:
        return Decision(
            "abort",
            f"95 % of answers took up to {slow / 1000:.0f} ms and more, usual are {usual / 1000:.0f}",
            "latency",
        )
    if "loss" in plan.guards and _counted(evidence, plan) >= plan.rows and (broken := _lost(evidence)) is not None:
        return broken
    return _shifted(evidence) if "shift" in plan.guards else None


def _failed(evidence: Evidence) -> str | None:
    """That it fails more than the other version does, as it answers or as it scores aside."""
    if evidence.errors.low is not None and evidence.errors.low > ERRORS:
        return f"{evidence.failed} of {evidence.answered} requests failed"
    if evidence.hung >= HANGS and not evidence.other_hung:
        return (
            f"it took too long for {evidence.hung} requests, answered or scored aside, and the other version for none"
        )
    if evidence.aside_errors.low is not None and evidence.aside_errors.low > ERRORS:
        return f"it failed on {evidence.aside_failed} of {evidence.aside} requests that it scored aside"
    return None


def _lost(evidence: Evidence) -> Decision | None:
    own = "" if evidence.offline is None else f"; in its own hold-out it was {evidence.offline:.4g}"
    if evidence.loss.low is not None and evidence.loss.low > 0:
        losses = f"{evidence.second_loss:.4g} against {evidence.first_loss:.4g}"
        return Decision("abort", f"its loss is {losses} on the same {evidence.rows} rows{own}", "loss")
    if (turn := evidence.turn) is not None:
        losses = f"{turn.second_loss:.4g} against {turn.first_loss:.4g}"
        since = to_iso(turn.since)[:10]
        return Decision("abort", f"since {since} its loss is {losses} on the same {turn.rows} rows{own}", "loss")
    if evidence.own.low is not None and evidence.own.low > 0:
        return Decision(
            "abort", f"its loss of {evidence.second_loss:.4g} is far above its own offline result{own}", "own"
        )
    return None


def _shifted(evidence: Evidence) -> Decision | None:
    """Outputs that have little to do with those of the present version, unless the labels so far are on the new one's side."""
    better = evidence.first_loss is not None and (evidence.second_loss or 0.0) < evidence.first_loss
    low = evidence.shift.low
    if low is None or low <= SHIFT or better:
        return None
    said = f"its outputs are apart from the other version's by {percent(low, 0)} at least of what they are on rows drawn at random"
    return Decision("abort", said, "shift")


def _steps(plan: RolloutConfig) -> tuple[float, ...]:
    """The shares that a plan goes through: a shadow has none of the traffic, an A/B stays at its first."""
    if plan.kind == "shadow":
        return (0.0,)
    return plan.steps[:1] if plan.kind == "ab" else plan.steps


def _counted(evidence: Evidence, plan: RolloutConfig) -> int:
    """Labelled rows that count as evidence: those that the version answered; a shadow answers none."""
    return evidence.rows if plan.kind == "shadow" else evidence.arm_rows


def _past(evidence: Evidence, deployment: Deployment) -> str:
    """That what comes lies mostly before the canary's beginning, so that waiting is in vain, and what to do."""
    if evidence.past <= evidence.requests:
        return ""
    return (
        f"; {evidence.past:,} requests came whose event times lie before it began ({to_iso(deployment.shares[0].event_time)[:16]}),"
        f" and none of them counts. If they are a replay of the past: stead deployments cancel {deployment.id}, and deploy while the"
        " replay runs, so that it begins by the replay's clock"
    )


def _soon(evidence: Evidence, plan: RolloutConfig) -> str:
    """How long still until the least evidence is there."""
    counted = _counted(evidence, plan)
    if not evidence.days or not counted:
        return ""
    left = max(plan.days - evidence.step_days, (plan.rows - evidence.step_rows) / (counted / evidence.days))
    return f"; about {days_text(left)} more at this traffic for the least evidence" if left > 0 else ""


def _proof(evidence: Evidence) -> str:
    return "" if evidence.more_days is None else f"; {proof_text(evidence.more_days)}"


def proof_text(more_days: float) -> str:
    """When the interval of the loss excludes the bound, should today's estimate and spread stay.

    >>> proof_text(45.2), proof_text(73_497), proof_text(0)
    ('a proof takes about 46 days more at this difference', 'no proof comes at this difference', 'the proof is there')
    """
    if more_days > LONG:
        return "no proof comes at this difference"
    return f"a proof takes about {days_text(more_days)} more at this difference" if more_days else "the proof is there"


def days_text(number: float) -> str:
    """
    >>> days_text(0.2), days_text(1.5)
    ('1 day', '2 days')
    """
    whole = max(1, math.ceil(number))
    return f"{whole} day{'s' if whole > 1 else ''}"


def _advance(tx: sa.Connection, store: Store, deployment: Deployment, decision: Decision, told: dict[str, Any]) -> int:
    steps = _steps(deployment.plan)
    if len(deployment.shares) < len(steps):
        return _step(tx, store, deployment, steps[len(deployment.shares)], decision.said)
    operations.advance(tx, deployment, "switching", decision.said)
    return operations.switch(tx, store, deployment, evidence=told)


def _abort(
    tx: sa.Connection, store: Store, deployment: Deployment, decision: Decision, told: dict[str, Any]
) -> int | None:
    ref = f"{deployment.model}@{deployment.version}"
    aside = decision.guard not in STOPPED and operations.judged_for(tx, deployment) > 0
    revision = operations.let_go(tx, store, deployment, aside=aside)
    error = {"code": f"guard-{decision.guard}", "message": decision.said, "kind": "Refused"}
    operations.advance(tx, deployment, "aborted", decision.said, error=error, ended=True)
    said = f"the {deployment.called} of {ref} was taken back by the guard {decision.guard}: {decision.said}"
    again = ledger.Undo("deployments.deploy", {"model": deployment.model, "version": deployment.version})
    entry = operations.record_end(
        tx, "agent", deployment, "deployment.aborted", said, None, told, undo=again,
        alternatives=["hold for more evidence", "let it answer all the same"],
    )  # fmt: skip
    if aside:
        operations.begin_judging(tx, deployment, entry, "abort")
    return revision


def _step(tx: sa.Connection, store: Store, deployment: Deployment, share: float, note: str) -> int:
    """Move the split: the version gets its share, and both score what the other one answers."""
    previous = deployment.previous
    assert previous is not None
    arms = [serving.Arm(previous, 1 - share)] + ([serving.Arm(deployment.version, share)] if share else [])
    both = [previous, deployment.version]
    revision = serving.set_route(store.db, tx, deployment.model, arms=arms, warm=both, shadow=both)
    held = jobs.held_in(tx, deployment.model)
    now = now_ms()
    begun = [*deployment.shares, Share(share, now, held if held is not None else now)]
    key = deployments.c.id == deployment.id
    tx.execute(sa.update(deployments).where(key).values(shares=msgspec.to_builtins(begun)))
    gets = f"gets {percent(share, 0)} of the traffic" if share else "scores every row aside"
    operations.advance(tx, deployment, "canary", f"{gets}: {note}")
    operations.record_end(
        tx,
        "agent",
        deployment,
        "canary.step",
        f"{deployment.model}@{deployment.version} {gets}: {note}",
        None,
        {"share": share, "revision": revision, "said": note},
        undo=ledger.Undo("deployments.cancel_deployment", {"number": deployment.id}),
        alternatives=["hold for more evidence", "take it back"],
    )
    return revision
