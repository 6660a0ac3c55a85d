"""The demo's report from records as the demo gathers them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup

from stead.demo import report
from stead.demo.story import Told
from stead.runtime.clock import to_ms

DAY = 86_400_000
START = to_ms("2012-01-01")


def day(n: int, version: int, loss: float | None) -> dict[str, Any]:
    weight = 0.0 if loss is None else 100.0
    return {
        "model": "bikes",
        "day": START + n * DAY,
        "version": version,
        "measure": "wape",
        "predictions": 24,
        "failed": 0,
        "labelled": 24,
        "loss": loss,
        "loss_sum": (loss or 0) * weight,
        "weight_sum": weight,
        "prediction_sum": 0.0,
        "label_sum": weight,
    }


def told(**changed: Any) -> Told:
    days = [day(n, 1, 46.0 if n == 50 else 0.2 + n / 1000) for n in range(200)]
    days += [day(n, 2, 0.2) for n in range(200, 300)] + [day(300, 3, 0.9), day(301, 2, None)]
    made = [
        {"version": {"version": v}, "logged_model": {"metrics": {"holdout_random": 0.1, "holdout_time": 0.2}}}
        for v in (1, 2, 3)
    ]
    compared = {
        "second": 2,
        "first": 1,
        "loss": "wape",
        "dataset": "bikes@2",
        "rows": 744,
        "days": 31,
        "first_loss": 0.46,
        "second_loss": 0.4,
        "difference": -0.06,
        "low": -0.17,
        "high": 0.04,
        "in_sample": [],
    }
    sent = 24 * len(days)
    replay = {"since": "2012-01-01", "until": "2013-01-01", "sent": sent, "answered": sent, "labels": sent, "failed": 0}
    decision = {"id": 1, "summary": "registered <b>bikes@1</b>", "reason": None, "actor": "person:ann", "at": START}
    values = {
        "seconds": {"A project": 12.0, "in all": 61.0},
        "trained": made,
        "compared": compared,
        "replays": [replay | {"seconds": 9.5}],
        "refusal": "the feature 'hour' is 4 in row 0, was 0 in training",
        "refused_with": 4,
        "wrong_day": "2012-10-27",
        "rollback_seconds": 0.7,
        "command_seconds": 1.1,
        "days": days,
        "decisions": [decision | {"event_time": None}],
    }
    return Told(**(values | changed))


def test_the_report_needs_nothing_else_and_tells_all(tmp_path: Path) -> None:
    path = report.write(told(), tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:)', text) and "@import" not in text and "<script" not in text
    assert len(text) < 300_000
    page = BeautifulSoup(text, "html.parser")
    said = page.get_text(" ", strip=True)
    for wanted in (
        "7,248",
        "= answered = logged = labelled",
        "the feature 'hour'",
        "exit code 4",
        "-0.060 (-0.170 to +0.040)",
    ):
        assert wanted in said, wanted
    assert "reaches zero" in said and "not as it should be" not in said
    assert "the worst 20 Feb 2012 with 46.00 on 100 rides" in said
    assert len(page.select("rect.bar")) == 6
    assert [text.get_text() for text in page.select("text.halo:not(.lab)")] == ["v1", "v2", "v3 → v2"]
    assert "registered <b>bikes@1</b>" in said.lower()


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    wrong = told(replays=[])
    said = BeautifulSoup(report.write(wrong, tmp_path / "r.html").read_text(encoding="utf-8"), "html.parser").get_text()
    assert "not as it should be" in said and "differ" in said
    report.write(Told(), tmp_path / "empty.html")


def test_an_interval_below_zero_is_plain(tmp_path: Path) -> None:
    compared = told().compared | {"high": -0.01}
    text = report.write(told(compared=compared), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "reaches zero" not in text
