"""A model's clock: the wall clock, unless a replay holds it at an event time."""

from __future__ import annotations

import sqlalchemy as sa

from stead.errors import Conflict
from stead.jobs.tables import model_clocks
from stead.runtime.clock import now_ms
from stead.store import Store

HELD_MS = 15_000
"""A holder that has not told the time for so long is gone; the clock is the wall clock again."""


def model_now(store: Store, model: str) -> int:
    """The model's time, milliseconds."""
    held = held_at(store, model)
    return now_ms() if held is None else held


def held_at(store: Store, model: str) -> int | None:
    """Where a replay holds the model's clock, or None while it is the wall clock."""
    with store.db.read() as tx:
        return held_in(tx, model)


def held_in(tx: sa.Connection, model: str) -> int | None:
    """`held_at` inside a transaction."""
    query = sa.select(model_clocks.c.now).where(
        model_clocks.c.model == model, model_clocks.c.beat_at > now_ms() - HELD_MS
    )
    value = tx.execute(query).scalar()
    return None if value is None else int(value)


def held_clocks(tx: sa.Connection) -> dict[str, int]:
    """Where replays hold clocks, by model; a model whose clock is the wall clock is not in it."""
    query = sa.select(model_clocks.c.model, model_clocks.c.now).where(model_clocks.c.beat_at > now_ms() - HELD_MS)
    return {model: int(now) for model, now in tx.execute(query)}


def clock_holders(tx: sa.Connection) -> dict[str, tuple[int, str]]:
    """`held_clocks` with who holds them."""
    query = sa.select(model_clocks).where(model_clocks.c.beat_at > now_ms() - HELD_MS)
    return {row["model"]: (int(row["now"]), row["holder"]) for row in tx.execute(query).mappings()}


def hold_clock(store: Store, model: str, *, now: int, holder: str) -> None:
    """Set the model's clock to `now` on behalf of one replay. Raises Conflict (`clock-held`) where another one holds it."""
    with store.db.write("jobs.clock") as tx:
        row = tx.execute(sa.select(model_clocks).where(model_clocks.c.model == model)).mappings().first()
        if row and row["holder"] != holder and row["beat_at"] > now_ms() - HELD_MS:
            raise Conflict("clock-held", f"another replay holds the clock of {model}", hint="wait until it has ended")
        values = {"model": model, "now": now, "holder": holder, "beat_at": now_ms()}
        store.db.upsert(tx, model_clocks, values, ["model"])


def release_clock(store: Store, model: str, *, holder: str) -> None:
    """Give the clock back to the wall."""
    with store.db.write("jobs.clock") as tx:
        tx.execute(sa.delete(model_clocks).where(model_clocks.c.model == model, model_clocks.c.holder == holder))
