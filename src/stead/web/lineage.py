"""Lineage: from a data version to the decisions that rest on it, or back, drawn and listed."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import get_args
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from stead import lineage
from stead.lineage import Lineage, Node
from stead.lineage.tracing import Direction
from stead.web import charts
from stead.web.frame import here, render, store_of

MOST_NODES = 120
"""A picture with more boxes is none."""
PLURALS = {"run": "runs", "version": "versions", "deployment": "deployments", "decision": "decisions"}


def one(request: Request) -> Response:
    """`/lineage?of=…`, with `direction` and `beyond`."""
    asked = request.query_params
    ref, direction, beyond = asked.get("of", "").strip(), asked.get("direction", "both"), asked.get("beyond") == "1"
    if not ref:
        return render(request, "lineage.html", title="Lineage", data={"kinds": lineage.KINDS}, found=None, of="")
    way: Direction = "up" if direction == "up" else "down" if direction == "down" else "both"
    found = lineage.trace(store_of(request), ref, direction=way, beyond=beyond)
    start = next(node for node in found.nodes if node.id == found.start)
    return render(
        request,
        "lineage.html",
        title=f"Lineage of {start.name}",
        crumbs=[("Lineage", "/lineage")],
        crumb=start.name,
        data=found,
        found=found,
        of=ref,
        start=start,
        way=way,
        ways=get_args(Direction),
        beyond=beyond,
        farther=here(request, beyond=None if beyond else "1"),
        verdict=verdict(found),
        drawn=picture(found) if len(found.nodes) <= MOST_NODES else "",
        most=MOST_NODES,
        groups=groups(found),
        href=href,
    )


def verdict(found: Lineage) -> str:
    """What lies before and behind, counted."""
    behind = Counter(node.kind for node in found.nodes if node.id != found.start)
    told = [
        f"{count} {kind if count == 1 else PLURALS.get(kind, kind)}"
        for kind, count in behind.items()
        if kind in PLURALS
    ]
    answers = [node for node in found.of("predictions") if node.id != found.start]
    told += [f"{node.name}: {node.said}" for node in answers[:3]]
    return f"Connected with {'; '.join(told)}." if told else "Nothing is connected with it."


def groups(found: Lineage) -> list[tuple[str, list[tuple[Node, list[tuple[str, Node]]]]]]:
    """By kind each node with what led to it: the picture in words."""
    nodes = {node.id: node for node in found.nodes}
    before: dict[str, list[tuple[str, Node]]] = defaultdict(list)
    for arrow in found.arrows:
        before[arrow.target].append((arrow.relation, nodes[arrow.source]))
    kinds = [kind for kind in lineage.KINDS if found.of(kind)]
    return [(kind, [(node, before[node.id]) for node in found.of(kind)]) for kind in kinds]


def picture(found: Lineage, *, but: tuple[str, ...] = ()) -> str:
    """The graph, without nodes of some kinds."""
    kept = [node for node in found.nodes if node.kind not in but]
    start = next(node for node in found.nodes if node.id == found.start)
    if len(kept) < 2:
        return ""
    boxes = [
        charts.Node(
            node.id,
            node.name,
            node.said or node.kind,
            "" if node.id == found.start else href(node),
            "hot" if node.id == found.start else "past" if node.edge else "",
        )
        for node in kept
    ]
    arrows = [(arrow.source, arrow.target) for arrow in found.arrows]
    return charts.graph(boxes, arrows, label=f"lineage of {start.name}")


def href(node: Node) -> str:
    """The page of a thing; its own lineage where it has no page."""
    name = node.id.partition(":")[2]
    ref, _, number = name.partition("@")
    pages = {
        "dataset": f"/data/{ref}/{number}",
        "run": f"/runs/{name}",
        "version": f"/models/{ref}/versions/{number}",
        "deployment": f"/deployments/{name}",
    }
    return pages.get(node.kind) or lineage_of(node.id)


def lineage_of(end: str) -> str:
    """The address of a thing's lineage.

    >>> lineage_of("version:demand@3")
    '/lineage?of=version%3Ademand%403'
    """
    return f"/lineage?of={quote(end, safe='')}"


ROUTES = [("/lineage", one, ["GET"])]
