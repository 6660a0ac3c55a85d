"""What a monitor's last day says in a sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stead.cli.watching import _figures
from stead.monitors.reading import _said
from stead.monitors.types import MonitorDay, Outcome


@pytest.mark.parametrize(
    ("loss", "outcome", "more"),
    [(0.04, "ok", False), (0.06, "watching", True), (0.06, "alarm", False), (None, "ok", False)],
)
def test_a_loss_above_a_bound_without_an_alarm_says_that_it_is_not_sure(
    loss: float | None, outcome: Outcome, more: bool
) -> None:
    day = MonitorDay(
        "air", 4, "loss", 0, loss, 0.05, outcome, {"loss": loss, "days": 7, "bounds": {"hold-out": 0.1, "served": 0.05}}
    )
    assert _said(day).endswith(": more, but not beyond doubt yet") == more


def test_a_table_of_days_leaves_out_numbers_that_say_nothing() -> None:
    day = MonitorDay("air", 4, "data", 0, 0.0, 0.0, "alarm", {})
    assert _figures(day) == (None, None)
    assert _figures(replace(day, value=2.0)) == (2.0, None)
    assert _figures(replace(day, monitor="loss", value=0.4, bound=0.1)) == (0.4, 0.1)
