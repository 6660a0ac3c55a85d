"""The thread that carries journals to the store, and what it does while nobody answers: waits longer each time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stead.errors import Forbidden, InvalidInput, NotFound, Refused, SteadError
from stead.runtime import journal as j
from stead.runtime.journal import Delivery
from stead.runtime.sdk import tell

if TYPE_CHECKING:
    from stead.api import Caller

EVERY_S = 0.5
LONGEST_S = 30.0
HOPELESS = (InvalidInput, NotFound, Refused, Forbidden)
"""Trying again does not help; anything else may pass: no network, a full disk, a locked database."""


class Sender:
    """Carries the journals that it was given, in a thread of its own; `log` never waits for it."""

    def __init__(self) -> None:
        self._couriers: dict[Path, j.Courier] = {}
        self._changed = threading.Condition()
        self._hurry = False
        self._failures = 0
        self._silent = False
        self._refused: set[Path] = set()
        self._chores: list[Callable[[], object]] = []
        threading.Thread(target=self._run, daemon=True, name="stead-sender").start()

    def add(self, folder: Path, connect: Callable[[], Caller]) -> None:
        """Carry this journal from now on; `connect` gives the one who keeps it, and may raise."""
        courier = j.Courier(
            folder,
            lambda writer, first, records: deliver(connect(), folder.name, writer, first, records),
            lambda file: connect().put_blob(file),
            fresh=True,
        )
        with self._changed:
            self._couriers[folder] = courier

    def later(self, chore: Callable[[], object]) -> None:
        """Do this once, when everything is delivered and nobody waits; an error is no matter."""
        with self._changed:
            self._chores.append(chore)

    def settle(self, folder: Path, timeout_s: float) -> bool:
        """Wait until a journal that has ended is delivered and removed; False where it was not in time and stays."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while folder in self._couriers and (left := deadline - time.monotonic()) > 0:
                self._hurry = True
                self._changed.notify_all()
                self._changed.wait(min(left, 1.0))
            if folder not in self._couriers:
                return folder not in self._refused
        tell(f"run {folder.name} is not delivered yet; it stays in {folder}, and `stead sync` delivers it")
        return False

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._hurry:
                    self._changed.wait(self._pause())
                self._hurry = False
                couriers = list(self._couriers.values())
            for courier in couriers:
                self._carry(courier)
            with self._changed:
                self._changed.notify_all()
                idle = bool(self._chores and couriers) and not self._hurry and not self._failures
                chore = self._chores.pop(0) if idle else None
            if chore is not None:
                with suppress(Exception):
                    chore()

    def _pause(self) -> float:
        if not self._failures:
            return EVERY_S
        return random.uniform(0.5, 1.0) * min(LONGEST_S, EVERY_S * 2.0 ** min(self._failures, 10))

    def _carry(self, courier: j.Courier) -> None:
        try:
            courier.carry()
        except HOPELESS as error:
            self._give_up(courier, error)
        except Exception as error:  # a thread that dies in silence would lose the run
            self._wait_for(error)
        else:
            if self._silent:
                tell("the run is delivered again")
            self._failures, self._silent = 0, False
            if courier.has_ended or _is_gone(courier):
                self._drop(courier)

    def _drop(self, courier: j.Courier) -> None:
        """All is delivered. Where a forked child still writes, the folder stays for it."""
        with suppress(Exception):  # what stays is a leftover that the next one delivers
            if not any(j.is_alive(log) for log in j.logs_of(courier.folder)) and not courier.carry():
                j.remove(courier.folder)
        with self._changed:
            self._couriers.pop(courier.folder, None)

    def _wait_for(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 3 and not self._silent:
            self._silent = True
            hint = getattr(error, "hint", None)
            tell(f"{error}{f' ({hint})' if hint else ''}; the run goes on in its journal and is delivered later")
        with self._changed:
            if self._hurry:
                self._changed.wait(min(self._pause(), 1.0))

    def _give_up(self, courier: j.Courier, error: SteadError) -> None:
        if _is_gone(courier):
            self._drop(courier)
            return
        tell(f"run {courier.folder.name} cannot be delivered: {error.message}; its journal stays in {courier.folder}")
        with self._changed:
            self._refused.add(courier.folder)
            self._couriers.pop(courier.folder, None)


def _is_gone(courier: j.Courier) -> bool:
    """The agent, or another process, has found the closed journal first, delivered it whole and removed it."""
    return not j.logs_of(courier.folder)


def deliver(caller: Caller, run_id: str, writer: str, first: int, records: Sequence[j.Record]) -> int:
    """One batch to the store or to a server's hot route; returns up to which record it has the writer's journal."""
    from stead.api import Remote

    if isinstance(caller, Remote):
        body = msgspec.msgpack.encode(Delivery(run_id, writer, first, list(records)))
        seq, told = caller.send("/api/hot/deliver", body, kind=_RECEIPT)
    else:
        receipt = caller.call("runs.deliver", run_id=run_id, writer=writer, first=first, records=records)
        seq, told = receipt.seq, receipt.told
    for text in told:
        tell(text)
    return int(seq)


_RECEIPT: Callable[[bytes], tuple[int, list[str]]] = msgspec.msgpack.Decoder(tuple[int, list[str]]).decode
