"""Work by hand: what people did, how long it took, and a form that says it better."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import maturity, models
from stead.config.units import percent
from stead.errors import InvalidInput
from stead.maturity import Work
from stead.runtime.clock import now_ms
from stead.web.frame import back, form_of, here, need, render, store_of

DAY_MS = 86_400_000
DAYS = 90
MOST = 200
"""Rows that are shown; all are in the figures."""
SOURCES = {"measured": "ok", "corrected": "ok", "said": "note", "default": "idle"}
NAMES = {
    "deploy": "Deployments",
    "review": "Reviews",
    "train": "Trainings",
    "rollback": "Roll-backs",
    "outside": "Outside stead",
    "other": "Other",
}


def listed(request: Request) -> Response:
    """`/work`"""
    store = store_of(request)
    model, spans = request.query_params.get("model") or None, request.query_params.get("days", "")
    days = min(int(spans), 36_500) if spans.isascii() and spans.isdigit() else DAYS
    found = maturity.list_work(store, model=model, since=now_ms() - days * DAY_MS if days else None)
    return render(
        request,
        "work.html",
        title="Work by hand",
        crumbs=[("Maturity", "/maturity")],
        data=found,
        works=found[:MOST],
        left=max(0, len(found) - MOST),
        verdict=sentence(found, days),
        figures=figures(found),
        example=next((each.entry for each in found if each.entry), None),
        told=minutes_text,
        sources=SOURCES,
        defaults=", ".join(f"{kind} {minutes:g}" for kind, minutes in maturity.DEFAULT_MINUTES.items()),
        model=model,
        models=[each.name for each in models.list_models(store)],
        days=days,
        place=here(request),
    )


def sentence(found: list[Work], days: int) -> tuple[str, str]:
    """The answer first: hours, and how much of them is measured."""
    span = f"in the last {days} days" if days else "since the beginning"
    if not found:
        return "Nothing was done by hand", f"{span}."
    known = sum(each.minutes for each in found if each.source != "default")
    total = sum(each.minutes for each in found)
    people = len({each.by for each in found})
    by = f"by {people} {'person' if people == 1 else 'people'} in {len(found)} {'act' if len(found) == 1 else 'acts'}"
    sure = f"{percent(known / total, 0)} of it is measured or was said by a person" if total else "none of it took time"
    return f"{hours_text(total)} by hand", f"{span}, {by}; {sure}, the rest is a stated time a command."


def figures(found: list[Work]) -> list[tuple[str, str, str]]:
    """Hours by kind, with how many acts they are."""
    out = []
    for kind, name in NAMES.items():
        mine = [each for each in found if each.kind == kind]
        if mine:
            acts = f"{len(mine)} {'act' if len(mine) == 1 else 'acts'}"
            out.append((name, hours_text(sum(each.minutes for each in mine)), acts))
    return out


def hours_text(minutes: float) -> str:
    """
    >>> hours_text(12.4), hours_text(150), hours_text(0.24)
    ('12 min', '2.5 h', '0.24 min')
    """
    return f"{minutes / 60:.1f} h" if minutes >= 60 else minutes_text(minutes) + " min"


def minutes_text(minutes: float) -> str:
    """
    >>> minutes_text(12.4), minutes_text(5.0), minutes_text(0.24), minutes_text(1234.5)
    ('12', '5', '0.24', '1234')
    """
    return f"{minutes:.0f}" if minutes >= 10 else f"{minutes:.2g}"


def spent(works: Iterable[Work]) -> str:
    """The work that went into something, in words; empty where there was none.

    >>> spent([Work(1, "review", "m", "m@2", "", 7, "person:ada", 0, 0, 12.0, "measured")])
    '12 min: review 12, measured'
    """
    works = list(works)
    if not works:
        return ""
    parts = "; ".join(f"{each.kind} {minutes_text(each.minutes)}, {each.source}" for each in works)
    return f"{hours_text(sum(each.minutes for each in works))}: {parts}"


async def correct(request: Request) -> Response:
    """`POST /work/{entry}/correct`"""
    need(request, "write")
    form = await form_of(request)
    text, entry = form.get("minutes", "").strip().replace(",", "."), request.path_params["entry"]
    try:
        minutes = float(text)
    except ValueError:
        raise InvalidInput(
            "minutes-invalid", f"{text[:40]!r} is no number of minutes", hint="such as 12 or 2.5"
        ) from None
    await run_in_threadpool(maturity.correct_work, store_of(request), entry, minutes, reason=form.get("reason") or None)
    place = form.get("back", "")
    return back(request, place if place.startswith("/work") else "/work")


ROUTES = [("/work", listed, ["GET"]), ("/work/{entry:int}/correct", correct, ["POST"])]
