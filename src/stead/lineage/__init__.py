"""Lineage: one graph from data version to decision, both ways from any node, and what can be told of it elsewhere.

`records` reads the arrows: some were written when a version was registered, the others follow from the tables of deployments,
predictions, labels and the ledger. `tracing` follows them, `naming` and `describing` go from words to nodes and back.
"""

from stead.lineage.tracing import list_predictions_from, trace
from stead.lineage.types import KINDS, Arrow, Lineage, Node

OPERATIONS = {"read": ("list_predictions_from", "trace")}

__all__ = ["KINDS", "OPERATIONS", "Arrow", "Lineage", "Node", "list_predictions_from", "trace"]
