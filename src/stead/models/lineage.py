"""Arrows from what went in to what came out, as they are written when it is made."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from stead.models.tables import edges
from stead.models.types import Edge
from stead.runtime.clock import now_ms
from stead.store import Store, from_row

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


def arrows_of(store: Store, ends: Sequence[str]) -> list[Edge]:
    """The arrows that begin or end at some ends, oldest first."""
    found: dict[tuple[str, str, str], Edge] = {}
    with store.db.read() as tx:
        for first in range(0, len(ends), _TOGETHER):
            some = ends[first : first + _TOGETHER]
            query = sa.select(edges).where(sa.or_(edges.c.source.in_(some), edges.c.target.in_(some)))
            for row in tx.execute(query).mappings():
                found[row["source"], row["target"], row["relation"]] = from_row(row, Edge)
    return sorted(found.values(), key=lambda edge: (edge.at, edge.source, edge.target))
