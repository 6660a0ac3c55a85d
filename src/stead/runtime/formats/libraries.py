"""Which installed libraries a model uses, and which of its modules must travel with it."""

from __future__ import annotations

import ast
import importlib.metadata as metadata
import os
import pickletools
import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path


def canonical(name: str) -> str:
    """
    >>> canonical("Scikit_Learn")
    'scikit-learn'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(names: Iterable[str]) -> dict[str, str]:
    """The installed version of each; what is not installed is left out."""
    found = {}
    for name in names:
        try:
            found[canonical(name)] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def used_by(modules: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """The libraries that hold these modules, and those with all that they require, with versions."""
    homes = _homes(tuple((entry, os.stat(entry).st_mtime_ns) for entry in sys.path if os.path.isdir(entry)))
    direct = sorted(
        {canonical(home) for module in modules for home in homes.get(module.partition(".")[0], ())} - {"stead"}
    )
    waiting, found = list(direct), {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = distribution.version
        plain = [line for line in distribution.requires or () if "extra" not in line.partition(";")[2]]
        waiting += [canonical(match[0]) for line in plain if (match := re.match(r"[A-Za-z0-9][\w.-]*", line))]
    return direct, dict(sorted(found.items()))


@lru_cache(maxsize=1)
def _homes(_path: tuple[tuple[str, int], ...]) -> Mapping[str, set[str]]:
    """Module to libraries, as `packages_distributions` has it in five times the time: no path is made of any file, no metadata read in full.

    Asked again only when something was installed.
    """
    homes: dict[str, set[str]] = {}
    for distribution in metadata.distributions():
        tops = (distribution.read_text("top_level.txt") or "").split()
        if not tops:
            records = (distribution.read_text("RECORD") or "").splitlines()
            tops = [top for top in dict.fromkeys(map(_top, records)) if top]
        named = NAME.search(distribution.read_text("METADATA") or "")
        name = named[1] if named else distribution.metadata["Name"]
        for top in tops:
            homes.setdefault(top, set()).add(name)
    return homes


NAME = re.compile(r"^Name: *(\S+)", re.MULTILINE)


def _top(record: str) -> str:
    """The module that a line of a RECORD belongs to; empty where it belongs to none.

    >>> _top("numpy/core/a.py,sha256=x,3"), _top("six.py,,"), _top("numpy-2.0.dist-info/RECORD,,"), _top("../../bin/f2py,,")
    ('numpy', 'six', '', '')
    """
    first, slash, _ = record.partition(",")[0].partition("/")
    if not slash:
        stem, _, kind = first.partition(".")
        return stem if kind.endswith(("py", "so", "pyd")) else ""
    return "" if "." in first else first


def pickled_modules(data: bytes) -> set[str]:
    """Modules that a pickle refers to, read without executing it."""
    found: set[str] = set()
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "GLOBAL":
            found.add(str(argument).partition(" ")[0])
        elif isinstance(argument, str):
            strings.append(argument)
    # STACK_GLOBAL takes its module from the stack, often by way of the memo: any string that names a loaded module counts.
    return found | {text for text in strings if text in sys.modules}


def imported_modules(source: str) -> set[str]:
    """Modules that a source file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


def local_file(module: str) -> Path | None:
    """The file or package folder of a loaded module that no library and no standard library owns: it must travel along."""
    top = module.partition(".")[0]
    loaded = sys.modules.get(top)
    if top in sys.stdlib_module_names or top in ("__main__", "stead") or loaded is None:
        return None
    file = getattr(loaded, "__file__", None)
    if not file or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    inside = [Path(entry).resolve() for entry in (sys.prefix, sys.base_prefix)]
    if "site-packages" in path.parts or "dist-packages" in path.parts or any(path.is_relative_to(p) for p in inside):
        return None
    return path.parent if path.name == "__init__.py" else path
