"""Where this process's calls go: the settings in force and one caller, made when it is first needed."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from stead.config import Project, Settings, find_project, load_project, load_settings

if TYPE_CHECKING:
    from stead.api import Caller

_guard = threading.Lock()
_callers: dict[tuple[str, ...], Caller] = {}


def settings() -> Settings:
    """The settings as they are now: a notebook may set `STEAD_URL` after its first cell."""
    return load_settings(_project())


def project_name() -> str | None:
    """The name that `stead.toml` gives, or None where there is no such file."""
    project = _project()
    return project.name if project else None


def caller(found: Settings | None = None) -> Caller:
    """The server or the embedded store that the settings name; the same one for the same settings."""
    from stead.api import connect

    found = found or settings()
    key = tuple(str(found.values[name]) for name in ("url", "token", "store", "database", "blobs"))
    with _guard:
        if key not in _callers:
            _callers[key] = connect(found)
        return _callers[key]


def _project() -> Project | None:
    root = find_project()
    return load_project(root) if root else None


def _after_fork() -> None:
    """Database handles and sockets are not shared with a child."""
    global _guard
    _guard = threading.Lock()
    _callers.clear()


os.register_at_fork(after_in_child=_after_fork)
