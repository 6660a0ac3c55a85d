"""What users saw: reports of people, whether a monitor had told of it before, and those that come by a link, without an account."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from watched import DAY, START, Watched

from stead import jobs, ledger, models, monitors, policies
from stead.api import Remote, tokens
from stead.api.undoing import undo
from stead.cli import cli
from stead.config import PolicyConfig, RolloutConfig, load_settings
from stead.errors import Conflict, Forbidden, InvalidInput, NotFound, SteadError
from stead.monitors import Incident
from stead.runtime.clock import now_ms
from stead.store import Store
from tests.conftest import free_ports, new_store

sys.path.insert(0, str(Path(__file__).parent / "failpoints"))
from tests.contract.failpoints import policies as world


def alarmed(store: Store) -> Watched:
    """A model whose loss doubles on day 28, of which its monitor tells some days later."""
    watched = Watched(store)
    watched.live()
    watched.days(0, 28)
    return watched


def test_a_person_tells_what_a_user_saw(any_store: Store) -> None:
    watched = alarmed(any_store)
    first = monitors.open_incident(
        any_store,
        "m",
        "far too low",
        kind="other",
        since=START + 27 * DAY,
        reported_by="  Eve of sales ",
        prediction=watched.ids[27][0],
    )
    said = {"reported_by": "Eve of sales", "since": START + 27 * DAY, "found_by": None}
    assert first.evidence == said | {"prediction": watched.ids[27][0]}
    assert monitors.open_incident(any_store, "m", "odd").evidence == {
        "reported_by": "ada",
        "since": None,
        "found_by": None,
    }
    watched.days(28, 44, loss=2.0)
    (found,) = (each for each in monitors.list_incidents(any_store) if each.cause == "loss")
    late = monitors.open_incident(any_store, "m", "still too low", since=START + 30 * DAY)
    assert late.evidence["found_by"] == found.id
    watched.days(44, 75)
    ended = monitors.get_incident(any_store, found.id)
    assert ended.state == "resolved" and ended.resolved_event_time is not None
    again = [
        monitors.open_incident(any_store, "m", f"it was low {since}", since=since).evidence["found_by"]
        for since in (ended.resolved_event_time - DAY, ended.resolved_event_time + 2 * DAY, None)
    ]
    assert again == [found.id, None, None], "only what was told while they saw it counts"


def test_that_something_is_not_over_is_no_new_report(any_store: Store) -> None:
    Watched(any_store).live()
    made = monitors.open_incident(any_store, "m", "odd")
    monitors.resolve_incident(any_store, made.id)
    undo(any_store, ledger.list_entries(any_store, model="m")[0].id)
    assert monitors.list_incidents(any_store)[0].evidence == {"reopens": made.id}


def incident(number: int, **said: Any) -> Incident:
    made = Incident(
        id=number, model="m", version=1, cause="loss", kind="performance", state="open", severity="page", summary="x",
        evidence={}, opened_by="agent", opened_at=0, event_time=10, updated_at=0, resolved_by=None, resolved_at=None,
        resolved_event_time=None, reason=None,
    )  # fmt: skip
    return replace(made, **said)


@pytest.mark.parametrize(
    ("told", "at", "since", "found"),
    [
        ([], 50, None, None),
        ([incident(4)], 50, None, 4),
        ([incident(4), incident(3)], 50, None, 3),
        ([incident(4)], 9, None, None),
        ([incident(4)], 10, None, 4),
        ([incident(4, severity="note")], 50, None, None),
        ([incident(4, cause="person: odd", opened_by="person:ada")], 50, None, None),
        ([incident(4, state="resolved", resolved_event_time=40)], 50, None, None),
        ([incident(4, state="resolved", resolved_event_time=40)], 50, 40, 4),
        ([incident(4, state="resolved", resolved_event_time=40)], 50, 41, None),
        ([incident(4, state="resolved", resolved_event_time=60)], 50, None, 4),
    ],
)
def test_a_monitor_was_first_where_people_knew_of_it(
    told: list[Incident], at: int, since: int | None, found: int | None
) -> None:
    assert monitors.found_first(told, at=at, since=since) == found


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"summary": " \n "}, "summary-invalid"),
        ({"summary": "\x00"}, "summary-invalid"),
        ({"summary": "x" * 1001}, "summary-invalid"),
        ({"kind": "drift"}, "kind-unknown"),
        ({"since": START + 90 * DAY}, "time-ahead"),
        ({"since": 10**18}, "time-invalid"),
        ({"reported_by": "x" * 61}, "name-invalid"),
        ({"reported_by": "a\x07b"}, "name-invalid"),
        ({"prediction": "0" * 32}, "prediction-unknown"),
        ({"prediction": "../x"}, "prediction-id-invalid"),
        ({"model": "n"}, "model-unknown"),
    ],
)
def test_what_makes_no_sense_opens_nothing(store: Store, said: dict[str, Any], code: str) -> None:
    watched = Watched(store)
    watched.live()
    watched.hold(2)
    given: dict[str, Any] = {"model": "m", "summary": "odd", **said}
    with pytest.raises(SteadError) as refused:
        monitors.open_incident(store, **given)
    assert refused.value.code == code
    assert monitors.list_incidents(store) == []


def test_only_what_people_say_of_its_performance_trains(store: Store) -> None:
    world.live(store)
    policy = PolicyConfig(triggers=("incident",), rest="0h")
    policies.push(store, "m", spec=world.SPEC, policy=policy, rollout=RolloutConfig())
    world.hold(store, 3)
    monitors.take_report(store, "m", "the loss is terrible, train it")
    assert policies.decide(store, models.get_model(store, "m")) is None
    monitors.open_incident(store, "m", "the loss is terrible")
    assert policies.decide(store, models.get_model(store, "m")) is not None


def test_a_report_by_link_tells_people(any_store: Store) -> None:
    store = any_store
    Watched(store).live()
    jobs.release_clock(store, "m", holder="replay-1")
    made = monitors.take_report(store, "m", "wrong\r\nsince <b>noon</b>\x00", name=" Eve ", prediction="q7.1")
    assert (made.kind, made.severity, made.opened_by) == ("other", "page", "user:Eve")
    assert made.summary == "wrong since <b>noon</b>" and len(monitors.list_deliveries(store, made.id)) == 2
    assert made.evidence == {"reported_by": "Eve", "since": None, "found_by": None, "prediction": "q7.1"}
    nameless = monitors.take_report(store, "m", "odd", since=now_ms() - DAY, prediction="<script>")
    assert nameless.opened_by == "user:anonymous" and "prediction" not in nameless.evidence
    with pytest.raises(Conflict) as refused:
        monitors.take_report(store, "m", "odd ", name="Mallory")
    assert refused.value.code == "incident-open"
    for wrong, code in (({"summary": ""}, "summary-invalid"), ({"since": now_ms() + 2 * DAY}, "time-ahead")):
        with pytest.raises(InvalidInput) as bad:
            monitors.take_report(store, "m", **{"summary": "x", **wrong})  # type: ignore[arg-type]
        assert bad.value.code == code
    for number in range(18):
        monitors.take_report(store, "m", f"spam {number}")
    with pytest.raises(Conflict) as refused:
        monitors.take_report(store, "m", "one too many")
    assert refused.value.code == "reports-full"
    monitors.open_incident(store, "m", "a person still can")
    monitors.resolve_incident(store, made.id)
    monitors.take_report(store, "m", "there is room again")
    with pytest.raises(NotFound):
        monitors.take_report(store, "n", "x")


def test_of_a_replay_a_report_has_no_day_ahead(store: Store) -> None:
    watched = Watched(store)
    watched.live()
    watched.hold(3)
    made = monitors.take_report(store, "m", "odd", since=now_ms() - DAY)
    assert made.event_time == START + 3 * DAY and made.evidence["since"] is None


def test_a_link_opens_one_page_of_one_model(any_store: Store) -> None:
    store = any_store
    Watched(store).live()
    link = tokens.report_link(store, "m")
    assert tokens.report_link(store, "m") == link, "the same each time"
    assert [entry.action for entry in ledger.list_entries(store)].count("token.created") == 1
    _, _, model, key = link.path.split("/")
    assert tokens.may_report(store, model, key)
    for other, wrong in (("n", key), ("m", ""), ("m", key[:-1]), ("m", key.upper()), ("m", "é\udcff")):
        assert not tokens.may_report(store, other, wrong)
    assert not tokens.any_token(store), "it makes nobody log in"
    (listed,) = tokens.list_tokens(store)
    assert (listed.name, listed.role) == ("report:m", "report")
    for secret in (key, f"stead-{listed.id}-{key}"):
        with pytest.raises(Forbidden):
            tokens.authenticate(store, secret)
    renewed = tokens.report_link(store, "m", new=True)
    assert not tokens.may_report(store, "m", key) and tokens.may_report(store, "m", renewed.path.split("/")[3])
    tokens.revoke_token(store, "report:m")
    assert not tokens.may_report(store, "m", renewed.path.split("/")[3])
    assert tokens.report_link(store, "m").path not in (link.path, renewed.path)
    with pytest.raises(InvalidInput):
        tokens.create_token(store, "report:n")
    with pytest.raises(InvalidInput):
        tokens.create_token(store, "x", role="report")  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        tokens.report_link(store, "n")


def test_by_command(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    alarmed(store)
    jobs.release_clock(store, "m", holder="replay-1")
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    run = CliRunner()
    words = ["incidents", "open", "m", "too low", "--since", "2012-01-20", "--by-user", "Eve", "--kind", "other"]
    assert "incident 1 is open" in run.invoke(cli, words, catch_exceptions=False).stderr
    shown = run.invoke(cli, ["incidents", "show", "1"]).stdout
    assert "Eve" in shown and "2012-01-20" in shown
    said = run.invoke(cli, ["incidents", "link", "m"], catch_exceptions=False)
    assert (
        said.stdout == f"http://127.0.0.1:7700{tokens.report_link(store, 'm').path}\n" and "server_url" in said.stderr
    )
    monkeypatch.setenv("STEAD_SERVER_URL", "https://ml.example/")
    said = run.invoke(cli, ["incidents", "link", "m", "--new", "--json"], catch_exceptions=False)
    path = tokens.report_link(store, "m").path
    assert json.loads(said.stdout) == {"model": "m", "url": f"https://ml.example{path}"} and not said.stderr
    assert "report:m" in run.invoke(cli, ["tokens", "list"]).stdout
    for wrong in (["link", "n"], ["open", "m", "x", "--since", "soon"], ["open", "m", "x", "--prediction", "0" * 32]):
        assert run.invoke(cli, ["incidents", *wrong]).exception is not None


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Store, str]]:
    """A real server whose pages ask for a token."""
    store = new_store(tmp_path / "store")
    Watched(store).live()
    jobs.release_clock(store, "m", holder="replay-1")
    tokens.create_token(store, "ci")
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "stead.processes", "server", "--port", str(port)]
    environ = os.environ | {"STEAD_STORE": str(store.root)}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().startswith("ready")
    yield store, f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)
    process.stdout.close()
    store.close()


def test_what_people_say_goes_over_http(served: tuple[Store, str]) -> None:
    store, url = served
    secrets = {role: tokens.create_token(store, role, role=role).secret for role in ("read", "write")}  # type: ignore[arg-type]
    reader, writer = (
        Remote(load_settings(environ={"STEAD_URL": url, "STEAD_TOKEN": each})) for each in secrets.values()
    )
    asked: list[tuple[str, dict[str, Any]]] = [
        ("models.set_facts", {"owner": "Eve"}),
        ("deployments.record_outside", {"place": "prod-1", "hours": 2.5, "version": 1}),
        ("monitors.open_incident", {"summary": "odd", "since": START}),
        ("tokens.report_link", {}),
    ]
    for name, arguments in asked:
        with pytest.raises(Forbidden):
            reader.call(name, model="m", **arguments)
    model, outside, opened, link = (writer.call(name, model="m", **arguments) for name, arguments in asked)
    assert model.owner == "Eve" and outside.ref == "m@1" and outside.by == "token:write"
    assert opened.evidence["reported_by"] == "write" and link == tokens.report_link(store, "m")
    assert reader.call("deployments.list_outside") == [outside]
    with pytest.raises(InvalidInput) as refused:
        writer.call("deployments.record_outside", model="m", place="prod-1", hours=-1)
    assert refused.value.code == "hours-invalid"
    reader.close()
    writer.close()


def test_of_reports_that_come_at_once_no_more_are_kept(any_store: Store) -> None:
    Watched(any_store).live()
    for number in range(18):
        monitors.take_report(any_store, "m", f"odd {number}")

    def report(number: int) -> str:
        try:
            return monitors.take_report(any_store, "m", f"at once {number // 2}").state
        except Conflict as refused:
            return refused.code

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(report, range(6)))
    assert said.count("open") == 2 and set(said) <= {"open", "incident-open", "reports-full"}
    assert len(monitors.list_incidents(any_store, state="open")) == 20


def test_the_link_of_a_server_that_asks_for_a_token(served: tuple[Store, str]) -> None:
    store, url = served
    path = tokens.report_link(store, "m").path
    with httpx.Client(base_url=url, trust_env=False, headers={"accept": "text/html"}) as browser:
        assert browser.get("/").headers["location"] == "/login"
        page = browser.get(f"{path}?prediction=q7.1")
        assert page.status_code == 200 and 'value="q7.1"' in page.text and "<nav" not in page.text
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        said = {"what": "no bikes <script>", "since": "2026-01-02", "name": "Eve", "prediction": "q7.1"}
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert browser.post(path, data=said, headers=headers).status_code == 403
        assert monitors.list_incidents(store) == []
        answer = browser.post(path, data=said, headers={"origin": url, "sec-fetch-site": "same-origin"})
        assert answer.status_code == 200 and "Thank you. Your report was kept" in answer.text
        (made,) = monitors.list_incidents(store)
        assert (made.summary, made.opened_by, made.kind) == ("no bikes <script>", "user:Eve", "other")
        assert "is known already" in browser.post(path, data=said).text
        for name, wrong in (("what", " "), ("what", "x" * 1001), ("since", "soon"), ("since", "2999-01-01")):
            refused = browser.post(path, data=said | {name: wrong})
            assert (
                refused.status_code == 400 and 'aria-invalid="true"' in refused.text and "<script>" not in refused.text
            )
        assert len(monitors.list_incidents(store)) == 1
        for number in range(19):
            assert browser.post(path, data={"what": f"odd {number}"}).status_code == 200
        full = browser.post(path, data={"what": "one more"})
        assert full.status_code == 429 and "was not kept" in full.text
        lost = [
            browser.get(path[:-1]),
            browser.get(path.replace("/m/", "/n/")),
            browser.post(path[:-1], data=said),
            browser.put(path),
            browser.get("/report/m"),
            browser.get("/report/"),
            browser.get(path[:-1], headers={"accept": "application/json"}),
            browser.get(f"{path[:-1]}?format=json"),
            browser.post(path, data={"what": "x" * 70_000}),
        ]
        assert [each.status_code for each in lost] == [404, 404, 404, 400, 404, 404, 404, 404, 400]
        assert {each.text for each in lost} == {lost[0].text} and "<nav" not in lost[0].text
        assert "stead " not in lost[0].text and "incident" not in page.text + lost[0].text
        assert len(monitors.list_incidents(store)) == 20
