"""Following the arrows from one thing, back to what led to it and on to what came of it."""

from __future__ import annotations

from typing import Literal

from stead.errors import InvalidInput
from stead.lineage.describing import described
from stead.lineage.naming import resolve
from stead.lineage.records import APPENDED, FOLLOWED, Records
from stead.lineage.types import Arrow, Lineage
from stead.predictions import Prediction, list_predictions
from stead.store import Store, checked_limit

MOST = 1_000
"""Nodes that one answer holds; a graph beyond it is no picture."""
Direction = Literal["both", "up", "down"]


def trace(store: Store, ref: str, *, direction: Direction = "both", beyond: bool = False) -> Lineage:
    """All that led to a thing (`up`), and all that came of it (`down`): data version → run → model version → deployment → predictions → labels → decision.

    `ref` is `demand@3`, `dataset:demand@7`, `run:ID`, `deployment:12`, a prediction's id, `decision:40`, …: `naming.resolve` says how it is read. The trace ends at decisions, at the version before
    and at the data version that was appended to, and shows them; with `beyond` it goes on through them, round the circle: a decision to train leads to the next run.
    Raises NotFound (`lineage-unknown`, or that of its kind), InvalidInput (`lineage-ref-invalid`, `direction-invalid`).
    """
    if direction not in ("both", "up", "down"):
        raise InvalidInput("direction-invalid", f"{direction!r} is no direction", hint="both, up or down")
    start = resolve(store, ref)
    records = Records(store)
    nodes: dict[str, bool] = {start: False}
    arrows: dict[Arrow, None] = {}
    for into in [True] * (direction != "down") + [False] * (direction != "up"):
        _follow(records, start, into=into, beyond=beyond, nodes=nodes, arrows=arrows)
    cut = len(nodes) >= MOST
    kept = [arrow for arrow in arrows if arrow.source in nodes and arrow.target in nodes]
    return Lineage(start, described(records, nodes), kept, cut)


def _follow(
    records: Records, start: str, *, into: bool, beyond: bool, nodes: dict[str, bool], arrows: dict[Arrow, None]
) -> None:
    """Add what lies on one side of the start; `nodes` says of each whether the trace ended there."""
    seen, front = {start}, [start]
    while front:
        records.ask(front)
        coming: list[str] = []
        for end in front:
            for arrow in records.into[end] if into else records.out[end]:
                other = arrow.source if into else arrow.target
                if other not in nodes and len(nodes) >= MOST:
                    continue
                arrows[arrow] = None
                stops = not beyond and _stops(arrow, other)
                nodes[other] = stops and nodes.get(other, True)
                if other not in seen and not stops:
                    seen.add(other)
                    coming.append(other)
        front = coming


def _stops(arrow: Arrow, other: str) -> bool:
    return other.startswith("decision:") or arrow.relation in (FOLLOWED, APPENDED)


def list_predictions_from(store: Store, ref: str, *, limit: int = 100, before: str | None = None) -> list[Prediction]:
    """Predictions that came from a thing, newest first: those of every model version that it went into.

    `before` is the id of the last one of the page before. "Which predictions came from data version 7?" is `dataset:demand@7`.
    Raises as `trace` does, and InvalidInput (`limit-invalid`).
    """
    checked_limit(limit)
    found: list[Prediction] = []
    for node in trace(store, ref, direction="down").of("predictions"):
        model, _, version = node.id.partition(":")[2].partition("@")
        found += list_predictions(store, model, version=int(version), limit=limit, before=before)
    return sorted(found, key=lambda each: each.id, reverse=True)[:limit]
