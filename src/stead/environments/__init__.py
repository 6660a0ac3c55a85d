"""Environments: locks with hashes, their creation by uv, and what differs between two of them.

A lock names exact versions and the hashes of their files for one Python on one platform. `ensure` makes it real in about
a second. stead itself is never in it: `runtime_path` is put on the path of the process that runs in it.
"""

from stead.environments.checking import COLUMNS as CHECKED
from stead.environments.checking import check
from stead.environments.comparison import compare
from stead.environments.creation import ensure, made, runtime_files, runtime_path
from stead.environments.interpreters import without_python
from stead.environments.locking import Draft, lock
from stead.environments.operations import add, get, list_environments, mixed
from stead.environments.requirements import Requirements, read_requirements
from stead.environments.running import draft_running, lock_running
from stead.environments.types import Difference, Environment, Wheel
from stead.environments.vendoring import fetch_all, foreign, run_vendor, unobtainable, vendor, vendored
from stead.runtime.variables import variables

OPERATIONS = {"read": ("compare", "get", "list_environments"), "write": ("add", "vendor")}

__all__ = [
    "CHECKED",
    "OPERATIONS",
    "Difference",
    "Draft",
    "Environment",
    "Requirements",
    "Wheel",
    "add",
    "check",
    "compare",
    "draft_running",
    "ensure",
    "fetch_all",
    "foreign",
    "get",
    "list_environments",
    "lock",
    "lock_running",
    "made",
    "mixed",
    "read_requirements",
    "run_vendor",
    "runtime_files",
    "runtime_path",
    "unobtainable",
    "variables",
    "vendor",
    "vendored",
    "without_python",
]
