"""Schedules of trainings and ingests on the model's clock: what fires, what is missed, kept back or told; on both databases."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from watched import DAY, HOUR, START

from stead import datasets, fleet, jobs, models, monitors, policies
from stead.config import PolicyConfig, RolloutConfig
from stead.errors import NotFound
from stead.jobs.operations import claim, finish, give_up
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent / "failpoints"))
from policies import SPEC, live  # type: ignore[import-not-found]


def at(store: Store, hour: float) -> None:
    """Set the model's clock and let the loop look."""
    jobs.hold_clock(store, "m", now=int(START + hour * HOUR), holder="replay-1")
    fleet.tick(store.acting("agent"))


def hourly(store: Store, **policy: object) -> None:
    live(store)
    given = {"ingest": "0 * * * *", "triggers": ("schedule",), **policy}
    policies.push(store, "m", spec=SPEC, policy=PolicyConfig(**given), rollout=RolloutConfig())  # type: ignore[arg-type]
    at(store, 0.5)


def ingests(store: Store) -> list[jobs.Job]:
    return list(reversed(jobs.list_jobs(store, kind="ingest")))


def done(store: Store, error: str = "") -> None:
    job = claim(store, "agent", ["ingest"])
    assert job is not None
    if error:
        give_up(store, job, {"message": error}, retry=False)
    else:
        finish(store, job, {"dataset": "m", "version": 2, "rows": 9})


def of(store: Store, kind: str) -> policies.Schedule:
    return next(each for each in policies.list_schedules(store, model="m") if each.kind == kind)


def test_an_ingest_at_each_fire_and_one_at_a_time(any_store: Store) -> None:
    store = any_store
    hourly(store)
    assert ingests(store) == [] and of(store, "ingest").next_fire == START + HOUR
    at(store, 1.0)
    at(store, 1.2)
    (first,) = ingests(store)
    assert (first.requested_by, first.event_time) == ("agent", START + HOUR)
    assert first.payload["until"] == START + HOUR and first.payload["since"] is None
    at(store, 2.1)
    assert len(ingests(store)) == 1 and of(store, "ingest").outcome == "an ingest was under way"
    done(store)
    at(store, 6.5)
    assert len(ingests(store)) == 2
    seen = of(store, "ingest")
    assert (seen.fired, seen.missed, seen.next_fire) == (START + 6 * HOUR, 3, START + 7 * HOUR)
    assert (seen.job, seen.state, seen.outcome) == (ingests(store)[1].id, "queued", "an ingest began")
    assert "3 before it were missed" in " ".join(policies.explain(store, "m").why)
    done(store, "m@1 to 2012-01-02T06:30 is in quarantine")
    explained = policies.explain(store, "m")
    assert "failed: m@1 to" in " ".join(explained.why)
    assert explained.next.startswith("ingests on 2012-01-02 07:00, then trains it on 2012-02-01 04:00")
    at(store, 7.0)
    assert len(ingests(store)) == 3, "the next one asks again from where the dataset ends"


def test_frozen_record_and_a_clock_that_jumps_fire_nothing(store: Store) -> None:
    hourly(store)
    policies.freeze(store, model="m", reason="holidays")
    at(store, 1.5)
    assert ingests(store) == [] and of(store, "ingest").off == "frozen: holidays"
    policies.thaw(store, model="m")
    at(store, 1.6)
    assert ingests(store) == [] and of(store, "ingest").outcome == "frozen: holidays"
    policies.set_level(store, "m", "record")
    at(store, 30)
    assert of(store, "ingest").off == "at level record people act" and of(store, "ingest").next_fire is None
    policies.set_level(store, "m", "train")
    at(store, 31.5)
    assert ingests(store) == [], "what nobody waited for is not made up for"
    jobs.release_clock(store, "m", holder="replay-1")
    fleet.tick(store.acting("agent"))
    at(store, 40.5)
    assert ingests(store) == []
    with pytest.raises(NotFound):
        policies.list_schedules(store, model="n")


def test_a_training_brings_the_rows_itself(store: Store) -> None:
    hourly(store)
    at(store, 31 * 24 + 4)
    (retraining,) = policies.list_retrainings(store)
    assert [job.kind for job in jobs.open_jobs(store)] == ["train"]
    seen = of(store, "ingest")
    assert seen.outcome == "a training was under way, which ingests itself" and seen.job == retraining.job
    trains = of(store, "train")
    assert (trains.outcome, trains.job, trains.missed) == ("retraining 1 began", retraining.job, 0)
    assert trains.fired == START + 30 * DAY + 4 * HOUR
    assert models.get_model(store, "m").level == "train"


def test_batches_that_break_the_contract_are_one_incident_until_a_good_one_comes(any_store: Store) -> None:
    store = any_store
    hourly(store)

    def bad(hour: int) -> list[tuple[str, str, str]]:
        said = "the column 'x' is text, not number (contract: [columns.\"x\"] type)"
        datasets.put_aside(
            store, "m", f"{hour:064}", rows=24, since=START, until=START + hour * HOUR, problems=[said], job=None
        )
        return seen(hour)

    def seen(hour: int) -> list[tuple[str, str, str]]:
        at(store, hour + 0.1)
        return [(each.cause, each.severity, each.state) for each in monitors.list_incidents(store)]

    assert seen(1) == [] and bad(2) == bad(3) == seen(4) == [("batch", "page", "open")]
    (incident,) = monitors.list_incidents(store)
    assert (incident.kind, incident.opened_by, incident.event_time) == ("data", "agent", START + 2.1 * HOUR)
    assert incident.summary.startswith("2 batches of m went into quarantine, 24 rows: the column 'x' is text")
    assert incident.evidence["since"] == START + 2 * HOUR and incident.evidence["until"] == START + 3 * HOUR
    assert len(monitors.list_deliveries(store, incident.id)) == 2 and policies.list_retrainings(store) == []
    datasets.add(store, "m", pa.table({"y": [1.0]}))
    assert seen(5) == [("batch", "page", "resolved")]
    assert monitors.get_incident(store, incident.id).reason == "rows of m came in that hold to the contract"
    assert bad(6)[0] == ("batch", "page", "open")
    monitors.resolve_incident(store, incident.id + 1)
    assert [state for _, _, state in bad(7)] == ["resolved"] * 2, "a person knows of it"


def test_a_batch_in_quarantine_is_told_at_record_too(store: Store) -> None:
    hourly(store)
    policies.set_level(store, "m", "record")
    with store.db.write("models.tag") as tx:
        models.set_settings_in(tx, "m", dataset="m")
    datasets.put_aside(store, "m", "0" * 64, rows=24, since=START, until=START + HOUR, problems=["x is text"], job=None)
    at(store, 1.1)
    at(store, 1.2)
    assert [(each.cause, each.state) for each in monitors.list_incidents(store)] == [("batch", "open")]
    datasets.add(store, "m", pa.table({"y": [1.0]}))
    at(store, 2.1)
    assert [(each.cause, each.state) for each in monitors.list_incidents(store)] == [("batch", "resolved")]
    assert policies.list_retrainings(store) == []


def test_data_that_grows_old_is_an_incident_until_rows_come(store: Store) -> None:
    hourly(store)

    def brought(hour: int) -> None:
        origin = {"kind": "ingest", "until": START + hour * HOUR}
        rows = pa.table({"at": pa.array([START + hour * HOUR - 60_000], pa.timestamp("ms")), "y": [float(hour)]})
        datasets.add(store, "m", rows, time_column="at", append=hour > 1, origin=origin)

    def ingested(hour: int) -> list[tuple[str, str]]:
        at(store, hour + 0.1)
        job = claim(store, "agent", ["ingest"])
        assert job is not None
        finish(store, job, {"dataset": "m", "version": 1, "rows": 1, "added": False})
        fleet.tick(store.acting("agent"))
        return [(each.cause, each.state) for each in monitors.list_incidents(store)]

    for hour in (1, 2, 3):
        brought(hour)
    assert [ingested(hour) for hour in (4, 5)] == [[], []], "twice is no wonder"
    assert ingested(6) == ingested(7) == [("stale", "open")]
    (incident,) = monitors.list_incidents(store)
    assert (incident.kind, incident.severity) == ("data", "page")
    assert incident.summary == "m has no rows after 2012-01-02T02:59: its last 3 ingests brought none"
    brought(8)
    assert ingested(8) == [("stale", "resolved")] and policies.list_retrainings(store) == []


def test_where_nothing_came_a_look_at_batches_asks_for_nothing(store: Store) -> None:
    hourly(store)
    news, model = monitors.batch_news(store), models.get_model(store, "m")
    asked: list[str] = []
    sa.event.listen(store.db.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert monitors.observe_batches(store, model, "m", news, scheduled=False) == 0 and asked == []
    assert monitors.observe_batches(store, model, "m", news, scheduled=True) == 0
    assert [each for each in asked if "SELECT" in each and "FROM jobs" not in each] == []
