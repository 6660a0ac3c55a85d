"""Decisions: a timeline with evidence, alternatives and undo, and what the rows that came after say of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import deployments, ledger, models, policies
from stead.api.undoing import undo
from stead.config.units import figure, milliseconds, percent, points
from stead.deployments.evidence import SHIFT
from stead.ledger import Judgement
from stead.web import charts
from stead.web.frame import back, columns_of, day, facts, form_of, here, need, render, store_of

PAGE = 60
READ = 1000
"""Entries that are looked through at once for those that fit."""
AGENT = "agent"
KINDS = (
    "approval",
    "automation",
    "canary",
    "decision",
    "deployment",
    "drill",
    "incident",
    "level",
    "policy",
    "retraining",
    "version",
)
VERDICTS = ("right", "wrong", "undecided", "open")
PAGES = {"deployment": "/deployments/{}", "retraining": "/approvals/{}", "incident": "/incidents/{}"}
INTERVALS: dict[str, tuple[str, Callable[[float], str], float | None]] = {
    "loss": ("loss beyond the margin", points, 0.0),
    "own": ("loss beyond its own result", figure, 0.0),
    "shift": ("outputs apart, as on rows at random", percent, SHIFT),
    "errors": ("failed requests", points, None),
    "latency": ("95 % of answers within", milliseconds, None),
    "other_latency": ("of the other version", milliseconds, None),
}
"""Evidence with an interval: its name, its unit, its bound."""


@dataclass(frozen=True)
class Fact:
    """One piece of evidence: a name, what it says, and an interval drawn where it has one."""

    name: str
    text: str
    href: str = ""
    picture: str = ""


@dataclass(frozen=True)
class Judged:
    """What came of a decision, as the margin beside it tells."""

    chip: str
    word: str
    said: str
    picture: str


@dataclass(frozen=True)
class Tally:
    """How often a kind of decision was right."""

    kind: str
    right: int
    wrong: int
    undecided: int
    open: int

    @property
    def all(self) -> int:
        return self.right + self.wrong + self.undecided + self.open


def decisions(request: Request) -> Response:
    """`/decisions`"""
    store, asked = store_of(request), request.query_params
    model, before = asked.get("model") or None, asked.get("before", "")
    wanted = {name: asked.get(name, "") for name in ("kind", "judged", "by")}
    read = ledger.list_entries(store, model=model, before=int(before) if before.isdigit() else None, limit=READ)
    fitting = [entry for entry in read if fits(entry, **wanted)]
    entries = fitting[:PAGE]
    more = len(fitting) > PAGE or len(read) == READ
    days = [(name, list(group)) for name, group in itertools.groupby(entries, key=lambda entry: day(entry.at))]
    judgements = ledger.list_judgements(store, model=model, limit=READ)
    tallies = tally(judgements)
    retrainings = policies.list_retrainings(store, model=model, limit=READ)
    moves = deployments.list_deployments(store, model=model, limit=READ)
    acted = [entry for entry in read if entry.actor == AGENT]
    return render(
        request,
        "decisions.html",
        title="Decisions",
        data={"decisions": entries, "judgements": judgements},
        days=days,
        chips={entry.id: chip(entry) for entry in entries},
        evidence={entry.id: facts_of(entry.evidence) for entry in entries},
        judged={entry.id: judged_of(entry.judgement) for entry in entries if entry.judgement is not None},
        undoable={entry.id for entry in entries if policies.undoable(entry, retrainings, moves)},
        first=next((entry.id for entry in entries if entry.actor == AGENT), None),
        model=model,
        models=[each.name for each in models.list_models(store)],
        wanted=wanted,
        kinds=KINDS,
        verdicts=VERDICTS,
        older=here(request, before=str(entries[-1].id if len(fitting) > PAGE else read[-1].id)) if more else None,
        tallies=tallies,
        total=Tally("all", *(sum(getattr(each, name) for each in tallies) for name in VERDICTS)),
        acted=len(acted),
        undone=[entry for entry in acted if entry.undone_by],
    )


def fits(entry: ledger.Entry, kind: str, judged: str, by: str) -> bool:
    """Whether an entry is of a kind, was judged so, and was decided by whom the page asks for; empty for any."""
    if kind and entry.action.partition(".")[0] != kind:
        return False
    if by and (entry.actor == AGENT) != (by == "stead"):
        return False
    if not judged:
        return True
    judgement = entry.judgement
    return judgement is not None and (not judgement.closed if judged == "open" else judgement.verdict == judged)


def tally(judgements: list[Judgement]) -> list[Tally]:
    """By kind of decision how often it was right; what is not closed counts by what it says so far.

    >>> tally([Judgement(1, "m", "abort", 1, 0, 9, verdict="right"), Judgement(2, "m", "abort", 1, 0, 9)])
    [Tally(kind='abort', right=1, wrong=0, undecided=0, open=1)]
    """
    out = []
    for kind in dict.fromkeys(each.kind for each in judgements):
        mine: list[str] = [each.verdict or "open" for each in judgements if each.kind == kind]
        out.append(Tally(kind, *(mine.count(name) for name in VERDICTS)))
    return out


def judged_of(judgement: Judgement) -> Judged:
    chip, word = {"right": ("ok", "right"), "wrong": ("bad", "wrong"), "undecided": ("note", "undecided")}.get(
        judgement.verdict or "", ("idle", "not judged yet")
    )
    if judgement.verdict and not judgement.closed:
        word += " so far"
    said = judgement.said
    if not judgement.closed:
        said += f"; until {day(judgement.until)}"
    picture = ""
    if judgement.low is not None or judgement.high is not None:
        told = f"loss against the other version {_range(judgement.low, judgement.high, points)}"
        picture = charts.interval(judgement.low, judgement.difference, judgement.high, label=told)
    return Judged(chip, word, said, picture)


def facts_of(evidence: dict[str, Any]) -> list[Fact]:
    """Evidence for reading: intervals drawn, numbers of pages as links, the rest as name and text."""
    out = []
    for name, value in evidence.items():
        if isinstance(value, dict) and {"estimate", "low", "high"} <= value.keys():
            out.append(_interval(name, value))
        elif name == "decision" and isinstance(value, dict):
            out.append(Fact("said", str(value.get("said", ""))))
        elif name in PAGES and isinstance(value, int):
            out.append(Fact(name, str(value), PAGES[name].format(value)))
        elif name == "job" and isinstance(value, str):
            out.append(Fact(name, value[-8:], f"/jobs/{value}"))
        elif isinstance(value, dict) and value and all(isinstance(each, str) for each in value.values()):
            out.append(Fact(name, ", ".join(f"{key} {each}" for key, each in value.items())))
        elif isinstance(value, list) and all(isinstance(each, str) for each in value):
            out.append(Fact(name.replace("_", " "), ", ".join(value) or "none"))
        elif name == "columns" and isinstance(value, dict):
            out += [Fact(column, f"{what} {now}, usually {usual}") for column, what, now, usual in columns_of(value)]
        else:
            out += [Fact(key, text) for key, text in facts({name: value})]
    return out


def _interval(name: str, seen: dict[str, float | None]) -> Fact:
    label, unit, bound = INTERVALS.get(name, (name.replace("_", " "), figure, None))
    low, value, high = seen["low"], seen["estimate"], seen["high"]
    text = f"{unit(value) if value is not None else '–'} ({_range(low, high, unit)})"
    return Fact(label, text, picture=charts.interval(low, value, high, label=f"{label}: {text}", bound=bound))


def _range(low: float | None, high: float | None, unit: Callable[[float], str]) -> str:
    return f"{'open' if low is None else unit(low)} to {'open' if high is None else unit(high)}"


async def take_back(request: Request) -> Response:
    """`POST /decisions/{number}/undo`"""
    need(request, "approve")
    form = await form_of(request)
    number = request.path_params["number"]
    await run_in_threadpool(undo, store_of(request), number, reason=form.get("reason") or None)
    return back(request, "/decisions")


def chip(entry: ledger.Entry) -> str:
    """The status that a decision's mark shows."""
    if entry.action.endswith(("refused", "failed")):
        return "bad"
    if entry.action.endswith(("overridden", "rolled_back", "removed", "cancelled", "aborted")):
        return "warn"
    return "ok" if entry.action.endswith(("changed", "registered")) else "active"


ROUTES = [("/decisions", decisions, ["GET"]), ("/decisions/{number:int}/undo", take_back, ["POST"])]
