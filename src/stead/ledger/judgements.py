"""Judgements of decisions: begun with the decision, restated while rows and labels come, then closed.

Ledger entries cannot be changed, so what is found out later stands beside them. Who compares what is the business of the
part that decided.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from stead.ledger.tables import judgements as table
from stead.ledger.types import Judgement
from stead.store import Store, checked_limit, from_row


def await_judgement(tx: sa.Connection, judgement: Judgement) -> None:
    """Have a decision judged by the rows that come: its row, in the transaction of the decision."""
    tx.execute(sa.insert(table).values(msgspec.to_builtins(judgement)))


def write_judgement(tx: sa.Connection, judgement: Judgement) -> bool:
    """Restate an open judgement; False where it was closed, or somebody who has seen more has written meanwhile."""
    here = (table.c.entry == judgement.entry) & table.c.closed.is_(False)
    here &= (table.c.seen <= judgement.seen) & (table.c.refresh <= judgement.refresh)
    return bool(tx.execute(sa.update(table).where(here).values(msgspec.to_builtins(judgement))).rowcount)


def open_judgements(tx: sa.Connection, *, deployment: int | None = None) -> list[Judgement]:
    """Judgements that are not closed, oldest first; those of one deployment where it is named."""
    query = sa.select(table).where(table.c.closed.is_(False)).order_by(table.c.entry)
    if deployment is not None:
        query = query.where(table.c.deployment == deployment)
    return [from_row(row, Judgement) for row in tx.execute(query).mappings()]


def wrong_promotions(tx: sa.Connection) -> list[Judgement]:
    """Promotions that are judged wrong, open or closed, oldest first."""
    query = sa.select(table).where(table.c.kind == "promotion", table.c.verdict == "wrong").order_by(table.c.entry)
    return [from_row(row, Judgement) for row in tx.execute(query).mappings()]


def list_judgements(store: Store, *, model: str | None = None, limit: int = 100) -> list[Judgement]:
    """What the rows that came after say of decisions, newest decision first. Raises InvalidInput (`limit-invalid`)."""
    query = sa.select(table).order_by(table.c.entry.desc()).limit(checked_limit(limit))
    if model is not None:
        query = query.where(table.c.model == model)
    with store.db.read() as tx:
        return [from_row(row, Judgement) for row in tx.execute(query).mappings()]


def judgements_in(tx: sa.Connection, entries: Sequence[int]) -> dict[int, Judgement]:
    """The judgements of some decisions, by decision."""
    found: dict[int, Judgement] = {}
    for start in range(0, len(entries), 500):
        query = sa.select(table).where(table.c.entry.in_(entries[start : start + 500]))
        found |= {row["entry"]: from_row(row, Judgement) for row in tx.execute(query).mappings()}
    return found
