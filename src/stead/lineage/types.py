"""What a lineage is made of."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = (
    "dataset", "environment", "run", "version", "deployment", "predictions", "prediction", "labels", "label", "decision",
)  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One thing: `id` is its kind and name, such as `dataset:demand@7`, `version:demand@3`, `deployment:12`, `decision:40`."""

    id: str
    kind: str
    """A name of `KINDS`. `predictions` and `labels` are all of a version's; `prediction` and `label` a single one."""
    name: str
    """For people: `demand v3`."""
    said: str = ""
    """What is known of it in a few words: rows, loss, state."""
    at: int | None = None
    """When it came to be, milliseconds."""
    edge: bool = False
    """Whether the trace ended here though more may lie behind it."""


@dataclass(frozen=True)
class Arrow:
    """`source` went into `target`, or led to it."""

    source: str
    target: str
    relation: str


@dataclass(frozen=True)
class Lineage:
    """All that led to one thing and all that came of it."""

    start: str
    nodes: list[Node]
    arrows: list[Arrow]
    cut: bool
    """Whether there was more than one answer holds."""

    def of(self, *kinds: str) -> list[Node]:
        """Its nodes of some kinds.

        >>> Lineage("run:1", [Node("run:1", "run", "run 1")], [], False).of("version")
        []
        """
        return [node for node in self.nodes if node.kind in kinds]
