"""Gates: what a version must pass before it goes further. For now parity: it answers as it did in training."""

from stead.gates.golden import compare_golden
from stead.gates.parity import keep_verdict, list_verdicts, parity
from stead.gates.types import Verdict

OPERATIONS = {"read": ("list_verdicts",)}

__all__ = ["OPERATIONS", "Verdict", "compare_golden", "keep_verdict", "list_verdicts", "parity"]
