"""Gates: what a version must pass before it goes further.

`TRAINED` are those that a training comes to when its version is registered (`trained`); `parity` asks the real endpoint
before any traffic does, `signature` whether a trusted key signed it before it is loaded. Each verdict is kept with its evidence, and a person can override one with a reason.
"""

from stead.gates.accelerating import accelerate, accelerate_idle, run_accelerate
from stead.gates.golden import compare_golden
from stead.gates.parity import ask_golden, parity
from stead.gates.signature import signature
from stead.gates.trained import TRAINED
from stead.gates.types import GATES, Verdict
from stead.gates.verdicts import keep_verdict, list_verdicts, refused_in

OPERATIONS = {"read": ("list_verdicts",), "write": ("accelerate",)}

__all__ = [
    "GATES",
    "OPERATIONS",
    "TRAINED",
    "Verdict",
    "accelerate",
    "accelerate_idle",
    "ask_golden",
    "compare_golden",
    "keep_verdict",
    "list_verdicts",
    "parity",
    "refused_in",
    "run_accelerate",
    "signature",
]
