"""A model's clock: the wall clock, unless a replay holds it at an event time.

A replay asks for the next moment (`move_clock`), the loop takes it up at the beginning of a turn, so that all of a turn is at
one moment, and says when it has nothing more to do there. What is decided then depends on event time alone, not on how fast
machine and replay are.
"""

from __future__ import annotations

import sqlalchemy as sa

from stead.errors import Conflict
from stead.jobs.tables import jobs
from stead.jobs.tables import model_clocks as table
from stead.jobs.types import ENDED
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
    value = tx.execute(sa.select(table.c.now).where(table.c.model == model, _held())).scalar()
    return None if value is None else int(value)


def held_clocks(tx: sa.Connection) -> dict[str, int]:
    """Where replays hold clocks, by model; a model whose clock is the wall clock is not in it."""
    return {model: now for model, (now, _) in clock_holders(tx).items()}


def clock_holders(tx: sa.Connection) -> dict[str, tuple[int, str]]:
    """`held_clocks` with who holds them."""
    query = sa.select(table).where(_held(), table.c.now.is_not(None))
    return {row["model"]: (int(row["now"]), row["holder"]) for row in tx.execute(query).mappings()}


def hold_clock(store: Store, model: str, *, now: int, holder: str) -> None:
    """Set the model's clock to `now` at once on behalf of one replay. Raises Conflict (`clock-held`) where another one holds it."""
    with store.db.write("jobs.clock") as tx:
        _hold(store, tx, model, holder, {"now": now, "asked": now, "settled": None})


def move_clock(store: Store, model: str, *, to: int, holder: str) -> None:
    """Ask the loop to take the model's clock to `to` with its next turn; asked again, it tells that the replay goes on.

    Raises Conflict (`clock-held`) where another one holds it.
    """
    with store.db.write("jobs.clock") as tx:
        _hold(store, tx, model, holder, {"asked": to})


def _hold(store: Store, tx: sa.Connection, model: str, holder: str, values: dict[str, int | None]) -> None:
    row = tx.execute(sa.select(table).where(table.c.model == model)).mappings().first()
    if row and row["holder"] != holder:
        if row["beat_at"] > now_ms() - HELD_MS:
            raise Conflict("clock-held", f"another replay holds the clock of {model}", hint="wait until it has ended")
        values = {"now": None, "settled": None, **values}
    store.db.upsert(tx, table, {"model": model, **values, "holder": holder, "beat_at": now_ms()}, ["model"])


def release_clock(store: Store, model: str, *, holder: str) -> None:
    """Give the clock back to the wall."""
    with store.db.write("jobs.clock") as tx:
        tx.execute(sa.delete(table).where(table.c.model == model, table.c.holder == holder))


def clocks_asked(store: Store) -> bool:
    """Whether a replay asks for another moment than where its clock stands."""
    with store.db.read() as tx:
        return _asked_in(tx)


def take_up_clocks(store: Store) -> dict[str, int]:
    """Move the clocks that replays hold to where they asked for; where they stand now, by model."""
    with store.db.read() as tx:
        if not _asked_in(tx):
            return held_clocks(tx)
    with store.db.write("jobs.turn") as tx:
        tx.execute(sa.update(table).where(_held(), _asked()).values(now=table.c.asked))
        return held_clocks(tx)


def settle_clock(store: Store, model: str, *, at: int) -> None:
    """Tell the replay that nothing more is to be done at a moment, where its clock still stands there and no timed job is open.

    Both in one statement: a job that a person's approval has queued since the turn looked keeps the replay waiting.
    """
    timed = (jobs.c.model == model) & jobs.c.state.not_in(ENDED) & jobs.c.event_time.is_not(None)
    here = (table.c.model == model) & (table.c.now == at) & ~sa.exists().where(timed)
    with store.db.read() as tx:
        news = tx.execute(sa.select(table.c.model).where(here, table.c.settled.is_distinct_from(at))).first()
    if news is not None:
        with store.db.write("jobs.turn") as tx:
            tx.execute(sa.update(table).where(here).values(settled=at))


def unsettle_clock(tx: sa.Connection, model: str) -> None:
    """Let a replay wait for the loop once more: a job has begun at the model's moment."""
    tx.execute(sa.update(table).where(table.c.model == model).values(settled=None))


def settled_in(tx: sa.Connection, model: str, *, ahead: int = 0) -> bool:
    """Whether the loop has nothing more to do where the replay has asked for, or not further than `ahead` before it.

    So, too, while no replay holds the clock.
    """
    row = tx.execute(sa.select(table).where(table.c.model == model, _held())).mappings().first()
    return row is None or (row["settled"] is not None and 0 <= row["asked"] - row["settled"] <= ahead)


def _asked_in(tx: sa.Connection) -> bool:
    return tx.execute(sa.select(table.c.model).where(_held(), _asked()).limit(1)).first() is not None


def _held() -> sa.ColumnElement[bool]:
    return table.c.beat_at > now_ms() - HELD_MS


def _asked() -> sa.ColumnElement[bool]:
    return table.c.now.is_(None) | (table.c.now != table.c.asked)
