"""torch is seeded when it is imported, whoever looks for it first and whatever it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAKE = "seeds = []\nmanual_seed = seeds.append\n"


def said(folder: Path, code: str) -> str:
    """What a fresh process says that seeds with 7 and then runs the code."""
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    whole = "from stead.runtime.seeding import seed\nseed(7)\n" + code
    done = subprocess.run([sys.executable, "-c", whole], env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize(
    "first",
    [
        "",
        "import importlib.util; assert importlib.util.find_spec('torch')\n",
        "seed(6)\nseed(7)\n",
    ],
)
def test_it_is_seeded_once_it_is_there(tmp_path: Path, first: str) -> None:
    (tmp_path / "torch.py").write_text(FAKE)
    assert said(tmp_path, first + "import torch; print(torch.seeds)") == "[7]\n"


def test_it_is_seeded_again_before_each_training(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(FAKE + "from torch import nn\n")
    (tmp_path / "torch" / "nn.py").write_text("import torch\nassert not torch.seeds\n")
    assert said(tmp_path, "from torch import nn\nimport torch\nseed(8)\nprint(torch.seeds)") == "[7, 8]\n"


def test_what_is_no_torch_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    assert said(tmp_path, "import torch; print(torch.__path__ is not None)") == "True\n"
    (tmp_path / "torch.py").write_text("name = 'mine'\n")
    (tmp_path / "torch").rmdir()
    assert said(tmp_path, "import torch; print(torch.name)") == "mine\n"


def test_without_torch_the_error_is_the_usual_one(tmp_path: Path) -> None:
    if sys.modules.get("torch") or __import__("importlib.util").util.find_spec("torch"):
        pytest.skip("torch is installed")
    code = "try:\n    import torch\nexcept ModuleNotFoundError as error:\n    print(error)"
    assert said(tmp_path, code) == "No module named 'torch'\n"
