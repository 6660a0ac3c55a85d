"""Pages, charts and partials."""

from __future__ import annotations

from fastapi import FastAPI

from stead.api.app import create_app
from stead.config import Settings
from stead.store import Store


def create_site(store: Store, settings: Settings) -> FastAPI:
    """API and pages in one application."""
    return create_app(store, settings)
