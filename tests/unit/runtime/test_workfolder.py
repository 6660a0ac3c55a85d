"""What a killed process leaves in its folder goes with the next one; what others work in stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from stead.runtime.workfolder import work_folder

HOLDS = """
import sys
from stead.runtime.workfolder import work_folder
with work_folder("test") as folder:
    (folder / "model.bin").write_text("on its way")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = tmp_path / "stead-work"
    mine.mkdir()
    killed, works = (_holding(tmp_path) for _ in range(2))
    killed[0].kill()
    killed[0].communicate()
    assert (killed[1] / "model.bin").exists()
    with work_folder("test"):
        assert killed[1].exists(), "it is younger than a minute"
    for folder in (killed[1], works[1], mine):
        os.utime(folder, (time.time() - 90, time.time() - 90))
    with work_folder("test"):
        assert not killed[1].exists() and (works[1] / "model.bin").exists() and mine.exists()
    works[0].communicate("")
    assert list(tmp_path.iterdir()) == [mine]


def test_it_goes_when_its_work_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ZeroDivisionError), work_folder("test"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def _holding(place: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        env={**os.environ, "TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())
