"""What the summary makes of the demo's records."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stead.demo import summary
from stead.demo.told import Told

sys.path.insert(0, str(Path(__file__).parent))
from telling import told


def test_quarters_hold_the_system_beside_its_yardsticks() -> None:
    *found, whole = summary.quarters(told())
    assert [q.name for q in found][::11] == ["2012 Q1", "2014 Q4"] and len(found) == 12
    assert (found[0].system, found[0].once, found[0].monthly) == pytest.approx((0.4, 0.5, 0.2))
    assert whole.system == pytest.approx(0.234, abs=0.001) and whole.monthly == pytest.approx(0.2)
    said = summary.against(told())
    assert (
        "53 % less than version 1 left alone (0.500)" in said[0]
        and "17 % more than a new version every month" in said[1]
        and said[2].startswith("In 2013 and after, when it was let act: 0.")
    )


def test_each_level_is_told_from_the_records() -> None:
    record, train, deploy, bad = summary.stages(told())
    assert (record.notice, record.mend, record.took_over, len(record.incidents)) == (10, 137, 0, 1)
    assert (dict(train.reasons), train.took_over, train.turn) == ({"incident": 1, "schedule": 1}, 1, 2)
    assert train.refused == ["v5 refused: challenger: it is worse"] and train.verdicts == {"wrong": 1}
    assert (dict(deploy.reasons), deploy.turn, len(deploy.acts)) == ({"proxy": 1}, 4, 1)
    assert bad.acts == [] and bad.verdicts == {"undecided": 1}


def test_each_level_changes_hours_and_loss() -> None:
    record, train, deploy, bad = summary.changes(told())[:4]
    assert record == "record: it lost 20 % less than version 1 left alone, with 0.2 hours by hand."
    assert train.startswith("train: it lost 60 % less") and train.endswith(
        "with 0.7 hours by hand, 1 new champion, which takes 2 to 4 hours without it."
    )
    assert deploy.startswith("deploy: it lost 80 % less") and "0.0 hours by hand, 1 new champion" in deploy
    assert bad.startswith("a bad version: it lost 80 % less")
    stood, worth = summary.changes(told())[4:]
    assert (
        stood
        == "The team was at stage 1 at first, stage 2 from 2013-01 on, stage 3 from 2014-01 on; it stands at stage 3 of 4."
    )
    assert worth == "Is it worth it? not yet: The hours do not pay it back."
    assert summary.changes(Told()) == []


def test_the_bad_version_has_its_price() -> None:
    found = summary.bad(told())
    assert found is not None
    assert (found.state, found.guard, found.rows, found.answered, found.days) == ("aborted", "loss", 144, 36, 1)
    assert found.cost == pytest.approx(25 * 0.9 - 25 * 0.1) and 0 < found.cost_share < 0.01


def test_the_terminal_gets_all_of_it() -> None:
    text = "\n".join(summary.lines(told()))
    for wanted in (
        "2013 Q2",
        "in all",
        "1 incident, 1 schedule",
        "by the guard loss",
        "sent 24,192 = answered",
        "failed: 0",
        "row 0",
    ):
        assert wanted in text, wanted
    assert summary.right(told()) == []
    assert summary.lines(Told())


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"replays": []}, "differ"),
        ({"refused_with": 0}, "parity"),
        ({"incidents": []}, "no incident"),
        ({"retrainings": []}, "no approved version"),
        ({"acts": [*told().acts, *told().acts]}, "a person acted"),
        ({"bad": {}}, "not taken back"),
        ({"bad": told().bad | {"state": "live"}}, "not taken back"),
        ({"bad": told().bad | {"evidence": told().bad["evidence"] | {"arm_rows": 12}}}, "12 labelled rows"),
    ],
)
def test_what_is_not_as_it_should_be_is_told(changed: dict[str, object], word: str) -> None:
    assert any(word in text for text in summary.right(told(**changed)))
