"""Approvals: what waits for a person, and one retraining with the challenger beside the champion and what became of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import datasets, deployments, environments, gates, ledger, maturity, models, policies, predictions, runs
from stead.api import tokens
from stead.config.units import figure, lasting, number, percent, points
from stead.environments import Difference
from stead.errors import NotFound, SteadError
from stead.gates import Verdict
from stead.models import LoggedModel
from stead.policies import OPEN, Retraining
from stead.runtime.clock import now_ms
from stead.store import Store
from stead.web import charts
from stead.web.fleet import mean_loss, recent
from stead.web.frame import back, day, facts, form_of, need, render, store_of, when
from stead.web.ledger import Fact, facts_of
from stead.web.models import VERDICTS, retraining_chip
from stead.web.work import spent

MEASURES = {
    "holdout_random": "Hold-out, random rows",
    "holdout_time": "Hold-out, newest rows",
    "holdout_recent": "Hold-out, last 28 days",
    "all_recent": "Last 28 days, learned from all rows",
    "window_recent": "Last 28 days, learned from 12 months",
}
SAME_ROWS = "Same rows"
MOVED_MEAN, MOVED_EMPTY, MOST_MOVED = 0.1, 0.01, 8
"""Columns that are named: moved by so many standard deviations, or by so large a share of empty rows; and how many at most."""


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
    alike: bool = True
    """Whether both were measured on the same rows."""

    @property
    def change(self) -> float | None:
        """The challenger's over the champion's, minus 1; None on other rows, where it says nothing of them."""
        if self.challenger is None or not self.champion or not self.alike:
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
    ours, theirs = profile_of(store, challenger), profile_of(store, champion)
    measures = [*beside(verdicts), *measured(challenger, champion)]
    deployment = deployments.get_deployment(store, retraining.deployment) if retraining.deployment else None
    looked_at(request, store, retraining)
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
        figures=figures(store, retraining, measures, verdicts),
        by_day=day_chart(retraining, verdicts),
        proofs={verdict.gate: proofs_of(verdict) for verdict in verdicts},
        moved=moved(ours, theirs) if ours is not None and theirs is not None else None,
        earlier=earlier(store, retraining),
        waits=retraining.state == "waiting",
        forced=override(retraining, verdicts),
        under_way=retraining.state in OPEN,
        since=retraining.overtaken_by(deployments.live_deployment(store, model.name)),
        by_hand=spent(reviewed(store, retraining)) if retraining.decided_by else "",
    )


def looked_at(request: Request, store: Store, retraining: Retraining) -> None:
    """Keep that a person who may decide looks at what waits: the page as they see it, not fetched ahead, and never in its way."""
    ahead = "prefetch" in request.headers.get("sec-purpose", request.headers.get("purpose", ""))
    seen = request.method == "GET" and not ahead and request.query_params.get("format") != "json"
    if (
        retraining.state == "waiting"
        and seen
        and tokens.ROLES.index(request.state.role) >= tokens.ROLES.index("approve")
    ):
        with suppress(SteadError):
            maturity.begin_review(store, retraining.id)


def reviewed(store: Store, retraining: Retraining) -> list[maturity.Work]:
    """The work of deciding it."""
    mine = (f"{retraining.model}@{retraining.version}", f"retraining {retraining.id}")
    found = maturity.list_work(store, model=retraining.model)
    return [each for each in found if each.kind == "review" and each.subject in mine]


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
    ours, theirs = (_judged_rows(each) for each in (challenger, champion))
    alike = ours is not None and ours == theirs
    return [
        Measure(MEASURES.get(name, name), challenger.metrics.get(name), before.get(name), alike=alike) for name in names
    ]


def _judged_rows(logged: LoggedModel | None) -> str | None:
    """The digest of the rows that hold-outs were taken from; None where it is not known."""
    return ((logged.info.get("judged_on") or {}) if logged is not None else {}).get("rows")


def beside(verdicts: list[Verdict]) -> list[Measure]:
    """Both on the same rows, as the gate `challenger` saw them, with the interval of the difference that it judges by."""
    found = next((verdict.evidence for verdict in verdicts if verdict.gate == "challenger"), {})
    loss, usual, margin = found.get("loss"), found.get("champion_loss"), found.get("margin")
    if loss is None or not usual:
        return []
    name = f"{SAME_ROWS}, {found.get('days', 0)} days"
    low, high = found.get("relative_low"), found.get("relative_high")
    if margin is None or low is None or high is None:
        return [Measure(name, loss, usual)]
    told = f"{points(low)} to {points(high)}"
    drawn = charts.interval(low, loss / usual - 1, high, label=f"difference {told}", bound=margin)
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
    both = (m for m in same or reversed(measures[:2]) if m.challenger is not None and m.champion)
    if (first := next(both, None)) is None:
        return ""
    at = f"its {loss} at training ({first.name[0].lower()}{first.name[1:]}) was {figure(first.challenger)}"
    if first.change is None:
        return f"{at}, that of v{retraining.champion} {figure(first.champion)}, each on its own rows"
    than = "lower" if first.change < 0 else "higher"
    size = percent(abs(first.change))
    if same:
        between = f" (90 % interval {first.told})" if first.told else ""
        against = f"{figure(first.challenger)} against {figure(first.champion)}"
        return f"its {loss} is {size} {than} than that of v{retraining.champion} on the same rows{between}, {against}"
    return f"{at}, {size} {than} than that of v{retraining.champion}, {figure(first.champion)}"


def override(retraining: Retraining, verdicts: list[Verdict]) -> str:
    """The command by which a person lets a refused version through; empty for any other."""
    failed = [verdict.gate for verdict in verdicts if verdict.outcome == "failed"]
    if retraining.state != "refused" or not failed:
        return ""
    forced = " ".join(f"--override {gate}" for gate in failed)
    return f'stead deploy {retraining.model}@{retraining.version} {forced} --reason "…"'


def _judged(verdicts: list[Verdict]) -> str:
    if not verdicts:
        return "no gate has judged it yet"
    failed = [verdict.gate for verdict in verdicts if verdict.outcome == "failed"]
    if failed:
        return f"it failed the gate {', '.join(failed)}"
    passed = sum(verdict.outcome == "passed" for verdict in verdicts)
    return f"it passed {passed} of {len(verdicts)} {'gate' if len(verdicts) == 1 else 'gates'}"


def figures(
    store: Store, retraining: Retraining, measures: list[Measure], verdicts: list[Verdict]
) -> list[tuple[str, str, str]]:
    """Name, figure, what it is held against: who against whom, how much better, how many gates, how long it waits."""
    if retraining.version is None:
        return []
    out = [("Challenger", f"v{retraining.version}", f"trained {when(retraining.event_time or retraining.at)}")]
    if retraining.champion is not None:
        begun = None if retraining.state == "waiting" else retraining.event_time or retraining.at
        days = predictions.performance(store, retraining.model, until=begun)
        loss = mean_loss(recent([each for each in days if each.version == retraining.champion], 28))
        span = "in the last 28 days" if begun is None else "in the 28 days before"
        told = (
            f"loss {figure(loss)} {span}"
            if loss is not None
            else "no labels yet"
            if begun is None
            else "no labels then"
        )
        out.append(("Champion", f"v{retraining.champion}", told))
    same = next((each for each in measures if each.name.startswith(SAME_ROWS) and each.change is not None), None)
    if same is not None and same.change is not None:
        note = f"{figure(same.challenger)} against {figure(same.champion)}"
        out.append(("Loss, same rows", points(same.change), note))
    if verdicts:
        passed = sum(verdict.outcome in ("passed", "overridden") for verdict in verdicts)
        out.append(("Gates", f"{passed} of {len(verdicts)}", "passed"))
    asked = next(iter(_asked(store, retraining)), None)
    if asked is not None and retraining.state == "waiting":
        out.append(("Waits", lasting(max(0, now_ms() - asked.at)), f"asked {when(asked.at)}"))
    return out


def _asked(store: Store, retraining: Retraining) -> list[ledger.Entry]:
    found = ledger.list_entries(store, model=retraining.model, limit=200)
    mine = [each for each in found if each.evidence.get("retraining") == retraining.id]
    return [each for each in mine if each.action == "approval.asked"]


def day_chart(retraining: Retraining, verdicts: list[Verdict]) -> tuple[str, str] | None:
    """Both losses by day on the same rows, and on how many days the challenger's is lower."""
    found = next((verdict.evidence for verdict in verdicts if verdict.gate == "challenger"), {})
    days = [each for each in found.get("by_day") or [] if each[1] is not None and each[2] is not None]
    if len(days) < 2:
        return None
    lines = [
        charts.Line([(at, loss) for at, _, loss in days], "c0", f"v{retraining.champion}"),
        charts.Line([(at, loss) for at, loss, _ in days], "c1", f"v{retraining.version}"),
    ]
    low, high = days[0][0], days[-1][0]
    ticks = [(low + (high - low) * n / 4, day(int(low + (high - low) * n / 4))[:-5]) for n in range(5)]
    lower = sum(challenger < champion for _, challenger, champion in days)
    label = f"loss by day of v{retraining.version} and v{retraining.champion} on the same rows"
    drawn = charts.line_chart(lines, label=label, height=150, axes=charts.Axes(x_ticks=ticks, y_low=None))
    return drawn, f"v{retraining.version} lower on {lower} of {len(days)} days"


def proofs_of(verdict: Verdict) -> list[Fact]:
    """What a gate's verdict is founded on, each measure by its words; the days apart, which are drawn."""
    found = {name: value for name, value in verdict.evidence.items() if name not in ("by_day", "metrics")}
    measures = verdict.evidence.get("metrics") or {}
    return facts_of({MEASURES.get(name, name): value for name, value in measures.items()} | found)


def moved(ours: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Columns of two profiles that came, went or changed most: name, in the challenger's dataset, in the champion's.

    >>> old = {"t": {"n": 100, "null": 0, "mean": 5.0, "sd": 2.0}, "x": {"n": 100, "null": 0}}
    >>> moved({"t": {"n": 200, "null": 50, "mean": 6.0, "sd": 2.0}, "y": {"n": 200, "null": 0}}, old)[:2]
    [('y', 'new', '–'), ('x', '–', 'gone')]
    >>> moved({"t": {"n": 100, "null": 0, "mean": 6.0, "sd": 2.0}}, {"t": old["t"]})
    [('t', 'mean 6', 'mean 5')]
    """
    out = [(name, "new", "–") for name in ours if name not in theirs]
    out += [(name, "–", "gone") for name in theirs if name not in ours]
    changed: list[tuple[float, str, str, str]] = []
    for name in [each for each in ours if each in theirs]:
        new, old = ours[name], theirs[name]
        empty = [column.get("null", 0) / (column.get("n") or 1) for column in (new, old)]
        if abs(empty[0] - empty[1]) > MOVED_EMPTY:
            size = abs(empty[0] - empty[1]) * 10
            changed.append((size, name, f"{percent(empty[0])} empty", f"{percent(empty[1])} empty"))
        sd = old.get("sd") or 0
        if sd and new.get("mean") is not None and old.get("mean") is not None:
            size = abs(new["mean"] - old["mean"]) / sd
            if size > MOVED_MEAN:
                changed.append((size, name, f"mean {number(new['mean'])}", f"mean {number(old['mean'])}"))
    return out + [(name, new, old) for _, name, new, old in sorted(changed, reverse=True)[:MOST_MOVED]]


def profile_of(store: Store, logged: LoggedModel | None) -> dict[str, Any] | None:
    ref = ((logged.info.get("trained_on") or {}) if logged is not None else {}).get("dataset")
    try:
        return datasets.get_version(store, str(ref)).profile if ref else None
    except NotFound:
        return None


def earlier(store: Store, retraining: Retraining) -> list[Retraining]:
    """What people decided of this model before."""
    found = policies.list_retrainings(store, model=retraining.model, limit=100)
    return [each for each in found if each.decided_by and each.id < retraining.id][:5]


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
    git = _git(store, logged)
    if git.get("commit"):
        found["Commit"] = f"{git['commit'][:8]}{', with changes' if git.get('dirty') else ''}"
    found["Kind"] = logged.flavor
    return found


def _git(store: Store, logged: LoggedModel) -> dict[str, Any]:
    try:
        source = runs.get_run(store, logged.run_id).source if logged.run_id else {}
    except NotFound:
        source = {}
    return dict(source.get("git") or {})


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
    shares = ", ".join(percent(share, 0) for share in plan.steps[: 1 if plan.kind == "ab" else None])
    if plan.kind == "ab":
        return f"it answers {shares} of the requests until one of both versions is shown to be better"
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
