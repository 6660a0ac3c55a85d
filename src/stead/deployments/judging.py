"""Decisions judged by the rows that came after: did the version that was promoted, or taken back, really lose less or more?

After a promotion the displaced champion goes on scoring aside what the new one answers, and after an abort for its loss the
version that was taken back does, `judge_days` of the rollout's plan by the model's clock. The difference is paired on the
same rows with the day as the unit, by an interval that holds at every look (`stats.sequential.paired`), and computed anew
from the log whenever a day is due (a week, where a replay holds the clock) or a late label came; so it can be looked at often and be stopped anywhere. A decision is
right or wrong where the interval lies on one side of the plan's margin, else undecided: a promotion is wrong where harm beyond the
margin is shown, an abort is wrong where such harm is excluded. The retraining behind it is right where its version lost less at all,
and undecided where it lost as much.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import sqlalchemy as sa

from stead import jobs, ledger, models, predictions, serving
from stead.config.units import percent, points
from stead.deployments import operations
from stead.deployments.evidence import DAY, due_until, margin_of, paired_losses
from stead.deployments.types import Deployment
from stead.ledger import Judgement
from stead.runtime.clock import now_ms
from stead.stats import sequential
from stead.store import Store

ALPHA = 0.05
LEAST_DAYS = 7
WEEK = 7 * DAY


@dataclass(frozen=True)
class Found:
    """What the rows of a judgement say: the relative difference with its interval, and on how much it rests."""

    difference: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    days: int = 0


def judged_now(store: Store) -> list[list[Judgement]]:
    """Open judgements that a look may change, those of one deployment together.

    A look a day, and one a week where a replay passes a day in a moment; one at the end of the time, and where late labels came.
    """
    with store.db.read() as tx:
        waiting = ledger.open_judgements(tx)
        if not waiting:
            return []
        clocks = jobs.held_clocks(tx)
        known = operations.known_in(tx, {each.deployment for each in waiting})
        changed = {
            each.entry: predictions.refreshed_in(tx, each.model, since=each.since, until=each.seen) for each in waiting
        }
    routes = {route.model: route for route in serving.list_routes(store)}
    wall = now_ms()
    together: dict[int, list[Judgement]] = defaultdict(list)
    for each in waiting:
        now = clocks.get(each.model, wall)
        every = WEEK if each.model in clocks else DAY
        news = changed[each.entry] > each.refresh or now // every > each.seen // every or now >= each.until
        if news or not _scores(routes.get(each.model), known[each.deployment]):
            together[each.deployment].append(each)
    return list(together.values())


def judge(store: Store, waiting: Sequence[Judgement]) -> bool:
    """Restate the judgements of one deployment, end its scoring aside when the time is over, close them when labels are in.

    True where a verdict changed or something ended. All that a look writes is one transaction.
    """
    first = waiting[0]
    deployment = operations.get_deployment(store, first.deployment)
    model = models.get_model(store, first.model)
    now = jobs.model_now(store, model.name)
    with store.db.read() as tx:
        route = serving.route_in(tx, model.name)
        until = first.until if _scores(route, deployment) else min(first.until, max(now, first.since))
        upto = max(min(until, due_until(model, now)), first.since)
        refresh = predictions.refreshed_in(tx, model.name, since=first.since, until=upto)
        over = now >= until
        ends = over and _only_judged(tx, route, deployment, now)
    closes = over and due_until(model, now) >= until + DAY
    old = [each for each in waiting if (each.seen, each.refresh, each.until) != (upto, refresh, until)]
    if not old and not closes and not ends:
        return False
    found = _measure(store, deployment, model, since=first.since, until=upto)
    made = [
        replace(
            each, until=until, closed=closes, verdict=_verdict(each.kind, found, margin_of(deployment.plan)),
            said=_said(deployment, found, closed=closes), difference=found.difference, low=found.low, high=found.high,
            rows=found.rows, days=found.days, seen=upto, refresh=refresh, at=now_ms(),
        )
        for each in waiting
    ]  # fmt: skip
    with store.db.write("deployments.judge") as tx:
        ended = ends and _end_shadow(tx, store, deployment, now)
        for each in made:
            if ledger.write_judgement(tx, each) and closes:
                _tell(tx, each)
    before = {each.entry: each.verdict for each in waiting}
    return bool(ended) or closes or any(each.verdict != before[each.entry] for each in made)


def judged_wrong(store: Store) -> list[tuple[Deployment, Judgement]]:
    """Promotions that the rows since have judged wrong, whose version answers and from which nobody has gone back yet."""
    with store.db.read() as tx:
        wrong = ledger.wrong_promotions(tx)
        known = operations.known_in(tx, {each.deployment for each in wrong}) if wrong else {}
        pairs = [(known[each.deployment], each) for each in wrong if known[each.deployment].state == "live"]
        return [(live, each) for live, each in pairs if operations.may_return(tx, live)]


def take_back(store: Store, live: Deployment, judged: Judgement) -> Deployment:
    """Go back from a promotion that is judged wrong to the version that it displaced. Raises NotFound, Conflict like `rollback`."""
    reason = f"decision {judged.entry}, its promotion, is judged wrong: {judged.said}"
    return operations.rollback(store.acting("agent"), live.model, to=live.previous, reason=reason)


def _measure(store: Store, deployment: Deployment, model: models.Model, *, since: int, until: int) -> Found:
    decided = (step.at for step in deployment.steps if step.state in ("live", "aborted"))
    pairs = paired_losses(store, deployment, model, since=since, until=until, came=next(decided, 0))
    weight = float(pairs.weight.sum())
    usual = float(pairs.first.sum()) / weight if weight > 0 else math.nan
    if not usual > 0:
        return Found(rows=len(pairs.weight), days=len(set(pairs.day.tolist())))
    state = sequential.observe_days(sequential.Paired(), pairs.second, pairs.first, pairs.weight, pairs.day)
    bounds = sequential.paired(state, alpha=ALPHA, least=LEAST_DAYS)
    low, high = (end / usual if math.isfinite(end) else None for end in (bounds.low, bounds.high))
    return Found(state.gap / state.weight / usual, low, high, len(pairs.weight), state.days)


def _verdict(kind: str, found: Found, margin: float) -> Literal["right", "wrong", "undecided"]:
    """Where the interval lies: beyond the margin the version does harm, below it does none."""
    if found.low is None or found.high is None:
        return "undecided"
    if kind == "retraining":
        harmful, harmless = found.low > 0, found.high < 0  # no difference is neither
    else:
        harmful, harmless = found.low > margin, found.high <= margin
    if not harmful and not harmless:
        return "undecided"
    return "right" if harmless != (kind == "abort") else "wrong"


def _said(deployment: Deployment, found: Found, *, closed: bool) -> str:
    if found.difference is None:
        return "no labelled row was scored by both versions" if closed else operations.AWAITED
    rows = f"the same {found.rows:,} rows of {found.days} days"
    if found.difference == 0:
        return f"version {deployment.version} lost as much as version {deployment.previous} on {rows}: no difference"
    word = "more" if found.difference > 0 else "less"
    said = f"version {deployment.version} lost {percent(abs(found.difference))} {word} than version {deployment.previous} on {rows}"
    if found.low is None or found.high is None:
        return f"{said}: too few days to say how sure that is"
    return f"{said}, between {points(found.low)} and {points(found.high)}"


def _scores(route: serving.Route | None, deployment: Deployment) -> bool:
    """Whether both versions of a deployment score the rows that come."""
    if route is None:
        return False
    return {deployment.version, deployment.previous} <= {*(arm.version for arm in route.arms), *route.shadow}


def _loser(deployment: Deployment) -> int | None:
    """The version that goes on only to be judged by."""
    return deployment.version if deployment.state == "aborted" else deployment.previous


def _only_judged(tx: sa.Connection, route: serving.Route | None, deployment: Deployment, now: int) -> bool:
    """Whether a deployment's other version still scores, for nothing but the judgement of this one."""
    if route is None or _loser(deployment) not in route.shadow:
        return False
    busy = operations.under_way_in(tx, deployment.model)
    if busy is not None and busy.shares:
        return False  # a canary has both score, and lets go of them itself
    others = {
        each.deployment
        for each in ledger.open_judgements(tx)
        if each.model == deployment.model and each.deployment != deployment.id and each.until > now
    }
    kept = {_loser(operations.get_in(tx, number)) for number in others}
    return _loser(deployment) not in kept | {arm.version for arm in route.arms}


def _end_shadow(tx: sa.Connection, store: Store, deployment: Deployment, now: int) -> bool:
    """Let the version that was kept for the judgement score no more; it stays warm where a roll-back needs it."""
    route = serving.route_in(tx, deployment.model)
    if route is None or not _only_judged(tx, route, deployment, now):
        return False
    gone = _loser(deployment)
    left = [version for version in route.shadow if version != gone]
    revision = serving.set_route(
        store.db, tx, deployment.model, arms=route.arms, warm=route.warm, shadow=left
    )  # fmt: skip
    operations.record_end(
        tx, "agent", deployment, "shadow.ended", f"{deployment.model}@{gone} scores no more aside: it was kept to judge by",
        None, {"revision": revision, "version": gone, "judge_days": deployment.plan.judge_days},
        alternatives=["judge it for longer: judge_days under [models.NAME.rollout]"],
    )  # fmt: skip
    return True


def _tell(tx: sa.Connection, judged: Judgement) -> None:
    """The ledger's entry that a judgement stands."""
    what = {"promotion": "the promotion", "abort": "the roll-back", "retraining": "the retraining"}[judged.kind]
    word = "undecided" if judged.verdict == "undecided" else f"judged {judged.verdict}"
    ledger.record(
        tx,
        actor="agent",
        action="decision.judged",
        model=judged.model,
        subject=f"decision {judged.entry}",
        summary=f"{what} of decision {judged.entry} is {word}: {judged.said}",
        evidence={
            "decision": judged.entry, "verdict": judged.verdict, "difference": judged.difference, "low": judged.low,
            "high": judged.high, "rows": judged.rows, "days": judged.days,
        },
        event_time=jobs.held_in(tx, judged.model),
        policy=models.policy_of(tx, judged.model),
    )  # fmt: skip
