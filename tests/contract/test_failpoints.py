"""kill -9 at every registered failpoint. Each part describes its own in `failpoints/PART.py`: `POINTS`, by name a scenario."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from stead.runtime.failpoints import REGISTRY

FOLDER = Path(__file__).parent / "failpoints"
sys.path[:0] = [str(FOLDER), str(FOLDER.parent), str(FOLDER.parent.parent)]


def _points() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in sorted(FOLDER.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"failpoints_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found |= getattr(module, "POINTS", {})
    return found


POINTS = _points()
nursery = importlib.import_module("dying").nursery


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", POINTS)
def test_killed_there_nothing_is_lost_or_doubled(name: str, when: str, tmp_path: Path) -> None:
    nursery()
    POINTS[name](tmp_path, f"{name}:{when}")


@pytest.mark.parametrize("nth", [2, 3])
@pytest.mark.parametrize("name", ["predictions.compact", "predictions.remove", "predictions.performance"])
def test_killed_there_later(name: str, nth: int, tmp_path: Path) -> None:
    for when in ("before", "after"):
        POINTS[name](tmp_path / when, f"{name}:{when}#{nth}")


ELSEWHERE = {
    "deployments.": "contract/serving/test_deployments.py",
    "deployments.drill": "contract/serving/test_drill.py",
    "deployments.step": "contract/serving/test_canary.py",
    "jobs.": "contract/test_jobs.py",
    "models.": "contract/test_registry.py",
    "environments.vendor": "unit/environments/test_vendoring.py",
    "environments.": "unit/environments/test_creation.py",
    "pipelines.": "contract/test_pipelines.py",
    "serving.fast": "contract/serving/test_fast.py",
    "serving.path": "contract/serving/test_fast.py",
}
"""Points that need more around them are shown in these files, by name."""


@pytest.mark.parametrize("name", REGISTRY)
def test_each_registered_point_is_shown_somewhere(name: str) -> None:
    if name in POINTS:
        return
    part, _, rest = name.partition(".")
    place = ELSEWHERE.get(name) or ELSEWHERE[f"{part}."]
    text = (FOLDER.parent.parent / place).read_text()
    assert f'"{name}' in text or f'"{rest}"' in text or f"{name}:" in text
