"""Pages, charts and partials: HTML made here, readable without script, with the same data as JSON by `?format=json`."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from stead.api.app import create_app
from stead.config import Settings
from stead.store import Store


def create_site(store: Store, settings: Settings) -> FastAPI:
    """API and pages in one application."""
    from stead.web import deployments, errors, fleet, frame, ledger

    app = create_app(store, settings)
    app.mount("/static", StaticFiles(directory=frame.HERE / "static"))
    for module in (fleet, deployments, ledger):
        for path, endpoint, methods in module.ROUTES:
            app.add_route(path, endpoint, methods=methods, include_in_schema=False)
    errors.install(app)
    return app
