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


def test_bytes_that_are_no_text_are_told_in_words(tmp_path: Path) -> None:
    """A folder may be named so; a token may not."""

    def stead(*words: str, **variables: str) -> tuple[int, str]:
        command, environ = [sys.executable, "-m", "stead", *words], {**os.environ, **variables}
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    code, said = stead("init", "a\udcff")
    assert code == 0 and r"a\udcff/stead.toml" in said
    refused = (2, "error: a text has characters that cannot be stored or sent\n")
    assert stead("models", "list", STEAD_URL="http://127.0.0.1:9", STEAD_TOKEN="\udcff") == refused
