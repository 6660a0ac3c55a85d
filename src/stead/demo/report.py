"""The demo's report: one HTML file."""

from __future__ import annotations

from pathlib import Path

from stead.demo import summary
from stead.demo.story import Told


def write(told: Told, path: Path) -> Path:
    """Write the report and return its path."""
    path.write_text("<pre>" + "\n".join(summary.lines(told)) + "</pre>", encoding="utf-8")
    return path
