"""The API of a store on a port, without pages: `python api_server.py PORT`; the store is the one of the environment."""

from __future__ import annotations

import sys

import uvicorn

from stead.api.app import Guard, create_app
from stead.config import load_settings
from stead.store import open_store

settings = load_settings()
store = open_store(settings)
app = Guard(create_app(store, settings), store, settings)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
