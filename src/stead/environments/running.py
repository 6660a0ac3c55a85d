"""The lock of the running interpreter: exactly what is installed, without stead and without what only stead needs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from stead.environments.locking import (
    Draft,
    Unsatisfiable,
    build_wheel,
    compile_lock,
    here,
    inputs_key,
    keep,
    remembered,
    workspace,
)
from stead.environments.requirements import Requirements, checked
from stead.environments.types import Environment
from stead.errors import InvalidInput, Refused, SteadError
from stead.store import Store

_LEFT_OUT = {"stead", "pip"}


def lock_running(store: Store, *, extra: Sequence[str] = ()) -> Environment:
    """Lock the running interpreter, so that a model made in it can be loaded elsewhere.

    `extra` names what the model surely needs, by package or with a version. Local and editable packages are built into
    wheels and stored. A package that cannot be had again is refused by name (`package-unlockable`), or left out and
    noted in `source` where `extra` is given and nothing in it needs that package.
    """
    with workspace() as folder:
        draft, inputs = _draft(folder, extra, store)
        return draft if isinstance(draft, Environment) else keep(store, draft, inputs=inputs)


def draft_running(folder: Path, *, extra: Sequence[str] = ()) -> Draft:
    """The same lock without a store, its wheels under `folder`: for the client of a remote server."""
    (folder / "wheels").mkdir(parents=True, exist_ok=True)
    draft, _ = _draft(folder, extra, None)
    assert isinstance(draft, Draft)
    return draft


def _draft(folder: Path, extra: Sequence[str], store: Store | None) -> tuple[Draft | Environment, str | None]:
    installed = installed_distributions()
    graph = {name: _requires(distribution) for name, distribution in installed.items()}
    wanted: dict[str, str] = {canonicalize_name(checked(line, "extra").name): line for line in extra}
    needed = reachable(graph, wanted) if extra else set(installed)
    asked, wheels, refused = _asked(installed, without_platform(graph, wanted), folder)
    asked.lines.extend(line for name, line in sorted(wanted.items()) if name not in installed)
    _refuse(refused, needed)
    key = inputs_key(asked, here()[0], wheels)
    if store is not None and (known := remembered(store, key)):
        return known, key
    draft = None
    while draft is None:
        try:
            draft = compile_lock(asked, wheels, folder, python=here()[0], exact=True)
        except Unsatisfiable as error:
            gone = [line for line in asked.lines if canonicalize_name(checked(line, "").name) in error.missing]
            if not gone:
                raise
            for line in gone:
                asked.lines.remove(line)
                refused[canonicalize_name(checked(line, "").name)] = f"the package index has no {line}"
    _refuse(refused, needed)
    note: dict[str, Any] = {"kind": "running", "executable": Path(sys.executable).name, "left_out": refused}
    return Draft(draft.python, draft.platform, draft.lock, draft.wheels, note), key


def _asked(
    installed: Mapping[str, Distribution], kept: set[str], folder: Path
) -> tuple[Requirements, list[Path], dict[str, str]]:
    """What to lock, the wheels of what is local, and why the rest cannot be had again."""
    asked, wheels, refused = Requirements(kind="running"), [], {}
    for name in sorted(kept):
        try:
            source = local_source(installed[name])
            if source is None:
                asked.lines.append(f"{name}=={installed[name].version}")
            else:
                wheels.append(build_wheel(source, folder / "wheels"))
                asked.local.append((source, ""))
        except SteadError as error:
            refused[name] = error.message
    return asked, wheels, refused


def _refuse(refused: Mapping[str, str], needed: set[str]) -> None:
    fatal = {name: why for name, why in refused.items() if name in needed}
    if fatal:
        raise Refused(
            "package-unlockable",
            "this environment cannot be made again: " + "; ".join(f"{name}: {why}" for name, why in fatal.items()),
            hint=f"install {next(iter(fatal))} from an index or from a folder that is still there, or uninstall it",
            packages=fatal,
        )


def without_platform(graph: Mapping[str, Sequence[str]], wanted: Iterable[str]) -> set[str]:
    """What is installed, less stead and what nothing but stead needs. `wanted` stays in any case.

    >>> graph = {"stead": ["numpy", "duckdb"], "scikit-learn": ["numpy"], "numpy": [], "duckdb": []}
    >>> sorted(without_platform(graph, []))
    ['numpy', 'scikit-learn']
    """
    required = {name for needs, names in graph.items() if needs not in _LEFT_OUT for name in names if name != needs}
    platform = reachable(graph, ["stead"])
    roots = graph.keys() - required - _LEFT_OUT - set(graph.get("stead", ()))
    return (graph.keys() - platform | reachable(graph, roots | set(wanted))) - _LEFT_OUT


def reachable(graph: Mapping[str, Sequence[str]], roots: Iterable[str]) -> set[str]:
    """The roots and all that they require, as far as it is installed."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in seen and name in graph:
            seen.add(name)
            waiting.extend(graph[name])
    return seen


def _requires(distribution: Distribution) -> list[str]:
    """Names that a distribution requires here. Those of its extras count: where pyarrow is installed, pandas uses it."""
    names: list[str] = []
    for line in distribution.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        if marker is None or "extra" in str(marker) or marker.evaluate():
            names.append(canonicalize_name(requirement.name))
    return names


def local_source(distribution: Distribution) -> Path | None:
    """The folder or wheel that a distribution was installed from; None where it came from an index (PEP 610).

    Raises InvalidInput where it came from elsewhere and cannot be had again.
    """
    text = distribution.read_text("direct_url.json")
    if text is None:
        return None
    origin = msgspec.json.decode(text)
    url = str(origin.get("url", ""))
    if url.startswith("file:"):
        path = Path(unquote(urlsplit(url).path))
        if path.exists():
            return path
        if (distribution.read_text("INSTALLER") or "").strip() == "conda":
            return None  # conda writes where its build ran, which is nobody's machine
        raise InvalidInput("package-unlockable", f"it was installed from {path.name}, which is gone")
    if "vcs_info" in origin:
        raise InvalidInput(
            "package-unlockable", f"it was installed from a repository ({origin['vcs_info'].get('vcs')})"
        )
    raise InvalidInput("package-unlockable", f"it was installed from {re.sub(r'://[^@/]*@', '://', url)}")


def installed_distributions() -> dict[str, Distribution]:
    """By name, the first of each on the path: the one that is imported."""
    found: dict[str, Distribution] = {}
    for distribution in distributions():
        if name := distribution.metadata["Name"]:
            found.setdefault(canonicalize_name(name), distribution)
    return found
