"""What a canary has shown, in words and figures: what its page and its command tell alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from stead.config.units import figure, lasting, milliseconds, number, percent, points
from stead.deployments.canary import ERRORS, HANGS, LONG, PATIENCE, SLOWER, SPLIT, days_text, fails_more, slower
from stead.deployments.evidence import OWN_TOLERANCE, SHIFT, TURN, margin_of
from stead.deployments.types import Deployment
from stead.runtime.clock import to_iso

Verdict = Literal["broken", "over", "holds", "waits"]
"""A guard is over its bound and not broken while there are too few rows to judge by."""


@dataclass(frozen=True)
class Guard:
    """One guard: what it sees, with the interval that holds at every look, against its bound."""

    name: str
    verdict: Verdict
    seen: str
    interval: str
    bound: str
    ends: tuple[float | None, float | None, float | None] | None = None
    """Low end, estimate, high end; None where the guard has no interval."""
    limit: float | None = None


UNSEEN = "nobody has looked at its evidence yet; the agent looks by itself"


def said(deployment: Deployment) -> str:
    """What the last look at a canary said."""
    return str(((deployment.evidence or {}).get("decision") or {}).get("said") or UNSEEN)


def stands(deployment: Deployment) -> str:
    """Where a canary stands, in a line; of one that has ended, what it was decided by."""
    does_ = does(deployment) if deployment.state == "canary" else f"as {kind(deployment)}"
    return f"{does_}: {said(deployment)}"


def kind(deployment: Deployment) -> str:
    """What a rollout is called, with its article."""
    return f"{'an' if deployment.plan.kind == 'ab' else 'a'} {deployment.called}"


def does(deployment: Deployment) -> str:
    """Its present step."""
    share = deployment.shares[-1].share
    answers = f"answers {percent(share, 0)} of the requests"
    return f"v{deployment.version} {answers if share else 'scores every row aside'}"


def counted(deployment: Deployment) -> int:
    """Labelled rows that count as evidence: those that the version answered; of a shadow, which answers none, those it scored."""
    seen = deployment.evidence or {}
    return int(seen.get("rows" if deployment.plan.kind == "shadow" else "arm_rows") or 0)


def figures(deployment: Deployment, loss: str, when: Callable[[int], str]) -> list[tuple[str, str, str]]:
    """On how much a canary stands, and what it costs: name, figure, what it is held against; `when` writes a moment."""
    seen, plan = deployment.evidence, deployment.plan
    if not seen:
        return []
    later = len(deployment.shares) > 1 and "step_rows" in seen
    rows = f"{seen['step_rows']} of {plan.rows} at this step" if later else f"of {plan.rows} that are needed"
    days = f"{seen['step_days']} of {plan.days} at this step" if later else f"of {plan.days}"
    versions = f"v{deployment.version} against {figure(seen['first_loss'])} of v{deployment.previous}"
    asked = f"of {number(seen['requests'])} since it began; " if "requests" in seen else ""
    past = f"; {number(seen['past'])} of an earlier time do not count" if seen.get("past") else ""
    out = [
        ("Labelled rows", number(counted(deployment)), f"{rows}; {number(seen['rows'])} scored by both"),
        ("Event days", number(seen["days"]), f"{days}; counted up to {when(seen['until'])}"),
        (f"Loss, {loss}", figure(seen["second_loss"]), versions),
        ("Requests", number(seen["answered"]), f"{asked}failed: {number(seen['failed'])}{past}"),
    ]
    if plan.kind == "shadow" and "requests" in seen:
        out[-1] = ("Requests", number(seen["requests"]), f"v{deployment.previous} answered all of them{past}")
    if deployment.state == "canary" and (more := seen["more_days"]):
        told = ("none", "not at this difference") if more > LONG else (days_text(more), "more at this difference")
        out.append(("To a proof", told[0], f"{told[1]}, by the interval of the loss"))
    return out


def guards(deployment: Deployment) -> list[Guard]:
    """Each guard of the plan."""
    seen, names, margin = deployment.evidence, deployment.plan.guards, margin_of(deployment.plan)
    if not seen:
        return []
    ended = bool((seen.get("decision") or {}).get("guard"))
    out = []
    if "loss" in names and "loss" in seen:  # a canary of an earlier stead has other intervals
        wanted = f"no more than {percent(margin)} worse" if margin else "not worse; wins where all of it is better"
        whole = {end: value if value is None else value + margin for end, value in seen["loss"].items()}
        text = f"{wanted}; the unit is {lasting(seen['block'])} of rows"
        found = _guard("Loss", whole, margin, text, ended, points)
        high = deployment.plan.kind != "ab" and (whole["estimate"] or 0.0) > margin
        out.append(_doubted(found, seen, "loss") if high else found)
        offline = "" if seen.get("offline") is None else f", which is {figure(seen['offline'])}"
        own = f"at most {OWN_TOLERANCE:g} times its own offline result{offline}"
        out.append(_guard("Loss beyond its own", seen["own"], 0.0, own, ended, figure))
        if turn := seen.get("turn"):
            losses = (
                f"{figure(turn['second_loss'])} against {figure(turn['first_loss'])} on {number(turn['rows'])} rows"
            )
            text = f"no more than {percent(TURN, 0)} worse since some day"
            broken: Verdict = "broken" if ended else "over"
            out.append(Guard(f"Loss since {to_iso(turn['since'])[:10]}", broken, losses, "", text))
    answers = deployment.plan.kind != "shadow"
    failing = "other_scored" in seen and fails_more(
        seen["failed"] + seen["aside_failed"],
        seen["answered"] + seen["aside"],
        seen["other_failed"],
        seen["other_scored"],
    )
    if "errors" in names and answers:
        text = f"no more than {percent(ERRORS)} more"
        found = _guard("Failed requests", seen["errors"], ERRORS, text, ended, points)
        out.append(_doubted(found, seen, "errors") if failing else found)
    if "errors" in names and "aside" in seen:
        text = f"no more than {percent(ERRORS)} more than the answers of v{deployment.previous}"
        found = _guard("Failed aside", seen["aside_errors"], ERRORS, text, ended, points)
        out.append(_doubted(found, seen, "errors") if failing else found)
        hangs = seen["hung"] >= HANGS and not seen["other_hung"]
        text = f"fewer than {HANGS} where v{deployment.previous} has none; it has {number(seen['other_hung'])}"
        out.append(Guard("Answers too late", _held(not hangs), number(seen["hung"]), "", text))
    if "latency" in names and answers:
        usual = seen["other_latency"]["high"]
        bound = SLOWER * usual if usual is not None else None
        text = f"at most {SLOWER:g} times the usual{f', {milliseconds(bound)}' if bound is not None else ''}"
        if (now := seen["other_latency"]["estimate"]) is not None:
            text += f"; v{deployment.previous} has {milliseconds(now)}"
        found = _guard("95 % of answers within", seen["latency"], bound, text, ended, milliseconds)
        slow = slower(seen["latency"]["low"], seen["other_latency"]["estimate"])
        out.append(_doubted(found, seen, "latency") if slow else found)
    if "outputs" in names:
        out.append(Guard("Unusable outputs", _held(seen["unusable"] == 0), number(seen["unusable"]), "", "none"))
    if "shift" in names and "shift" in seen:
        text = f"at most {percent(SHIFT)} of what rows drawn at random are apart"
        out.append(_guard("Outputs apart", seen["shift"], SHIFT, text, ended, percent))
    if answers:
        split = seen["split"]
        bound = f"p at least {SPLIT:g}; a key counts once"
        out.append(Guard("Split by the shares", _held(split >= SPLIT), f"p {split:.2g}", "", bound))
    return out


def _held(holds: bool) -> Verdict:
    return "holds" if holds else "broken"


def _doubted(found: Guard, seen: Mapping[str, Any], guard: str) -> Guard:
    """A guard that holds and shows harm by the estimate: more rows are waited for, and in the end no more."""
    if found.verdict != "holds":
        return found
    ended = (seen.get("decision") or {}).get("guard") == guard and seen["days"] >= PATIENCE
    return replace(found, verdict="broken" if ended else "waits")


def _guard(
    name: str, seen: Mapping[str, Any], bound: float | None, text: str, ended: bool, unit: Callable[[float], str]
) -> Guard:
    low, value, high = seen["low"], seen["estimate"], seen["high"]
    known = low is not None or high is not None
    told = f"{unit(low) if low is not None else 'open'} to {unit(high) if high is not None else 'open'}"
    over = low is not None and bound is not None and low > bound
    verdict: Verdict = ("broken" if ended else "over") if over else "holds" if known else "waits"
    shown = unit(value) if value is not None else "–"
    shown, told = (each.replace("-", "−") for each in (shown, told if known else ""))
    return Guard(name, verdict, shown, told, text, (low, value, high) if known else None, bound)
