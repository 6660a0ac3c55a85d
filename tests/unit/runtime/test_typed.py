"""Types are used by several threads for the first time, and the process lives."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from stead.runtime import typed

RACE = """
import dataclasses, sys, threading
from stead.runtime import typed

sys.setswitchinterval(1e-6)
for round in range(150):
    inner = [dataclasses.make_dataclass(f"I{round}_{k}", [(f"g{j}", int) for j in range(30)]) for k in range(12)]
    outer = dataclasses.make_dataclass(f"O{round}", [(f"f{k}", kind | None) for k, kind in enumerate(inner)])
    together = threading.Barrier(4)

    def use():
        together.wait()
        assert typed.convert({f"f{k}": None for k in range(12)}, outer).f3 is None

    threads = [threading.Thread(target=use) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
"""


def test_four_threads_that_use_a_type_first_at_once() -> None:
    """With `msgspec.convert` in its place this dies of a segmentation fault within a few rounds."""
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(msgspec.ValidationError, match="Expected `int`, got `str`"):
        typed.convert({"a": "one"}, dict[str, int])
