"""What the demo's records say: error by quarter and version, and whether every request was answered, logged, labelled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stead.demo.story import Told

EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Quarter:
    """Realised loss of one version in one quarter."""

    name: str
    version: int
    labelled: int
    loss: float | None


def quarters(days: list[dict[str, Any]]) -> list[Quarter]:
    """Days as quarters, by version: loss = Σ loss / Σ weight."""
    sums: dict[tuple[str, int], list[float]] = {}
    for day in days:
        date = datetime.fromtimestamp(day["day"] / 1000, UTC)
        total = sums.setdefault((f"{date.year} Q{(date.month + 2) // 3}", day["version"]), [0, 0.0, 0.0])
        total[0] += day["labelled"]
        total[1] += day["loss_sum"]
        total[2] += day["weight_sum"]
    return [
        Quarter(name, version, int(t[0]), t[1] / t[2] if t[2] else None) for (name, version), t in sorted(sums.items())
    ]


def totals(told: Told) -> dict[str, int]:
    """Sent, answered, logged, labelled, failed."""
    return {
        "sent": sum(r["sent"] for r in told.replays),
        "answered": sum(r["answered"] for r in told.replays),
        "logged": sum(day["predictions"] for day in told.days),
        "labelled": sum(day["labelled"] for day in told.days),
        "failed": sum(r["failed"] for r in told.replays),
    }


def lines(told: Told) -> list[str]:
    """The summary for the terminal."""
    found = quarters(told.days)
    top = max((q.loss for q in found if q.loss is not None), default=1.0)
    out = ["", "Summary", "", "Error (WAPE) by quarter and version:"]
    for quarter in found:
        loss = quarter.loss or 0.0
        out.append(
            f"  {quarter.name}  v{quarter.version}  {loss:.3f}  {_bar(loss / top, 40)}  {quarter.labelled:,} rows"
        )
    for version in told.trained:
        metrics = version["logged_model"]["metrics"]
        number = version["version"]["version"]
        out.append(
            f"version {number}: random hold-out {metrics['holdout_random']:.3f}, hold-out in time {metrics['holdout_time']:.3f}"
        )
    compared = told.compared
    out.append(
        f"version 2 against version 1 on {compared['rows']} rows of December 2013: {compared['second_loss']:.3f} against {compared['first_loss']:.3f}, "
        f"difference {compared['difference']:+.3f} (95 %: {compared['low']:+.3f} to {compared['high']:+.3f})"
    )
    out.append(f"version 3: {told.refusal} (exit code {told.refused_with})")
    out.append(
        f"forced through, it answered {told.wrong_day}; rolled back in {told.rollback_seconds:.2f} s ({told.command_seconds:.2f} s with the start of the command)"
    )
    counts = totals(told)
    names = ("sent", "answered", "logged", "labelled")
    equal = len({counts[name] for name in names}) == 1
    said = (" = " if equal else ", ").join(f"{name} {counts[name]:,}" for name in names)
    out.append(f"requests: {said}" + ("" if equal else "  ← these should be equal"))
    out.append(f"failed: {counts['failed']}")
    out.append("")
    out.append("What each step took:")
    out += [f"  {seconds:6.1f} s  {name}" for name, seconds in told.seconds.items()]
    return out


def right(told: Told) -> list[str]:
    """What is not as it should be; empty when the demo shows what it says."""
    counts = totals(told)
    wrong = []
    if len({counts[name] for name in ("sent", "answered", "logged", "labelled")}) != 1:
        wrong.append(f"sent, answered, logged and labelled differ: {counts}")
    if counts["failed"]:
        wrong.append(f"{counts['failed']} requests failed")
    if told.refused_with != 4 or "hour" not in told.refusal:
        wrong.append(f"the parity check did not name the column: {told.refusal!r}")
    return wrong


def _bar(share: float, width: int) -> str:
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    return EIGHTHS[-1] * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
