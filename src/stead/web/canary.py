"""A canary on its deployment's page: its split, its steps, the evidence of its guards, and what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import deployments, models
from stead.config.units import percent
from stead.deployments import Deployment, telling
from stead.web import charts, live
from stead.web.frame import back, form_of, fragment, need, store_of, when

CHIPS: dict[telling.Verdict, str] = {"broken": "bad", "over": "warn", "holds": "ok", "waits": "idle"}


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
    said = telling.said(deployment)
    return View(
        bold=_bold(deployment, decision),
        said=said[:1].upper() + said[1:] + ".",
        split=_split(deployment, share) if under_way else [],
        stages=_stages(deployment, seen) if under_way else [],
        figures=telling.figures(deployment, loss, when),
        guards=[_drawn(each) for each in telling.guards(deployment)],
        until=seen.get("until"),
    )


def _bold(deployment: Deployment, decision: Mapping[str, Any]) -> str:
    if deployment.state == "aborted":
        return f"v{deployment.version} was taken back by the guard {decision.get('guard', '')}.".replace(" .", ".")
    return f"{telling.does(deployment)}."


def _split(deployment: Deployment, share: float) -> list[tuple[int, float]]:
    return [(deployment.previous or 0, 1 - share), (deployment.version, share)]


def _stages(deployment: Deployment, seen: Mapping[str, Any]) -> list[Stage]:
    """The steps that were begun, those to come, and the whole."""
    plan, begun = deployment.plan, deployment.shares
    to_come = plan.steps[len(begun) :] if plan.kind not in ("shadow", "ab") else ()
    rows = (seen.get("step_rows") or 0) / plan.rows if plan.rows else 1.0
    part = min(1.0, rows, (seen.get("step_days") or 0) / plan.days if plan.days else 1.0)
    stages = [
        Stage(percent(each.share, 0) if each.share else "aside", "done", f"since {when(each.event_time)}", 1.0)
        for each in begun[:-1]
    ]
    last = begun[-1]
    stages.append(
        Stage(percent(last.share, 0) if last.share else "aside", "now", f"since {when(last.event_time)}", part)
    )
    shown = "it is shown to be better" if plan.kind == "ab" else "every guard holds"
    needs = f"when {shown} on {plan.rows} labelled rows, {plan.days} days"
    stages += [Stage(percent(each, 0), "", needs) for each in to_come]
    return [*stages, Stage("100 %", "", needs if not to_come else "after that, by itself")]


def _drawn(seen: telling.Guard) -> Guard:
    picture = charts.interval(*seen.ends, label=f"{seen.name}: {seen.interval}", bound=seen.limit) if seen.ends else ""
    return Guard(seen.name, CHIPS[seen.verdict], seen.verdict, seen.seen, picture, seen.interval, seen.bound)


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
