"""Described teams: what a sensible person would tell each of them, and the stage to aim at. Written before the rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from stead.maturity.answering import answered
from stead.maturity.questions import BY_NAME, read_answer
from stead.maturity.types import Answer, Fact, Recorded


@dataclass(frozen=True)
class Team:
    """A team in a sentence, what it says, what its records say, and what it should hear."""

    sentence: str
    answer: str
    aim: int
    said: dict[str, Any] = field(default_factory=dict)
    records: dict[str, Any] = field(default_factory=dict)
    stage: int = 1
    contradictions: int = 0


def _(
    sentence: str, answer: str, aim: int, *, stage: int = 1, against: int = 0, records: Any = None, **said: Any
) -> Team:
    return Team(sentence, answer, aim, said, records or {}, stage, against)


WEEKLY, MONTHLY = 50, 12
TEAMS = [
    _("Nobody has said anything, and the store is empty", "not yet", 1),
    _("A student tries things in notebooks", "no", 1, models=0, planned=0, poc="yes", people=1),
    _("A proof of concept on which ten people work", "no", 1, models=0, planned=0, poc="yes", people=10),
    _("A proof of concept that may go live this quarter", "no", 1, models=0, planned=1, poc="yes", people=3),
    _("No model yet, and none is planned", "not yet", 1, models=0, planned=0, people=2),
    _("The first model goes live next month; orders will depend on it", "yes", 1, models=0, planned=1, depends="yes", retrains=MONTHLY, people=2),
    _("The first model goes live next month; nothing else is known", "yes", 1, models=0, planned=1),
    _("One person's first model goes live, and little comes of its mistakes", "no", 1, models=0, planned=1, depends="no", low_impact="yes", people=1, retrains=1),
    _("Three models go live together, weekly, by four people", "yes", 1, models=0, planned=3, depends="yes", retrains=WEEKLY, people=4),
    _("One critical model, retrained weekly by one person", "not yet", 1, models=1, depends="yes", retrains=WEEKLY, people=1, late="no"),
    _("One critical model, weekly, five people, and its decay was noticed late", "yes", 1, models=1, depends="yes", retrains=WEEKLY, people=5, late="yes"),
    _("One critical model that is trained once a year by two people", "not yet", 1, models=1, depends="yes", retrains=1, people=2, late="no"),
    _("One model that takes ten hours a week by hand", "yes", 2, models=1, depends="yes", retrains=WEEKLY, people=2, hours=10),
    _("Two models, daily, two people", "yes", 2, models=2, depends="yes", retrains=250, people=2),
    _("Two models, weekly, two people: it may pay, and three conditions hold", "yes", 1, models=2, depends="yes", retrains=WEEKLY, people=2, late="no"),
    _("Two models, monthly, three people, never a late surprise", "not yet", 1, models=2, depends="yes", retrains=MONTHLY, people=3, late="no"),
    _("Three critical models, weekly, three people", "yes", 2, models=3, depends="yes", retrains=WEEKLY, people=3),
    _("Ten critical models, weekly, four people, decay noticed late", "yes", 2, models=10, depends="yes", retrains=WEEKLY, people=4, late="yes"),
    _("Ten critical models, weekly, one person", "yes", 2, models=10, depends="yes", retrains=WEEKLY, people=1),
    _("Ten models, weekly, four people, and nobody would notice a mistake", "not yet", 1, models=10, depends="no", low_impact="yes", retrains=WEEKLY, people=4),
    _("One model, monthly, one person, and nobody would notice a mistake", "no", 1, models=1, depends="no", low_impact="yes", retrains=MONTHLY, people=1),
    _("300 static models of low impact", "no", 1, models=300, static="yes", retrains=0, low_impact="yes", depends="no", people=3),
    _("300 static models that processes depend on", "not yet", 1, models=300, static="yes", retrains=0, depends="yes", people=6),
    _("One static model of high impact, fixed by a regulator, five people", "not yet", 1, models=1, static="yes", depends="yes", low_impact="no", people=5, retrains=0),
    _("Twenty models, weekly, three people, who train by pipeline already", "yes", 3, stage=2, models=20, depends="yes", retrains=WEEKLY, people=3),
    _("Twenty models, weekly, one person, who trains by pipeline already", "yes", 2, stage=2, models=20, depends="yes", retrains=WEEKLY, people=1),
    _("Forty models, weekly, an hour each, four people at stage 2", "yes", 3, stage=2, models=40, depends="yes", retrains=WEEKLY, hours=1, people=4),
    _("300 models, monthly, twenty people, all by hand", "yes", 2, models=300, depends="yes", retrains=MONTHLY, people=20),
    _("300 models, monthly, twenty people, who deploy by gates already", "yes", 4, stage=3, models=300, depends="yes", retrains=MONTHLY, people=20),
    _("Three models under machinery for three hundred", "yes", 2, stage=4, models=3, depends="yes", retrains=WEEKLY, people=3),
    _("Five models, weekly, three people, and a deployment takes no hands at all", "not yet", 1, models=5, depends="yes", retrains=WEEKLY, people=3, hours=0, late="no"),
    _("Five models, and nothing else is said", "not yet", 1, models=5),
    _("It says no model is in production; four are live and asked every day", "yes", 2, against=1, models=0, people=3, records={"models": 4, "depends": True, "retrains": WEEKLY, "people": 3}),
    _("It says weekly and static", "yes", 2, against=1, models=3, depends="yes", retrains=WEEKLY, static="yes", people=3),
    _("It says alone; five people are in the ledger", "yes", 1, against=1, models=1, depends="yes", retrains=WEEKLY, late="yes", people=1, records={"people": 5}),
    _("It says that a process depends on it and that little comes of mistakes", "yes", 2, against=1, models=3, depends="yes", low_impact="yes", retrains=WEEKLY, people=3),
    _("Nothing in production, nothing planned, and yet retrained weekly and depended on", "not yet", 1, against=1, models=0, planned=0, depends="yes", retrains=WEEKLY),
    _("It says proof of concept; a process depends on what is live", "yes", 2, against=1, poc="yes", records={"models": 3, "depends": True, "retrains": WEEKLY, "people": 2}),
    _("It says weekly; the records of a year say twice a year", "not yet", 1, against=1, models=3, retrains=WEEKLY, late="no", people=2, records={"models": 3, "depends": True, "retrains": 2}),
    _("A store with three models, asked daily, weekly, two people, and no interview", "yes", 2, records={"models": 3, "depends": True, "retrains": WEEKLY, "people": 2}),
    _("A store with one live model, and no interview", "not yet", 1, records={"models": 1, "depends": True, "people": 1}),
]  # fmt: skip


def records_of(team: Team) -> Recorded:
    facts = {name: Fact(read_answer(name, value), f"the records of {name}") for name, value in team.records.items()}
    return Recorded(facts, team.stage)


def answers_of(team: Team) -> list[Answer]:
    return [Answer(name, read_answer(name, value), "person:ada", 0) for name, value in team.said.items()]


@pytest.mark.parametrize("team", TEAMS, ids=lambda team: team.sentence)
def test_a_described_team_hears_what_a_sensible_person_would_say(team: Team) -> None:
    found = answered(records_of(team), answers_of(team))
    assert (found.answer, found.stage, len(found.contradictions)) == (team.answer, team.aim, team.contradictions), found
    assert found.said and found.todo and found.stage_said and "nan" not in repr(found)
    assert found.stage <= team.stage + 1
    assert {each.name for each in found.questions} <= set(BY_NAME) - set(team.said) - set(team.records)
