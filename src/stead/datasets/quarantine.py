"""Batches that broke the contract of their dataset: kept as they came, with what was wrong, and part of no version."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from stead.datasets.tables import dataset_versions
from stead.datasets.tables import quarantine as table
from stead.runtime.clock import now_ms
from stead.store import Store, checked_limit, from_row


@dataclass(frozen=True)
class Quarantined:
    id: int
    dataset: str
    digest: str
    """Blob: the batch as Parquet."""
    rows: int
    since: int
    until: int
    """Event time that was asked for, milliseconds."""
    problems: list[str]
    job: str | None
    times: int
    """How often the very same batch came."""
    at: int


def put_aside(
    store: Store, dataset: str, digest: str, *, rows: int, since: int, until: int, problems: list[str], job: str | None
) -> Quarantined:
    """Remember a bad batch whose bytes are in the blob store; the same one that comes again is counted."""
    mine = (table.c.dataset == dataset) & (table.c.digest == digest)
    with store.db.write("datasets.quarantine") as tx:
        before = tx.execute(sa.select(table.c.times).where(mine).with_for_update()).scalar() or 0
        values = {
            "dataset": dataset, "digest": digest, "rows": rows, "since": since, "until": until, "problems": problems,
            "job": job, "times": before + 1, "at": now_ms(),
        }  # fmt: skip
        store.db.upsert(tx, table, values, ["dataset", "digest"])
        return from_row(tx.execute(sa.select(table).where(mine)).mappings().one(), Quarantined)


def list_quarantine(store: Store, *, dataset: str | None = None, limit: int = 50) -> list[Quarantined]:
    """Batches that were put aside, newest first."""
    query = sa.select(table).order_by(table.c.at.desc(), table.c.id.desc()).limit(checked_limit(limit))
    if dataset is not None:
        query = query.where(table.c.dataset == dataset)
    with store.db.read() as tx:
        return [from_row(row, Quarantined) for row in tx.execute(query).mappings()]


def held_back(store: Store) -> set[str]:
    """Datasets to which no rows were added since a batch of theirs was put aside last."""
    last = sa.select(table.c.dataset, sa.func.max(table.c.at).label("at")).group_by(table.c.dataset).subquery()
    added = sa.select(sa.func.max(dataset_versions.c.created_at)).where(dataset_versions.c.dataset == last.c.dataset)
    query = sa.select(last.c.dataset).where(last.c.at > sa.func.coalesce(added.scalar_subquery(), 0))
    with store.db.read() as tx:
        return set(tx.execute(query).scalars())
