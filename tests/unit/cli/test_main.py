"""The entry: Ctrl-C before the command line is loaded."""

from __future__ import annotations

import subprocess
import sys

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
