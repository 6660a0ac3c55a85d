"""Server-sent events: a page follows something that is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

SECOND = 1.0
LONGEST = 3600
"""Seconds after which a stream ends; the browser opens another."""

Events = list[tuple[str, str]]


def stream(request: Request, look: Callable[[], tuple[Events, bool]]) -> Response:
    """Send what `look` tells, once a second: events by name, and whether that was the last.

    After the last comes `end`, at which the page's connection closes (`sse-close`).
    """

    async def events() -> AsyncIterator[str]:
        for _ in range(LONGEST):
            found, ended = await run_in_threadpool(look)
            for name, text in found:
                yield event(name, text)
            if ended:
                yield event("end", "")
                return
            if not found:
                yield ": nothing new\n\n"
            await asyncio.sleep(SECOND)
            if await request.is_disconnected():
                return

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


def event(name: str, text: str) -> str:
    r"""One event as it goes over the wire; each line of the text is a `data:` line.

    >>> event("log", "a\nb")
    'event: log\ndata: a\ndata: b\n\n'
    """
    lines = "".join(f"data: {line}\n" for line in text.replace("\r", "\n").split("\n"))
    return f"event: {name}\n{lines}\n"
