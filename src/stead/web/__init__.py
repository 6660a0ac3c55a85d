"""Pages, charts and partials: HTML made here, readable without script, with the same data as JSON by `?format=json`.

A module a noun; each names its addresses in `ROUTES`. `frame` is what all pages share, `charts` draws, `live` streams.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from stead.api.app import create_app
from stead.config import Settings
from stead.store import Store


class _Assets(StaticFiles):
    """Files whose address holds their content's digest, so that browsers keep them; compressed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if isinstance(response, FileResponse) and scope["method"] == "GET" and path.endswith((".css", ".js")):
            from stead.web import frame

            text = await run_in_threadpool(Path(response.path).read_bytes)
            kept = Response(text, media_type=response.media_type)
            response = await run_in_threadpool(frame.packed, Request(scope), kept)
        keep = "public, max-age=31536000, immutable" if b"v=" in scope["query_string"] else "no-cache"
        response.headers["cache-control"] = keep
        response.headers["x-content-type-options"] = "nosniff"
        return response


def create_site(store: Store, settings: Settings) -> FastAPI:
    """API and pages in one application."""
    from stead.web import (
        approvals,
        canary,
        compare,
        data,
        deployments,
        drift,
        errors,
        fleet,
        frame,
        incidents,
        jobs,
        ledger,
        lineage,
        login,
        maturity,
        models,
        report,
        run,
        runs,
        version,
        work,
        worth,
    )

    app = create_app(store, settings)
    app.mount("/static", _Assets(directory=frame.HERE / "static"))
    for module in (
        fleet,
        approvals,
        incidents,
        runs,
        compare,
        run,
        data,
        models,
        drift,
        version,
        deployments,
        canary,
        ledger,
        lineage,
        maturity,
        jobs,
        worth,
        login,
        work,
        report,
    ):
        for path, endpoint, methods in module.ROUTES:
            app.add_route(path, endpoint, methods=methods, include_in_schema=False)
    errors.install(app)
    return app
