"""One process loads the libraries, and each step has a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stead
from stead import environments
from stead.jobs import children
from stead.jobs.children import Host, Hosts

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
    running = Host(COMMAND, cwd=place, env=environment(place))
    yield running
    running.close()


COMMAND = [sys.executable, "-m", "stead.runtime.host"]


def environment(place: Path) -> dict[str, str]:
    paths = [str(Path(stead.__file__).parents[1]), str(place / "libraries")]
    return environments.variables(extra={"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"})


def ask(host: Host, place: Path, *, cwd: Path | None = None) -> tuple[int, str]:
    said: list[str] = []
    return host.step(described(place, cwd=cwd), said.append), "".join(said)


def described(place: Path, *, cwd: Path | None = None) -> dict[str, Any]:
    spec = {
        "step": "describe", "entry": "own.py", "seed": 0, "module": "own", "code": str(place / "code"), "files": ["own.py"],
        "outputs": {"functions": str(place / "functions")},
    }  # fmt: skip
    (place / "spec.json").write_text(json.dumps(spec))
    return {"spec": str(place / "spec.json"), "cwd": str(cwd or place), "env": {"STEAD_STEP": "describe"}}


def test_libraries_are_loaded_once_and_own_code_in_each_step(place: Path, host: Host) -> None:
    code, said = ask(host, place)
    assert (code, said) == (0, "library loaded\nown code loaded in one process\n")
    assert json.loads((place / "functions").read_text()) == ["train"]
    assert ask(host, place) == (0, "own code loaded in one process\n")
    (place / "code" / "own.py").write_text(CODE + "import os\nprint('in', os.path.basename(os.getcwd()))\n")
    assert ask(host, place, cwd=place / "libraries")[1].endswith("in libraries\n")


def test_a_step_looks_for_cycles_in_its_own_objects_only(place: Path, host: Host) -> None:
    """Through all that the libraries brought it took longer than most steps."""
    seen = "import gc\nprint(len(gc.get_objects()) < gc.get_freeze_count() / 10)\n"
    (place / "code" / "own.py").write_text("import library\n" + seen + CODE)
    for _ in range(2):
        assert "True\n" in ask(host, place)[1]


PART = "import importlib\nimport shelf\nimportlib.import_module('shelf.part')\nimport os\nprint('host', os.getppid())\n"


def shelf(place: Path, part: str) -> None:
    (place / "libraries" / "shelf").mkdir()
    (place / "libraries" / "shelf" / "__init__.py").write_text("")
    (place / "libraries" / "shelf" / "part.py").write_text(f"print('part loaded')\n{part}")
    (place / "code" / "own.py").write_text(PART + CODE)


def test_parts_of_libraries_that_a_step_loads_are_loaded_once(place: Path, host: Host) -> None:
    shelf(place, "")
    assert ask(host, place)[1].count("part loaded") == 2  # in the step, and for those that follow
    code, said = ask(host, place)
    assert code == 0 and "part loaded" not in said and "own code loaded in one process" in said


def test_a_part_that_starts_threads_makes_the_host_begin_again_without(place: Path, host: Host) -> None:
    shelf(place, "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n")
    first = ask(host, place)[1]
    for _ in range(2):
        code, said = ask(host, place)
        assert code == 0 and said.count("part loaded") == 1
        assert next(line for line in said.splitlines() if line.startswith("host")) in first


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


def test_a_host_that_has_threads_loads_nothing_more(place: Path, host: Host) -> None:
    (place / "libraries" / "library.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    (place / "libraries" / "late.py").write_text("print('late loaded')\n")
    (place / "code" / "own.py").write_text("import library\nimport late\n")
    assert ask(host, place)[1].count("late loaded") == 1


def test_a_host_that_is_killed_says_so(place: Path, host: Host) -> None:
    (place / "code" / "own.py").write_text("import os\nos.kill(os.getppid(), 9)\nimport time\ntime.sleep(60)\n")
    assert ask(host, place)[0] == -9


WHO = "import os\nprint(os.getppid())\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a step left behind")
def test_hosts_go_on_from_job_to_job_and_end_with_what_a_step_left(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = Hosts()

    def job(code: str, **env: str) -> tuple[int, str]:
        (place / "code" / "own.py").write_text(code + "def train(X, y): ...\n")
        said: list[str] = []
        assert hosts.step(COMMAND, environment(place) | env, described(place), said.append) == 0
        return int("".join(said).split()[-1]), "".join(said)

    first, _ = job(WHO)
    hosts.part()
    hosts.tidy()
    assert job(WHO)[0] == first
    assert job(WHO, OTHER="variables")[0] != first
    left = "import subprocess\nprint(subprocess.Popen(['sleep', '60']).pid)\n" + WHO
    again, said = job(left)
    sleeping = int(said.split()[0])
    assert again == first and Path(f"/proc/{sleeping}").exists()
    hosts.part()
    assert not Path(f"/proc/{first}").exists() and ended(sleeping)
    second, _ = job(WHO)
    assert second != first
    os.kill(second, signal.SIGKILL)
    os.waitid(os.P_PID, second, os.WEXITED | os.WNOWAIT)  # its threads, too, have ended
    assert job(WHO)[0] != second
    monkeypatch.setattr(children, "REST_S", 0.0)
    hosts.tidy()
    third, _ = job(WHO)
    hosts.close()
    assert not Path(f"/proc/{third}").exists()


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
