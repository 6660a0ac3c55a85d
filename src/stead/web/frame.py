"""What every page has: navigation, rendering, JSON beside HTML, roles, forms that come back."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import jinja2
import msgspec
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from stead import __version__, jobs, models, monitors, policies
from stead.api import tokens
from stead.api.tokens import Role
from stead.config.units import figure, number, percent, size_text, took
from stead.errors import InvalidInput
from stead.runtime.clock import now_ms
from stead.store import Store

HERE = Path(__file__).parent
NAV = (
    ("Fleet", "/"),
    ("Approvals", "/approvals"),
    ("Incidents", "/incidents"),
    ("Runs", "/runs"),
    ("Data", "/data"),
    ("Models", "/models"),
    ("Deployments", "/deployments"),
    ("Drift", "/drift"),
    ("Decisions", "/decisions"),
    ("Maturity", "/maturity"),
    ("Worth", "/worth"),
    ("Jobs", "/jobs"),
)
KEYS = (
    ("filter", ["/"]),
    ("next, previous row", ["j", "k"]),
    ("select row", ["x"]),
    ("compare selected", ["c"]),
    ("fleet, runs, data", ["g f", "g r", "g t"]),
    ("models, deployments", ["g m", "g d"]),
    ("drift", ["g h"]),
    ("decisions, jobs", ["g e", "g j"]),
    ("approvals, incidents", ["g a", "g i"]),
    ("maturity, worth", ["g s", "g w"]),
    ("this list", ["?"]),
)
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
"""No script or style in the page itself, nothing from elsewhere, in nobody's frame."""


MAX_FORM = 64_000
MOST_OPEN = 500
"""Open incidents that are counted."""


@dataclass(frozen=True)
class NavItem:
    name: str
    href: str
    count: int | None = None


@dataclass(frozen=True)
class Frame:
    """The parts of a page that are not its own."""

    nav: list[NavItem]
    here: str
    version: str
    agent: str
    now: str
    token: str | None
    """Name of the token that a browser came with."""
    keys: tuple[tuple[str, list[str]], ...] = KEYS


def render(
    request: Request,
    template: str,
    *,
    title: str,
    crumbs: list[tuple[str, str]] | None = None,
    crumb: str | None = None,
    data: Any = None,
    status: int = 200,
    **values: Any,
) -> Response:
    """A page, or its data with `?format=json`."""
    if request.query_params.get("format") == "json" and data is not None:
        return as_json(request, data, status)
    text = fragment(
        template,
        title=title,
        crumbs=crumbs or [],
        crumb=crumb,
        frame=_frame(request),
        json_link=here(request, format="json") if data is not None else None,
        role=request.state.role,
        may=lambda needed: tokens.ROLES.index(request.state.role) >= tokens.ROLES.index(needed),
        **values,
    )
    return packed(request, HTMLResponse(text, status_code=status, headers=HEADERS))


def packed(request: Request, response: Response) -> Response:
    """The same, compressed where the browser takes that."""
    if len(response.body) > 1_000 and "gzip" in request.headers.get("accept-encoding", ""):
        response.body = gzip.compress(response.body, 5)
        response.headers["content-length"] = str(len(response.body))
        response.headers["content-encoding"] = "gzip"
    response.headers["vary"] = "accept-encoding"
    return response


def styles() -> str:
    """All styles of the pages, for a file that needs nothing else."""
    sheets = ("tokens.css", "stead.css", "pages.css")
    return "\n".join((HERE / "static" / name).read_text(encoding="utf-8") for name in sheets)


def fragment(template: str, **values: Any) -> str:
    """Rendered text: a page, or a part of one."""
    return _environment().get_template(template).render(**values)


def as_json(request: Request, data: Any, status: int = 200, *, indent: int = 2) -> Response:
    """Data that belongs to a page."""
    text = msgspec.json.encode(data)
    if indent:
        text = msgspec.json.format(text, indent=indent)
    return packed(request, Response(text, status_code=status, media_type="application/json", headers=HEADERS))


def here(request: Request, **changes: str | None) -> str:
    """This page's address with some parameters changed; None takes one away."""
    pairs = [(name, value) for name, value in request.query_params.multi_items() if name not in changes]
    pairs += [(name, value) for name, value in changes.items() if value is not None]
    return request.url.path + (f"?{urlencode(pairs)}" if pairs else "")


def store_of(request: Request) -> Store:
    """The store on behalf of whoever asks."""
    store: Store = request.app.state.store
    return store.acting(request.state.actor)


def need(request: Request, role: Role) -> None:
    """Raises Forbidden (`role-too-low`)."""
    tokens.permit(request.state.role, role)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form that a page sent; none is longer than a person would type."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise InvalidInput("form-too-large", f"a form has at most {MAX_FORM} bytes")
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def amount(text: str, name: str) -> float:
    """A number of a form's field; 0 for an empty one. Raises InvalidInput (`number-invalid`).

    >>> amount(" 2,5 ", "hours"), amount("", "hours")
    (2.5, 0.0)
    """
    try:
        return float(text.strip().replace(",", ".") or 0)
    except ValueError:
        raise InvalidInput("number-invalid", f"{name} is {text[:50]!r}, which is no number", hint="0.02") from None


def back(request: Request, path: str) -> Response:
    """After a form: the page that shows what it did."""
    return RedirectResponse(path, status_code=303)


def _frame(request: Request) -> Frame:
    store: Store = request.app.state.store
    place = "/" + request.url.path.strip("/").split("/")[0]
    counts = {
        "/models": len(models.list_models(store)),
        "/approvals": len(policies.list_approvals(store)),
        "/jobs": len(jobs.open_jobs(store)),
        "/incidents": len(monitors.list_incidents(store, state="open", limit=MOST_OPEN)),
    }
    items = [NavItem(name, href, counts.get(href) or None) for name, href in NAV]
    alive = "agent at work" if jobs.agent_alive(store) else "no agent runs: stead up"
    actor: str = request.state.actor
    token = actor if actor.startswith("token:") else None
    return Frame(nav=items, here=place, version=__version__, agent=alive, now=when(now_ms()), token=token)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(static=static, empty=Markup('<span class="dim">–</span>'))
    environment.filters.update(FILTERS)
    return environment


@lru_cache
def static(name: str) -> str:
    """Address of a static file, with its content in the address, so that browsers may keep it."""
    path = HERE / "static" / name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:10] if path.is_file() else "missing"
    return f"/static/{name}?v={digest}"


def when(ms: int | None) -> str:
    """A moment to the minute, UTC."""
    return "–" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%-d %b %Y, %H:%M")


def day(ms: int | None) -> str:
    return "–" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%-d %b %Y")


def clock(ms: int) -> str:
    """The time of a day, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%H:%M")


def short(identity: str) -> str:
    """The end of an id: ids are ordered by time, so that beginnings are alike; every command takes the end.

    >>> short("01a20fb43568753b87836635ca9e4d74")
    'ca9e4d74'
    """
    return identity[-8:]


def person(actor: str) -> str:
    """Who did it, without the kind where that is a person: `person:ann` is ann, `token:ci` stays.

    >>> person("person:ann"), person("token:ci")
    ('ann', 'token:ci')
    """
    return actor.removeprefix("person:")


BROKEN = {
    "null": "empty",
    "type": "of another type",
    "unseen": "unseen",
    "constant": "stands still",
    "scale": "other unit",
}
"""Kinds of broken data, in words."""


def columns_of(columns: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Column, what is wrong, how it is, how it usually is.

    >>> columns_of({"temp": {"kind": "null", "value": 0.4, "usual": 0.01, "limit": 0.04}})
    [('temp', 'empty', '40.0 %', '1.0 %')]
    >>> columns_of({"temp": {"distance": 0.31, "p": 0.004, "rows": 400}})
    [('temp', 'distance', '0.31', 'p 0.004')]
    """
    out = []
    for name, seen in columns.items():
        if "distance" in seen:
            out.append((name, "distance", number(seen["distance"]), f"p {number(seen['p'], 2)}"))
            continue
        kind, value, usual = seen.get("kind", ""), seen.get("value"), seen.get("usual")
        told = percent if kind in ("null", "type", "unseen") else number
        out.append((name, BROKEN.get(kind, kind), told(value), told(usual)))
    return out


TIMES = ("since", "until", "day")
"""Names of evidence that are days of event time, milliseconds."""
MOMENTS = ("due",)
"""Names of evidence that are moments, milliseconds."""


def facts(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Evidence as name and text, for reading.

    >>> facts({"recent_loss": 0.123456, "since": 0, "kinds": ["a"], "limit": None})
    [('recent loss', '0.1235'), ('since', '1 Jan 1970'), ('kinds', 'a'), ('limit', '–')]
    >>> facts({"due": 1_772_337_600_000})
    [('due', '1 Mar 2026, 04:00')]
    """
    out = []
    for name, value in evidence.items():
        if name in TIMES and isinstance(value, int):
            text = day(value)
        elif name in MOMENTS and isinstance(value, int):
            text = when(value)
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            text = number(value)
        elif isinstance(value, list) and all(isinstance(each, str) for each in value):
            text = "; ".join(value)[:400]
        else:
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()[:400]
        out.append((name.replace("_", " "), text))
    return out


def sentence(text: str) -> str:
    """With a capital at the beginning, unless that is a name: with an @, or before a colon."""
    first = text.partition(" ")[0]
    return text if "@" in first or first.endswith(":") else text[:1].upper() + text[1:]


FILTERS: dict[str, Callable[..., str]] = {
    "when": when,
    "day": day,
    "number": number,
    "figure": figure,
    "clock": clock,
    "took": took,
    "size": size_text,
    "percent": percent,
    "short": short,
    "person": person,
    "sentence": sentence,
}
