"""Runs made by this process: `init`, `log`, `log_artifact`, `finish`."""

from __future__ import annotations

import atexit
import getpass
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stead.errors import NotFound
from stead.runtime import journal as journals
from stead.runtime import sdk as runtime
from stead.runtime.ids import new_id
from stead.sdk import connection
from stead.sdk.sender import Sender

FINISH_S = 60.0
"""How long the end of a run waits for a server that does not answer; the journal stays and is delivered later."""


class Run(runtime.Run):
    """A run of this process; its journal lies under the store's folder until all of it is delivered."""

    def finish(self, status: str = "finished", error: str | None = None, *, timeout_s: float = FINISH_S) -> None:
        """End the run and wait until the store has all of it."""
        if self.status != "running" or os.getpid() != self._pid:
            return
        super().finish(status, error)
        _forget(self)
        if _sender is not None:
            _sender.settle(self._journal.folder, timeout_s)


def init(
    *,
    project: str | None = None,
    name: str | None = None,
    config: Any = None,
    tags: Mapping[str, Any] | None = None,
    parent: str | None = None,
    watch: bool = True,
) -> Run:
    """Begin a run and make it the one that `stead.log` writes to; the one before it is finished.

    `project` defaults to the project of `stead.toml`, else "Default". `config` is a mapping, a dataclass or parsed
    arguments. `watch=False` leaves console, git, packages and machine alone.
    """
    global _active
    settings = connection.settings()
    with _guard:
        before = _active
    if before is not None:
        before.finish()
    folder = Path(settings.store).expanduser() / "journals" / new_id()
    run = Run(
        journals.Journal(folder),
        project=project or connection.project_name() or "",
        name=name or "",
        config=config,
        tags=tags,
        user=settings.user or _login(),
        parent=parent,
        watch=watch,
    )
    _sending().add(folder, lambda: connection.caller(settings))
    with _guard:
        _active = run
    return run


def current() -> Run:
    """The run that `stead.log` writes to. Raises NotFound (`run-missing`)."""
    run = _active
    if run is None:
        raise NotFound("run-missing", "no run was begun", hint="run = stead.init(project=…)")
    return run


def active() -> Run | None:
    """The run that `stead.log` writes to, or None."""
    return _active


def log(values: Mapping[str, Any], step: int | Sequence[int] | None = None) -> None:
    """Record numbers of the run that was begun last; see `Run.log`."""
    current().log(values, step)


def log_artifact(source: str | Path | bytes, name: str | None = None) -> None:
    """Keep a file, a folder or bytes with the run; see `Run.log_artifact`."""
    current().log_artifact(source, name)


def finish(status: str = "finished", error: str | None = None) -> None:
    """End the run and wait until the store has all of it. Without a run nothing happens."""
    if _active is not None:
        _active.finish(status, error)


_guard = threading.Lock()
_active: Run | None = None
_sender: Sender | None = None


def _sending() -> Sender:
    global _sender
    with _guard:
        if _sender is None:
            _sender = Sender()
            _sender.later(_leftovers)
            atexit.register(_at_exit)
        return _sender


def _leftovers() -> None:
    """What earlier processes left behind, where no agent does it."""
    from stead.sdk.leftovers import sync_journals

    sync_journals(connection.caller(), Path(connection.settings().store).expanduser())


def _forget(run: Run) -> None:
    global _active
    with _guard:
        if _active is run:
            _active = None


def _at_exit() -> None:
    """The script is over: its run ends as the script did. A server that does not answer is not waited for long."""
    if _active is not None:
        with suppress(Exception):
            status, error = runtime.how_it_ended(_uncaught())
            _active.finish(status, error, timeout_s=10)


def _uncaught() -> BaseException | None:
    """The exception that ended the script. In a notebook or interpreter an error ends a cell, not the run."""
    if hasattr(sys, "ps1") or "ipykernel" in sys.modules:
        return None
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def _after_fork() -> None:
    """A forked child logs to the same run under a writer of its own; the parent's thread delivers it."""
    global _guard, _sender
    _guard = threading.Lock()
    if _sender is not None:
        _sender = None
        atexit.unregister(_at_exit)


os.register_at_fork(after_in_child=_after_fork)
