"""What a rollout stands on and waits for, as commands tell it: rows that do not count, rows and days that do, an A/B test."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from stead import deployments, fleet, gates, jobs, ledger, models, policies
from stead.cli import cli
from stead.deployments import telling
from stead.deployments.canary import begin
from stead.models.tables import logged_models
from stead.predictions import PredictionLog
from stead.runtime.clock import to_iso
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from displaced import Displaced
from traffic import request
from watched import DAY, START


def canary(world: Displaced, plan: str = "canary") -> int:
    """Version 2 gets its first step where the model's clock stands."""
    asked = deployments.deploy(world.store, "m", version=2, plan=plan)
    with world.store.db.write("deployments.step") as tx:
        begin(tx, world.store, asked, "every gate passed")
    for job in jobs.open_jobs(world.store, kind="deploy"):
        jobs.cancel_job(world.store, job.id)
    return asked.id


def by_the_wall(world: Displaced) -> None:
    with world.store.db.read() as tx:
        holder = jobs.clock_holders(tx)["m"][1]
    jobs.release_clock(world.store, "m", holder=holder)


@pytest.mark.parametrize("plan", ["canary", "shadow"])
def test_rows_of_the_past_do_not_count_and_everything_says_so(
    store: Store, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Displaced(store)
    by_the_wall(world)
    number = canary(world, plan)
    world.hold(0)
    world.both(0, 5, loss=0.5, answering=1)
    held = deployments.observe(store, number)
    assert held.state == "canary" and held.evidence is not None
    assert (held.evidence["past"], held.evidence["requests"], held.evidence["rows"]) == (120, 0, 0)
    said = held.evidence["decision"]["said"]
    assert "120 requests came whose event times lie before it began" in said and "none of them counts" in said
    assert f"stead deployments cancel {number}" in said and "while the replay runs" in said
    assert said in policies.explain(store, "m").why[0]
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    for command in (["deployments", "show", str(number)], ["explain", "m"], ["status"]):
        assert said in CliRunner().invoke(cli, command, catch_exceptions=False).output


def test_a_few_stragglers_among_rows_that_count_are_no_reason_to_warn(store: Store) -> None:
    world = Displaced(store)
    world.hold(1)
    number = canary(world)
    world.both(0, 5, loss=1.0, answering=1)
    held = deployments.observe(store, number)
    assert held.evidence is not None and (held.evidence["past"], held.evidence["requests"]) == (24, 96)
    assert (
        "24 of an earlier time do not count"
        in {name: note for name, _, note in telling.figures(held, "mae", str)}["Requests"]
    )
    assert "lie before" not in held.evidence["decision"]["said"]


def test_what_a_canary_stands_on_is_told_while_it_runs_and_when_it_has_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    world = Displaced(store)
    number = canary(world)
    world.both(0, 3, loss=1.4, answering=1)
    world.both(3, 4, loss=1.4, answering=2)

    def shown() -> str:
        return CliRunner().invoke(cli, ["deployments", "show", str(number)], catch_exceptions=False).output

    assert "nobody has looked at its evidence yet" in shown()
    deployments.observe(store, number)
    assert "v2 answers 25 % of the requests: waits for evidence: 24 of 30 labelled rows; about 1 day more" in shown()
    world.both(4, 13, loss=1.4, answering=1)
    world.both(13, 16, loss=1.4, answering=2)
    ended = deployments.observe(store, number)
    assert ended.state == "aborted" and ended.evidence is not None
    text = shown()
    assert (
        "as a canary: its loss is" in text and "Labelled rows: 96 (of 30 that are needed; 384 scored by both)" in text
    )
    assert f"Event days: 16 (of 2; counted up to {to_iso(START + 16 * DAY)[:10]} 00:00:00)" in text
    loss = next(line for line in text.splitlines() if line.startswith("Loss "))
    assert "broken" in loss and " to +" in loss and "no more than 2.0 % worse" in loss
    assert any(line.startswith("Split by the shares") for line in text.splitlines())
    told = json.loads(CliRunner().invoke(cli, ["deployments", "show", str(number), "--json"]).output)
    assert (told["deployment"]["evidence"]["arm_rows"], told["deployment"]["evidence"]["days"]) == (96, 16)


def test_how_long_still_is_one_figure_wherever_it_is_told(store: Store) -> None:
    world = Displaced(store)
    number = canary(world, "ab")
    rng = np.random.default_rng(0)
    for day in range(12):
        world.both(day, day + 1, loss=float(rng.normal(0.85, 0.2)), answering=1 if day % 4 else 2)
    held = deployments.observe(store, number)
    assert held.evidence is not None and held.evidence["more_days"] > 1
    said = held.evidence["decision"]["said"]
    told = {name: value for name, value, _ in telling.figures(held, "mae", str)}["To a proof"]
    assert f"a proof takes about {told} more at this difference" in said
    for days, words in ((73_497.0, "none"), (45.2, "46 days")):
        seen = {**held.evidence, "more_days": days}
        shown = telling.figures(dataclasses.replace(held, evidence=seen), "mae", str)
        assert {name: value for name, value, _ in shown}["To a proof"] == words


def test_a_deployment_shows_what_its_own_gates_said_and_the_usual_latency(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    world = Displaced(store)
    number = canary(world)
    for asked in (number, number + 100):
        gates.keep_verdict(store, "m", 2, gates.Verdict("parity", "passed", f"asked by {asked}"), deployment=asked)
    world.both(0, 1, loss=1.0, answering=1)
    deployments.observe(store, number)
    text = CliRunner().invoke(cli, ["deployments", "show", str(number)], catch_exceptions=False).output
    assert f"asked by {number}\n" in text and f"asked by {number + 100}" not in text
    latency = next(line for line in text.splitlines() if line.startswith("95 % of answers"))
    assert "1.5 times the usual; v1 has" in latency


@pytest.mark.parametrize("loss", [0.7, 1.4])
def test_agents_that_look_at_once_move_a_canary_once(any_store: Store, loss: float) -> None:
    world = Displaced(any_store)
    number = canary(world)
    world.both(0, 12, loss=loss, answering=1)
    world.both(12, 16, loss=loss, answering=2)
    before = len(ledger.list_entries(any_store, model="m", limit=500))
    together = threading.Barrier(4)

    def agent() -> None:
        together.wait()
        fleet.tick(any_store)

    agents = [threading.Thread(target=agent) for _ in range(4)]
    for each in agents:
        each.start()
    for each in agents:
        each.join()
    ended = deployments.get_deployment(any_store, number)
    assert ended.state == ("live" if loss < 1 else "aborted")
    assert [step.state for step in ended.steps].count(ended.state) == 1
    came = [e.action for e in ledger.list_entries(any_store, model="m", limit=500)]
    came = came[: len(came) - before]
    assert came.count("route.changed" if loss < 1 else "deployment.aborted") == 1


@pytest.mark.parametrize(("loss", "would", "after"), [(1.4, "taken back", "aborted"), (0.7, "moved on", "switched")])
def test_frozen_a_canary_keeps_its_share_and_tells_what_it_would_do(
    store: Store, loss: float, would: str, after: str
) -> None:
    world = Displaced(store)
    number = canary(world)
    world.both(0, 12, loss=loss, answering=1)
    world.both(12, 16, loss=loss, answering=2)
    policies.freeze(store, reason="a holiday")
    fleet.tick(store)
    held = deployments.get_deployment(store, number)
    assert held.state == "canary" and held.evidence is not None
    assert held.evidence["decision"]["said"].startswith(f"frozen: a holiday; else it would be {would}: ")
    assert policies.explain(store, "m").next == "nothing by itself: it is frozen until stead thaw"
    fleet.tick(store)
    assert deployments.get_deployment(store, number) == held
    policies.thaw(store)
    fleet.tick(store)
    state = deployments.get_deployment(store, number).state
    assert state == after or (after == "switched" and state in ("switching", "live"))


@pytest.mark.parametrize(("loss", "state"), [(0.99, "canary"), (0.7, "switched"), (1.3, "aborted")])
def test_an_ab_test_asks_which_version_is_better_at_all(store: Store, loss: float, state: str) -> None:
    """A canary with the margin of 2 % would let a version take over that is as good; an A/B test goes on."""
    world = Displaced(store)
    number = canary(world, "ab")
    world.both(0, 15, loss=loss, answering=1, noise=0.3)
    world.both(15, 20, loss=loss, answering=2, noise=0.3)
    done = deployments.observe(store, number)
    assert done.evidence is not None
    if state == "canary":
        assert done.state == "canary" and "neither is shown to be better" in done.evidence["decision"]["said"]
        seen = next(each for each in telling.guards(done) if each.name == "Loss")
        assert seen.verdict == "holds" and seen.bound.startswith("not worse; wins where all of it is better")
    elif state == "aborted":
        assert ledger.list_entries(store, model="m", limit=1)[0].summary.startswith(
            "the A/B test of m@2 was taken back"
        )
        assert done.state == "aborted" and done.error is not None and done.error["code"] == "guard-loss"
    else:
        assert done.state in ("switching", "live") and done.evidence["decision"]["said"] == "it is shown to be better"


def test_few_rows_do_not_excuse_what_they_show(store: Store) -> None:
    """Half as much loss again on rows too few for a proof: every guard held, and the version took over."""
    world = Displaced(store)
    number = canary(world)
    for day, loss in enumerate((0.8, 2.2, 0.7, 1.9, 0.9, 2.0, 0.8, 1.8)):
        world.both(day, day + 1, loss=loss, answering=1 if day % 4 else 2)
    held = deployments.observe(store, number)
    assert held.evidence is not None and held.evidence["arm_rows"] >= held.plan.rows
    assert held.evidence["loss"]["low"] < 0 < held.evidence["loss"]["high"]
    said = held.evidence["decision"]["said"]
    assert (
        held.state == "canary" and said.startswith("by the estimate it loses ") and "taken back after 56 days" in said
    )
    assert next(each for each in telling.guards(held) if each.name == "Loss").verdict == "waits"
    world.both(8, 20, loss=0.5, answering=1)
    world.both(20, 24, loss=0.5, answering=2)
    assert deployments.observe(store, number).state in ("switching", "live")


def test_a_loss_that_is_taken_back_is_told_beside_its_own_offline_result(store: Store) -> None:
    world = Displaced(store)
    with store.db.write("models.log") as tx:
        tx.execute(sa.update(logged_models).values(metrics={"holdout_time": 0.5}))
    number = canary(world)
    world.both(0, 12, loss=1.4, answering=1)
    world.both(12, 16, loss=1.4, answering=2)
    ended = deployments.observe(store, number)
    assert ended.state == "aborted" and ended.error is not None
    assert ended.error["message"].endswith("on the same 384 rows; in its own hold-out it was 0.5")
    own = next(each for each in telling.guards(ended) if each.name == "Loss beyond its own")
    assert own.bound == "at most 2.5 times its own offline result, which is 0.500"


def test_what_is_never_shown_to_be_within_the_margin_is_taken_back(store: Store) -> None:
    world = Displaced(store)
    number = canary(world)
    for day in range(56):
        world.both(day, day + 1, loss=1.6 if day % 2 else 0.55, answering=1 if day % 4 else 2)
    done = deployments.observe(store, number)
    assert done.state == "aborted" and done.error is not None and done.error["code"] == "guard-loss"
    assert done.error["message"].startswith("in 56 days it lost ") and done.evidence is not None
    assert done.evidence["loss"]["low"] < 0
    assert next(each for each in telling.guards(done) if each.name == "Loss").verdict == "broken"


def test_a_version_that_fails_on_some_rows_does_not_move_on(store: Store) -> None:
    """One row of 24, on which the other version answers: too few for a proof, and no chance."""
    world = Displaced(store)
    number = canary(world)
    for day in range(8):
        world.both(day, day + 1, loss=0.9, answering=1 if day % 4 else 2, fails=24)
    held = deployments.observe(store, number)
    assert held.state == "canary" and held.evidence is not None and held.evidence["loss"]["high"] < 0
    said = held.evidence["decision"]["said"]
    assert said.startswith(
        "by the estimate it fails more: 8 of 192 requests, answered or scored aside, version 1 on 0 of"
    )
    verdicts = {each.name: each.verdict for each in telling.guards(held)}
    assert verdicts["Failed requests"] == verdicts["Failed aside"] == "waits"
    for day in range(8, 56):
        world.both(day, day + 1, loss=0.9, answering=1 if day % 4 else 2, fails=24)
        if (done := deployments.observe(store, number)).state != "canary":
            break
    assert done.state == "aborted" and done.error is not None and done.error["code"] == "guard-errors"


def test_a_failure_or_two_is_chance(store: Store) -> None:
    world = Displaced(store)
    number = canary(world)
    for day in range(8):
        world.both(day, day + 1, loss=0.9, answering=1 if day % 4 else 2, fails=100)
    assert deployments.observe(store, number).state in ("switching", "live")


def test_a_slow_version_waits_until_it_is_known_what_is_usual(store: Store) -> None:
    """The upper end of what is usual takes some 250 requests: at 24 a day a version twenty times as slow took over before it was known."""
    world = Displaced(store)
    number = canary(world)
    for day in range(8):
        world.both(day, day + 1, loss=0.9, answering=1 if day % 4 else 2, took=20_000)
    held = deployments.observe(store, number)
    assert held.state == "canary" and held.evidence is not None and held.evidence["other_latency"]["high"] is None
    said = held.evidence["decision"]["said"]
    assert said.startswith(
        "by the estimate it is slower: 95 % of answers took up to 20 ms and more, of version 1 0.9 ms"
    )
    assert next(each for each in telling.guards(held) if each.name == "95 % of answers within").verdict == "waits"
    for day in range(8, 56):
        world.both(day, day + 1, loss=0.9, answering=1 if day % 4 else 2, took=20_000)
        if (done := deployments.observe(store, number)).state != "canary":
            break
    assert done.state == "aborted" and done.error is not None and done.error["code"] == "guard-latency"


def asked(store: Store, version: int, number: int, key: str | None = None) -> None:
    """Requests that a version answered as a canary's first step is in force."""
    log = PredictionLog(store, f"gateway-{version}-{key}")
    log.append(
        [msgspec.structs.replace(request([1.0], model="m", version=version, at=START), key=key) for _ in range(number)]
    )
    log.close()


def test_the_split_is_judged_by_keys_not_by_how_much_each_asks(store: Store) -> None:
    """Three clients that ask much all fall to version 1, as four in ten such trios do; as many requests without a key may not."""
    world = Displaced(store)
    number = canary(world)
    for key in ("shop", "app", "desk"):
        asked(store, 1, 200, key)
    held = deployments.observe(store, number)
    assert held.state == "canary" and held.evidence is not None and held.evidence["split"] > 0.5
    asked(store, 1, 600)
    broken = deployments.observe(store, number)
    assert broken.state == "aborted" and broken.error is not None and broken.error["code"] == "guard-split"


def test_each_step_of_a_canary_lasts_its_own_days(store: Store) -> None:
    world = Displaced(store)
    with store.db.write("policies.level") as tx:
        models.set_settings_in(tx, "m", rollout={"kind": "canary", "steps": [0.25, 0.5], "rows": 10, "days": 2})
    number = canary(world)
    world.both(0, 6, loss=0.9, answering=1)
    world.both(6, 8, loss=0.9, answering=2)
    assert [round(each.share, 2) for each in deployments.observe(store, number).shares] == [0.25, 0.5]
    held = deployments.observe(store, number)
    assert held.state == "canary" and len(held.shares) == 2 and held.evidence is not None
    assert "0 of 10 labelled rows, 0 of 2 days" in held.evidence["decision"]["said"]
    notes = {name: note for name, _, note in telling.figures(held, "mae", str)}
    assert notes["Labelled rows"].startswith("0 of 10 at this step") and notes["Event days"].startswith(
        "0 of 2 at this"
    )
    world.both(8, 9, loss=0.9, answering=1)
    world.both(9, 10, loss=0.9, answering=2)
    assert deployments.observe(store, number).state in ("switching", "live")


def test_a_wrong_setting_keeps_nobody_from_looking_going_back_or_ending(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is told, and what needs no more than the store's place goes by the rest."""
    (tmp_path / "stead.toml").write_text(f'[settings]\nstore = "{store.root}"\nkeep_data = "1d"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEAD_STORE", raising=False)
    Displaced(store)
    for command, said in (
        (["status"], "kept warm"),
        (["down"], "stead was not up"),
        (["deployments", "cancel", "99"], "no deployment 99"),
        (["rollback", "m"], "m@1"),
    ):
        told = CliRunner().invoke(cli, command)
        assert "warning: " in told.output and "settings.keep_data must be 7d at least" in told.output, command
        assert said in told.output + str(told.exception), (command, told.output)
    refused = CliRunner().invoke(cli, ["models", "list"])
    assert "settings.keep_data must be 7d at least" in str(refused.exception) and refused.exit_code
    (tmp_path / "stead.toml").write_text("[settings]\nstore = 5\n")
    assert "settings.store must be str" in str(CliRunner().invoke(cli, ["down"]).exception)
