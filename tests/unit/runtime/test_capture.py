"""What is captured without asking, and what never is."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from stead.runtime import capture


def test_facts_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("STEAD_TOKEN", "hunter2")
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "--password", "hunter2", "--db=pg://me:hunter2@h/x"])
    found = capture.facts()
    assert "hunter2" not in str(found)
    assert found["command"][:2] == ["python", "train.py"]
    assert found["cpus"] >= 1


def test_git_state(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    assert capture.git(tmp_path)[0] == {}
    git("init", "-b", "main")
    git("config", "user.email", "a@example.org")
    git("config", "user.name", "a")
    git("remote", "add", "origin", "https://me:hunter2@example.org/x.git")
    (tmp_path / "a.py").write_text("one\n")
    git("add", ".")
    git("commit", "-m", "one")
    found, diff = capture.git(tmp_path)
    assert (found["branch"], found["dirty"], diff, len(found["commit"])) == ("main", False, "", 40)
    assert found["remote"] == "https://example.org/x.git"
    (tmp_path / "a.py").write_text("two\n")
    (tmp_path / "new.py").write_text("new\n")
    found, diff = capture.git(tmp_path)
    assert found["dirty"]
    assert found["untracked"] == ["new.py"]
    assert "-one\n+two" in diff


def test_packages_are_listed() -> None:
    assert "msgspec" in capture.packages()


def test_console_keeps_prints_and_logging(capsys: pytest.CaptureFixture[str]) -> None:
    kept: list[str] = []
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("test_console")
    logger.addHandler(handler)
    console = capture.Console(kept.append)
    console.start()
    print("one")
    logger.warning("two")
    print("10 %\r20 %\r100 %")
    console.flush()
    console.flush()
    print("three", file=sys.stderr)
    console.stop()
    print("four")
    logger.removeHandler(handler)
    assert kept == ["one\ntwo\n100 %\n", "three\n"]
    captured = capsys.readouterr()
    assert captured.out.endswith("four\n")
    assert captured.err == "two\nthree\n"


def test_a_flood_is_handed_over_in_blocks() -> None:
    kept: list[str] = []
    console = capture.Console(kept.append)
    console.start()
    for _ in range(30):
        print("x" * 9_999)
    console.stop()
    assert len("".join(kept)) == 300_000
    assert len(kept) > 2


@pytest.mark.parametrize("without", [False, True])
def test_system_metrics(monkeypatch: pytest.MonkeyPatch, without: bool) -> None:
    if without:
        monkeypatch.setitem(sys.modules, "psutil", None)
    measured = capture.System().measure()
    assert measured["system/cpu_percent"] >= 0
    assert measured["system/memory_mb"] > 1
    assert all(name.startswith("system/") for name in measured)


OWN = """
import sys
from pathlib import Path
from stead.runtime import capture
import helper, package.inner, json
print(sorted(capture.own_files(Path.cwd().resolve())))
print(sorted(capture.own_files(Path.cwd().resolve(), known={"helper.py"})))
"""


def test_the_project_s_own_files_are_told_from_what_is_installed(tmp_path: Path) -> None:
    for name in ("helper.py", "package/__init__.py", "package/inner.py", ".hidden/secret.py", "unused.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "main.py").write_text(OWN)
    done = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True)
    everything = ["helper.py", "main.py", "package/__init__.py", "package/inner.py"]
    assert done.stdout == f"{everything}\n{everything[1:]}\n", done.stderr
    assert capture.cells() == ""
