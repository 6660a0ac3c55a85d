"""Every commit, rename and send passes a registered failpoint, and every registered one is passed somewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import stead
from stead.runtime.failpoints import REGISTRY

SOURCE = Path(stead.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

RENAMES = {("os", "rename"), ("os", "replace"), ("os", "renames"), ("shutil", "move")}

POINT = re.compile(r"[a-z]+\.[a-z_]+").fullmatch
"""What a name looks like: `part.verb`. Whatever is written under such a name, be it through another's `write`, counts."""

ALLOWED = {
    "datasets/querying.py:read_query": "another database, which is only read",
    "datasets/scanning.py:_replace": "what is known of files without reading them, which can be read again",
    "environments/creation.py:_venv": "a copy of an empty environment, which is made anew where it is missing",
    "runtime/node.py:fetch": "a file in the folder of a step on another machine, gone with the step",
    "runtime/node.py:_environment": "an environment on another machine, which is made anew where it is missing",
    "store/database.py:write": "the door itself: it passes the failpoint",
    "store/database.py:read": "reads only",
    "store/migrations/env.py": "Alembic's connection when it is run by hand",
}
"""Where a rename or a connection needs no failpoint of its own, and why."""


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def text(node: ast.expr) -> str | None:
    """The start of a literal or an f-string: `x:before` of "x:before", "" of f"{name}:before"."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0] if node.values else node
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def doors(tree: ast.AST) -> dict[str, int]:
    """Functions that pass `failpoint(f"{name}:before")` for a name they are given, with the name's place: `move(a, b, name)`."""
    found = {}
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        arguments = [argument.arg for argument in function.args.args if argument.arg != "self"]
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and _is_failpoint(node) and isinstance(node.args[0], ast.JoinedStr):
                first = node.args[0].values[0]
                name = getattr(first.value, "id", "") if isinstance(first, ast.FormattedValue) else ""
                if name in arguments:
                    found[function.name] = arguments.index(name)
    return found


def used_names(tree: ast.AST, doors: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Names in `failpoint("name:…")`, `….write("name")` and other doors, `point="name"` and defaults of arguments called `point`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = node.func.value if isinstance(node.func, ast.Attribute) else None
            if called == "failpoint" and node.args and (name := text(node.args[0])):
                yield name.rsplit(":", 1)[0], node.lineno
            place = doors.get(called, 0 if called == "write" else len(node.args))
            name = text(node.args[place]) if place < len(node.args) else None
            if name is not None and (_is_database(owner) or POINT(name)):
                yield name, node.lineno
            for keyword in node.keywords:
                if keyword.arg == "point" and (name := text(keyword.value)):
                    yield name, node.lineno
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = [*node.args.posonlyargs, *node.args.args]
            pairs = [*zip(arguments[::-1], node.args.defaults[::-1], strict=False)]
            pairs += [(a, d) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d is not None]
            for argument, default in pairs:
                if argument.arg == "point" and (name := text(default)):
                    yield name, node.lineno


def _is_database(owner: ast.expr | None) -> bool:
    return (isinstance(owner, ast.Attribute) and owner.attr == "db") or (
        isinstance(owner, ast.Name) and owner.id == "db"
    )


def test_each_name_in_the_code_is_registered_and_each_registered_one_is_used() -> None:
    used: dict[str, str] = {}
    trees = {file: parsed(file) for file in FILES}
    known = {name: place for tree in trees.values() for name, place in doors(tree).items()}
    for file, tree in trees.items():
        for name, line in used_names(tree, known):
            used.setdefault(name, f"{file.relative_to(SOURCE)}:{line}")
    unknown = {name: place for name, place in used.items() if name not in REGISTRY}
    assert not unknown, "used, but not in stead.runtime.failpoints.REGISTRY"
    assert set(REGISTRY) == set(used), "registered, but passed nowhere"


def test_the_registry_says_what_is_torn_and_is_sorted() -> None:
    assert all(REGISTRY.values())
    assert list(REGISTRY) == sorted(REGISTRY)


def tearing(file: Path) -> Iterator[tuple[str, int, str]]:
    """Renames and connections that pass no failpoint in the function where they stand."""
    where = file.relative_to(SOURCE).as_posix()
    for function, node in _calls(parsed(file)):
        problem = _problem(node)
        if problem is None:
            continue
        passes = function is not None and any(_is_failpoint(inner) for inner in ast.walk(function))
        place = f"{where}:{function.name}" if function is not None else where
        if not passes and place not in ALLOWED and where not in ALLOWED:
            yield place, node.lineno, problem


def _calls(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef | None, ast.Call]]:
    """Each call with the innermost function around it."""

    def walk(node: ast.AST, function: ast.FunctionDef | ast.AsyncFunctionDef | None) -> Iterator[tuple[Any, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            inside = child if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
            if isinstance(child, ast.Call):
                yield inside, child
            yield from walk(child, inside)

    yield from walk(tree, None)


def _problem(node: ast.Call) -> str | None:
    if not isinstance(node.func, ast.Attribute):
        return None
    owner, name = node.func.value, node.func.attr
    if isinstance(owner, ast.Name) and (owner.id, name) in RENAMES:
        return f"{owner.id}.{name} without a failpoint"
    if name in ("begin", "connect") and _named(owner) == "engine":
        return f"engine.{name}: use store.db.write or store.db.read"
    if (
        name == "rename"
        and len(node.args) == 1
        and not node.keywords
        and _named(owner) in ("path", "temporary", "target")
    ):
        return "Path.rename without a failpoint"
    return None


def _named(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _is_failpoint(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "failpoint"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_no_rename_and_no_commit_without_a_failpoint(file: Path) -> None:
    found = [f"{place}, line {line}: {problem}" for place, line, problem in tearing(file)]
    assert not found


def test_what_is_allowed_exists() -> None:
    for place in ALLOWED:
        path, _, function = place.partition(":")
        tree = parsed(SOURCE / path)
        names = [node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        assert not function or function in names, f"{place} is gone: take it out of the list"


def test_the_scan_finds_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import os\n"
        "def torn(a, b):\n    os.replace(a, b)\n"
        "def fine(a, b):\n    failpoint('x:before')\n    os.replace(a, b)\n    failpoint('x:after')\n"
        "def door(db):\n    with db.engine.begin() as tx: pass\n"
        "def named(store, point='z'):\n    with store.db.write('y') as tx: RecordLog(1, point='w')\n"
        "def move(a, name):\n    failpoint(f'{name}:before')\n    os.rename(a)\n"
        "move(1, 'm.v')\nkeeper.write('k.w')\nfile.write('text')\n"
    )
    monkeypatch.setattr("test_failpoints_registered.SOURCE", tmp_path)
    assert [(place, line) for place, line, _ in tearing(bad)] == [("bad.py:torn", 3), ("bad.py:door", 9)]
    assert doors(parsed(bad)) == {"move": 1}
    assert {name for name, _ in used_names(parsed(bad), doors(parsed(bad)))} == {"x", "y", "z", "w", "m.v", "k.w"}
