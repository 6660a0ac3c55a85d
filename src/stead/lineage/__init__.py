"""Lineage: one graph from data version to decision, both ways from any node, and what can be told of it elsewhere.

`records` reads the arrows: some were written when a version was registered, the others follow from the tables of deployments,
predictions, labels and the ledger. `tracing` follows them, `naming` and `describing` go from words to nodes and back.
For other tools there are `openlineage` (events of runs), `bom` (a CycloneDX bill of materials) and `card` (a model card).
"""

from stead.lineage.bom import bom
from stead.lineage.card import model_card
from stead.lineage.openlineage import openlineage
from stead.lineage.tracing import list_predictions_from, trace
from stead.lineage.types import KINDS, Arrow, Lineage, Node

OPERATIONS = {"read": ("bom", "list_predictions_from", "model_card", "openlineage", "trace")}

__all__ = [
    "KINDS",
    "OPERATIONS",
    "Arrow",
    "Lineage",
    "Node",
    "bom",
    "list_predictions_from",
    "model_card",
    "openlineage",
    "trace",
]
