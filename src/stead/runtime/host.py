"""Runs the steps of a job, each in a process of its own, with the libraries loaded once: `python -m stead.runtime.host FD`.

Loading pandas and a learner takes seconds, and a training has five steps. So this process imports the libraries that the
project's files import, and those parts of them that a step has loaded while it ran, and forks for each step: the project's own code
is loaded anew every time, and what a step does to its process is gone when it ends. A request is a line of JSON on stdin, `{"spec": FILE, "cwd": FOLDER, "env": {…}}`;
the step's exit code is told as a line on FD. Where forking is not safe, because a library has started threads or the
system is not Linux, a step gets a fresh interpreter instead.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stead.runtime import loading

ALWAYS = ("numpy", "pandas", "pyarrow.parquet")
"""Every step reads and writes Parquet through pandas."""
FORK_SAFE = {"jemalloc_bg_thd"}
"""Threads of pyarrow's allocator, which takes its locks before a fork and goes on without them in the child."""
TOLD_BYTES = 60_000
"""A step may tell so much of what it has loaded: a pipe holds it."""
PLAIN = "plain"
"""The argument of a host that learns nothing."""


def main() -> int:
    """Serve requests until stdin ends; in the process of a step, that step's exit code."""
    told, learns = int(sys.argv[1]), PLAIN not in sys.argv[2:]
    os.set_inheritable(told, False)
    loaded: set[str] = set()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _load(json.loads(Path(request["spec"]).read_text()), loaded)
        if not _alone():
            os.write(told, b"%d\n" % _fresh(request))
            continue
        known, (news, tell) = set(sys.modules), os.pipe()
        gc.freeze()  # else a step looks for cycles in all that was loaded, at its end at the latest: 0.3 s with a learner
        if (child := os.fork()) == 0:
            _enter(request, told)
            from stead.runtime.step import run

            code = run(Path(request["spec"]))
            os.write(tell, "\n".join(_parts(known)).encode()[:TOLD_BYTES])
            return code
        os.close(tell)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if learns:
            _learn(news)
        os.close(news)
        os.write(told, b"%d\n" % code)
        if learns and not _alone():  # a part has started threads: begin again without
            os.set_inheritable(told, True)
            os.execv(sys.executable, [*sys.orig_argv, PLAIN])
    return 0


def _load(spec: dict[str, Any], loaded: set[str]) -> None:
    """Import the libraries that the project's files import, as long as this process may fork."""
    own = {Path(name).parts[0].removesuffix(".py") for name in spec["files"]}
    wanted = [*ALWAYS]
    for name in spec["files"]:
        if name.endswith(".py"):
            wanted += imported((Path(spec["code"]) / name).read_bytes())
    for name in wanted:
        if not _alone():  # every step gets an interpreter of its own, and loads them there
            return
        if name not in loaded and name.partition(".")[0] not in own:
            loaded.add(name)
            _import(name)


def _parts(known: set[str]) -> list[str]:
    """What was loaded since of packages that were known, in order: holidays of a country, a reader for pandas."""
    return [name for name in sys.modules if name not in known and name.partition(".")[0] in known]


def _learn(news: int) -> None:
    """Load what the step had to load, so that the next one has it: said by its process, which has ended."""
    os.set_blocking(news, False)
    try:
        said = os.read(news, TOLD_BYTES).decode()
    except BlockingIOError:  # it said nothing, and something that it started lives
        return
    whole = said.split("\n") if len(said) < TOLD_BYTES else said.split("\n")[:-1]
    for name in filter(None, whole):
        _import(name)


def _import(name: str) -> None:
    """Whatever a library does when it cannot be loaded is told by the step that needs it."""
    with loading.quick(), warnings.catch_warnings(), contextlib.suppress(BaseException):
        warnings.simplefilter("ignore")
        importlib.import_module(name)


def imported(source: bytes) -> list[str]:
    """The modules that a file imports when it is loaded.

    >>> imported(b"import os.path\\nfrom json import loads\\ndef f():\\n    import csv")
    ['os.path', 'json']
    """
    try:
        return list(_imports(ast.parse(source).body))
    except (SyntaxError, ValueError):
        return []


def _imports(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                yield node.module
        elif isinstance(node, ast.Try):
            yield from _imports(node.body)


def _alone() -> bool:
    """Whether this process may fork: on Linux, with no threads but those that a fork knows how to handle."""
    tasks = Path("/proc/self/task")
    if sys.platform != "linux" or not tasks.is_dir():
        return False
    others = [task for task in tasks.iterdir() if task.name != str(os.getpid())]
    try:
        return {(task / "comm").read_text().strip() for task in others} <= FORK_SAFE
    except OSError:  # one ended just now: nobody knows what the others were at
        return False


def _enter(request: dict[str, Any], told: int) -> None:
    """Become the process of a step."""
    os.close(told)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.environ.update(request["env"])
    os.chdir(request["cwd"])


def _fresh(request: dict[str, Any]) -> int:
    alive = os.environ.get("STEAD_ALIVE_FD")
    return subprocess.run(
        [sys.executable, "-m", "stead.runtime.step", request["spec"]],
        cwd=request["cwd"],
        env=os.environ | request["env"],
        stdin=subprocess.DEVNULL,
        pass_fds=[int(alive)] if alive else [],
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
