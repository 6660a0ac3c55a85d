"""Records and answers to the same questions: which counts, and what is said where they do not go together."""

from __future__ import annotations

from typing import Any

import pytest

from stead.errors import InvalidInput
from stead.maturity.conditions import conditions_of
from stead.maturity.inputs import figure, inputs_of, known_of
from stead.maturity.questions import QUESTIONS, read_answer, said, typed
from stead.maturity.types import Answer, Fact, Known, Recorded


def known(answers: dict[str, Any], records: dict[str, Any] | None = None) -> tuple[dict[str, Known], list[str]]:
    facts = {name: Fact(read_answer(name, value), "seen") for name, value in (records or {}).items()}
    given = [Answer(name, read_answer(name, value), "person:ada", 1_788_000_000_000) for name, value in answers.items()]
    return known_of(Recorded(facts), given)


def test_a_record_counts_before_an_answer_and_the_difference_is_named() -> None:
    found, against = known(
        {"depends": "no", "retrains": 50, "hours": "2-4"}, {"depends": "yes", "retrains": 2, "hours": 3}
    )
    assert [(found[name].source, found[name].value) for name in ("depends", "hours")] == [
        ("record", True),
        ("record", (3, 3, 3)),
    ]
    assert figure(found, "retrains") == 2
    assert against == [
        "“depends” was answered no, the records say yes (seen): the records count. Where it does not matter: stead models set MODEL --importance low.",
        "“retrains” was answered 50, the records say 2 (seen): the records count.",
    ]


def test_figures_that_are_near_go_together() -> None:
    found, against = known({"retrains": 40}, {"retrains": 52})
    assert against == [] and found["retrains"].source == "record"


def test_records_see_only_some_models_and_people() -> None:
    found, against = known({"models": 10, "people": 4}, {"models": 3, "people": 1})
    assert against == [] and figure(found, "models") == 10 and figure(found, "people") == 4
    assert found["models"].said == "ada, 29 Aug 2026; stead sees 3 of them" and found["models"].source == "interview"
    found, against = known({"models": 2, "people": 1}, {"models": 3, "people": 5})
    assert (figure(found, "models"), figure(found, "people"), len(against)) == (3, 5, 2)


def test_decay_that_was_noticed_late_before_stead_is_not_denied_by_its_records() -> None:
    found, against = known({"late": "yes"}, {"late": "no"})
    assert against == [] and found["late"].value is True and "since then: seen" in found["late"].said
    found, against = known({"late": "no"}, {"late": "yes"})
    assert found["late"].value is True and len(against) == 1


@pytest.mark.parametrize(
    ("answers", "gone", "word"),
    [
        ({"static": "yes", "retrains": 50}, "static", "stay as they are"),
        ({"depends": "yes", "low_impact": "yes"}, "low_impact", "both cannot be"),
        ({"depends": "yes", "poc": "yes", "models": 2}, "poc", "proof of concept"),
        ({"models": 0, "planned": 0, "depends": "yes"}, None, "none is planned"),
        ({"models": 0, "retrains": 12}, None, "none is planned"),
    ],
)
def test_answers_that_do_not_go_together_are_named(answers: dict[str, Any], gone: str | None, word: str) -> None:
    found, against = known(answers)
    assert len(against) == 1 and word in against[0]
    assert gone not in found


def test_of_a_team_without_models_the_case_is_that_of_the_first() -> None:
    found, _ = known({"models": 0, "planned": 2})
    assert next(each for each in inputs_of(found) if each.name == "models").likely == 2


def test_every_input_says_where_it_comes_from() -> None:
    found, _ = known({"review": 60}, {"models": 4})
    sources = {each.name: each.source for each in inputs_of(found)}
    assert (sources.pop("review"), sources.pop("models")) == ("interview", "record")
    assert set(sources.values()) == {"default"} and all(each.said and each.label for each in inputs_of(found))


def test_conditions_are_unknown_where_nothing_says() -> None:
    assert [each.holds for each in conditions_of({})] == [None] * 8
    assert [each.speaks for each in conditions_of({})] == ["for"] * 4 + ["against"] * 4
    found, _ = known({"retrains": 1, "people": 2})
    holds = {each.name: each.holds for each in conditions_of(found)}
    assert (holds["retrains"], holds["static"], holds["people"], holds["alone"]) == (False, True, True, False)


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("depends", "Y", True), ("depends", False, False), ("models", "1,200", (1200, 1200, 1200)), ("hours", "2..4", (2, 3, 4)),
        ("hours", "2 to 4", (2, 3, 4)), ("hours", [2, 2.5, 4], (2, 2.5, 4)), ("hours", "2–2.5–4", (2, 2.5, 4)), ("models", 0, (0, 0, 0)),
    ],
)  # fmt: skip
def test_answers_are_read(name: str, given: Any, value: Any) -> None:
    assert read_answer(name, given) == value
    assert read_answer(name, typed(value)) == value and said(value)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("depends", "perhaps"), ("models", "-1"), ("models", "many"), ("models", ""), ("hours", "4-2"), ("hours", "1-2-3-4"), ("models", True),
        ("models", "nan"), ("models", float("inf")), ("models", 1e300), ("hours", 10_001), ("hours", []), ("hours", {"a": 1}), ("depends", 3), ("weeks", 54),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_said(name: str, given: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_answer(name, given)
    assert refused.value.code == "answer-invalid" and name in refused.value.message


def test_a_question_that_there_is_not_names_the_near_one() -> None:
    with pytest.raises(InvalidInput) as refused:
        read_answer("model", 3)
    assert (refused.value.code, refused.value.hint) == ("question-unknown", "did you mean 'models'?")
    assert len({question.name for question in QUESTIONS}) == len(QUESTIONS)
