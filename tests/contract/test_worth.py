"""What a store's records say to the questions of the interview, and answers that are kept, changed and undone."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from typing import Any

import pytest
from click.testing import CliRunner
from watched import DAY, Watched

from stead import deployments, jobs, ledger, maturity, models, monitors
from stead.api.undoing import undo
from stead.cli import cli
from stead.deployments import operations
from stead.errors import InvalidInput, SteadError
from stead.maturity import Worth
from stead.runtime.clock import now_ms
from stead.store import Store
from stead.web import incidents


class Team(Watched):
    """A model with a clock, whose versions go live by a swap."""

    def swap(self, day: int, *, by: str = "person:ada") -> int:
        """Register a version on a day and let it answer from then on."""
        self.hold(day)
        before, self.store = self.store, self.store.acting(by)
        self.live(holdout=[1.0] * 20)
        asked = deployments.deploy(self.store, "m", version=self.version)
        self.store = before
        for job in jobs.open_jobs(self.store, kind="deploy"):
            jobs.cancel_job(self.store, job.id)
        with self.store.db.write("deployments.switch") as tx:
            operations.switch(tx, self.store, asked)
        time.sleep(0.003)  # a moment of its own on the wall, by which it is found on the model's clock
        return asked.id


def measured(found: Worth) -> dict[str, tuple[str, str]]:
    return {each.name: (each.value, each.said) for each in found.measured}


def known(found: Worth) -> dict[str, tuple[str, str]]:
    return {name: (each.source, maturity.said(each.value)) for name, each in found.known.items()}


def test_an_empty_store_is_asked(any_store: Store) -> None:
    found = maturity.worth(any_store)
    assert (found.answer, found.stage, found.command) == ("not yet", 1, "stead worth --interview")
    assert "The right time is while the first model goes to production" in found.todo
    assert [each.holds for each in found.conditions] == [None] * 8 and found.answers == [] and found.known == {}
    assert {each.source for each in found.case.inputs} == {"default"}
    assert {each.value for each in found.measured} == {"–"} and all(each.said for each in found.measured)
    assert [each.name for each in found.questions][:3] == ["models", "planned", "depends"]


def test_answers_are_kept_changed_taken_away_and_undone(any_store: Store) -> None:
    store = any_store
    maturity.answer(store, {"models": 3, "depends": "yes", "hours": "2-4"}, reason="asked around")
    kept = maturity.answer(store, {"models": 10, "depends": None})
    assert [(each.question, each.value, each.by) for each in kept] == [
        ("models", (10, 10, 10), "person:ada"),
        ("hours", (2, 3, 4), "person:ada"),
    ]
    last, first = ledger.list_entries(store)
    assert (first.action, first.summary, first.reason) == (
        "worth.answered",
        "models: 3; depends: yes; hours: 2 to 4",
        "asked around",
    )
    assert last.evidence == {"answers": {"models": [10, 10, 10], "depends": None}}
    maturity.answer(store, {"models": 10})
    assert len(ledger.list_entries(store)) == 2, "the same again changes nothing"
    undo(store, last.id)
    assert {each.question: maturity.said(each.value) for each in maturity.list_answers(store)} == {
        "models": "3",
        "depends": "yes",
        "hours": "2 to 4",
    }
    undo(store, first.id)
    assert maturity.list_answers(store) == []
    with pytest.raises(SteadError, match="undone by"):
        undo(store, first.id)


@pytest.mark.parametrize(
    ("answers", "code"),
    [({"models": "many"}, "answer-invalid"), ({"models": 3, "modles": 4}, "question-unknown"), ({"depends": 7}, "answer-invalid")],
)  # fmt: skip
def test_a_bad_answer_changes_nothing(store: Store, answers: dict[str, Any], code: str) -> None:
    for act in (lambda: maturity.answer(store, answers), lambda: maturity.worth(store, trying=answers)):
        with pytest.raises(InvalidInput) as refused:
            act()
        assert refused.value.code == code
    assert maturity.list_answers(store) == [] and ledger.list_entries(store) == []


def test_what_is_tried_out_is_not_kept(store: Store) -> None:
    tried = {"models": 3, "depends": "yes", "retrains": 50, "people": 3}
    found = maturity.worth(store, trying=tried)
    assert (found.answer, found.stage, found.answers) == ("yes", 2, [])
    assert found.known["models"].said == "tried out, not kept" and maturity.worth(store).answer == "not yet"


def test_one_model_that_was_deployed_today_says_little(any_store: Store) -> None:
    team = Team(any_store)
    team.swap(0)
    found = maturity.worth(any_store)
    assert known(found) == {"models": ("record", "1"), "people": ("record", "1")}
    assert found.known["models"].said == "live: m" and found.known["people"].said == "in the ledger of m: ada"
    assert found.answer == "not yet" and "whether a business process depends" in found.said
    assert [each.name for each in found.questions] == ["depends", "low_impact", "retrains", "late", "static", "hours"]
    assert measured(found)["From trained to deployed"][0] == "0.0 s"


def test_records_of_a_while_answer_the_questions(any_store: Store) -> None:
    """Weekly deployments over twelve weeks, asked daily, a loss that triples, and what that costs."""
    store, team = any_store, Team(any_store, rows_a_day=24)
    team.swap(0)
    for week in range(1, 12):
        team.days(week * 7 - 7, week * 7)
        team.swap(week * 7, by="agent")
    for number in range(77, 98):
        team.day(number, loss=3.0)
    models.set_facts(store, "m", importance="high", loss_value=2.0, currency="EUR")
    found = maturity.worth(store)
    said = known(found)
    assert said["models"] == ("record", "1") and said["depends"] == ("record", "yes")
    rate = found.known["retrains"].value
    assert isinstance(rate, tuple) and rate[1] == pytest.approx(11 / 98 * 365, abs=0.1)
    assert found.known["retrains"].said == "11 deployments of one model after its first, in 98 days"
    (incident,) = [each for each in monitors.list_incidents(store, model="m") if each.kind == "performance"]
    after = (incident.event_time - incident.evidence["since"]) / DAY
    assert said["late"] == ("record", "yes" if after > 7 else "no")
    figures = measured(found)
    spent = sum(each.minutes for each in maturity.list_work(store)) / 60
    value, words = figures["Hours saved so far"]
    assert value == f"{11 * 2 - spent:,.0f} to {11 * 4 - spent:,.0f} h"
    assert words.startswith("11 of 12 deployments without hands × 2 to 4 h (default), less ")
    assert (
        figures["Found by a monitor before a user"][0]
        == f"{len(monitors.list_incidents(store))} of {len(monitors.list_incidents(store))}"
    )
    cost, told = figures["Cost of decay until it was noticed"]
    days = round(after)
    assert cost.endswith(" EUR") and float(cost.split()[0].replace(",", "")) == pytest.approx(
        days * 24 * 2 * 2.0, rel=0.35
    )
    assert "1 decay of a year" in told and "until it was mended" in told
    monitors.open_incident(store, "m", "drivers wait too long", since=incident.evidence["since"] + DAY)
    again = maturity.worth(store)
    assert measured(again)["Cost of decay until it was noticed"] == (cost, told), (
        "a report of the same decay costs nothing more"
    )
    assert measured(again)["Found by a monitor before a user"][0] == "1 of 1", "the report was no second one"
    assert found.answer == "not yet" and "alone" in {each.name for each in found.conditions if each.holds}


def test_a_model_that_is_asked_daily_is_depended_on_until_somebody_says_it_matters_little(store: Store) -> None:
    team = Team(store, rows_a_day=2)
    team.swap(0)
    team.days(0, 20)
    assert maturity.worth(store).known["depends"].said == "m: asked on 20 of the last 28 days"
    maturity.answer(store, {"depends": "no"})
    found = maturity.worth(store)
    assert (
        found.known["depends"].source == "record"
        and "stead models set MODEL --importance low" in found.contradictions[0]
    )
    models.set_facts(store, "m", importance="low")
    found = maturity.worth(store)
    assert (known(found)["depends"], known(found)["low_impact"]) == (("record", "no"), ("record", "yes"))
    assert found.contradictions == [] and found.answer == "no"


def test_answers_that_deny_the_records_are_named(any_store: Store) -> None:
    team = Team(any_store)
    team.swap(0, by="person:ada")
    for n, who in enumerate(("bob", "eve", "kim", "joe")):
        team.swap(30 * n + 30, by=f"person:{who}")
    team.hold(200)
    maturity.answer(any_store, {"models": 0, "people": 1, "static": "yes"})
    found = maturity.worth(any_store)
    assert len(found.contradictions) == 3, found.contradictions
    assert [found.known[name].source for name in ("models", "people")] == ["record", "record"]
    assert found.known["people"].said == "in the ledger of m: ada, bob, eve and 2 more"


def test_records_older_than_the_window_are_no_rate_of_today(store: Store) -> None:
    team = Team(store)
    for n in range(5):
        team.swap(n * 7)
    team.hold(1000)
    found = maturity.worth(store)
    assert found.known["retrains"].value == (0, 0, 0)
    holds = {each.name: each.holds for each in found.conditions}
    assert holds["static"] is True and holds["retrains"] is False
    assert measured(found)["From trained to deployed"] == ("–", "nothing was deployed within a year")


def test_a_clock_that_was_set_back_counts_nothing_of_its_future(store: Store) -> None:
    team = Team(store)
    for day in (0, 400, 430):
        team.swap(day)
    team.hold(10)
    found = maturity.worth(store)
    assert "retrains" not in found.known and "nan" not in repr(found)
    assert "median of 1 deployment of a year" in measured(found)["Work by hand for a deployment"][1]


def test_hours_outside_stead_are_an_input_of_the_records(store: Store) -> None:
    Team(store).live()
    jobs.release_clock(store, "m", holder="replay-1")
    now = now_ms()
    for n, spent in enumerate((1.5, 2.0, 6.0, None)):
        deployments.record_outside(store, "m", place="a server", at=now - n * 60 * DAY - 1000, hours=spent)
    deployments.record_outside(store, "m", place="a server", at=now - 900 * DAY, hours=50.0)
    found = maturity.worth(store)
    given = found.case.input("hours")
    assert (given.low, given.likely, given.high, given.source) == (1.5, 2.0, 6.0, "record")
    assert found.known["models"].said == "deployed outside stead: m"
    assert found.known["retrains"].value == (4, 4, 4), "the first one was 900 days ago"
    maturity.answer(store, {"depends": "yes"})
    assert maturity.worth(store).answer == "not yet"
    assert maturity.worth(store, trying={"models": 100}).command == "stead init", "none of them is served by stead yet"


def test_the_first_step_is_that_of_the_page_of_maturity(store: Store) -> None:
    Team(store).swap(0)
    answers = {"models": 4, "depends": "yes", "retrains": 50, "people": 3}
    found = maturity.worth(store, trying=answers)
    step = maturity.assess(store).steps[0]
    assert (found.answer, found.stage, found.command) == ("yes", 2, step.command)
    assert found.todo.startswith(f"First step: {step.title[:1].lower()}{step.title[1:]}: ")


def test_who_saw_it_first(store: Store) -> None:
    team = Team(store, rows_a_day=24)
    team.swap(0)
    team.days(0, 20)
    monitors.open_incident(store, "m", "customers complain")
    found = maturity.worth(store)
    assert measured(found)["Found by a monitor before a user"][0] == "0 of 1"
    assert known(found)["late"] == ("record", "yes"), "people saw it, and no monitor"


def test_what_users_say_after_a_replay_stands_at_its_end(store: Store) -> None:
    team = Team(store, rows_a_day=24)
    team.swap(0)
    team.days(0, 20)
    team.swap(20)
    since = team.clock - 2 * DAY
    jobs.release_clock(store, "m", holder="replay-1")
    told = monitors.open_incident(store, "m", "customers complain", since=since)
    monitors.open_incident(store, "m", "others, too", kind="other", since=since)
    fact = maturity.worth(store).known["late"]
    assert "of 1 times that a model became worse, 0 were noticed after more than 7 days" in fact.said
    assert fact.said.endswith("at the latest after 2 d"), "not the years between the replay and today"
    assert [value for name, value, _ in incidents.figures(store, told) if name == "Seen after"] == ["2 d"], (
        "on its page, too"
    )


def test_what_a_monitor_told_of_is_one_decay_and_no_second_incident(store: Store) -> None:
    team = Team(store, rows_a_day=24)
    team.swap(0)
    team.days(0, 20)
    for day in range(20, 30):
        team.day(day, loss=4.0)
    monitors.open_incident(store, "m", "customers complain")
    found = maturity.worth(store)
    assert measured(found)["Found by a monitor before a user"][0] == "1 of 1"
    assert maturity.check_rows(store, "found-first").result.said == "100 % (1 of 1)", "as it is on the page of maturity"
    assert known(found)["late"] == ("record", "no") and "of 1 times" in found.known["late"].said


# The command line


def run(store: Store, *arguments: str) -> str:
    done = CliRunner().invoke(cli, ["worth", *arguments], env=place(store), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def place(store: Store) -> dict[str, str]:
    return {"STEAD_STORE": str(store.root), "STEAD_USER": "ada", "NO_COLOR": "1", "STEAD_URL": ""}


def test_the_command_answers_before_anything_is_deployed(store: Store) -> None:
    said = run(store)
    assert said.startswith("not yet: Nothing is known") and "stead worth --interview" in said
    assert "33 to 77 months" in said and "a stated default" in said


def test_answers_by_options(store: Store) -> None:
    said = run(
        store, "--answer", "models=3", "--answer", "depends=yes", "--answer", "retrains=50", "--answer", "people=3"
    )
    assert said.startswith("yes: ") and "10 to 21 months" in said and "interview: ada" in said
    tried = run(store, "--try", "models=1", "--all")
    assert tried.startswith("not yet: ") and "Must pay back within" in tried
    assert "the answer changes at models in production: 2" in tried
    assert len(maturity.list_answers(store)) == 4
    run(store, "--answer", "models=")
    assert [each.question for each in maturity.list_answers(store)] == ["depends", "retrains", "people"]
    assert '"answer":' in run(store, "--json")


@pytest.mark.parametrize(
    "given", [["--answer", "models"], ["--answer", "models=x"], ["--try", "foo=1"], ["--interview"]]
)
def test_bad_options_say_what_to_type(store: Store, given: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        run(store, *given)
    assert refused.value.hint
    assert maturity.list_answers(store) == []


def interview(store: Store, *typed: str, end: bytes = b"") -> tuple[int, str]:
    """Answer on a pseudo-terminal, each line when it is asked for; then `end`."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "stead", "worth", "--interview"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | place(store), start_new_session=True, close_fds=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    seen = ""
    for each in typed:
        seen += until(mine, "]: ")
        os.write(mine, f"{each}\n".encode())
    if end:
        seen += until(mine, "]: ")
    seen += until(mine, None, pressing=end)
    os.close(mine)
    return process.wait(30), seen


def until(terminal: int, mark: str | None, *, pressing: bytes = b"") -> str:
    """What is shown until a mark, or until the end; `pressing` a key, and again where nothing came of it, as a person would.

    A Ctrl-C that comes after a prompt is shown and before Python waits for a line is seen with the next key only.
    """
    seen, deadline, next_press = "", time.monotonic() + 60, time.monotonic()
    while mark is None or not seen.endswith(mark):
        now = time.monotonic()
        assert now < deadline, seen
        if pressing and now >= next_press and "kept" not in seen:
            os.write(terminal, pressing)
            next_press = now + 10
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            seen += os.read(terminal, 4096).decode()
        except OSError:
            break
    return seen


def test_the_interview_asks_what_is_not_known_and_lets_questions_out(store: Store) -> None:
    code, seen = interview(store, "three", "3", "yes", "50", "", "3", "")
    assert code == 0, seen
    assert "models: 'three' is no figure" in seen and "5 answers" not in seen and "4 answers are kept" in seen
    assert {each.question: maturity.said(each.value) for each in maturity.list_answers(store)} == {
        "models": "3",
        "depends": "yes",
        "retrains": "50",
        "people": "3",
    }
    assert "yes: A business process depends" in seen
    assert len(ledger.list_entries(store)) == 1


@pytest.mark.parametrize("end", [b"\x03", b"\x04"], ids=["ctrl-c", "ctrl-d"])
def test_an_interview_that_is_stopped_keeps_what_was_answered(store: Store, end: bytes) -> None:
    code, seen = interview(store, "2", "yes", end=end)
    assert code == 0 and "2 answers are kept" in seen, seen
    assert [each.question for each in maturity.list_answers(store)] == ["models", "depends"]
