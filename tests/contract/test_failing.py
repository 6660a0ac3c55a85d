"""Requests that got no answer: told as broken data, with the column where the version's own check names one, on both databases."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from watched import DAY, START, Row, Watched

from stead import monitors, predictions
from stead.cli.watching import _fact
from stead.predictions import Logged
from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.store import Store
from stead.web.incidents import DRAWN, day_chart, days_of, figures

COLUMNS = [{"name": "x", "type": "double"}, {"name": "kind", "type": "string"}]


def fail(watched: Watched, number: int, count: int, change: Callable[[Row], Any], status: int = 400) -> None:
    """Requests of a day that the gateway answered with an error."""
    sent = []
    for place in range(count):
        at, body = START + number * DAY + place * 60_000, json.dumps({"row": change(watched.row())}).encode()
        named: dict[str, Any] = {"event_time": at, "received_at": now_ms(), "latency_us": 900, "status": status}
        rest: dict[str, Any] = {"protocol": "stead", "key": None, "header_length": 0, "body": body, "outputs": b""}
        sent.append(Logged(id=new_id(), model="m", version=watched.version, **named, **rest))
    watched.log.append(sent)


def without(row: Row) -> Row:
    return row | {"x": None}


@pytest.mark.parametrize("stored", [False, True])
def test_a_null_that_is_refused_is_broken_data_and_names_its_column(any_store: Store, stored: bool) -> None:
    watched = Watched(any_store)
    watched.live(columns=COLUMNS)
    watched.days(0, 14)
    fail(watched, 14, 12, without)
    watched.serve(14, rows=36)
    watched.look(14)
    if stored:
        watched.log.close()
        predictions.compact(any_store)
    watched.look(15)
    (incident,) = monitors.list_incidents(any_store, model="m")
    assert (incident.cause, incident.kind, incident.severity) == ("refused", "data", "page")
    assert incident.summary == "12 of 48 requests were refused: 400 (schema-null: x), usually 0.0 %"
    assert incident.evidence["since"] == START + 14 * DAY and len(monitors.list_deliveries(any_store, incident.id)) == 2
    assert [name for name, _, _ in figures(any_store, incident)][-1] == "Rows since"
    assert "400 12" in str(_fact("statuses", incident.evidence["statuses"]))
    assert day_chart(incident, days_of(any_store, incident, "requests"), DRAWN["requests"][0]).startswith("<svg")
    (seen,) = [view for view in monitors.monitoring(any_store, "m").monitors if view.monitor == "requests"]
    assert (seen.outcome, seen.said) == ("alarm", "36 of 48 were answered, 12 were refused")
    for day in range(15, 18):
        watched.day(day)
    (incident,) = monitors.list_incidents(any_store, model="m")
    assert (incident.state, incident.reason) == ("resolved", "48 of 48 requests were answered")


def test_days_on_which_every_request_fails_count(store: Store) -> None:
    watched = Watched(store)
    watched.live()
    watched.days(0, 10)
    fail(watched, 10, 48, dict, 500)
    watched.look(11)
    (incident,) = [each for each in monitors.list_incidents(store, model="m") if each.cause == "failed"]
    assert incident.summary == "48 of 48 requests failed: 500, usually 0.0 %"
    fail(watched, 11, 48, dict, 504)
    watched.look(12)
    assert "failed: 504" in monitors.get_incident(store, incident.id).summary


def test_requests_that_fail_are_no_lack_of_rows(store: Store) -> None:
    """One cause, one incident: a day of which most requests failed paged for its few rows, too."""
    watched = Watched(store)
    watched.live()
    watched.days(0, 30)
    fail(watched, 30, 48, dict, 504)
    watched.look(31)
    watched.serve(31, rows=6)
    fail(watched, 31, 42, without)
    watched.look(32)
    assert sorted(watched.incidents("open")) == [("failed", "page", "open"), ("refused", "page", "open")]
    watched.serve(32, rows=6)
    watched.look(33)
    assert ("few-rows", "page", "open") in watched.incidents("open")


def test_a_version_that_fails_from_its_first_day_is_told(store: Store) -> None:
    watched = Watched(store)
    watched.live()
    fail(watched, 0, 36, without)
    watched.serve(0, rows=252)
    watched.look(1)
    (incident,) = monitors.list_incidents(store, model="m")
    assert incident.summary == "36 of 288 requests were refused: 400"


def test_what_callers_usually_get_wrong_goes_on_to_the_next_version(store: Store) -> None:
    watched = Watched(store)
    watched.live()
    for day in range(20):
        if day == 12:
            watched.live()
        fail(watched, day, 6, without)
        watched.serve(day, rows=144)
        watched.look(day + 1)
    assert watched.incidents() == []
