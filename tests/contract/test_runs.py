"""Tracking over each database: what is delivered is there once, whole, and found again."""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from stead import runs
from stead.cli import cli
from stead.errors import Conflict, InvalidInput, NotFound
from stead.runs import RunPage
from stead.runtime import journal as j
from stead.runtime.ids import new_id
from stead.store import Store

AT = 1_700_000_000_000


def begin(store: Store, *more: j.Record, project: str = "bikes", name: str = "", at: int = AT, run_id: str = "") -> str:
    run_id = run_id or new_id()
    runs.deliver(store, run_id, writer="w", first=1, records=[j.Started(at, project, name), *more])
    return run_id


def packed(key: str, steps: list[int], values: list[float]) -> j.Points:
    n = len(steps)
    ints = struct.pack(f"<{n}q", *steps)
    return j.Points(AT, key, ints, struct.pack(f"<{n}q", *[AT + s for s in steps]), struct.pack(f"<{n}d", *values))


def test_a_delivery_brings_everything(any_store: Store) -> None:
    digest = any_store.blobs.put(b"plot")
    run_id = begin(
        any_store,
        j.Params(AT, {"lr": "0.1", "kind": "gbm"}),
        j.Metrics(AT, 0, {"loss": 2.0, "acc": 0.5}),
        j.Metrics(AT + 1, 1, {"loss": 1.0}),
        j.Tags(AT, {"team": "a"}),
        j.File(AT, "plots/loss.png", "x", 4, digest),
        j.Text(AT, "hello\n"),
        j.Input(AT, "trips", 3),
        j.Facts(AT, {"git": {"commit": "abc"}}),
        j.Ended(AT + 9, "finished"),
    )
    run = runs.get_run(any_store, run_id)
    assert (run.experiment, run.status, run.started_at, run.ended_at) == ("bikes", "finished", AT, AT + 9)
    assert run.params == {"kind": "gbm", "lr": "0.1"}
    assert run.tags == {"team": "a"}
    assert run.inputs == ["trips@3"]
    assert run.source == {"git": {"commit": "abc"}}
    loss = run.metrics["loss"]
    assert (loss.n, loss.last, loss.min, loss.max, loss.max_step) == (2, 1.0, 1.0, 2.0, 0)
    assert runs.read_artifact(any_store, run_id, "plots/loss.png") == b"plot"
    assert runs.console(any_store, run_id).text == "hello\n"
    assert runs.get_run(any_store, run_id[-10:]).id == run_id


def test_delivering_again_changes_nothing_and_a_gap_is_refused(any_store: Store) -> None:
    run_id = begin(any_store)
    for _ in range(3):
        receipt = runs.deliver(any_store, run_id, writer="w", first=2, records=[j.Metrics(AT, 0, {"loss": 1.0})])
        assert receipt.seq == 2
    overlapping = [j.Metrics(AT, 0, {"loss": 1.0}), j.Metrics(AT, 1, {"loss": 3.0})]
    assert runs.deliver(any_store, run_id, writer="w", first=2, records=overlapping).seq == 3
    assert runs.get_run(any_store, run_id).metrics["loss"].n == 2
    with pytest.raises(Conflict) as caught:
        runs.deliver(any_store, run_id, writer="w", first=5, records=[j.Beat(AT)])
    assert caught.value.code == "journal-gap"
    assert caught.value.details["stored"] == 3
    assert runs.deliver(any_store, run_id, writer="w", first=1, records=[]).seq == 3
    assert runs.deliver(any_store, new_id(), writer="w", first=1, records=[]).seq == 0


def test_one_wrong_record_and_nothing_of_the_batch_is_stored(any_store: Store) -> None:
    run_id = begin(any_store)
    good = j.Metrics(AT, 0, {"loss": 1.0})
    for bad in (
        j.Ended(AT, "happy"),
        j.File(AT, "../escape", "x", 1, any_store.blobs.put(b"x")),
        j.File(AT, "unknown", "x", 1, "0" * 64),
        j.File(AT, "never-stored", "x", 1),
        j.Params(AT, {"": "x"}),
        j.Params(AT, {"long": "x" * (2 << 20)}),
        j.Points(AT, "loss", b"12345678", b"12345678", b""),
        j.Metrics(AT, 0, {"": 1.0}),
        ["m", AT, 2**63, {"a": 1.0}],
        ["nonsense", 1],
    ):
        with pytest.raises(InvalidInput):
            runs.deliver(any_store, run_id, writer="w", first=2, records=[good, bad])
    assert runs.get_run(any_store, run_id).metrics == {}
    with pytest.raises(NotFound, match="no run"):
        runs.deliver(any_store, new_id(), writer="w", first=1, records=[good])


def test_odd_texts_are_taken(any_store: Store) -> None:
    odd = "caf\0é"
    records = [j.Params(AT, {"a": odd}), j.Tags(AT, {"a": odd}), j.Text(AT, odd), j.Ended(AT, "failed", odd)]
    run_id = begin(any_store, *records, name=odd)
    run = runs.get_run(any_store, run_id)
    assert {run.name, run.params["a"], run.tags["a"], run.error} == {"caf\ufffdé"}


def test_a_changed_parameter_keeps_its_first_value_and_says_so(any_store: Store) -> None:
    run_id = begin(any_store, j.Params(AT, {"lr": "0.1"}))
    receipt = runs.deliver(any_store, run_id, writer="w", first=3, records=[j.Params(AT, {"lr": "0.2", "n": "1"})])
    assert "'lr'" in receipt.told[0]
    run = runs.get_run(any_store, run_id)
    assert run.params == {"lr": "0.1", "n": "1"}
    assert run.tags == {"stead.changed.lr": "0.2"}
    with pytest.raises(Conflict) as caught:
        runs.log(any_store, run_id, params={"lr": "0.3"}, metrics={"loss": 1.0})
    assert caught.value.code == "param-changed"
    assert runs.get_run(any_store, run_id).metrics == {}
    long = "x" * 100_000
    runs.log(any_store, run_id, params={"prompt": long})
    assert runs.get_run(any_store, run_id).params["prompt"] == long


def test_nan_and_infinity_are_kept_as_they_are(any_store: Store) -> None:
    values = [1.0, math.nan, math.inf, -math.inf, 2.0, math.nan]
    run_id = begin(any_store, *[j.Metrics(AT + n, n, {"loss": value}) for n, value in enumerate(values)])
    summary = runs.get_run(any_store, run_id).metrics["loss"]
    assert (summary.n, summary.last, summary.min, summary.max) == (6, None, -math.inf, math.inf)
    (series,) = runs.series(any_store, [run_id], "loss")
    assert series.values == [1.0, None, math.inf, -math.inf, 2.0, None]
    only = begin(any_store, j.Metrics(AT, 0, {"loss": math.nan}))
    assert runs.get_run(any_store, only).metrics["loss"].min is None
    by_loss = [run.id for run in runs.list_runs(any_store, order="min(metrics.loss)").runs]
    assert by_loss == [run_id, only]


def test_blocks_are_joined_and_no_point_is_lost(any_store: Store) -> None:
    run_id = begin(any_store)
    seq = 2
    for n in range(300):  # a slow run: one point a delivery
        runs.deliver(any_store, run_id, writer="w", first=seq, records=[j.Metrics(AT + n, n, {"a": n / 2})])
        seq += 1
    for n in range(130):  # a fast one: a block a delivery
        steps = list(range(n * 200, n * 200 + 200))
        runs.deliver(any_store, run_id, writer="w", first=seq, records=[packed("b", steps, [float(s) for s in steps])])
        seq += 1
    runs.deliver(any_store, run_id, writer="w", first=seq, records=[j.Ended(AT, "finished")])
    a, b = (runs.series(any_store, [run_id], key, points=0)[0] for key in "ab")
    assert a.values == [n / 2 for n in range(300)]
    assert b.steps == list(range(26_000))
    metrics = runs.get_run(any_store, run_id).metrics
    assert (metrics["a"].n, metrics["a"].last, metrics["b"].n, metrics["b"].max) == (300, 149.5, 26_000, 25_999.0)
    from stead.runs.tables import metric_blocks

    with any_store.db.read() as tx:
        assert len(tx.execute(metric_blocks.select()).all()) == 2


def test_two_writers_and_one_key(any_store: Store) -> None:
    run_id = begin(any_store)

    def write(writer: str, offset: int) -> None:
        for n in range(20):
            records = [j.Metrics(AT, 2 * n + offset, {"loss": float(2 * n + offset)})]
            runs.deliver(any_store, run_id, writer=writer, first=n + 1, records=records)

    threads = [threading.Thread(target=write, args=(f"t{n}", n)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (series,) = runs.series(any_store, [run_id], "loss")
    assert series.steps == list(range(40))
    assert runs.get_run(any_store, run_id).metrics["loss"].last == 39.0


def test_the_same_delivery_twice_at_the_same_moment(any_store: Store) -> None:
    run_id = begin(any_store)
    barrier = threading.Barrier(4)
    answers: list[object] = []

    def send() -> None:
        barrier.wait()
        try:
            answers.append(
                runs.deliver(any_store, run_id, writer="x", first=1, records=[j.Metrics(AT, 0, {"loss": 1.0})]).seq
            )
        except Conflict as error:
            answers.append(error.code)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 in answers
    assert set(answers) <= {1, "conflict"}
    assert runs.get_run(any_store, run_id).metrics["loss"].n == 1


@pytest.fixture
def some(any_store: Store) -> Store:
    for n, (kind, loss, team) in enumerate(
        [("gbm", 0.3, "a"), ("gbm", 0.1, None), ("tree", 0.2, "b"), ("tree", math.nan, "a"), ("ridge", None, None)]
    ):
        records: list[j.Record] = [j.Params(AT, {"kind": kind, "depth": str(n + 1), "note": "it's" if n == 0 else "x"})]
        if loss is not None:
            records.append(j.Metrics(AT, 0, {"val loss": loss}))
        if team is not None:
            records.append(j.Tags(AT, {"team": team}))
        begin(any_store, *records, name=f"r{n}", at=AT + n)
    return any_store


def names(page: RunPage) -> str:
    return "".join(run.name[1:] for run in page.runs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "01234"),
        ("params.kind = 'gbm'", "01"),
        ("metrics.`val loss` < 0.25", "12"),
        ('metric."val loss" <= 0.3 and params.kind != "gbm"', "2"),
        ("min(metrics.`val loss`) >= 0.2 or tags.team = 'a'", "023"),
        ("tags.team is null", "14"),
        ("tags.team is not null and not tags.team = 'a'", "2"),
        ("metrics.`val loss` is null", "4"),
        ("params.depth > 3", "34"),
        ("params.depth in (1, 3)", "02"),
        ("params.kind in ('tree', 'ridge') and (params.depth = 5 or tags.team like 'b%')", "24"),
        ("params.kind not in ('tree', 'ridge')", "01"),
        ("params.note = 'it''s'", "0"),
        ("name ilike 'R_' and status = 'running' and started >= '2023-11-14T22:13:20.003'", "34"),
        ("attributes.run_name = 'r1' OR project = 'other'", "1"),
        ("params.kind LIKE 'G%'", ""),
    ],
)
def test_filters(some: Store, text: str, expected: str) -> None:
    assert names(runs.list_runs(some, filter=text, order="started asc")) == expected


def test_order_puts_nan_then_absent_last(some: Store) -> None:
    assert names(runs.list_runs(some, order="metrics.`val loss`")) == "12034"
    assert names(runs.list_runs(some, order="max(metrics.`val loss`) desc")) == "02134"
    assert names(runs.list_runs(some, order="params.depth desc")) == "43210"
    assert names(runs.list_runs(some, order="params.kind")) == "10432"
    assert names(runs.list_runs(some, order="tags.team")) == "30241"


@pytest.mark.parametrize("order", ["started desc", "metrics.`val loss`", "params.depth desc", "name", "tags.team desc"])
def test_pages_never_skip_nor_repeat(some: Store, order: str) -> None:
    whole = names(runs.list_runs(some, order=order))
    seen, after = "", None
    while True:
        page = runs.list_runs(some, order=order, limit=2, after=after)
        assert page.total == len(whole) + len(seen) // 2  # one was added behind each page
        seen += names(page)
        begin(some, name="-z", at=AT + 100)  # what is added meanwhile may show, but shifts nothing
        after = page.next
        if after is None or len(seen) > 50:
            break
    assert [c for c in seen if c in "01234"][: len(whole)] == list(whole)


def test_compare_shows_what_differs(some: Store) -> None:
    ids = [run.id for run in runs.list_runs(some, project="bikes", order="started asc").runs]
    made = runs.compare(some, ids[:2])
    assert made.params == {"depth": ["1", "2"], "note": ["it's", "x"]}
    assert made.same == {"kind": "gbm"}
    assert made.tags == {"team": ["a", None]} and made.facts == {}
    assert [summary and summary.last for summary in made.metrics["val loss"]] == [0.3, 0.1]
    with pytest.raises(NotFound):
        runs.compare(some, [ids[0], new_id()])


def test_runs_of_other_data_and_code_are_told_apart(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    ids = [
        begin(store, j.Input(AT, "trips", n), j.Facts(AT, {"git": {"commit": "abc", "dirty": n == 2}})) for n in (1, 2)
    ]
    assert runs.compare(store, ids).facts == {"data": ["trips@1", "trips@2"], "commit": ["abc", "abc changed"]}
    shown = CliRunner().invoke(cli, ["runs", "compare", *ids], catch_exceptions=False).output
    told = [line.split() for line in shown.splitlines()]
    assert ["data", "trips@1", "trips@2"] in told and ["commit", "abc", "abc", "changed"] in told, shown
    same = CliRunner().invoke(cli, ["runs", "compare", ids[0], ids[0]], catch_exceptions=False).output
    assert "parameters, tags, data, commit and environment are the same" in same


def test_delete_and_restore(some: Store) -> None:
    picked = runs.list_runs(some, filter="name = 'r2'")
    assert picked.total == 1 and runs.list_runs(some, filter="name = 'nobody'").total == 0
    run = picked.runs[0]
    runs.delete_run(some, run.id)
    assert names(runs.list_runs(some, order="name")) == "0134"
    assert names(runs.list_runs(some, deleted=True)) == "2"
    runs.restore_run(some, run.id)
    runs.rename_run(some, run.id, "r9")
    runs.set_tag(some, run.id, "team", None)
    assert runs.get_run(some, run.id).name == "r9"
    assert runs.get_run(some, run.id).tags == {}


def test_experiments(any_store: Store) -> None:
    begin(any_store, project="")
    assert runs.get_experiment(any_store, "Default").id == 0
    made = runs.create_experiment(any_store, "trial", tags={"a": "1"})
    with pytest.raises(Conflict):
        runs.create_experiment(any_store, "trial")
    assert runs.set_experiment_tag(any_store, "trial", "b", "2").tags == {"a": "1", "b": "2"}
    begin(any_store, project="trial")
    runs.delete_experiment(any_store, "trial")
    assert [e.name for e in runs.list_experiments(any_store)] == ["Default"]
    assert [run.experiment for run in runs.list_runs(any_store).runs] == ["Default"]
    again = runs.create_experiment(any_store, "trial")  # a deleted one gives its name away
    assert again.id != made.id
    assert runs.restore_experiment(any_store, made.id).name == f"trial (deleted {made.id})"
    with pytest.raises(Conflict):
        runs.rename_experiment(any_store, made.id, "trial")
    assert runs.rename_experiment(any_store, made.id, "trial 1").name == "trial 1"
    with pytest.raises(NotFound, match="no experiment"):
        runs.get_experiment(any_store, "trail 1")


def test_start_log_end_and_silence(any_store: Store) -> None:
    run = runs.start(any_store, project="bikes", config={"a": "1"}, tags={"t": "x"}, job="j1")
    assert (run.user, run.job_id, run.params, run.tags, run.status) == ("ada", "j1", {"a": "1"}, {"t": "x"}, "running")
    assert runs.start(any_store, project="other", run_id=run.id).experiment == "bikes"
    assert runs.end_silent(any_store) == []
    assert runs.end_silent(any_store, after_ms=-10_000) == [run.id]
    assert runs.get_run(any_store, run.id).status == "killed"
    runs.log(any_store, run.id, metrics={"loss": 1.0}, step=1)  # it lives after all
    assert runs.get_run(any_store, run.id).status == "running"
    assert runs.end(any_store, run.id, status="failed", error="no data").error == "no data"
    assert runs.end(any_store, run.id).status == "failed"


def carry(store: Store, folder: Path) -> None:
    """What an executor does with the journal of a step."""

    def deliver(writer: str, first: int, records: Sequence[j.Record]) -> int:
        return runs.deliver(store, folder.name, writer=writer, first=first, records=records).seq

    j.Courier(folder, deliver, store.blobs.put).carry()


def test_a_journal_reaches_nothing_outside_its_folder(any_store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for number, name in enumerate(["../../secret", "/etc/passwd", "f" * 64]):
        journal = j.Journal(tmp_path / "journals" / new_id())
        journal.append(j.Started(AT, "p", "n"), j.File(AT, "a", name, 1, any_store.blobs.put(b"x") if number else ""))
        (journal.folder / "files").mkdir()
        (journal.folder / "files" / ("f" * 64)).symlink_to(tmp_path / "secret")
        with pytest.raises(InvalidInput, match="outside of it"):
            carry(any_store, journal.folder)
        journal.close()


def test_a_journal_folder_is_carried_whole(any_store: Store, tmp_path: Path) -> None:
    run_id = new_id()
    journal = j.Journal(tmp_path / run_id)
    journal.append(j.Started(AT, "bikes", "x"), j.Metrics(AT, 0, {"loss": 1.0}))
    (tmp_path / "plot.png").write_bytes(b"picture")
    journal.add_file(tmp_path / "plot.png", "plots/a.png", AT)
    carry(any_store, journal.folder)
    (tmp_path / "plot.png").write_bytes(b"another")
    journal.add_file(tmp_path / "plot.png", "plots/b.png", AT)
    journal.close()
    carry(any_store, journal.folder)
    runs.end(any_store, run_id, status="killed", error="out of time")
    run = runs.get_run(any_store, run_id)
    assert (run.status, run.error) == ("killed", "out of time")
    assert [a.path for a in runs.list_artifacts(any_store, run_id, path="plots")] == ["plots/a.png", "plots/b.png"]
    assert runs.read_artifact(any_store, run_id, "plots/a.png") == b"picture"
    assert runs.list_artifacts(any_store, run_id, path="plot") == []
    for bad in ("../x", "/etc/passwd", "a/../../b", "a\\b", "a\0b", ""):
        with pytest.raises(InvalidInput):
            runs.get_artifact(any_store, run_id, bad)
    with pytest.raises(NotFound, match="no artifact"):
        runs.get_artifact(any_store, run_id, "plots/c.png")
