"""One process loads the libraries, and each step has a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stead
from stead import environments
from stead.jobs.children import Host

CODE = """import library

print("own code loaded in", library.loaded_in)
library.loaded_in = "another step"


def train(X, y): ...
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries" / "library.py").write_text(
        "import os\nprint('library loaded')\nloaded_in = 'one process'\n"
    )
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own.py").write_text(CODE)
    return tmp_path


@pytest.fixture
def host(place: Path) -> Iterator[Host]:
    paths = [str(Path(stead.__file__).parents[1]), str(place / "libraries")]
    env = environments.variables(extra={"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"})
    running = Host([sys.executable, "-m", "stead.runtime.host"], cwd=place, env=env)
    yield running
    running.close()


def ask(host: Host, place: Path, *, cwd: Path | None = None) -> tuple[int, str]:
    described = {
        "step": "describe", "entry": "own.py", "module": "own", "code": str(place / "code"), "files": ["own.py"],
        "outputs": {"functions": str(place / "functions")},
    }  # fmt: skip
    (place / "spec.json").write_text(json.dumps(described))
    said: list[str] = []
    request = {"spec": str(place / "spec.json"), "cwd": str(cwd or place), "env": {"STEAD_STEP": "describe"}}
    return host.step(request, said.append), "".join(said)


def test_libraries_are_loaded_once_and_own_code_in_each_step(place: Path, host: Host) -> None:
    code, said = ask(host, place)
    assert (code, said) == (0, "library loaded\nown code loaded in one process\n")
    assert json.loads((place / "functions").read_text()) == ["train"]
    assert ask(host, place) == (0, "own code loaded in one process\n")
    (place / "code" / "own.py").write_text(CODE + "import os\nprint('in', os.path.basename(os.getcwd()))\n")
    assert ask(host, place, cwd=place / "libraries")[1].endswith("in libraries\n")


def test_a_step_that_dies_leaves_the_host_alive(place: Path, host: Host) -> None:
    (place / "code" / "own.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    assert ask(host, place)[0] == -9
    (place / "code" / "own.py").write_text("raise SystemExit(3)\n")
    assert ask(host, place)[0] == 3
    (place / "code" / "own.py").write_text("import nowhere\n")
    code, said = ask(host, place)
    assert code == 1 and "error: ModuleNotFoundError: No module named 'nowhere' (own.py, line 1)" in said
    (place / "code" / "own.py").write_text(CODE)
    assert ask(host, place)[0] == 0


def test_a_library_that_starts_threads_is_loaded_anew_for_each_step(place: Path, host: Host) -> None:
    with open(place / "libraries" / "library.py", "a") as file:
        file.write("import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n")
    assert ask(host, place) == (0, "library loaded\nlibrary loaded\nown code loaded in one process\n")
    assert ask(host, place) == (0, "library loaded\nown code loaded in one process\n")


def test_a_host_that_is_killed_says_so(place: Path, host: Host) -> None:
    (place / "code" / "own.py").write_text("import os\nos.kill(os.getppid(), 9)\nimport time\ntime.sleep(60)\n")
    assert ask(host, place)[0] == -9
