"""The entry: Ctrl-C before the command line is loaded; what only looks changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from stead.__main__ import main

class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Impatient())
main()
"""


def test_ctrl_c_while_the_command_line_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nstopped\n")


@pytest.mark.parametrize("words", [["tokens", "list"], ["prune"], ["models", "list"], ["decisions"], ["work"]])
def test_a_look_makes_no_store(words: list[str], tmp_path: Path) -> None:
    environ = {**os.environ, "STEAD_STORE": str(tmp_path / "store")}
    done = subprocess.run([sys.executable, "-m", "stead", *words], cwd=tmp_path, env=environ, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "store").exists()
