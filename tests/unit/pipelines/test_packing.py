"""What a training is told about the project that it comes from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stead.config import load_project
from stead.errors import InvalidInput
from stead.pipelines.packing import pack

TOML = """[project]
name = "p"
requirements = ["pandas"]
[models.p]
code = "p.py"
target = "y"
"""


def git(folder: Path, *arguments: str) -> str:
    named = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org", *arguments]
    return subprocess.run(named, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "stead.toml").write_text(TOML)
    (tmp_path / "p.py").write_text("def train(X, y): ...\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    packed = pack(load_project(tmp_path), "p", lambda data: "d" * 64)
    assert (packed.git["commit"], packed.git["dirty"]) == (git(tmp_path, "rev-parse", "HEAD"), False)
    (tmp_path / "p.py").write_text("def train(X, y): pass\n")
    assert pack(load_project(tmp_path), "p", lambda data: "d" * 64).git["dirty"] is True


def test_without_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    (tmp_path / "stead.toml").write_text(TOML)
    (tmp_path / "p.py").write_text("def train(X, y): ...\n")
    assert pack(load_project(tmp_path), "p", lambda data: "d" * 64).git == {}


def test_the_fast_path_can_be_switched_off(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text("def train(X, y): ...\n")
    for said, fast in (("", True), ("[models.p.serve]\nfast = false\n", False)):
        (tmp_path / "stead.toml").write_text(TOML + said)
        assert pack(load_project(tmp_path), "p", lambda data: "d" * 64).serve_fast is fast
    (tmp_path / "stead.toml").write_text(TOML + '[models.p.serve]\nfast = "no"\n')
    with pytest.raises(InvalidInput, match=r"line 8: models\.p\.serve\.fast must be true or false, not 'no'"):
        load_project(tmp_path)


@pytest.mark.parametrize("stage", ["train", "serve"])
@pytest.mark.parametrize("said", ["", "image = true\n"])
def test_only_what_asks_for_an_image_runs_in_one(stage: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text("def train(X, y): ...\n")
    (tmp_path / "stead.toml").write_text(TOML + f"[models.p.{stage}]\n{said}")
    spec = pack(load_project(tmp_path), "p", lambda data: "d" * 64)
    assert {name: getattr(spec, f"{name}_image") for name in ("train", "serve")} == {
        name: bool(said) and name == stage for name in ("train", "serve")
    }
    assert spec.serve_fast
