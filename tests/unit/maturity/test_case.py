"""The business case: the figures of the house exactly, zeros of every kind, what decides, and nothing that divides by zero."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from stead.maturity.answering import answered, needed
from stead.maturity.case import case_of, hours, months, payback, pays
from stead.maturity.inputs import DEFAULTS, inputs_of, known_of
from stead.maturity.questions import read_answer
from stead.maturity.types import Answer, Case, Recorded, Worth


def asked(stage: int = 1, **said: Any) -> Worth:
    return answered(
        Recorded(stage=stage), [Answer(name, read_answer(name, value), "person:ada", 0) for name, value in said.items()]
    )


def case(**said: Any) -> Case:
    return asked(**said).case


def ends(line: Any) -> tuple[float, float]:
    return line.low, line.high


def test_weekly_deployments_by_hand_of_one_model_are_100_to_200_hours_a_year() -> None:
    found = case(models=1, retrains=50)
    assert ends(found.manual) == (100, 200) and ends(found.needless) == (48, 96)
    assert [ends(line) for line in found.automated] == [(25, 25), (25, 25)]
    assert (found.input("hours").low, found.input("hours").high, found.input("hours").source) == (2, 4, "default")


def test_ten_models_take_one_to_two_engineers_or_0_6_to_1_25_on_paper() -> None:
    found = case(models=10, retrains=50)
    assert ends(found.manual) == (1000, 2000) and ends(found.fte) == (1, 2)
    assert found.fte.said == "at 1,000 productive hours each; 0.625 to 1.25 at 1,600"
    assert ends(case(models=10, retrains=50, fte=1600).fte) == (0.625, 1.25)


def test_half_an_hour_of_review_a_week_is_25_hours_for_the_fleet_and_250_for_each_of_ten() -> None:
    assert [ends(line) for line in case(models=10, retrains=50).automated] == [(25, 25), (250, 250)]


@pytest.mark.parametrize(("models", "best", "worst"), [(1, 33, 77), (3, 10, 21), (10, 3, 6)])
def test_480_hours_of_building_pay_back(models: int, best: int, worst: int) -> None:
    found = case(models=models, retrains=50)
    assert found.input("build").likely == 480
    assert [round(end) for end in found.payback if end is not None] == [best, worst]
    assert months(found.payback) == f"{best} to {worst} months" and months(found.payback) in found.said


def test_reviewed_one_by_one_it_takes_longer() -> None:
    found = case(models=10, retrains=50)
    assert months(found.payback_each) == "3 to 8 months"
    assert [ends(line) for line in found.saved] == [(975, 1975), (750, 1750)]


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_a_zero_is_said_and_nothing_is_divided_by_it(name: str) -> None:
    found = asked(**({"models": 3, "depends": "yes", "retrains": 50, "people": 3} | {name: 0}))
    assert "nan" not in repr(found) and "inf" not in repr(found) and found.said and found.case.said
    if name in ("models", "retrains", "hours"):
        assert found.case.payback == (None, None) and "never" in found.case.said and found.answer != "yes"
    if name == "build":
        assert found.case.payback == (0, 0) and months(found.case.payback) == "at once"
    if name == "fte":
        assert found.case.fte.said == "no productive hours are stated: nothing to divide by"
    if name == "horizon":
        assert found.answer == "not yet"


def test_review_that_takes_longer_than_the_work_by_hand_never_pays_back() -> None:
    found = case(models=1, retrains=2, review=600)
    assert found.payback == (None, None) and "never paid back" in found.said and found.saved[0].high < 0
    assert case(models=1, retrains=2, review=600, build=0).payback == (None, None), "what is there costs more each year"
    assert asked(models=1, retrains=2, review=600, build=0, depends="yes", people=1).answer == "not yet"


def test_it_may_pay_back_at_best_and_never_at_worst() -> None:
    found = case(models=1, retrains=50, hours="0-4")
    assert found.payback[1] is None and months(found.payback) == "33 months at best, never at worst"
    assert pays(found) == "never" and pays(case(models=1, retrains=50, hours="0-8")) == "perhaps"


def test_a_team_is_not_told_to_stay_where_it_is_not() -> None:
    said = {"models": 1, "retrains": 3, "depends": "yes", "people": 1}
    assert asked(**said).stage_said == "Stay at stage 1 (manual) until then."
    ahead = asked(stage=2, **said)
    assert (ahead.answer, ahead.stage) == ("not yet", 1)
    assert ahead.stage_said == "Stage 1 (manual) is enough until then; the team is at stage 2."


def test_whether_it_pays_is_unknown_while_it_rests_on_defaults() -> None:
    assert pays(case()) == pays(case(models=10)) == pays(case(retrains=50)) == "unknown"
    assert pays(case(models=10, retrains=50)) == "surely"


def test_the_input_that_moves_most_comes_first_and_the_place_is_named_where_the_answer_changes() -> None:
    found = asked(models=2, retrains=60, depends="yes", people=1, late="no")
    assert found.answer == "not yet"
    effects = found.case.effects
    moves = [abs(each.at_high - each.at_low) for each in effects]
    assert moves == sorted(moves, reverse=True) and {"models", "retrains", "hours", "build"} < {e.name for e in effects}
    assert "fte" not in {each.name for each in effects}, "it moves no hours"
    flips = {each.name: each.flips_at for each in effects}
    assert flips["models"] == 3 and flips["retrains"] == 67 and flips["hours"] == pytest.approx(2.208, rel=0.001)
    for name, value in flips.items():
        if value is not None:
            tried = {"models": 2, "retrains": 60, "depends": "yes", "people": 1, "late": "no"}
            low = asked(**(tried | {name: value * 0.98 if name not in ("models", "retrains") else value - 1}))
            high = asked(**(tried | {name: value * 1.02 if name not in ("models", "retrains") else value}))
            assert {low.answer, high.answer} == {"yes", "not yet"}, name
    assert "3 such models (now 2)" in found.todo and "67 deployments of each a year (now 60)" in found.todo


def test_what_would_change_it_does_change_it() -> None:
    """Over many teams: where so many models or deployments are named, they make it a yes."""
    for models, retrains, work in itertools.product((1, 2, 3, 7), (2, 12, 50), (0.5, "2-4", 3)):
        said = {"models": models, "retrains": retrains, "hours": work, "depends": "yes", "people": 1, "late": "no"}
        found = asked(**said)
        if found.answer != "not yet":
            continue
        for name, value in zip(("models", "retrains"), needed(found.case), strict=True):
            assert value is not None and asked(**(said | {name: value})).answer == "yes", said
            assert asked(**(said | {name: max(value - 1, said[name])})).answer == "not yet", said


def test_no_input_breaks_it() -> None:
    values = (0, 1, 0.001, 50, "0-100000", 100000)
    for models, retrains, work, build in itertools.product(values, (0, 1, "0-10000"), (0, "0.5-10000"), (0, 480)):
        found = asked(models=models, retrains=retrains, hours=work, build=build, depends="yes")
        figures = [end for line in (found.case.manual, *found.case.saved, found.case.fte) for end in ends(line)]
        assert all(math.isfinite(each) for each in figures) and found.said and found.todo
        assert all(end is None or end >= 0 for end in found.case.payback)


def test_words() -> None:
    assert payback(480, -1) is None and payback(0, -1) is None and payback(0, 0) == 0
    known, against = known_of(Recorded(), [])
    assert against == [] and hours(case_of(inputs_of(known)).manual) == "100 to 200 h"
    assert hours(case(models=0, retrains=0).saved[0]) == "−25 h"
