"""The demo's report from records as the demo gathers them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from bs4 import BeautifulSoup

from stead.demo import report, spread
from stead.demo.told import Told

sys.path.insert(0, str(Path(__file__).parent))
from telling import told


def test_the_report_needs_nothing_else_and_tells_all(tmp_path: Path) -> None:
    path = report.write(told(), tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:)', text) and "@import" not in text and "<script" not in text
    assert len(text) < 300_000
    page = BeautifulSoup(text, "html.parser")
    said = page.get_text(" ", strip=True)
    for wanted in (
        "24,192",
        "= answered = logged = labelled",
        "the feature 'hour'",
        "exit code 4",
        "aborted after 36 labelled answers and 1 days",
        "an incident told so after 10 days",
        "challenger: it is worse",
        "Evidence against bounds",
        spread.load().said(),
    ):
        assert wanted in said, wanted
    assert "not as it should be" not in said
    assert [text.get_text() for text in page.select("text.lab.halo")][:2] == ["v1 alone", "stead"]
    assert "route.changed <b>3</b>" in said.lower()


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    wrong = told(replays=[])
    said = BeautifulSoup(report.write(wrong, tmp_path / "r.html").read_text(encoding="utf-8"), "html.parser").get_text()
    assert "not as it should be" in said and "differ" in said
    report.write(Told(), tmp_path / "empty.html")
