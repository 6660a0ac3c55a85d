"""Error pages for browsers: code, what happened to what, what did not change, the next step. Programs get JSON."""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stead.api.app import REPORTS, told
from stead.errors import Failed, SteadError
from stead.web import report
from stead.web.frame import render


def install(app: FastAPI) -> None:
    """Give browsers a page where the API gives JSON."""
    as_json: Any = app.exception_handlers[SteadError]

    async def stead_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, SteadError)
        if request.url.path.startswith(REPORTS):
            return await run_in_threadpool(report.lost, error.http_status)
        if not wants_page(request):
            return cast(Response, await as_json(request, error))
        return await run_in_threadpool(page, request, error, error.http_status)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return await stead_error(request, told(request, error))

    async def bug(request: Request, error: Exception) -> Response:
        return await stead_error(
            request,
            Failed(
                "bug",
                f"{type(error).__name__}: {error}",
                hint="a mistake in stead: see run/server.log in the store's folder",
            ),
        )

    app.add_exception_handler(SteadError, stead_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, bug)


def wants_page(request: Request) -> bool:
    """Whether a browser asks, for something that is no API."""
    asks_data = request.url.path.startswith("/api/") or request.query_params.get("format") == "json"
    return not asks_data and "text/html" in request.headers.get("accept", "")


def page(request: Request, error: SteadError, status: int) -> Response:
    changed = "Nothing was changed." if request.method != "GET" else "It was only read; nothing was changed."
    return render(
        request, "error.html", title="Error", status=status, error=error, changed=changed, kind=error.http_status
    )
