"""Work by hand: what counts, how long it took, what it was for, and that a person's word goes before it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from watched import DAY, START, Watched

from stead import deployments, jobs, ledger, maturity, models, policies
from stead.api import Embedded
from stead.api.undoing import undo
from stead.cli import cli
from stead.config import load_settings
from stead.deployments.tables import outside
from stead.errors import InvalidInput, NotFound, SteadError
from stead.maturity.tables import reviews
from stead.maturity.work import DEFAULT_MINUTES, LONGEST_REVIEW
from stead.runtime.clock import now_ms
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent / "failpoints"))
import policies as world  # type: ignore[import-not-found]

MINUTE = 60_000


@pytest.fixture
def waits(store: Store) -> policies.Retraining:
    """Version 2 of `m` waits for approval; a replay holds the model's clock at day 40."""
    return waiting(store)


def waiting(store: Store) -> policies.Retraining:
    world.begun(store)
    watched = Watched(store)
    watched.version = 1
    models.register(store, "m", logged(store, watched))
    (job,) = jobs.list_jobs(store, kind="train")
    claimed = jobs.operations.claim(store, "agent", ["train"], job_id=job.id)
    assert claimed is not None
    jobs.operations.finish(store, claimed, {"version": 2})
    while policies.advance(store, policies.get_retraining(store, 1)):
        pass
    found = policies.get_retraining(store, 1)
    assert found.state == "waiting"
    return found


def logged(store: Store, watched: Watched) -> str:
    folder = store.root / "second"
    folder.mkdir()
    (folder / "MLmodel").write_text('{"flavors": {"python_function": {"loader_module": "x"}}}')
    (folder / "n").write_text("2")
    environment = models.get_logged_model(store, models.get_version(store, "m@1").logged_model).environment
    return models.log_model(store, folder, name="m", environment=environment).id


def opened_before(store: Store, minutes: float) -> None:
    """Let the first look have been so long ago."""
    with store.db.engine.begin() as tx:
        tx.execute(sa.update(reviews).values(opened_at=now_ms() - int(minutes * MINUTE)))


def of_kind(store: Store, *kinds: str) -> list[maturity.Work]:
    return [each for each in maturity.list_work(store, model="m") if each.kind in kinds]


def test_an_empty_store_has_none_and_an_unknown_model_is_an_error(store: Store) -> None:
    assert maturity.list_work(store) == [] and maturity.by_deployment([]) == {}
    with pytest.raises(NotFound, match="demnd") as refused:
        maturity.list_work(store, model="demnd")
    assert refused.value.code == "model-unknown"


def test_a_decision_is_measured_from_the_first_look(store: Store, waits: policies.Retraining) -> None:
    maturity.begin_review(store, waits.id)
    opened_before(store, 0)
    maturity.begin_review(store, waits.id)  # a later look changes nothing
    before = ledger.list_entries(store, limit=1)[0].id
    with store.db.engine.begin() as tx:
        tx.execute(sa.text("update ledger set at = at - 3600000"))  # what was before is long ago
    opened_before(store, 12)
    done = policies.approve(store, "m")
    (review,) = of_kind(store, "review")
    assert review.entry is not None and review.entry > before
    assert review.source == "measured" and review.minutes == pytest.approx(12, abs=0.2)
    assert review.deployment == done.deployment and review.subject == "m@2" and review.by == "person:ada"
    assert review.moment == START + 40 * DAY and abs(review.at - now_ms()) < 60_000
    assert of_kind(store, "deploy") == [], "the deployment that an approval asks for is the approval's"
    minutes = maturity.by_deployment(maturity.list_work(store))[done.deployment or 0]
    assert minutes == pytest.approx(12 + DEFAULT_MINUTES["other"], abs=0.2), "to register it by hand was for it, too"


def test_what_was_left_lying_counts_an_hour_and_says_so(store: Store, waits: policies.Retraining) -> None:
    maturity.begin_review(store, waits.id)
    with store.db.engine.begin() as tx:
        tx.execute(sa.text("update ledger set at = at - 360000000"))
    opened_before(store, 60 * 30)
    policies.reject(store, "m", reason="not now")
    (review,) = of_kind(store, "review")
    assert (review.minutes, review.source, review.deployment) == (LONGEST_REVIEW, "measured", None)
    assert "left lying for 30.0 h, of which 60 min count" in review.said


def test_nobody_reads_two_pages_at_once(store: Store, waits: policies.Retraining) -> None:
    """Of a page that was opened before another act only the time after that act counts."""
    maturity.begin_review(store, waits.id)
    opened_before(store, 50)
    models.set_alias(store, "m", "spare", 1)
    policies.reject(store, "m")
    (review,) = of_kind(store, "review")
    assert review.source == "measured" and review.minutes < 1


def test_nor_while_they_work_on_another_model(any_store: Store) -> None:
    store = any_store
    found = waiting(store)
    maturity.begin_review(store, found.id)
    opened_before(store, 50)
    with store.db.engine.begin() as tx:
        tx.execute(sa.text("update ledger set at = at - 36000000"))
        between = {"model": "other", "action": "alias.set", "subject": "alias other x", "summary": "x"}
        entry = ledger.record(tx, actor="person:ada", **between)  # type: ignore[arg-type]
        tx.execute(sa.text("update ledger set at = at - 1200000 where id = :id"), {"id": entry})
    policies.reject(store, "m")
    for works in (maturity.list_work(store, model="m"), maturity.list_work(store)):
        (review,) = (each for each in works if each.kind == "review")
        assert (review.source, review.minutes) == ("measured", pytest.approx(20, abs=0.2))
    assert maturity.correct_work(store, review.entry or 0, 3).source == "corrected"


def test_who_did_not_look_decides_by_default(store: Store, waits: policies.Retraining) -> None:
    maturity.begin_review(store.acting("person:bob"), waits.id)
    maturity.begin_review(store.acting("agent"), waits.id)
    policies.approve(store, "m")
    (review,) = of_kind(store, "review")
    assert (review.minutes, review.source) == (DEFAULT_MINUTES["review"], "default")
    with store.db.read() as tx:
        assert list(tx.execute(sa.select(reviews.c.by)).scalars()) == ["person:bob"]


def test_what_does_not_wait_is_not_reviewed(store: Store, waits: policies.Retraining) -> None:
    policies.reject(store, "m")
    maturity.begin_review(store, waits.id)
    with store.db.read() as tx:
        assert tx.execute(sa.select(reviews)).first() is None
    with pytest.raises(NotFound) as refused:
        maturity.begin_review(store, 99)
    assert refused.value.code == "retraining-unknown"


def test_commands_count_at_a_stated_time_and_what_the_agent_does_not(store: Store) -> None:
    Watched(store).live()
    asked = deployments.deploy(store, "m", version=1)
    by_agent = deployments.cancel_deployment(store.acting("agent"), asked.id)
    again = deployments.deploy(store.acting("token:ci"), "m", version=1)
    found = of_kind(store, "deploy", "rollback", "train", "review")
    assert [(w.kind, w.by, w.minutes, w.source, w.deployment) for w in found] == [
        ("deploy", "token:ci", DEFAULT_MINUTES["deploy"], "default", again.id),
        ("deploy", "person:ada", DEFAULT_MINUTES["deploy"], "default", asked.id),
    ]
    assert by_agent.state == "cancelled"
    others = {w.said.partition(" ")[0]: w.minutes for w in of_kind(store, "other")}
    assert others == {"registered": DEFAULT_MINUTES["other"], "champion": DEFAULT_MINUTES["other"]}


def test_a_roll_back_at_once_is_one_act_and_one_that_is_loaded_first_too(store: Store) -> None:
    from displaced import Displaced

    shop = Displaced(store, judge_days=0)
    shop.swap()
    asked = deployments.rollback(store, "m", to=1)
    assert [(w.kind, w.deployment) for w in of_kind(store, "rollback")] == [("rollback", asked.id)]


def test_a_training_by_a_person_is_for_the_deployment_of_its_version(store: Store) -> None:
    Watched(store).live()
    with store.db.read() as tx:
        entry = ledger.newest_in(tx, "m", "version.registered")
    assert entry is not None
    job = jobs.enqueue(store, "train", {}, model="m")
    failed = jobs.enqueue(store, "train", {}, model="m")
    jobs.enqueue(store.acting("agent"), "train", {}, model="m")
    with store.db.engine.begin() as tx:  # as the training leaves it: its run is its job
        evidence = {**entry.evidence, "run": job.id}
        tx.execute(
            sa.text("update ledger set evidence = :e where id = :id"), {"e": json.dumps(evidence), "id": entry.id}
        )
        tx.execute(sa.text("update jobs set state = 'failed' where id = :id"), {"id": failed.id})
    asked = deployments.deploy(store, "m", version=1)
    trained, none = sorted(of_kind(store, "train"), key=lambda w: w.entry or 0, reverse=True)
    assert (trained.entry, trained.deployment, trained.said) == (entry.id, asked.id, "trained m@1")
    assert (none.entry, none.deployment) == (None, None) and "made no version" in none.said
    assert maturity.by_deployment(maturity.list_work(store)) == {asked.id: 15.0}


def test_outside_counts_as_said_and_without_hours_not_at_all(store: Store) -> None:
    Watched(store).live()
    row = {"model": "m", "version": None, "place": "ssh web1", "at": now_ms(), "note": "", "by": "person:ada"}
    with store.db.engine.begin() as tx:
        for hours in (3.0, None, 0.0):
            tx.execute(sa.insert(outside).values(**row, hours=hours, recorded_at=now_ms()))
    found = of_kind(store, "outside")
    assert sorted(w.minutes for w in found) == [0, 180] and {(w.source, w.entry) for w in found} == {("said", None)}


def test_the_span_is_of_the_wall_clock(store: Store) -> None:
    Watched(store).live()
    middle = now_ms() + 1
    assert maturity.list_work(store, since=middle) == [] != maturity.list_work(store, until=middle)
    with pytest.raises(InvalidInput) as refused:
        maturity.list_work(store, since=2, until=1)
    assert refused.value.code == "span-invalid"


def test_a_persons_word_goes_before_and_can_be_taken_back(store: Store, waits: policies.Retraining) -> None:
    maturity.begin_review(store, waits.id)
    policies.approve(store, "m")
    (review,) = of_kind(store, "review")
    assert review.entry is not None
    said = maturity.correct_work(store, review.entry, 42, reason="with the team")
    assert (said.minutes, said.source) == (42, "corrected")
    maturity.correct_work(store, review.entry, 42)  # the same again says nothing new
    maturity.correct_work(store, review.entry, 43.5)
    second, first = (e for e in ledger.list_entries(store, model="m") if e.action == "work.corrected")
    assert first.reason == "with the team" and second.evidence["before"] == 42
    undo(store, second.id)
    assert of_kind(store, "review")[0].minutes == 42
    undo(store, first.id)
    assert of_kind(store, "review")[0].source == "measured"
    assert all(w.kind != "other" or "took" not in w.said for w in maturity.list_work(store)), "a correction is no work"


@pytest.mark.parametrize("minutes", [-1, float("nan"), float("inf"), 1e9])
def test_no_time_that_an_act_takes(store: Store, minutes: float) -> None:
    Watched(store).live()
    with pytest.raises(InvalidInput) as refused:
        maturity.correct_work(store, 1, minutes)
    assert refused.value.code == "minutes-invalid"
    assert all(e.action != "work.corrected" for e in ledger.list_entries(store))


def test_only_work_is_corrected(store: Store, waits: policies.Retraining) -> None:
    asked = next(e for e in ledger.list_entries(store, model="m") if e.action == "approval.asked")
    for entry, code in ((asked.id, "work-unknown"), (10_000, "decision-unknown")):
        with pytest.raises(SteadError) as refused:
            maturity.correct_work(store, entry, 5)
        assert refused.value.code == code


def test_commands_tell_sum_and_correct(
    store: Store, waits: policies.Retraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    monkeypatch.setenv("STEAD_STORE", str(store.root))
    monkeypatch.setenv("STEAD_USER", "ada")
    with store.db.read() as tx:
        assert tx.execute(sa.select(reviews)).first() is None
    run("approvals", "--json")
    with store.db.read() as tx:
        assert tx.execute(sa.select(reviews)).first() is None, "a program that asks is nobody who looks"
    run("approvals")
    with store.db.read() as tx:
        assert tx.execute(sa.select(reviews.c.subject, reviews.c.by)).all() == [("retraining 1", "person:ada")]
    run("approve", "m@2", "--reason", "better")
    told = json.loads(run("work", "--model", "m", "--json"))
    (review,) = (each for each in told if each["kind"] == "review")
    assert review["source"] == "measured" and review["minutes"] < 1
    assert "approved m@2" in run("work") and "review  measured" in run("work")
    assert "counts 7.0 min, corrected" in run("work", "correct", str(review["entry"]), "7")
    for words, code in (
        (["work", "correct", str(review["entry"]), "soon"], "number-invalid"),
        (["work", "correct", str(review["entry"]), "nan"], "number-invalid"),
        (["work", "correct", str(review["entry"]), "20000"], "minutes-invalid"),
        (["work", "correct", "100000", "3"], "decision-unknown"),
        (["work", "--limit", "0"], "limit-invalid"),
        (["work", "--since", "soon"], "time-invalid"),
        (["work", "--model", "nobody"], "model-unknown"),
    ):
        refused = CliRunner().invoke(cli, words)
        assert isinstance(refused.exception, SteadError) and refused.exception.code == code, (words, refused)
    assert "nobody did anything" in run("work", "--since", "2999-01-01")


def test_who_may_not_write_looks_all_the_same(store: Store, waits: policies.Retraining) -> None:
    from stead.cli.common import looks_at

    class ReadsOnly(Embedded):
        def call(self, operation: str, /, **arguments: object) -> object:
            if operation == "maturity.begin_review":
                raise InvalidInput("role-too-low", "no")
            return super().call(operation, **arguments)

    looks_at(ReadsOnly(store, load_settings(environ={"STEAD_STORE": str(store.root)})), None)
    with store.db.read() as tx:
        assert tx.execute(sa.select(reviews)).first() is None
