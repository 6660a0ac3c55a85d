"""How a process without a port begins: it opens the store, and ends with its supervisor or when it is told to."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import NamedTuple

from stead.config import Settings, load_settings
from stead.errors import SteadError
from stead.processes import lifeline
from stead.store import Store, open_store


class Begun(NamedTuple):
    store: Store
    settings: Settings
    done: threading.Event
    """Set when it is to end."""


def begin() -> Begun:
    """Read the command line and open the store; a store that does not open ends the process with its error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent-fd", type=int)
    options = parser.parse_args()
    settings = load_settings()
    try:
        store = open_store(settings)
    except SteadError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    lifeline.follow(options.parent_fd, done.set)
    return Begun(store, settings, done)
