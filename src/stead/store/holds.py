"""Holding on to bytes: while a backup copies what its rows name, nobody takes bytes away.

Whoever deletes asks `may_delete` after the change that took the last name of the bytes away is committed, and right before
it deletes. A backup holds first and looks at the rows afterwards, so what its rows name stays until it has copied it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.store.tables import holds
from stead.store.types import Store

HOLD_MS = 600_000
RENEW_S = 60.0


@contextmanager
def hold_bytes(store: Store, what: str) -> Iterator[Callable[[], None]]:
    """Nothing is deleted from the blob store meanwhile. Call what this gives now and then: a hold lasts ten minutes."""
    mine = new_id()
    last = time.monotonic()

    def renew() -> None:
        nonlocal last
        if time.monotonic() - last > RENEW_S:
            last = time.monotonic()
            with store.db.write("store.hold") as tx:
                store.db.upsert(tx, holds, {"id": mine, "what": what, "until": now_ms() + HOLD_MS}, ["id"])

    with store.db.write("store.hold") as tx:
        tx.execute(sa.delete(holds).where(holds.c.until < now_ms()))
        tx.execute(sa.insert(holds).values(id=mine, what=what, until=now_ms() + HOLD_MS))
    try:
        yield renew
    finally:
        with store.db.write("store.hold") as tx:
            tx.execute(sa.delete(holds).where(holds.c.id == mine))


def may_delete(store: Store) -> bool:
    """Whether bytes that nothing names may go now."""
    with store.db.read() as tx:
        return tx.execute(sa.select(holds.c.id).where(holds.c.until > now_ms()).limit(1)).first() is None
