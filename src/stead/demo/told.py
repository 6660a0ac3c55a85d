"""What the demo found out, for summary and report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Act:
    """Something that a person did, as the command that was typed."""

    stage: str
    command: str


@dataclass
class Told:
    """Records as the commands' `--json` gives them, newest first where they are lists, and what the story itself knows."""

    seconds: dict[str, float] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    """Level, since and until, in the order in which they came."""
    acts: list[Act] = field(default_factory=list)
    replays: list[dict[str, Any]] = field(default_factory=list)
    refusal: str = ""
    refused_with: int = 0
    bad: dict[str, Any] = field(default_factory=dict)
    """The deployment of the version of June 2014, as it ended."""
    days: list[dict[str, Any]] = field(default_factory=list)
    retrainings: list[dict[str, Any]] = field(default_factory=list)
    incidents: list[dict[str, Any]] = field(default_factory=list)
    deployments: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    backtest: dict[str, Any] = field(default_factory=dict)
    """What training once, and every month without a gate, lost on the same rows."""
    work: list[dict[str, Any]] = field(default_factory=list)
    """What the person did by hand, and how long it is taken to have lasted."""
    maturity: dict[str, Any] = field(default_factory=dict)
    """Where the team stands at the end, and stood month by month."""
    worth: dict[str, Any] = field(default_factory=dict)
    """Whether it pays, and what was measured of it."""
