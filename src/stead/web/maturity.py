"""Maturity: the stage of the team and of its models, the next step, and the rows behind each check; to print and to keep as one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from stead import __version__, maturity
from stead.config.units import percent
from stead.maturity import FOR_WHOM, STAGES, Maturity, Result, Stage
from stead.runtime.clock import to_ms
from stead.web.frame import HEADERS, day, fragment, here, render, store_of, styles, when

LEVELS = {1: "record", 2: "train", 3: "deploy", 4: "manage"}
MOST_MONTHS = 36
MOST_MODELS = 12
"""Models that a picture has room for."""
LISTED = 40
SHOWN_ROWS = 200
TALL, APART = 24, 26
LONGEST = 16


@dataclass(frozen=True)
class Group:
    """The checks of one stage as the page shows them."""

    stage: int
    word: str
    said: str
    checks: list[Result]


@dataclass(frozen=True)
class Lane:
    """A model, or the team, month by month; None where it was not there."""

    name: str
    stages: dict[str, int]


def page(request: Request) -> Response:
    """`/maturity`, of the team or with `?model=` of one model; `?at=` looks back."""
    model, at = request.query_params.get("model") or None, _at(request)
    found = maturity.assess(store_of(request), model=model, at=at)
    return render(
        request,
        "maturity.html",
        title=f"Maturity of {model}" if model else "Maturity",
        crumbs=[("Maturity", "/maturity")] if model else [],
        crumb=model,
        data=found,
        file=here(request, format=None).replace("/maturity", "/maturity.html", 1),
        **view(found, model, link=lambda path: path),
    )


def saved(request: Request) -> Response:
    """`/maturity.html`: the page as one file that needs nothing else."""
    model = request.query_params.get("model") or None
    found = maturity.assess(store_of(request), model=model, at=_at(request))
    text = as_file(found, model, base=str(request.base_url).rstrip("/"))
    name = f"maturity-{model or 'team'}-{day(found.at).replace(' ', '-')}.html"
    return HTMLResponse(text, headers=HEADERS | {"content-disposition": f'attachment; filename="{name}"'})


def as_file(found: Maturity, model: str | None, *, base: str = "") -> str:
    """The page as one HTML file: styles inside, no script, links to `base`, or none where there is no server to link to."""
    link: Callable[[str], str] = (lambda path: base + path) if base else (lambda _: "")
    title = f"Maturity of {model}" if model else "Maturity"
    return fragment(
        "maturity_file.html",
        title=title,
        style=styles(),
        version=__version__,
        now=when(found.at),
        **view(found, model, link=link),
    )


def check(request: Request) -> Response:
    """`/maturity/checks/{name}`: one check and the rows that it rests on."""
    model = request.query_params.get("model") or None
    found = maturity.check_rows(store_of(request), request.path_params["name"], model=model, at=_at(request))
    return render(
        request,
        "maturity_check.html",
        title=found.result.title,
        crumbs=[("Maturity", "/maturity"), *([(model, f"/maturity?model={model}")] if model else [])],
        crumb=found.result.check,
        data=found,
        model=model,
        result=found.result,
        rows=found.rows[:SHOWN_ROWS],
        hidden=max(len(found.rows) - SHOWN_ROWS, 0),
        chip=chip,
        interval=interval,
        bound=bound,
    )


def view(found: Maturity, model: str | None, *, link: Callable[[str], str]) -> dict[str, Any]:
    """What the page and the file show."""
    about = found.models[0] if model else found.team
    aim = 1 if not about.recorded else min(about.stage + 1, max(STAGES))
    shown = sorted({about.stage, aim} if about.recorded else {1})
    return {
        "found": found,
        "about": about,
        "model": model,
        "link": link,
        "stages": bar(about),
        "groups": [group(about, number) for number in shown],
        "rest": [group(about, number) for number in STAGES if number not in shown],
        "pictures": pictures(found, model),
        "listed": sorted(found.models, key=lambda each: (-each.weight, each.stage, each.model))[:LISTED],
        "more": max(len(found.models) - LISTED, 0),
        "first": found.steps[0] if found.steps else None,
        "others": found.steps[1:],
        "for_whom": FOR_WHOM,
        "chip": lambda result: chip(result, quiet=result.stage > max(found.fit.justified, about.stage)),
        "interval": interval,
        "trend": trend(found, about),
        "beside": f"?model={model}" if model else "",
    }


def bar(about: Stage) -> list[tuple[int, str, str, int, str]]:
    """The four stages: number, word, how many checks hold, the share of it, and whether it is done, now, or to come."""
    found = []
    for number, word in LEVELS.items():
        good, of = held(about, number)
        reached = about.recorded and number <= about.stage
        state = "now" if number == about.stage else "done" if reached else ""
        found.append((number, word, f"{good} of {of} checks", round(100 * good / of) if of else 0, state))
    return found


def held(about: Stage, number: int) -> tuple[int, int]:
    """How many checks of a stage hold, and of how many."""
    mine = [each for each in about.checks if each.stage == number]
    return sum(bool(each.met) for each in mine), len(mine)


def group(about: Stage, number: int) -> Group:
    good, of = held(about, number)
    mine = [each for each in about.checks if each.stage == number]
    return Group(number, LEVELS[number], f"{good} of {of}", sorted(mine, key=lambda each: not each.met))


def chip(result: Result, *, quiet: bool = False) -> str:
    """Of a check that does not hold nobody is warned where its stage would be more than the models justify."""
    return "ok" if result.met else "idle" if quiet or result.met is None else "warn"


def interval(result: Result) -> str:
    """The 95 % interval of a share, in words."""
    if result.low is None or result.high is None:
        return ""
    return f"{percent(result.low, 0).removesuffix(' %')} to {percent(result.high, 0)}"


def bound(result: Result) -> str:
    """What a figure is held against, in words."""
    word = "at most" if result.kind in ("most", "median") else "at least"
    return f"{word} {percent(result.bound, 0)}" if result.kind in ("share", "most") else f"{word} {result.bound:g}"


def trend(found: Maturity, about: Stage) -> str:
    """Since when it is at its stage, and where it was before."""
    if about.since is None:
        return ""
    before = [month.stage for month in found.history if month.model == about.model and month.month < about.since]
    return f"since {month_name(about.since)}" + (
        f", before that at {before[-1]}" if before else ", as far back as its records go"
    )


def pictures(found: Maturity, model: str | None) -> list[tuple[str, str]]:
    """The stages over time: of what shares the team's months in one picture, of what lives in other months in another."""
    lanes: dict[str, dict[str, int]] = {}
    for each in found.history:
        lanes.setdefault(each.model, {})[each.month] = each.stage
    team = lanes.pop("", {})
    order = {stage.model: place for place, stage in enumerate(sorted(found.models, key=lambda s: (-s.weight, s.model)))}
    names = [model] if model else sorted((name for name in lanes if name in order), key=lambda name: order[name])
    together = [Lane("team", team)] if team and not model else []
    apart: list[Lane] = []
    for name in names:
        own = lanes.get(name, {})
        shares = not team or model is not None or any(month in team for month in own)
        (together if shares else apart).append(Lane(name, own))
    drawn = [
        (lead, lanes_of) for lead, lanes_of in (("", together), ("in the months of their replays", apart)) if lanes_of
    ]
    return [(lead, heat(some[: MOST_MODELS + 1])) for lead, some in drawn]


def heat(lanes: Sequence[Lane]) -> str:
    """Stages by month, a row each; the number stands where the stage changes.

    >>> svg = heat([Lane("team", {"2026-01": 1, "2026-03": 2})])
    >>> svg.count("<rect"), svg.count('class="none"'), "team Mar 2026: stage 2" in svg
    (3, 1, True)
    """
    months = spanned([month for lane in lanes for month in lane.stages])[-MOST_MONTHS:]
    height, wide = len(lanes) * APART - 2, 100 / max(len(months), 1)
    label = f"stage by month, {month_name(months[0])} to {month_name(months[-1])}" if months else "stage by month"
    out = [f'<svg class="chart heat tw" height="{height}" role="img" aria-label="{label}">']
    every = max(1, -(-len(months) // 12))
    for place, month in enumerate(months):
        if place % every == 0:
            few = "" if place % (3 * every) == 0 else " wide-only"
            out.append(
                f'<text class="x mid-a{few}" x="{(place + 0.5) * wide:.2f}%" y="{height + 16}">{month_name(month, short=place > 0 and not month.endswith("-01"))}</text>'
            )
    for row, lane in enumerate(lanes):
        y, before = row * APART, 0
        shown = lane.name if len(lane.name) <= LONGEST else lane.name[: LONGEST - 1] + "…"
        strong = " strong" if row == 0 and lane.name == "team" else ""
        out.append(
            f'<text class="ye lab{strong}" x="-8" y="{y + 16}">{escape(shown)}<title>{escape(lane.name)}</title></text>'
        )
        for place, month in enumerate(months):
            stage = lane.stages.get(month)
            box = f'x="{place * wide:.2f}%" y="{y}" width="{wide:.2f}%" height="{TALL}"'
            said = "not there" if stage is None else f"stage {stage}"
            kind = "none" if stage is None else f"q{stage}"
            out.append(
                f'<rect class="{kind}" {box}><title>{escape(lane.name)} {month_name(month)}: {said}</title></rect>'
            )
            if stage is not None and stage != before:
                out.append(f'<text class="mid-a q{stage}" x="{(place + 0.5) * wide:.2f}%" y="{y + 16}">{stage}</text>')
            before = stage or 0
    return "".join([*out, "</svg>"])


def spanned(months: Sequence[str]) -> list[str]:
    """All months from the first to the last.

    >>> spanned(["2026-02", "2025-11"])
    ['2025-11', '2025-12', '2026-01', '2026-02']
    """
    if not months:
        return []
    first, last = min(months), max(months)
    count = (int(last[:4]) - int(first[:4])) * 12 + int(last[5:]) - int(first[5:])
    start = int(first[:4]) * 12 + int(first[5:]) - 1
    return [f"{n // 12}-{n % 12 + 1:02}" for n in range(start, start + count + 1)]


def month_name(month: str, *, short: bool = False) -> str:
    """
    >>> month_name("2026-03"), month_name("2026-03", short=True)
    ('Mar 2026', 'Mar')
    """
    name = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[int(month[5:]) - 1]
    return name if short else f"{name} {month[:4]}"


def _at(request: Request) -> int | None:
    asked = request.query_params.get("at", "")
    return to_ms(asked) if asked else None


ROUTES = [
    ("/maturity", page, ["GET"]),
    ("/maturity.html", saved, ["GET"]),
    ("/maturity/checks/{name}", check, ["GET"]),
]
