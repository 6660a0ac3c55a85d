"""`stead` in this process: its words, what it prints and its exit code, without the half second that a process takes to load it."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from stead.cli import main


def stead(arguments: Sequence[str], *, cwd: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run(["stead", *arguments], …)` gives. Where it is killed, ends late or is short of something, start a process."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    said = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)
    with pytest.MonkeyPatch.context() as here, redirect_stdout(out), redirect_stderr(said), warnings.catch_warnings():
        here.chdir(cwd)
        here.setattr(sys, "argv", ["stead", *arguments])
        for name in os.environ.keys() - environ.keys():
            here.delenv(name)
        for name, value in environ.items():
            here.setenv(name, value)
        warnings.simplefilter("ignore", ResourceWarning)  # what is open at its end a process closes without a word
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        gc.collect()
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, *(each.buffer.getvalue().decode() for each in (out, said)))
