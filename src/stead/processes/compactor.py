"""The compactor: brings what is logged on this machine into the store where no agent does. `python -m stead.processes compactor`."""

from __future__ import annotations

import sys
import time

from stead import predictions
from stead.api.caller import Embedded
from stead.errors import SteadError
from stead.processes.beginning import begin
from stead.runtime import loading
from stead.sdk import sync_journals

EVERY_S = 1.0


def main() -> int:
    store, settings, done = begin()
    caller = Embedded(store, settings)
    loading.settle()
    print("ready compactor", flush=True)
    while not done.is_set():
        try:
            predictions.compact(store)
            sync_journals(caller, store.root)
        except Exception as error:  # told and tried again: the database or the bytes may be away for a while
            said = (
                f"{error.code}: {error.message}"
                if isinstance(error, SteadError)
                else f"{type(error).__name__}: {error}"
            )
            print(f"{time.strftime('%H:%M:%S')} {said}", file=sys.stderr, flush=True)
        done.wait(EVERY_S)
    predictions.compact(store)
    store.close()
    return 0
