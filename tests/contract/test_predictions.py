"""The log of predictions, labels and realised loss, on every database."""

from __future__ import annotations

import dataclasses
import math
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from traffic import DAY, HOUR, START, hours, label, log, request
from watched import Watched

from stead import environments, models
from stead.errors import InvalidInput
from stead.predictions import (
    Counts,
    Label,
    PredictionLog,
    add_labels,
    compact,
    compaction,
    counts,
    list_predictions,
    performance,
    read,
    reading,
    refresh_performance,
    seal_labels,
)
from stead.predictions.tables import segments
from stead.runtime.ids import new_id
from stead.store import Store

STATES = ["raw", "stored", "mixed"]


def settle(store: Store, state: str) -> None:
    """Bring the log into a state: raw files only, Parquet only, or whatever comes later raw."""
    if state != "raw":
        compact(store)


@pytest.mark.parametrize("state", STATES)
def test_every_row_is_counted_listed_and_read(any_store: Store, state: str) -> None:
    ids = log(any_store, [*hours(24), request([1.0, 2.0, 3.0], at=START + DAY), request(None, at=START + DAY)])
    settle(any_store, state)
    if state == "mixed":
        ids += log(any_store, hours(1, first=48))
    else:
        ids += log(any_store, hours(1, first=48))
        settle(any_store, state)
    wanted = [*ids[:24], *(f"{ids[24]}.{row}" for row in range(3)), ids[25], ids[26]]
    assert label(any_store, [ids[0], f"{ids[24]}.2", f"{ids[1]}.0"], [7, 8.5, 9]) == 0
    settle(any_store, "raw" if state == "mixed" else state)

    assert counts(any_store, "bikes") == Counts(logged=27, rows=28, failed=1, labelled=3, unknown_labels=0)
    listed = list_predictions(any_store, "bikes", limit=100)
    assert {each.id for each in listed} == set(wanted)
    by_id = {each.id: each for each in listed}
    assert by_id[ids[3]].features == {"hour": 0, "place": "north"}
    assert by_id[ids[3]].output == 103.0
    assert (by_id[ids[0]].label, by_id[ids[1]].label, by_id[f"{ids[24]}.2"].label) == (7, 9, 8.5)
    assert by_id[ids[2]].label is None
    assert (by_id[ids[25]].status, by_id[ids[25]].features, by_id[ids[25]].output) == (400, None, None)

    table = read(any_store, "bikes")
    assert table["id"].to_pylist() == [one for one in wanted if one != ids[25]]
    assert table["output"].to_pylist()[:2] == [100.0, 101.0]
    assert table["label"].to_pylist()[:3] == [7.0, 9.0, None]
    assert table["features.place"].to_pylist() == ["north"] * 28
    since = read(any_store, "bikes", since=START + HOUR, until=START + 3 * HOUR)
    assert since["id"].to_pylist() == ids[1:3]


def test_pages_continue_without_gap_or_double(any_store: Store) -> None:
    expected = []
    for part in range(6):
        batch = [request([1.0, 2.0] if n % 2 else [3.0], version=1 + n % 3, at=START + n * HOUR) for n in range(7)]
        log(any_store, batch)
        expected += [f"{each.id}.{row}" for each in batch[1::2] for row in range(2)] + [each.id for each in batch[::2]]
        if part < 4:
            compact(any_store)
    seen: list[str] = []
    before = None
    while page := list_predictions(any_store, "bikes", limit=4, before=before):
        seen += [each.id for each in page]
        before = seen[-1]
    assert sorted(seen) == sorted(expected)
    assert [one[:32] for one in seen] == sorted((one[:32] for one in seen), reverse=True)
    assert {each.version for each in list_predictions(any_store, "bikes", version=2)} == {2}
    assert {each.event_time for each in list_predictions(any_store, "bikes", until=START + HOUR)} == {START}
    assert list_predictions(any_store, "other") == []


def test_nothing_at_all(any_store: Store) -> None:
    refresh_performance(any_store)
    assert compact(any_store) == 0
    assert counts(any_store, "bikes") == Counts(0, 0, 0, 0, 0)
    assert read(any_store, "bikes").num_rows == 0
    assert performance(any_store, "bikes") == []
    assert add_labels(any_store, []).accepted == 0


@pytest.mark.parametrize("state", STATES)
def test_late_corrected_and_unknown_labels(any_store: Store, state: str) -> None:
    later = hours(2, first=2)
    ids = log(any_store, hours(2))
    settle(any_store, state)
    assert label(any_store, [ids[0], later[0].id, f"{ids[1]}.7"], [1.0, 2.0, 3.0]) == 2
    if state == "stored":
        compact(any_store)
    assert counts(any_store, "bikes") == Counts(2, 2, 0, 1, 2)
    log(any_store, later)
    settle(any_store, state)
    assert label(any_store, [ids[0]], ["none"]) == 0
    assert label(any_store, [ids[0]], [5]) == 0
    settle(any_store, state)
    assert counts(any_store, "bikes") == Counts(4, 4, 0, 2, 1)
    assert read(any_store, "bikes")["label"].to_pylist() == [5.0, None, 2.0, None]
    assert label(any_store, [ids[0]], ["closed"]) == 0
    assert read(any_store, "bikes")["label_json"].to_pylist()[0] == '"closed"'
    assert read(any_store, "bikes")["label"].to_pylist()[0] is None


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (Label("7", 1.0), "label-id-invalid"),
        (Label("0" * 32 + ".x", 1.0), "label-id-invalid"),
        (Label("../" + "0" * 29, 1.0), "label-id-invalid"),
        (Label("0" * 32, float("nan")), "label-value-invalid"),
        (Label("0" * 32, float("inf")), "label-value-invalid"),
        (Label("0" * 32, None), "label-value-invalid"),  # type: ignore[arg-type]
        (Label("0" * 32, [1]), "label-value-invalid"),  # type: ignore[arg-type]
        (Label("0" * 32, 1 << 70), "label-value-invalid"),
        (Label("0" * 32, ""), "label-value-invalid"),
        (Label("0" * 32, "x" * 1001), "label-value-invalid"),
        (Label("0" * 32, 1, event_time="now"), "label-time-invalid"),  # type: ignore[arg-type]
        (Label("0" * 32, 1, event_time=True), "label-time-invalid"),
        (Label("0" * 32, 1, event_time=1 << 64), "label-time-invalid"),
        (Label("0" * 32, 1, event_time=-30_700_000_000_000), "label-time-invalid"),
        (Label("0" * 32, 1, source=3), "label-source-invalid"),  # type: ignore[arg-type]
        (Label("0" * 32, 1, source=""), "label-source-invalid"),
    ],
)
def test_of_a_batch_with_a_bad_label_nothing_is_kept(store: Store, bad: Label, code: str) -> None:
    ids = log(store, hours(1))
    with pytest.raises(InvalidInput) as raised:
        add_labels(store, [Label(ids[0], 1.0), bad])
    assert raised.value.code == code
    assert "label 2" in raised.value.message and raised.value.hint and len(raised.value.message) < 300
    assert counts(store, "bikes").labelled == 0


def test_a_text_for_a_loss_of_numbers_is_kept_and_told(store: Store) -> None:
    watched = Watched(store)
    watched.live()
    watched.serve(0)
    first, second, *_ = watched.ids[0]
    receipt = add_labels(store, [Label(first, "abc"), Label(second, 9.5), Label("0" * 32, "cat")])
    assert (receipt.accepted, receipt.unknown, receipt.unusable) == (3, 1, 1)


def test_values_come_back_as_they_were(any_store: Store) -> None:
    values: list[Any] = [1, 2.5, 'näïve "x"', True, False, -0.0, "x" * 1000, 1 << 62]
    outputs: list[Any] = [1, 2.5, "cat", True, None, [0.25, 0.75], "", 1 << 62]
    ids = log(any_store, [request([output]) for output in outputs])
    label(any_store, ids, values)
    for _ in range(2):
        by_id = {each.id: each for each in list_predictions(any_store, "bikes")}
        assert [by_id[one].label for one in ids] == values
        assert [type(by_id[one].label) for one in ids] == [type(value) for value in values]
        assert [by_id[one].output for one in ids] == outputs
        compact(any_store)


def test_columns_that_change_their_type_and_bodies_that_do_not_fit(any_store: Store) -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "b": "x"}, {"a": 2.5}, {"a": None, "c": [1, 2]}, {"a": "text", "b": 3}]
    ids = log(any_store, [request([1.0], rows=[row]) for row in rows[:3]])
    compact(any_store)
    ids += log(
        any_store, [request([1.0], rows=rows[3:]), request([1.0], body=b"{"), request([1.0], body=b'{"rows":[]}')]
    )
    for _ in range(2):
        by_id = {each.id: each for each in list_predictions(any_store, "bikes")}
        assert by_id[ids[1]].features is not None
        assert [by_id[one].features is None for one in ids] == [False] * 4 + [True] * 2
        assert by_id[ids[3]].features["a"] == "text"  # type: ignore[index]
        assert read(any_store, "bikes").num_rows == 6
        compact(any_store)


def test_the_live_tail_is_read_and_left_alone(any_store: Store) -> None:
    writer = PredictionLog(any_store, "gateway-1")
    writer.append(hours(2))
    assert compact(any_store) == 0
    assert counts(any_store, "bikes").rows == 2
    writer.append(hours(1, first=2))
    assert counts(any_store, "bikes").rows == 3
    writer.close()
    assert compact(any_store) == 1
    assert counts(any_store, "bikes").rows == 3
    writer.append(hours(1, first=3))
    assert counts(any_store, "bikes").rows == 4
    writer.close()


def test_many_small_segments_become_one(any_store: Store) -> None:
    ids: list[str] = []
    for n in range(20):
        ids += log(any_store, [*hours(2, first=2 * n), request([1.0], model="other")])
        label(any_store, ids[-3:-1], [2 * n, 2 * n + 1])
    compact(any_store)
    before = read(any_store, "bikes")
    refresh_performance(any_store)
    loss = performance(any_store, "bikes")
    compact(any_store)
    with any_store.db.read() as tx:
        left = tx.execute(
            sa.select(segments.c.kind, segments.c.model, sa.func.count())
            .where(segments.c.merged_into.is_(None))
            .group_by(segments.c.kind, segments.c.model)
        ).all()
    assert sorted(map(tuple, left)) == [("labels", "", 1), ("predictions", "bikes", 1), ("predictions", "other", 1)]
    assert read(any_store, "bikes").equals(before)
    assert counts(any_store, "bikes") == Counts(40, 40, 0, 40, 0)
    refresh_performance(any_store, model="bikes")
    assert [_numbers(day) for day in performance(any_store, "bikes")] == [_numbers(day) for day in loss]


def test_what_was_merged_goes_after_a_while(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20):
        log(any_store, hours(2, first=2 * n))
    compact(any_store)
    refresh_performance(any_store)
    compact(any_store)
    before = read(any_store, "bikes")
    query = sa.select(segments.c.digest).where(segments.c.merged_into.is_not(None))
    with any_store.db.read() as tx:
        merged = tx.execute(query).scalars().all()
    log(any_store, [request([1.0], model="other")])
    compact(any_store)
    assert len(merged) >= 16 and all(any_store.blobs.has(digest) for digest in merged), "a reader may be at it"
    monkeypatch.setattr(compaction, "KEPT_MS", -1)
    log(any_store, [request([1.0], model="other")])
    compact(any_store)
    assert not any(any_store.blobs.has(digest) for digest in merged)
    assert read(any_store, "bikes").equals(before)
    with any_store.db.read() as tx:
        assert set(tx.execute(query).scalars()) == {""}


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_are_raw_are_read_like_rows_that_are_stored(
    store: Store, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few that came just now are joined with their labels in another way."""
    rng = random.Random(seed)
    values = [1, 2.5, -1e300, 10**18, "high", True, 0]
    asked = [
        request(
            None if rng.random() < 0.1 else [rng.choice([*values, None, [1, 2]]) for _ in range(rng.choice([1, 1, 3]))],
            model=rng.choice(["bikes", "other"]), version=rng.choice([1, 2]), at=START + rng.randrange(-DAY, 3 * DAY),
        )
        for _ in range(300)
    ]  # fmt: skip
    ids = log(store, asked)
    refresh_performance(store)
    for _ in range(3):
        some = [f"{each}.{rng.randrange(3)}" if rng.random() < 0.3 else each for each in rng.sample(ids, 150)]
        label(store, some, [rng.choice(values) for _ in some])
    refresh_performance(store)
    raw = {model: [_numbers(day) for day in performance(store, model)] for model in ("bikes", "other")}
    rows = {model: read(store, model) for model in raw}
    monkeypatch.setattr(reading, "FEW", 0)
    assert all(read(store, model).equals(rows[model]) for model in raw)
    compact(store)
    assert all(read(store, model).to_pylist() == rows[model].to_pylist() for model in raw)
    for model, before in raw.items():
        refresh_performance(store, model=model)
        stored = [_numbers(day) for day in performance(store, model)]
        assert stored == before and sum(day.labelled for day in performance(store, model)) > 50


def test_realised_loss_by_day_and_version(any_store: Store) -> None:
    ids = log(any_store, [*hours(36), *hours(12, first=24, version=2), request(None, at=START)])
    label(any_store, ids[:24], [110.0 + n for n in range(24)])
    refresh_performance(any_store)
    first, second, third = performance(any_store, "bikes")
    assert (first.day, first.version, first.measure) == (START, 1, "mae")
    assert (first.predictions, first.labelled, first.failed, first.loss) == (24, 24, 1, 10.0)
    assert (first.prediction_sum, first.label_sum) == (24 * 100 + 276, 24 * 110 + 276)
    assert (second.day, second.version, second.predictions, second.loss) == (START + DAY, 1, 12, None)
    assert (third.day, third.version, third.predictions, third.loss) == (START + DAY, 2, 12, None)
    assert performance(any_store, "bikes", since=START + DAY) == [second, third]
    assert performance(any_store, "bikes", until=START + DAY) == [first]

    label(any_store, [ids[0], ids[36]], [200.0, 124.0])  # a correction of a past day, a first label of another
    refresh_performance(any_store)
    restated, unchanged, late = performance(any_store, "bikes")
    assert restated.loss == (23 * 10 + 100) / 24
    assert unchanged == second
    assert (late.labelled, late.loss) == (1, 0.0)


def test_the_loss_is_the_models_and_a_new_one_restates_every_day(any_store: Store, tmp_path: Path) -> None:
    register(any_store, tmp_path, loss="wape")
    ids = log(any_store, hours(48))
    label(any_store, ids, [50.0] * 48)
    refresh_performance(any_store)
    first, second = performance(any_store, "bikes")
    assert (first.measure, first.loss, second.measure) == ("wape", (24 * 50 + 276) / (24 * 50), "wape")
    register(any_store, tmp_path, loss="error")
    label(any_store, ids[30:31], [130.0])
    refresh_performance(any_store)
    assert [(day.measure, day.loss) for day in performance(any_store, "bikes")] == [("error", 1.0), ("error", 23 / 24)]


def test_the_loss_of_texts_and_of_class_probabilities(any_store: Store, tmp_path: Path) -> None:
    register(any_store, tmp_path, loss="error", model="pets")
    register(any_store, tmp_path, loss="log_loss", model="odds")
    ids = log(any_store, [request([["cat", "dog", "cat"][n]], model="pets") for n in range(3)])
    label(any_store, ids, ["cat", "cat", 7])
    ids = log(any_store, [request([[0.25, 0.75], [0.5, 0.5], 3.5], model="odds")])
    label(any_store, [f"{ids[0]}.{row}" for row in range(3)], [1, 0, 1])
    for _ in range(2):
        for model in ("pets", "odds"):
            refresh_performance(any_store, model=model)
        (day,) = performance(any_store, "pets")
        assert (day.labelled, day.loss, day.prediction_sum) == (3, 2 / 3, 0)
        (day,) = performance(any_store, "odds")
        assert (day.labelled, day.weight_sum) == (3, 2)  # a probability of 3.5 has no meaning
        assert day.loss == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)
        compact(any_store)


def register(store: Store, tmp_path: Path, *, loss: str, model: str = "bikes") -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    lock = store.blobs.put(f"x==1 --hash=sha256:{'0' * 64}\n".encode())
    environment = environments.add(store, lock=lock, python="3.11", platform="linux-x86_64").digest
    made = models.log_model(store, folder, name=model, environment=environment)
    models.register(store, model, made.id, loss=loss)


@pytest.mark.parametrize("seed", range(4))
def test_kept_day_by_day_it_is_what_it_would_be_from_nothing(any_store: Store, seed: int) -> None:
    """Whatever comes in whatever order, the table equals a rebuild, and a rebuild equals the rows."""
    chance = random.Random(seed)
    known: list[str] = []
    pending: list[Any] = []
    for _ in range(25):
        what = chance.random()
        if what < 0.35:
            batch = [
                request(
                    [chance.randrange(9) for _ in range(chance.choice([1, 1, 3]))] if chance.random() < 0.9 else None,
                    version=chance.choice([1, 2]),
                    at=START + chance.randrange(5) * DAY + chance.randrange(DAY),
                )
                for _ in range(chance.randrange(1, 5))
            ]
            pending += batch
            known += [each.id for each in batch]
            if chance.random() < 0.7:
                log(any_store, pending)
                pending = []
        elif what < 0.7 and known:
            some = chance.sample(known, min(len(known), 4))
            label(any_store, [one + chance.choice(["", ".1"]) for one in some], [chance.randrange(9) for _ in some])
        elif what < 0.85:
            compact(any_store)
        else:
            refresh_performance(any_store)
    log(any_store, pending)
    refresh_performance(any_store)
    kept = [_numbers(day) for day in performance(any_store, "bikes")]
    for _ in range(2):
        refresh_performance(any_store, model="bikes")
        assert [_numbers(day) for day in performance(any_store, "bikes")] == kept
        compact(any_store)
    rows = read(any_store, "bikes").to_pylist()
    total = sum(abs(row["output"] - row["label"]) for row in rows if row["label"] is not None)
    assert sum(day["loss_sum"] for day in kept) == total
    assert sum(day["predictions"] for day in kept) == len(rows)


def test_refreshing_without_news_writes_nothing(store: Store) -> None:
    log(store, hours(3))
    refresh_performance(store)
    (day,) = _rows(store)
    refresh_performance(store)
    compact(store)
    refresh_performance(store)
    assert _rows(store) == [day]


def test_labels_before_their_predictions_count_when_those_come(any_store: Store) -> None:
    requests = hours(2)
    label(any_store, [each.id for each in requests], [100.0, 100.0])
    refresh_performance(any_store)
    assert performance(any_store, "bikes") == []
    log(any_store, requests)
    refresh_performance(any_store)
    assert [day.loss for day in performance(any_store, "bikes")] == [0.5]


def test_rolled_by_size_and_by_age(store: Store) -> None:
    writer = PredictionLog(store, "gateway-1", roll_bytes=1000, seconds=0)
    for each in hours(20):
        writer.append([each])
    assert compact(store) == 0  # full files are held until they are on the disk
    writer.sync()
    assert compact(store) >= 3
    writer.append(hours(1, first=20))
    writer.sync()
    assert compact(store) == 1
    assert counts(store, "bikes").rows == 21


def test_a_writer_of_an_odd_name_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInput):
        PredictionLog(store, "../x").append(hours(1))
    assert not list(store.root.rglob("*.log"))


def test_what_a_power_cut_tore_is_kept_aside(store: Store) -> None:
    ids = log(store, hours(3))
    (raw,) = (store.root / "log" / "predictions").iterdir()
    with open(raw, "ab") as file:
        file.write(b"\x99" * 40)
    assert counts(store, "bikes").rows == 3
    compact(store)
    assert {each.id for each in list_predictions(store, "bikes")} == set(ids)
    assert [path.suffix for path in (store.root / "log" / "predictions").iterdir()] == [".torn"]
    assert compact(store) == 0


def test_ids_that_no_gateway_made(store: Store) -> None:
    assert label(store, [new_id()], [1]) == 1
    with pytest.raises(InvalidInput) as raised:
        list_predictions(store, "bikes", before="x' or 1=1")
    assert raised.value.code == "prediction-id-invalid"
    with pytest.raises(InvalidInput):
        list_predictions(store, "bikes", limit=0)


def test_bytes_on_s3(store: Store, s3: Any, tmp_path: Path) -> None:
    from stead.store import Blobs

    remote = dataclasses.replace(store, blobs=Blobs(**s3(), cache=tmp_path / "cache"))
    ids = log(remote, hours(5))
    label(remote, ids, [1.0] * 5)
    compact(remote)
    refresh_performance(remote)
    assert counts(remote, "bikes") == Counts(5, 5, 0, 5, 0)
    assert performance(remote, "bikes")[0].labelled == 5


def test_labels_of_two_stores_and_threads_do_not_mix(store: Store, tmp_path: Path) -> None:
    ids = log(store, hours(40))
    with ThreadPoolExecutor(4) as pool:
        receipts = list(pool.map(lambda one: add_labels(store, [Label(one, 1.0)]), ids))
    assert sum(receipt.accepted for receipt in receipts) == 40
    other = dataclasses.replace(store, root=tmp_path / "elsewhere")
    add_labels(other, [Label(ids[0], 2.0)])
    seal_labels(other)
    assert counts(store, "bikes").labelled == 40
    assert read(store, "bikes")["label"].to_pylist() == [1.0] * 40


def test_while_files_roll_and_are_compacted_every_row_is_read_once(any_store: Store) -> None:
    """A reader sees at least what was logged before it looked, and never more than was logged when it had looked."""
    done = threading.Event()
    logged: list[str] = []

    def write() -> None:
        writer = PredictionLog(any_store, "gateway-1", roll_bytes=3000)
        for each in hours(400):
            writer.append([each])
            logged.append(each.id)
            if len(logged) % 5 == 0:
                writer.sync()
        writer.close()
        done.set()

    def keep() -> None:
        while not done.is_set():
            compact(any_store)
            refresh_performance(any_store)

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(write), pool.submit(keep), pool.submit(keep)]
        while not done.is_set() and not any(each.done() and each.exception() for each in running):
            least = len(logged)
            seen = counts(any_store, "bikes").logged
            assert least <= seen <= len(logged) + 1
            done.wait(0.01)
        for each in running:
            each.result()
    compact(any_store)
    refresh_performance(any_store)
    assert sorted(read(any_store, "bikes")["id"].to_pylist()) == sorted(logged)
    assert sum(day.predictions for day in performance(any_store, "bikes")) == 400
    kept = performance(any_store, "bikes")
    refresh_performance(any_store, model="bikes")
    assert performance(any_store, "bikes") == kept


def _numbers(day: Any) -> dict[str, Any]:
    return dataclasses.asdict(day)


def _rows(store: Store) -> list[Any]:
    from stead.predictions.tables import performance as table

    with store.db.read() as tx:
        return [dict(row) for row in tx.execute(sa.select(table)).mappings()]
