"""A canary on its deployment's page: its split, its steps, the evidence of its guards, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import deployments, models
from stead.deployments import Deployment
from stead.deployments.canary import ERRORS, SLOWER, SPLIT
from stead.deployments.evidence import OWN_TOLERANCE, SHIFT
from stead.web import charts, live
from stead.web.frame import (
    back,
    day,
    figure,
    form_of,
    fragment,
    lasting,
    milliseconds,
    need,
    number,
    percent,
    points,
    store_of,
    when,
)

BROKEN, OVER, HOLDS, WAITS = ("bad", "broken"), ("warn", "over"), ("ok", "holds"), ("idle", "waits")
"""Chip and word; a guard is over its bound and not broken while there are too few rows to judge by."""


@dataclass(frozen=True)
class Stage:
    """One step of the plan."""

    name: str
    kind: str
    """`done`, `now`, or empty for one that is to come."""
    note: str
    part: float = 0.0
    """How much of it is done, 0 to 1."""


@dataclass(frozen=True)
class Guard:
    """One guard: what it sees against its bound."""

    name: str
    chip: str
    word: str
    seen: str
    picture: str
    interval: str
    bound: str


@dataclass(frozen=True)
class View:
    """A canary as its page shows it; `said` is what the last look said."""

    bold: str
    said: str
    split: list[tuple[int, float]]
    stages: list[Stage]
    figures: list[tuple[str, str, str]]
    guards: list[Guard]
    until: int | None


def view(deployment: Deployment, loss: str) -> View | None:
    """None where the deployment was never a canary."""
    if not deployment.shares:
        return None
    seen = deployment.evidence or {}
    decision: Mapping[str, Any] = seen.get("decision") or {}
    share = deployment.shares[-1].share
    under_way = deployment.state == "canary"
    said = decision.get("said") or "nobody has looked at its evidence yet; the agent looks by itself"
    return View(
        bold=_bold(deployment, decision, share),
        said=said[:1].upper() + said[1:] + ".",
        split=_split(deployment, share) if under_way else [],
        stages=_stages(deployment, seen) if under_way else [],
        figures=_figures(deployment, seen, loss),
        guards=_guards(deployment, seen, decision.get("guard")),
        until=seen.get("until"),
    )


def _bold(deployment: Deployment, decision: Mapping[str, Any], share: float) -> str:
    ref = f"v{deployment.version}"
    if deployment.state == "aborted":
        return f"{ref} was taken back by the guard {decision.get('guard', '')}.".replace(" .", ".")
    does = f"answers {_share(share)} of the requests" if share else "scores every row aside"
    return f"{ref} {does}."


def _share(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _split(deployment: Deployment, share: float) -> list[tuple[int, float]]:
    return [(deployment.previous or 0, 1 - share), (deployment.version, share)]


def _stages(deployment: Deployment, seen: Mapping[str, Any]) -> list[Stage]:
    """The steps that were begun, those to come, and the whole."""
    plan, begun = deployment.plan, deployment.shares
    to_come = plan.steps[len(begun) :] if plan.kind not in ("shadow", "ab") else ()
    counted = seen.get("rows" if plan.kind == "shadow" else "arm_rows") or 0
    part = min(
        1.0, counted / plan.rows if plan.rows else 1.0, (seen.get("days") or 0) / plan.days if plan.days else 1.0
    )
    stages = [
        Stage(_share(each.share) if each.share else "aside", "done", f"since {when(each.event_time)}", 1.0)
        for each in begun[:-1]
    ]
    last = begun[-1]
    stages.append(Stage(_share(last.share) if last.share else "aside", "now", f"since {when(last.event_time)}", part))
    needs = f"when every guard holds on {plan.rows} labelled rows, {plan.days} days"
    stages += [Stage(_share(each), "", needs) for each in to_come]
    return [*stages, Stage("100 %", "", needs if not to_come else "after that, by itself")]


def _figures(deployment: Deployment, seen: Mapping[str, Any], loss: str) -> list[tuple[str, str, str]]:
    """Name, figure, what it is held against."""
    if not seen:
        return []
    plan = deployment.plan
    counted = seen["rows"] if plan.kind == "shadow" else seen["arm_rows"]
    rows = f"of {plan.rows} that are needed; {number(seen['rows'])} scored by both"
    versions = f"v{deployment.version} against {figure(seen['first_loss'])} of v{deployment.previous}"
    more = seen["more_days"]
    proof = []
    if more is not None:
        proof = [("Days to a proof", f"{max(1, round(more))}", "at this difference, by the interval of the loss")]
    return [
        ("Labelled rows", number(counted), rows),
        ("Days", number(seen["days"]), f"of {plan.days}; counted up to {day(seen['until'])}"),
        (f"Loss, {loss}", figure(seen["second_loss"]), versions),
        ("Requests", number(seen["answered"]), f"failed: {number(seen['failed'])}"),
        *proof,
    ]


def _guards(deployment: Deployment, seen: Mapping[str, Any], broken: str | None) -> list[Guard]:
    """Each guard of the plan: estimate, interval that holds at every look, bound; `broken` is the one that ended it."""
    if not seen:
        return []
    guards, margin = deployment.plan.guards, percent(deployment.plan.margin)
    out = []
    if "loss" in guards and "loss" in seen:  # a canary of an earlier stead has other intervals
        text = f"no more than {margin} worse; the unit is {lasting(seen['block'])} of rows"
        out.append(_guard("Loss", seen["loss"], 0.0, text, broken, points))
        own = f"at most {OWN_TOLERANCE:g} times its own offline result"
        out.append(_guard("Loss beyond its own", seen["own"], 0.0, own, broken, figure))
    if "errors" in guards:
        text = f"no more than {percent(ERRORS)} more"
        out.append(_guard("Failed requests", seen["errors"], ERRORS, text, broken, points))
    if "latency" in guards:
        usual = seen["other_latency"]["high"]
        bound = SLOWER * usual if usual is not None else None
        text = f"at most {SLOWER:g} times the usual{f', {milliseconds(bound)}' if bound is not None else ''}"
        out.append(_guard("95 % of answers within", seen["latency"], bound, text, broken, milliseconds))
    if "outputs" in guards:
        chip, word = BROKEN if seen["unusable"] > 0 else HOLDS
        out.append(Guard("Unusable outputs", chip, word, number(seen["unusable"]), "", "", "none"))
    if "shift" in guards and "shift" in seen:
        text = f"at most {percent(SHIFT)} of what rows drawn at random are apart"
        out.append(_guard("Outputs apart", seen["shift"], SHIFT, text, broken, percent))
    chip, word = BROKEN if seen["split"] < SPLIT else HOLDS
    out.append(Guard("Split by the shares", chip, word, f"p {seen['split']:.2g}", "", "", f"p at least {SPLIT:g}"))
    return out


def _guard(
    name: str,
    seen: Mapping[str, float | None],
    bound: float | None,
    text: str,
    broken: str | None,
    unit: Callable[[float], str],
) -> Guard:
    low, value, high = seen["low"], seen["estimate"], seen["high"]
    known = low is not None or high is not None
    told = (
        f"{unit(low) if low is not None else 'open'} to {unit(high) if high is not None else 'open'}" if known else ""
    )
    picture = charts.interval(low, value, high, label=f"{name}: {told}", bound=bound) if known else ""
    over = low is not None and bound is not None and low > bound
    chip, word = (BROKEN if broken else OVER) if over else HOLDS if known else WAITS
    return Guard(name, chip, word, unit(value) if value is not None else "–", picture, told, text)


def follow(request: Request) -> Response:
    """`/deployments/{number}/live`"""
    store, number_ = store_of(request), request.path_params["number"]
    deployments.get_deployment(store, number_)
    shown: list[str] = []

    def look() -> tuple[live.Events, bool]:
        deployment = deployments.get_deployment(store, number_)
        if deployment.state != "canary":
            return [], True
        seen = view(deployment, models.get_model(store, deployment.model).loss)
        text = fragment("_canary.html", canary=seen, deployment=deployment)
        if shown == [text]:
            return [], False
        shown[:] = [text]
        return [("canary", text)], False

    return live.stream(request, look)


async def cancel(request: Request) -> Response:
    """`POST /deployments/{number}/cancel`"""
    need(request, "write")
    form = await form_of(request)
    number_ = request.path_params["number"]
    await run_in_threadpool(
        deployments.cancel_deployment, store_of(request), number_, reason=form.get("reason") or None
    )
    return back(request, f"/deployments/{number_}")


ROUTES = [
    ("/deployments/{number:int}/live", follow, ["GET"]),
    ("/deployments/{number:int}/cancel", cancel, ["POST"]),
]
