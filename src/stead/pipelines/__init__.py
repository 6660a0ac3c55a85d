"""ingest → features → train → evaluate → register, as steps in the pinned environment; a step with the same code and inputs is not run again.

What a step needs is packed (`pack`), so that a job can run wherever its executor is.
"""

from stead.pipelines.comparing import compare, run_compare
from stead.pipelines.packing import CONTRACT, pack
from stead.pipelines.training import ingest, run_ingest, run_training, train
from stead.pipelines.types import Candidate, Compared, Judge, Spec

OPERATIONS = {"write": ("train", "ingest", "compare")}

__all__ = [
    "CONTRACT",
    "OPERATIONS",
    "Candidate",
    "Compared",
    "Judge",
    "Spec",
    "compare",
    "ingest",
    "pack",
    "run_compare",
    "run_ingest",
    "run_training",
    "train",
]
