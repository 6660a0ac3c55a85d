"""Whether MLOps pays: the answer, its conditions, the business case with every input, and what stead measured beside it."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import maturity
from stead.maturity import Case, Condition, Worth
from stead.maturity.case import hours, months, pays, span
from stead.maturity.inputs import LABELS
from stead.maturity.questions import BY_NAME, typed
from stead.web import charts
from stead.web.frame import back, form_of, need, render, store_of

CHIPS = {"yes": "ok", "not yet": "note", "no": "idle"}
SHORTEST, LONGEST = 24, 120
"""Months of the picture, at least and at most."""


def page(request: Request) -> Response:
    """`/worth`; what is in the address, `?models=10`, is tried out and not kept."""
    store = store_of(request)
    tried = _given(request.query_params.multi_items())
    kept = {each.question: typed(each.value) for each in maturity.list_answers(store)}
    trying = {name: value for name, value in tried.items() if value and value != kept.get(name)}
    found = maturity.worth(store, trying=trying)
    case = found.case
    return render(
        request,
        "worth.html",
        title="Worth",
        data=found,
        worth=found,
        chip=CHIPS[found.answer],
        groups=[
            ("Speaks for it", [each for each in found.conditions if each.speaks == "for"]),
            ("Speaks against it", [each for each in found.conditions if each.speaks == "against"]),
        ],
        condition_chip=condition_chip,
        figures=figures(found),
        lines=lines(case),
        payback=payback_chart(case),
        swings=swings(case),
        deciding=deciding(case),
        fields={name: trying.get(name, kept.get(name, "")) for name in BY_NAME},
        questions=[each for each in BY_NAME.values() if each.name not in LABELS],
        asked={each.name for each in found.questions},
        tried=trying,
        said=maturity.said,
    )


async def answer(request: Request) -> Response:
    """`POST /worth`: keep what a form says; a field that was emptied takes its answer away."""
    need(request, "write")
    form = await form_of(request)
    store = store_of(request)
    kept = {each.question for each in await run_in_threadpool(maturity.list_answers, store)}
    given = {name: value or None for name, value in _given(form.items()).items() if value or name in kept}
    await run_in_threadpool(maturity.answer, store, given)
    return back(request, "/worth")


def _given(pairs: Any) -> dict[str, str]:
    """Answers among the fields of a form or an address."""
    return {name: value.strip() for name, value in pairs if name in BY_NAME}


def condition_chip(condition: Condition) -> tuple[str, str]:
    """Status and word: a condition that speaks for it is good news where it holds, one against it where it does not."""
    if condition.holds is None:
        return "idle", "unknown"
    good = condition.holds == (condition.speaks == "for")
    return "ok" if good else "note" if condition.speaks == "against" else "idle", "yes" if condition.holds else "no"


def figures(found: Worth) -> list[tuple[str, str, str]]:
    """Name, figure, what it rests on."""
    case, stage = found.case, found.stage
    best, worst = case.payback
    back = (
        "never"
        if best is None
        else f"{best:,.0f} or never"
        if worst is None
        else months(case.payback).removesuffix(" months")
    )
    unit = "" if back in ("never", "at once") else "months; "
    rests = "; how many models, or how often they are deployed, is a default" if pays(case) == "unknown" else ""
    return [
        ("Aim at", f"stage {stage}", maturity.STAGES[stage]),
        ("Work saved", hours(case.saved[0]), f"a year, of {hours(case.manual)} by hand{rests}"),
        ("Pays back", back, f"{unit}reviewed for each model: {months(case.payback_each)}"),
        ("Engineers by hand", span(case.fte.low, case.fte.high, ".2g"), case.fte.said),
    ]  # fmt: skip


def lines(case: Case) -> list[tuple[str, str, str, str]]:
    """Name, what it comes from, hours a year, drawn on one axis."""
    shown = [case.manual, case.needless, *case.automated, *case.saved]
    ends = (min(0.0, *(line.low for line in shown)), max(line.high for line in shown))
    return [
        (
            line.name,
            line.said,
            hours(line),
            charts.interval(line.low, line.likely, line.high, label=hours(line), span=ends),
        )
        for line in shown
    ]


def payback_chart(case: Case) -> str:
    """Hours won or lost since the beginning, month by month, at best, likely and worst: where a line crosses zero it is paid back."""
    ends = [end for end in case.payback if end is not None]
    last = min(LONGEST, max(SHORTEST, *(round(end * 1.2) for end in ends))) if ends else SHORTEST
    build, saved = case.input("build"), case.saved[0]
    courses = [("likely", "c1", build.likely, saved.likely)]
    if saved.low < saved.high or build.low < build.high:
        courses = [("worst", "c0", build.high, saved.low), *courses, ("best", "c0", build.low, saved.high)]
    drawn = [
        charts.Line(
            [(month, a_year / 12 * month - cost) for month in range(last + 1)], colour, name, dashed=colour == "c0"
        )
        for name, colour, cost, a_year in courses
    ]
    zero = charts.Line([(0, 0.0), (last, 0.0)], "ink0", faint=True)
    step = charts.nice_step(last / 4)
    ticks = [(step * n, f"{step * n:.0f}") for n in range(int(last / step) + 1)]
    marks = [charts.Mark(end, f"{end:.0f} months") for end in sorted(set(ends)) if end <= last]
    axes = charts.Axes(y_low=None, y_format="{:,.0f}", x_ticks=ticks)
    label = f"hours won since the beginning by month; paid back: {months(case.payback)}"
    return charts.line_chart([zero, *drawn], label=label, axes=axes, marks=marks if len(marks) < 3 else ())


def swings(case: Case) -> list[tuple[str, str, str, str, str]]:
    """Input, its ends, hours at both, drawn on one axis, and where the answer changes."""
    if not case.effects:
        return []
    reached = [end for each in case.effects for end in (each.at_low, each.at_high)]
    ends = (min(0.0, *reached), max(0.0, *reached))
    out = []
    for each in case.effects:
        told = f"{each.at_low:+,.0f} to {each.at_high:+,.0f}".replace("-", "−")
        low, high = sorted((each.at_low, each.at_high))
        drawn = charts.interval(low, case.net, high, label=f"{each.label}: {told} hours", span=ends)
        flips = f"changes at {each.flips_at:,.3g}" if each.flips_at is not None else ""
        out.append((each.label, f"{each.low:,.4g} to {each.high:,.4g}", told, drawn, flips))
    return out


def deciding(case: Case) -> str:
    """Which input decides, in a sentence."""
    if not case.effects:
        return "No input moves it."
    first = case.effects[0].label.lower()
    named = [f"{each.label.lower()} (at {each.flips_at:,.3g})" for each in case.effects if each.flips_at is not None]
    if not named:
        return f"Most is moved by {first}; no single input changes the answer on its way."
    return f"Most is moved by {first}. The answer changes with {', or '.join(named)}."


ROUTES = [("/worth", page, ["GET"]), ("/worth", answer, ["POST"])]
