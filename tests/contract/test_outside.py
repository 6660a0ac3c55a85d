"""Deployments that stead did not make: told, listed, taken back, and what makes no sense refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner
from watched import DAY, START, Watched

from stead import deployments, jobs, ledger
from stead.api.undoing import undo
from stead.cli import cli
from stead.errors import NotFound, SteadError
from stead.runtime.clock import now_ms, to_ms
from stead.store import Store


def told(store: Store) -> list[tuple[str, str, float | None]]:
    return [(each.ref, each.place, each.hours) for each in deployments.list_outside(store)]


def test_told_and_taken_back(any_store: Store) -> None:
    store = any_store
    Watched(store).live()
    jobs.release_clock(store, "m", holder="replay-1")
    made = deployments.record_outside(
        store, "m", version=1, place=" prod-1 ", hours=3, at=START, note="copied  by\nscp"
    )
    assert (made.ref, made.place, made.hours, made.at, made.event_time) == ("m@1", "prod-1", 3.0, START, START)
    assert (made.note, made.by) == ("copied by scp", "person:ada") and abs(made.recorded_at - now_ms()) < 60_000
    entry = ledger.list_entries(store, model="m")[0]
    assert (entry.action, entry.subject) == ("deployment.recorded", f"outside {made.id}")
    assert entry.summary == "m@1 was deployed outside stead, to prod-1, 3 h of work by hand"
    assert entry.reason == "copied by scp" and entry.evidence["hours"] == 3.0
    plain = deployments.record_outside(store, "m", place="prod-2")
    assert (plain.version, plain.hours, plain.event_time) == (None, None, None)
    nobody = deployments.record_outside(store, "forecast.xlsx", place="Eve's laptop", hours=0, at=START + DAY)
    assert told(store) == [("m", "prod-2", None), ("forecast.xlsx", "Eve's laptop", 0.0), ("m@1", "prod-1", 3.0)]
    assert [each.id for each in deployments.list_outside(store, model="forecast.xlsx")] == [nobody.id]
    undo(store, entry.id)
    assert ("m@1", "prod-1", 3.0) not in told(store)
    undo(store, ledger.list_entries(store, model="m")[0].id)
    assert told(store)[2] == ("m@1", "prod-1", 3.0)
    assert deployments.list_outside(store)[2].note == "copied by scp"
    gone = deployments.forget_outside(store, nobody.id, reason="it was a dream")
    assert gone == nobody and len(told(store)) == 2
    with pytest.raises(NotFound, match="no deployment outside"):
        deployments.forget_outside(store, nobody.id)


def test_it_is_placed_on_the_models_own_clock(any_store: Store) -> None:
    watched = Watched(any_store)
    watched.live()
    watched.hold(40)
    made = deployments.record_outside(any_store, "m", place="prod")
    assert made.event_time == START + 40 * DAY and abs(made.at - now_ms()) < 60_000
    with pytest.raises(SteadError, match="a replay holds the clock of m") as refused:
        deployments.record_outside(any_store, "m", place="prod", at=START + 41 * DAY)
    assert refused.value.code == "time-ahead"


@pytest.mark.parametrize(
    ("model", "said", "code"),
    [
        ("m", {"place": "  "}, "place-invalid"),
        ("m", {"place": "a\nb"}, "place-invalid"),
        ("m", {"place": "x" * 101}, "place-invalid"),
        ("m", {"hours": -1.0}, "hours-invalid"),
        ("m", {"hours": 10_001.0}, "hours-invalid"),
        ("m", {"hours": float("nan")}, "hours-invalid"),
        ("m", {"hours": float("inf")}, "hours-invalid"),
        ("m", {"note": "x" * 1001}, "note-invalid"),
        ("m", {"note": "a\x00b"}, "note-invalid"),
        ("m", {"at": to_ms("2999-01-01")}, "time-ahead"),
        ("m", {"at": 10**18}, "time-invalid"),
        ("m", {"version": 9}, "version-unknown"),
        ("m", {"version": 0}, "version-unknown"),
        ("m", {"version": -3}, "version-unknown"),
        ("m", {"version": 10**20}, "version-unknown"),
        ("mm", {"version": 1}, "version-unknown"),
        ("../x", {}, "name-invalid"),
        ("", {}, "name-invalid"),
    ],
)
def test_what_makes_no_sense_is_refused(store: Store, model: str, said: dict[str, Any], code: str) -> None:
    Watched(store).live()
    jobs.release_clock(store, "m", holder="replay-1")
    with pytest.raises(SteadError) as refused:
        deployments.record_outside(store, model, **{"place": "prod", **said})
    assert refused.value.code == code and refused.value.message
    assert not told(store) and "deployment.recorded" not in {e.action for e in ledger.list_entries(store)}


def test_by_command(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    Watched(store).live()
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    run = CliRunner()
    assert "nobody told of a deployment outside" in run.invoke(cli, ["deployments", "list", "--outside"]).stderr
    words = ["deployments", "record", "m@1", "--place", "prod-1", "--hours", "3", "--at", "2012-01-01"]
    said = run.invoke(cli, [*words, "--note", "copied by scp"], catch_exceptions=False)
    assert said.stdout == "1: m@1 to prod-1, 2012-01-01 00:00, 3 h\n"
    assert "deployments forget 1" in said.stderr and "registry" not in said.stderr
    said = run.invoke(cli, ["deployments", "record", "m", "--place", "prod-1"], catch_exceptions=False)
    assert "without a version it counts as one that is in no registry" in said.stderr
    said = run.invoke(cli, ["deployments", "record", "mm", "--place", "prod-1"], catch_exceptions=False)
    assert "nobody registered a model 'mm' (did you mean 'm'?)" in said.stderr
    assert "made outside stead: 3" in run.invoke(cli, ["deployments", "list"]).stderr
    table = run.invoke(cli, ["deployments", "list", "--outside", "--model", "m"]).stdout
    assert "copied by scp" in table and "mm" not in table
    listed = json.loads(run.invoke(cli, ["deployments", "list", "--outside", "--json"]).stdout)
    assert [each["hours"] for each in listed] == [None, None, 3.0]
    for wrong in (
        ["--hours", "x", "--place", "p"],
        ["--hours", "nan", "--place", "p"],
        [],
        ["--place", "p", "--at", "soon"],
    ):
        assert run.invoke(cli, ["deployments", "record", "m", *wrong]).exception is not None
    run.invoke(cli, ["deployments", "forget", "1", "--reason", "wrong machine"], catch_exceptions=False)
    assert len(told(store)) == 2 and ledger.list_entries(store)[0].reason == "wrong machine"
