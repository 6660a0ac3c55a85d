"""What an explanation names: causes, and what has to be restored with them only for them to run."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from stead.errors import Failed
from stead.pipelines import explaining
from stead.pipelines.recipes import Change


def explained(
    monkeypatch: pytest.MonkeyPatch, names: list[str], outcome: Callable[[frozenset[str]], float | None]
) -> explaining.Explanation:
    """The explanation where a replay with some names restored comes out as `outcome` says: how far apart, or None where it does not run."""

    def replay(store: object, keeper: object, recipe: frozenset[str], **rest: object) -> SimpleNamespace:
        if outcome(recipe) is None:
            raise Failed("step-failed", "No module named 'narwhals'")
        return SimpleNamespace(info={}, restored=recipe)

    changes = [Change(name, "1", "2", lambda recipe: recipe) for name in names]
    for name, fake in {
        "changes": lambda *given: changes,
        "beyond": lambda *given: [],
        "restored": lambda now, some: frozenset(each.name for each in some),
        "replay": replay,
        "held_against": lambda store, logged, again: {"golden rows": outcome(again.restored)},
        "tolerance_of": lambda logged: 1e-12,
    }.items():
        monkeypatch.setattr(explaining, name, fake)
    keeper: Any = SimpleNamespace(report=lambda *given: None, log=lambda text: None, check=lambda: None)
    nothing: Any = SimpleNamespace(info={}, restored=frozenset())
    given: Any = None
    return explaining.explain(given, keeper, nothing, given, given, nothing, allow=())


def test_a_library_that_another_one_imports_is_no_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(restored: frozenset[str]) -> float | None:
        if "sklearn" in restored:
            return 0.0 if "narwhals" in restored else None
        return 0.02

    found = explained(monkeypatch, ["narwhals", "sklearn", "scipy"], outcome)
    assert [cause.name for cause in found.causes] == ["sklearn"] and [each.name for each in found.needed] == [
        "narwhals"
    ]
    assert found.innocent == ["scipy"]
    assert (
        found.said.startswith("sklearn (1 → 2) explains it") and "narwhals (1 → 2) was restored with it" in found.said
    )


def test_two_causes_stay_two(monkeypatch: pytest.MonkeyPatch) -> None:
    found = explained(
        monkeypatch, ["seed", "code", "data"], lambda restored: 0.0 if {"seed", "code"} <= restored else 0.1
    )
    assert [cause.name for cause in found.causes] == ["seed", "code"] and found.needed == []
    assert "seed (1 → 2) and code (1 → 2) together explain it" in found.said


def test_where_neither_runs_without_the_other_both_are_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(restored: frozenset[str]) -> float | None:
        both = len({"a", "b"} & restored)
        return None if both == 1 else 0.0 if both else 0.3

    found = explained(monkeypatch, ["a", "b"], outcome)
    assert [cause.name for cause in found.causes] == ["a", "b"] and found.needed == []
