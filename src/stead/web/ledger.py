"""Decisions: a timeline with evidence and undo."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stead import ledger
from stead.api.undoing import undo
from stead.web.frame import back, day, form_of, need, render, store_of

PAGE = 60


def decisions(request: Request) -> Response:
    """`/decisions`"""
    store = store_of(request)
    model = request.query_params.get("model") or None
    before = request.query_params.get("before")
    entries = ledger.list_entries(
        store, model=model, before=int(before) if before and before.isdigit() else None, limit=PAGE
    )
    days = [(name, list(group)) for name, group in itertools.groupby(entries, key=lambda entry: day(entry.at))]
    people = sum(entry.actor.startswith("person:") for entry in entries)
    return render(
        request,
        "decisions.html",
        title="Decisions",
        data=entries,
        days=days,
        chips={entry.id: chip(entry) for entry in entries},
        evidence={entry.id: _plain(entry.evidence) for entry in entries},
        model=model,
        people=people,
        count=len(entries),
        older=entries[-1].id if len(entries) == PAGE else None,
    )


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


def _plain(evidence: dict[str, Any]) -> list[tuple[str, str]]:
    """Evidence as name and text."""
    return [
        (name, value if isinstance(value, str) else msgspec.json.encode(value).decode()[:400])
        for name, value in evidence.items()
    ]


ROUTES = [("/decisions", decisions, ["GET"]), ("/decisions/{number:int}/undo", take_back, ["POST"])]
