"""Compiles Python files into bytecode that follows from their text alone: run as a script by the interpreter of an image's version.

The bytecode is found by hash and never checked (PEP 552, `unchecked-hash`), so that neither times nor a read-only file system
matter, and it is marshalled without references between objects, which would depend on what else the process holds.
"""

import importlib.util
import marshal
import os
import sys

SKIPPED = ("tests", "test")
"""Folders that nobody imports when a model answers: left uncompiled, they would be a third of all bytecode."""


def compile_tree(root: str, prefix: str) -> None:
    """Compile what lies under `root`, as if it lay under `prefix`."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - {*SKIPPED, "__pycache__"})
        for name in sorted(files):
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                compile_file(path, os.path.join(prefix, os.path.relpath(path, root)))


def compile_file(path: str, shown: str) -> None:
    with open(path, "rb") as file:
        source = file.read()
    try:
        code = compile(source, shown, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):  # a template, or for another Python: whoever imports it is told
        return
    try:
        data = marshal.dumps(code, 2)
    except ValueError:  # constants that version 2 does not know
        data = marshal.dumps(code)
    target = importlib.util.cache_from_source(path, optimization="")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
        file.write(head + data)


if __name__ == "__main__":
    compile_tree(sys.argv[1], sys.argv[2])
