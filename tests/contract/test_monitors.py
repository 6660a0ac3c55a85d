"""Monitors over served days: what a healthy model does not open, and what a broken one does, on both databases."""

from __future__ import annotations

import pytest
from watched import DAY, START, Watched

from stead import jobs, ledger, models, monitors, predictions
from stead.api.undoing import undo
from stead.errors import Conflict, InvalidInput, NotFound
from stead.runtime.clock import now_ms
from stead.store import Store
from stead.web.drift import estimate_of, sentence
from stead.web.frame import day as shown_day


def actions(store: Store) -> list[str]:
    found = [entry.action for entry in ledger.list_entries(store, model="m", limit=1000)]
    return [action for action in reversed(found) if action.startswith("incident.")]


def test_a_healthy_model_opens_nothing(any_store: Store) -> None:
    watched = Watched(any_store)
    watched.live()
    watched.days(0, 60)
    assert watched.incidents() == [] and actions(any_store) == []
    days = monitors.monitor_days(any_store, "m", monitor="loss")
    assert len(days) == 60 - 28 and {day.outcome for day in days} == {"ok"}
    known = models.list_models(any_store)
    assert monitors.due(any_store, known) == []
    watched.hold(61)
    assert monitors.due(any_store, known) == ["m"]
    seen = {view.monitor: view for view in monitors.monitoring(any_store, "m").monitors}
    assert "no time-ordered hold-out" in seen.pop("estimate").said
    assert {view.outcome for view in seen.values()} == {"ok"}


def test_a_healthy_year_opens_nothing(store: Store) -> None:
    watched = Watched(store, rows_a_day=24, delay="24h")
    watched.live()
    for week in range(52):
        watched.days(7 * week, 7 * week + 7)
    assert watched.incidents() == []
    last = {each.monitor: each.day for each in monitors.monitor_days(store, "m")}
    assert last["data"] == last["volume"] == START + 363 * DAY and last["loss"] == START + 362 * DAY


def test_a_person_opens_and_resolves(any_store: Store) -> None:
    Watched(any_store).live()
    opened = monitors.open_incident(any_store, "m", "customers  complain")
    assert (opened.kind, opened.severity, opened.opened_by) == ("performance", "page", "person:ada")
    assert opened.summary == "customers complain"
    with pytest.raises(Conflict, match="says so already"):
        monitors.open_incident(any_store, "m", "customers complain")
    other = monitors.open_incident(any_store, "m", "the labels are late", kind="other")
    with pytest.raises(InvalidInput, match="no kind"):
        monitors.open_incident(any_store, "m", "x", kind="drift")
    with pytest.raises(InvalidInput, match="sentence"):
        monitors.open_incident(any_store, "m", "  ")
    with pytest.raises(NotFound, match="no model"):
        monitors.open_incident(any_store, "n", "x")
    assert [each.id for each in monitors.list_incidents(any_store, state="open")] == [other.id, opened.id]
    undo(any_store, ledger.list_entries(any_store, limit=1)[0].id)
    resolved = monitors.resolve_incident(any_store, opened.id, reason="they were wrong")
    assert (resolved.state, resolved.resolved_by, resolved.reason) == ("resolved", "person:ada", "they were wrong")
    with pytest.raises(Conflict, match="was resolved"):
        monitors.resolve_incident(any_store, opened.id)
    with pytest.raises(NotFound):
        monitors.get_incident(any_store, 99)
    monitors.open_incident(any_store, "m", "customers complain")
    assert len(monitors.list_deliveries(any_store, opened.id)) == 4


def test_what_a_person_resolved_stays_so_while_the_trouble_lasts(store: Store) -> None:
    watched = Watched(store)
    watched.live()
    watched.days(0, 28)
    watched.days(28, 44, loss=2.0)
    (incident,) = monitors.list_incidents(store)
    monitors.resolve_incident(store, incident.id, reason="a holiday")
    watched.days(44, 50, loss=2.0)
    assert watched.incidents("open") == []
    watched.days(50, 75)
    watched.days(75, 90, loss=2.0)
    assert watched.incidents() == [("loss", "page", "open"), ("loss", "page", "resolved")]


def test_a_loss_that_rises_opens_one_incident_which_a_late_label_restates(any_store: Store) -> None:
    watched = Watched(any_store)
    watched.live()
    watched.days(0, 42)
    day = 42
    while not watched.incidents():
        assert day < 60, "a third more is found in 18 days"
        watched.day(day, loss=1.3)
        day += 1
    watched.days(day, day + 8, loss=1.3)
    (incident,) = monitors.list_incidents(any_store, model="m")
    assert (incident.cause, incident.kind, incident.severity, incident.state) == ("loss", "performance", "page", "open")
    assert incident.event_time == START + day * DAY and incident.opened_by == "agent" and "1.3" in incident.summary
    assert len(monitors.list_deliveries(any_store, incident.id)) == 2
    # the truth was told wrongly: each label of those days is corrected, long after the day
    for corrected in range(42, day + 8):
        watched.label(corrected, loss=1.0)
    watched.look(day + 8)
    (incident,) = monitors.list_incidents(any_store, model="m")
    assert incident.state == "resolved" and incident.reason == "what came late takes it back"
    assert actions(any_store) == ["incident.opened", "incident.resolved"]
    assert {each.outcome for each in monitors.monitor_days(any_store, "m", monitor="loss")} == {"ok"}


def test_an_incident_tells_the_loss_that_the_labels_tell(any_store: Store) -> None:
    watched = Watched(any_store)
    watched.live()
    watched.days(0, 35)
    watched.day(35, loss=9.0)
    (view, *_) = monitors.monitoring(any_store, "m").monitors
    assert view.outcome == "watching" and view.said.endswith("more, but not beyond doubt yet")
    for day in range(36, 50):
        watched.day(day, loss=9.0)
    (incident,) = monitors.list_incidents(any_store, model="m")
    last = predictions.performance(any_store, "m")[-7:]
    loss = sum(day.loss_sum for day in last) / sum(day.weight_sum for day in last)
    assert loss > 8 and incident.evidence["loss"] == pytest.approx(loss) and incident.evidence["statistic"] < 5
    assert incident.summary.startswith(f"the labelled loss of 7 days is {loss:.4g}, usually ")
    (opened,) = [e for e in ledger.list_entries(any_store, model="m") if e.action == "incident.opened"]
    assert opened.summary.startswith("m: the labelled loss of 7 days is ")


def bounds(store: Store) -> list[dict[str, float]]:
    return [day.evidence["bounds"] for day in monitors.monitor_days(store, "m", monitor="loss")]


def test_a_loss_within_its_hold_out_is_held_against_the_first_days_served_too(any_store: Store) -> None:
    watched = Watched(any_store)
    watched.live(holdout=[1.0] * 21 + [4.0] * 7)  # a holiday week, which makes much usual
    watched.days(0, 27)
    watched.serve(27)
    watched.look(28)
    assert {*map(len, bounds(any_store))} == {1} and len(bounds(any_store)) == 27, "a day's labels are waited for"
    watched.label(27)
    watched.days(28, 42)
    first = bounds(any_store)[-1]
    assert list(bounds(any_store)[27]) == ["hold-out"] and list(first) == ["hold-out", "served"]
    assert 1.05 < first["served"] < 1.4 and first["hold-out"] > 2
    watched.days(42, 56, loss=1.8)
    (incident,) = monitors.list_incidents(any_store)
    proof = incident.evidence
    assert proof["against"] == "served" and proof["bounds"] == first and proof["bound"] == first["served"]
    assert proof["since"] > START + 42 * DAY and abs(proof["reference"] - 1) < 0.1
    assert (
        "by its first 28 labelled days, not surely over" in incident.summary and "by its hold-out" in incident.summary
    )
    (said,) = [view.said for view in monitors.monitoring(any_store, "m").monitors if view.monitor == "loss"]
    assert "by its hold-out and " in said and said.endswith("by its first 28 labelled days")
    for corrected in (3, 9, *range(42, 56)):  # labels of its first days, too, which stay what it is held against
        watched.label(corrected, loss=1.0 if corrected > 9 else 3.0)
    watched.look(56)
    assert watched.incidents() == [("loss", "page", "resolved")] and bounds(any_store)[-1] == first


def test_a_version_that_is_bad_from_its_first_day_stays_so_by_its_hold_out(store: Store) -> None:
    watched = Watched(store)
    watched.live(holdout=[1.0] * 28)
    watched.days(0, 20, loss=2.0)
    assert watched.incidents() == [("loss", "page", "open")]
    watched.days(20, 60, loss=2.0)
    (incident,) = monitors.list_incidents(store)
    assert incident.evidence["against"] == "hold-out" and incident.evidence["bounds"]["served"] > 1.9
    assert incident.state == "open" and "not surely over 2" in incident.summary
    watched.days(60, 75)
    assert watched.incidents() == [("loss", "page", "resolved")]


def test_the_loss_to_expect_is_told_before_any_label(any_store: Store) -> None:
    watched = Watched(any_store)
    watched.live(holdout=[1.0] * 42, answers=(10.0, 20.0))
    watched.days(0, 28, label=False, answers=(10.0, 20.0))
    (said,) = [view for view in monitors.monitoring(any_store, "m").monitors if view.monitor == "estimate"]
    assert said.outcome == "ok" and "without labels, usual is at most 1." in said.said
    watched.days(28, 42, label=False, answers=(20.0,))  # as if only hard rows came
    (incident,) = [each for each in monitors.list_incidents(any_store) if each.cause == "estimate"]
    assert (incident.kind, incident.severity, incident.version) == ("estimate", "page", 1)
    assert (
        "without labels the loss is estimated at 2" in incident.summary
        and len(monitors.list_deliveries(any_store, incident.id)) == 2
    )
    watched.days(
        42, 56, label=False, answers=(10.0,), change=lambda row: {"x": row["x"] + 100, "kind": "d", "t": "now"}
    )
    found = monitors.drift_by_week(any_store, "m", weeks=8)
    assert [each.outcome for each in found.estimates[-2:]] == ["unknown"] * 2 and found.estimates[-1].value is None
    assert ("estimate", "page", "open") in watched.incidents(), "nothing is known of rows that are unlike"
    assert "<svg" in estimate_of(found) and found.estimates[0].bound is not None
    watched.days(56, 63, label=False, answers=(10.0, 20.0))
    assert ("estimate", "page", "resolved") in watched.incidents()


def test_a_new_version_ends_the_incident_of_the_old_one_when_its_own_loss_is_fine(store: Store) -> None:
    watched = Watched(store)
    watched.live()
    watched.days(0, 28)
    watched.days(28, 48, loss=2.0)
    assert watched.incidents() == [("loss", "page", "open")]
    watched.live()
    watched.days(48, 76)
    assert watched.incidents() == [("loss", "page", "open")], "nothing is known of the new one yet"
    watched.days(76, 83)
    (incident,) = monitors.list_incidents(store)
    assert incident.state == "resolved" and incident.reason is not None
    assert incident.reason.startswith("version 2 took over, and the labelled loss of 7 days is ")
    models.delete_alias(store, "m", "champion")
    assert watched.look(90) == 0 and monitors.monitoring(store, "m").version is None


def test_drift_alone_is_a_note(any_store: Store) -> None:
    watched = Watched(any_store)
    watched.live()
    watched.days(0, 28)
    watched.days(28, 56, change=lambda row: {**row, "x": row["x"] + 4.0})
    assert watched.incidents() == [("drift", "note", "open")]
    (incident,) = monitors.list_incidents(any_store)
    assert "x 0." in incident.summary and monitors.list_deliveries(any_store, incident.id) == []
    shown = monitors.drift_by_week(any_store, "m").columns
    dark = {each.column for each in shown if any((week.p_value or 0.0) <= 0.01 for week in each.weeks)}
    assert dark == {"x"} and "kind" not in incident.summary
    first_dark = min(week.since for week in shown[0].weeks if (week.p_value or 1.0) <= 0.01)
    assert incident.evidence["since"] == START + 28 * DAY >= first_dark - 7 * DAY
    told, _ = sentence(any_store, monitors.monitoring(any_store, "m"))
    assert told == f"Since 30 Jan 2012 (incident 1, opened {shown_day(incident.event_time)}): {incident.summary}."
    profile = monitors.column_profile(any_store, "m", "x")
    (expected,) = profile.references
    assert profile.kind == "number" and expected.rows == profile_rows(watched) and expected.source == "served"
    assert (
        sum(rows for _, rows in expected.parts) == expected.rows and [week.version for week in profile.weeks] == [1] * 7
    )
    assert [sum(rows for _, rows in week.parts) // watched.rows for week in profile.weeks] == [3, *[7] * 6]
    before = [week.distance for week in profile.weeks if week.until <= START + 28 * DAY]
    after = [week.distance for week in profile.weeks if week.since >= START + 28 * DAY]
    assert max(before) + 0.1 < min(after)  # type: ignore[type-var, operator]
    assert expected.mean is not None and abs(expected.mean - 15) < 0.6
    assert abs(profile.weeks[-1].mean - 19) < 0.6  # type: ignore[operator]
    found = monitors.drift_by_week(any_store, "m", weeks=5)
    assert found.columns[0].column == "x" and len(found.columns) == 3
    assert (found.since, found.until) == (START + 21 * DAY, START + 56 * DAY)
    assert [len(each.weeks) for each in found.columns] == [5, 5, 5] and found.columns[0].references == []
    assert [day.day for day in found.days] == [START + n * DAY for n in range(21, 56)]
    assert all(day.labelled == day.rows == watched.rows and day.loss is not None for day in found.days)
    assert found.days[-1].bound is not None
    earlier = monitors.drift_by_week(any_store, "m", weeks=2, until=START + 14 * DAY)
    assert (earlier.since, earlier.until) == (START, START + 14 * DAY) and len(earlier.columns[0].weeks) == 1
    with pytest.raises(NotFound, match="is not watched on a column 'y'"):
        monitors.column_profile(any_store, "m", "y")
    with pytest.raises(InvalidInput, match="1 to 520"):
        monitors.drift_by_week(any_store, "m", weeks=0)


def test_a_week_is_held_against_the_version_that_answered_it(store: Store) -> None:
    watched = Watched(store)
    watched.live()
    with pytest.raises(NotFound, match="no rows yet"):
        monitors.drift_by_week(store, "m")
    before = monitors.looks(store, "m")
    watched.days(0, 21)
    assert monitors.looks(store, "m") > before
    watched.live()
    watched.days(21, 42, change=lambda row: {**row, "x": None if row["kind"] == "a" else row["x"] + 30})
    found = monitors.drift_by_week(store, "m")
    by_name = {each.column: each for each in found.columns}
    assert [week.version for week in by_name["x"].weeks] == [1, 1, 2, 2]
    assert all(week.distance < 0.3 for week in by_name["x"].weeks), "each against its own"  # type: ignore[operator]
    profile = monitors.column_profile(store, "m", "x")
    assert [each.version for each in profile.references] == [1, 2]
    alone = monitors.drift_by_week(store, "m", version=1)
    assert {week.version for each in alone.columns for week in each.weeks} == {1} == {day.version for day in alone.days}
    watched.days(42, 49, change=lambda row: {**row, "x": None})
    broken = {each.column: each.weeks[-1].broken for each in monitors.drift_by_week(store, "m").columns}
    assert broken["x"] == "null" and broken["kind"] == ""


def profile_rows(watched: Watched) -> int:
    """Rows of the reference: seven days have five hundred rows only after eleven, at 48 a day."""
    return 11 * watched.rows


def test_nulls_that_jump_name_the_column(any_store: Store) -> None:
    watched = Watched(any_store)
    watched.live()
    watched.days(0, 20)
    for day in range(20, 24):
        watched.day(day, change=lambda row: {**row, "x": None if row["kind"] == "a" else row["x"]})
    (incident,) = monitors.list_incidents(any_store)
    assert (incident.cause, incident.kind, incident.severity) == ("null", "data", "page")
    assert incident.summary.startswith("x has no value in ") and incident.event_time <= START + 23 * DAY
    watched.days(24, 40)
    assert watched.incidents() == [("null", "page", "resolved")]


def test_a_column_that_goes_missing_and_a_level_of_another_name(store: Store) -> None:
    watched = Watched(store)
    watched.live()
    watched.days(0, 20)
    for day in range(20, 24):
        watched.day(day, change=lambda row: {"x": row["x"], "kind": row["kind"].upper(), "t": "now"})
    assert set(watched.incidents()) == {("unseen", "page", "open"), ("drift", "note", "open")}
    for day in range(24, 28):
        watched.day(day, change=lambda row: {"x": row["x"], "t": "now"})
    assert set(watched.incidents()) >= {("null", "page", "open")}


def test_rows_that_stop_coming_and_a_clock_that_jumps(any_store: Store) -> None:
    watched = Watched(any_store)
    watched.live()
    watched.days(0, 25)
    watched.look(27)
    assert watched.incidents() == []  # it may be the end of the replay, which goes on for the labels
    watched.day(27)
    (incident,) = monitors.list_incidents(any_store)
    assert (incident.cause, incident.severity) == ("few-rows", "page") and "rows in a day" in incident.summary
    assert watched.incidents() == [("few-rows", "page", "resolved")]
    # the replay gives the clock back: years without a row are no outage, nor is the next replay of the past
    jobs.release_clock(any_store, "m", holder="replay-1")
    monitors.observe(any_store, "m")
    assert monitors.due(any_store, models.list_models(any_store)) == []
    jobs.hold_clock(any_store, "m", now=START + 400 * DAY, holder="replay-2")
    monitors.observe(any_store, "m")
    jobs.release_clock(any_store, "m", holder="replay-2")
    jobs.hold_clock(any_store, "m", now=START - 400 * DAY, holder="replay-3")
    monitors.observe(any_store, "m")
    assert watched.incidents() == [("few-rows", "page", "resolved")]


def test_on_the_wall_clock_a_day_closes_after_it_is_over(store: Store) -> None:
    watched = Watched(store)
    watched.live()
    jobs.release_clock(store, "m", holder="replay-1")
    first = (now_ms() - START) // DAY - 3
    for day in range(first, first + 4):
        watched.serve(day)
        watched.label(day)
    monitors.observe(store, "m")
    assert monitors.due(store, models.list_models(store)) == []
    assert monitors.monitoring(store, "m").monitors[0].said == "waits for a reference: 4 of 28 labelled days"


def test_a_window_is_dated_by_its_last_rows(store: Store) -> None:
    watched = Watched(store)
    watched.live(holdout=[1.0] * 84)
    watched.days(0, 60)
    watched.look(70)  # the clock goes on for the labels
    seen = {view.monitor: view for view in monitors.monitoring(store, "m").monitors}
    assert {seen[name].day for name in ("estimate", "scale", "drift", "outputs")} == {START + 59 * DAY}
