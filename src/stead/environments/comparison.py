"""What differs between environments, and the variables that a process in one of them sees."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions

import msgspec
from packaging.utils import canonicalize_name

from stead.environments.creation import made, runtime_path
from stead.environments.locking import here
from stead.environments.operations import get
from stead.environments.types import Difference
from stead.runtime import computing
from stead.runtime.computing import SETTINGS
from stead.runtime.variables import THREADS, variables
from stead.store import Store

FACTS = ("TZ", "LANG", *THREADS)


def compare(
    store: Store,
    digests: Sequence[str],
    *,
    here: bool = False,
    variables: Sequence[Mapping[str, str]] = (),
    equal: bool = False,
    facts: Sequence[Mapping[str, str] | None] = (),
) -> list[Difference]:
    """Facts and packages that differ between environments, one value for each; the running interpreter last, with `here`.

    `variables` says what each environment's processes see besides the usual (`[models.NAME.serve] env`), `facts` what was
    recorded of a process in each (`stead.runtime.computing`); None asks one now, where that environment is made on this machine.
    With `equal` the rows that agree are told too.
    """
    columns = []
    for i, digest in enumerate(digests):
        extra, known = variables[i] if i < len(variables) else {}, facts[i] if i < len(facts) else {}
        columns.append(_locked(store, digest, extra, measure(store, digest, extra) if known is None else known))
    if here:
        columns.append(_here(told=bool(facts)))
    rows = []
    for kind, name in sorted(dict.fromkeys(key for column in columns for key in column), key=_rank):
        rows.append(Difference(name, tuple(column.get((kind, name)) for column in columns), kind))
    return [row for row in rows if equal or row.differs]


Column = dict[tuple[str, str], str]
"""Kind and name of a row → a value."""
KINDS = ("fact", "variable", "package")


def _rank(key: tuple[str, str]) -> tuple[int, str]:
    """Facts and variables as they came, packages by name."""
    kind, name = key
    return KINDS.index(kind), name if kind == "package" else ""


def _locked(store: Store, digest: str, extra: Mapping[str, str], facts: Mapping[str, str]) -> Column:
    environment = get(store, digest)
    usual = variables() | dict(extra)  # secrets stay the words that name them
    usual |= {name: value for name, value in facts.items() if name in usual and name not in extra}
    column: Column = {("fact", "python"): environment.python, ("fact", "platform"): environment.platform}
    column |= {("fact", name): value for name, value in facts.items() if not SETTINGS.fullmatch(name)}
    column |= {("variable", name): usual[name] for name in dict.fromkeys([*FACTS, *extra]) if name in usual}
    return column | {("package", name): version for name, version in environment.packages.items()}


def _here(*, told: bool) -> Column:
    python, machine = here()
    column: Column = {("fact", "python"): python, ("fact", "platform"): machine}
    if told:
        import numpy  # noqa: F401  # computing tells of what is loaded

        column |= {("fact", k): v for k, v in computing.facts().items() if not SETTINGS.fullmatch(k)}
    column |= {("variable", name): os.environ[name] for name in FACTS if name in os.environ}
    return column | {("package", name): version for name, version in installed().items()}


MEASURE = """
import contextlib, importlib, json, sys
for name in sys.argv[1:]:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
from stead.runtime.computing import facts
print(json.dumps(facts()))
"""
LEARNERS = {"numpy": "numpy", "scipy": "scipy.linalg", "scikit-learn": "sklearn", "torch": "torch"}
"""Packages that bring arithmetic libraries, and what loads them."""


def measure(store: Store, digest: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a process in an environment computes with; nothing where it is not made on this machine."""
    python = made(store, digest)
    if python is None:
        return {}
    brought = [module for name, module in LEARNERS.items() if name in get(store, digest).packages]
    seen = variables(extra=extra) | {"PYTHONPATH": str(runtime_path(store))}
    done = subprocess.run([python, "-c", MEASURE, *brought], env=seen, capture_output=True, check=False)
    return dict(msgspec.json.decode(done.stdout)) if done.returncode == 0 else {}


def installed(path: Sequence[str] | None = None) -> dict[str, str]:
    """Name and version of each distribution of the running interpreter, or of the folders in `path`."""
    found: dict[str, str] = {}
    for distribution in distributions() if path is None else distributions(path=list(path)):
        if name := distribution.metadata["Name"]:
            found.setdefault(canonicalize_name(name), distribution.version)
    return found
