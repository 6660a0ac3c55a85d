"""Lineage: arrows from what went in to what came out."""

from __future__ import annotations

import sqlalchemy as sa

from stead.models.tables import edges
from stead.models.types import Edge
from stead.runtime.clock import now_ms
from stead.store import Store, from_row

MOST = 2_000
"""Arrows that one answer holds; a graph beyond it is no picture."""
_TOGETHER = 200


def link(tx: sa.Connection, source: str, target: str, relation: str) -> None:
    """Add an arrow in the caller's transaction; it stands once, however often it is added.

    Ends are written `dataset:demand@3`, `run:ID`, `environment:DIGEST`, `version:demand@2`.
    """
    place = (edges.c.source == source) & (edges.c.target == target) & (edges.c.relation == relation)
    known = sa.exists().where(place)
    values = sa.select(
        sa.literal(source), sa.literal(target), sa.literal(relation), sa.literal(now_ms(), sa.BigInteger)
    ).where(~known)
    tx.execute(sa.insert(edges).from_select(["source", "target", "relation", "at"], values))


def lineage(store: Store, ref: str) -> list[Edge]:
    """All that led to a version, and all that it led to: arrows up- and downstream, oldest first.

    `ref` is a version (`demand@3`) or any end of an arrow (`dataset:demand@3`).
    """
    start = ref if ":" in ref else f"version:{ref}"
    found: dict[tuple[str, str, str], Edge] = {}
    with store.db.read() as tx:
        for near, far in ((edges.c.target, "source"), (edges.c.source, "target")):
            seen, front = {start}, [start]
            while front and len(found) < MOST:
                wanted, front = front[:_TOGETHER], front[_TOGETHER:]
                for row in tx.execute(sa.select(edges).where(near.in_(wanted))).mappings():
                    found[row["source"], row["target"], row["relation"]] = from_row(row, Edge)
                    if row[far] not in seen:
                        seen.add(row[far])
                        front.append(row[far])
    return sorted(found.values(), key=lambda edge: (edge.at, edge.source, edge.target))
