"""ingest → features → train → evaluate → register, as steps in the pinned environment; a step with the same code and inputs is not run again.

What a step needs is packed (`pack`), so that a job can run wherever its executor is.
"""

from stead.pipelines.backtesting import backtest, run_backtest
from stead.pipelines.comparing import compare, run_compare
from stead.pipelines.packing import CONTRACT, pack
from stead.pipelines.reproducing import list_reproductions, reproduce, reproduction_of, run_reproduction
from stead.pipelines.rerunning import Rerun, rerun, run_rerun
from stead.pipelines.training import ingest, ingest_in, run_ingest, run_training, train
from stead.pipelines.types import Backtest, Candidate, Compared, Judge, Period, Reproduction, Spec

OPERATIONS = {
    "read": ("list_reproductions",),
    "write": ("train", "ingest", "compare", "backtest", "reproduce", "rerun"),
}

__all__ = [
    "CONTRACT",
    "OPERATIONS",
    "Backtest",
    "Candidate",
    "Compared",
    "Judge",
    "Period",
    "Reproduction",
    "Rerun",
    "Spec",
    "backtest",
    "compare",
    "ingest",
    "ingest_in",
    "list_reproductions",
    "pack",
    "reproduce",
    "reproduction_of",
    "rerun",
    "run_backtest",
    "run_compare",
    "run_ingest",
    "run_reproduction",
    "run_rerun",
    "run_training",
    "train",
]
