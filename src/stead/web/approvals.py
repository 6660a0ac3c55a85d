"""Approvals: what waits for a person, and one retraining with the challenger beside the champion and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import datasets, deployments, environments, gates, models, policies
from stead.environments import Difference
from stead.errors import NotFound
from stead.gates import Verdict
from stead.models import LoggedModel
from stead.policies import OPEN, Retraining
from stead.store import Store
from stead.web import charts
from stead.web.frame import back, day, facts, figure, form_of, need, number, render, store_of
from stead.web.models import VERDICTS, retraining_chip

MEASURES = {"holdout_random": "Hold-out, random rows", "holdout_time": "Hold-out, newest rows"}
SAME_ROWS = "Same rows"


@dataclass(frozen=True)
class Measure:
    """One measure of both versions; lower is better."""

    name: str
    challenger: float | None
    champion: float | None
    interval: str = ""
    """The difference with its interval, drawn."""
    told: str = ""
    """Its interval, in words."""

    @property
    def change(self) -> float | None:
        """The challenger's over the champion's, minus 1."""
        if self.challenger is None or not self.champion:
            return None
        return self.challenger / self.champion - 1


def listed(request: Request) -> Response:
    """`/approvals`"""
    store = store_of(request)
    waiting = policies.list_approvals(store)
    others = [each for each in policies.list_retrainings(store, limit=100) if each.state != "waiting"]
    return render(
        request,
        "approvals.html",
        title="Approvals",
        data={"waiting": waiting, "others": others},
        waiting=waiting,
        others=others,
        chip=retraining_chip,
    )


def one(request: Request) -> Response:
    """`/approvals/{number}`"""
    store = store_of(request)
    retraining = policies.get_retraining(store, request.path_params["number"])
    model = models.get_model(store, retraining.model)
    challenger, champion = logged_of(store, retraining, retraining.version), champion_of(store, retraining)
    verdicts = newest(gates.list_verdicts(store, model.name, version=retraining.version)) if retraining.version else []
    measures = [*beside(verdicts), *measured(challenger, champion)]
    deployment = deployments.get_deployment(store, retraining.deployment) if retraining.deployment else None
    return render(
        request,
        "approval.html",
        title=f"{model.name} v{retraining.version}" if retraining.version else f"{model.name}, retraining",
        crumbs=[("Approvals", "/approvals"), (model.name, f"/models/{model.name}")],
        crumb=f"retraining {retraining.id}",
        data={"retraining": retraining, "verdicts": verdicts, "measures": measures, "deployment": deployment},
        retraining=retraining,
        model=model,
        chip=retraining_chip(retraining),
        verdict=sentence(retraining, measures, verdicts, model.loss),
        measures=measures,
        verdicts=verdicts,
        verdict_chips=VERDICTS,
        evidence=facts(retraining.evidence),
        made=made_of(store, challenger, champion),
        packages=packages(store, challenger, champion),
        both=challenger is not None and champion is not None,
        deployment=deployment,
        rollout=rollout(store, retraining),
        waits=retraining.state == "waiting",
        under_way=retraining.state in OPEN,
    )


def newest(verdicts: list[Verdict]) -> list[Verdict]:
    """The last word of each gate, of verdicts that come newest first."""
    return list({verdict.gate: verdict for verdict in reversed(verdicts)}.values())


def logged_of(store: Store, retraining: Retraining, version: int | None) -> LoggedModel | None:
    if version is None:
        return None
    return models.get_logged_model(store, models.get_version(store, f"{retraining.model}@{version}").logged_model)


def champion_of(store: Store, retraining: Retraining) -> LoggedModel | None:
    """What was live when it was judged."""
    return logged_of(store, retraining, retraining.champion)


def measured(challenger: LoggedModel | None, champion: LoggedModel | None) -> list[Measure]:
    """What both scored when they were made, hold-outs first."""
    if challenger is None:
        return []
    before = champion.metrics if champion else {}
    names = sorted({*challenger.metrics, *before}, key=lambda name: (name not in MEASURES, name))
    return [Measure(MEASURES.get(name, name), challenger.metrics.get(name), before.get(name)) for name in names]


def beside(verdicts: list[Verdict]) -> list[Measure]:
    """Both on the same rows, as the gate `challenger` saw them, with the interval of the difference that it judges by."""
    found = next((verdict.evidence for verdict in verdicts if verdict.gate == "challenger"), {})
    loss, usual, margin = found.get("loss"), found.get("champion_loss"), found.get("margin")
    if loss is None or not usual:
        return []
    name = f"{SAME_ROWS}, {found.get('days', 0)} days"
    low, high = found.get("low"), found.get("high")
    if margin is None or low is None or high is None:
        return [Measure(name, loss, usual)]
    ends = [each / usual + margin for each in (low, high)]  # the gate tells the loss beyond the margin
    told = " to ".join(f"{each * 100:+.1f} %".replace("-", "−") for each in ends)
    drawn = charts.interval(ends[0], loss / usual - 1, ends[1], label=f"difference {told}", bound=margin)
    return [Measure(name, loss, usual, drawn, told)]


def sentence(retraining: Retraining, measures: list[Measure], verdicts: list[Verdict], loss: str) -> tuple[str, str]:
    """The answer first: a few bold words, then the figures."""
    if retraining.version is None:
        said = (retraining.error or {}).get("message") or retraining.reason
        return ("It is being trained." if retraining.state == "training" else f"It was {retraining.state}."), f"{said}."
    ref = f"v{retraining.version}"
    told = "; ".join([each for each in (_compared(retraining, measures, loss), _judged(verdicts)) if each])
    told = told[:1].upper() + told[1:] + "." if told else ""
    if retraining.state == "waiting":
        until = f" Until you decide, v{retraining.champion} answers as before." if retraining.champion else ""
        return f"{ref} waits for you.", told + until
    word = {
        "judging": f"{ref} is being judged.",
        "deploying": f"{ref} is on its way.",
        "done": f"{ref} went through.",
    }.get(retraining.state, f"{ref} was {retraining.state}.")
    return word, told


def _compared(retraining: Retraining, measures: list[Measure], loss: str) -> str:
    same = [m for m in measures if m.name.startswith(SAME_ROWS)]
    first = next((m for m in same or reversed(measures[:2]) if m.change is not None), None)
    if first is None or first.change is None:
        return ""
    than = "lower" if first.change < 0 else "higher"
    size = f"{abs(first.change):.1%}".replace("%", " %")
    if same:
        between = f" (90 % interval {first.told})" if first.told else ""
        against = f"{figure(first.challenger)} against {figure(first.champion)}"
        return f"its {loss} is {size} {than} than that of v{retraining.champion} on the same rows{between}, {against}"
    return (
        f"its {loss} at training ({first.name[0].lower()}{first.name[1:]}) was {figure(first.challenger)}, "
        f"{size} {than} than that of v{retraining.champion}, {figure(first.champion)}, each on its own rows"
    )


def _judged(verdicts: list[Verdict]) -> str:
    if not verdicts:
        return "no gate has judged it yet"
    failed = [verdict.gate for verdict in verdicts if verdict.outcome == "failed"]
    if failed:
        return f"it failed the gate {', '.join(failed)}"
    passed = sum(verdict.outcome == "passed" for verdict in verdicts)
    return f"it passed {passed} of {len(verdicts)} {'gate' if len(verdicts) == 1 else 'gates'}"


def made_of(store: Store, challenger: LoggedModel | None, champion: LoggedModel | None) -> list[tuple[str, str, str]]:
    """What went into both: rows, their times, code; name, challenger, champion."""
    if challenger is None:
        return []
    ours, theirs = _origin(store, challenger), _origin(store, champion) if champion else {}
    return [(name, ours.get(name, "–"), theirs.get(name, "–")) for name in {**ours, **theirs}]


def _origin(store: Store, logged: LoggedModel) -> dict[str, str]:
    trained = logged.info.get("trained_on") or {}
    ref = str(trained.get("dataset") or "")
    found = {"Dataset": ref or "–"}
    try:
        found["Rows of the dataset"] = number(datasets.get_version(store, ref).rows) if ref else "–"
    except NotFound:
        found["Rows of the dataset"] = "deleted"
    found["Rows from"] = day(trained.get("since"))
    found["Rows before"] = day(trained.get("until"))
    found["Code"] = (logged.code or "–")[:8]
    found["Kind"] = logged.flavor
    return found


def packages(store: Store, challenger: LoggedModel | None, champion: LoggedModel | None) -> list[Difference]:
    """Where the environments of both trainings differ, the challenger first."""
    if challenger is None or champion is None:
        return []
    both = (challenger, champion)
    variables = [each.info.get("train_env", {}) for each in both]
    return environments.compare(store, [each.environment for each in both], variables=variables)


def rollout(store: Store, retraining: Retraining) -> str:
    """What a yes sets going."""
    try:
        plan = policies.get_standing(store, retraining.model).rollout
    except NotFound:
        return "it takes over at once, after its last gates"
    if plan.kind in (None, "swap"):
        return "it takes over at once, after its last gates"
    if plan.kind == "shadow":
        return "it scores every row aside, and takes over when every guard holds"
    shares = ", ".join(f"{share:.0%}".replace("%", " %") for share in plan.steps)
    return f"it answers {shares} of the requests under guard, and takes over when every guard holds"


async def approve(request: Request) -> Response:
    """`POST /approvals/{number}/approve`"""
    return await _decide(request, "approve")


async def reject(request: Request) -> Response:
    """`POST /approvals/{number}/reject`"""
    return await _decide(request, "reject")


async def _decide(request: Request, word: str) -> Response:
    need(request, "approve")
    form = await form_of(request)
    store = store_of(request)
    act = policies.approve if word == "approve" else policies.reject
    asked = await run_in_threadpool(policies.get_retraining, store, request.path_params["number"])
    reason = form.get("reason") or None
    await run_in_threadpool(act, store, asked.model, version=asked.version, reason=reason)
    return back(request, f"/approvals/{asked.id}")


ROUTES = [
    ("/approvals", listed, ["GET"]),
    ("/approvals/{number:int}", one, ["GET"]),
    ("/approvals/{number:int}/approve", approve, ["POST"]),
    ("/approvals/{number:int}/reject", reject, ["POST"]),
]
