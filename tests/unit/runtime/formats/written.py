"""Models written in Python; a module of their own, since it travels with the saved model."""

from __future__ import annotations

from typing import Any


class Lengths:
    def predict(self, frame: Any) -> list[int]:
        return [len(text) for text in frame["s"]]


def doubled(frame: Any) -> Any:
    return frame["a"] * 2 + len(frame.columns)


def plus_one(columns: Any) -> list[float]:
    return [value + 1 for value in columns["a"]]


def squared(rows: Any) -> Any:
    return rows**2
