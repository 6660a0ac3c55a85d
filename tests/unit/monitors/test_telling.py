"""How people are told: until the receiver takes it, never into a private network by accident, never with a secret in sight."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stead import monitors
from stead.config import Settings, load_settings
from stead.errors import Failed, Refused, SteadError, Unreachable
from stead.models.tables import models
from stead.monitors import routes
from stead.monitors.folding import Finding
from stead.monitors.incidents import open_in
from stead.store import Store


class Receiver:
    """A webhook that answers as it is told, then 200."""

    def __init__(self, answers: list[int]) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status = answers.pop(0) if answers else 200
                if status == 200:
                    outer.got.append((self.path, body))
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    made = Receiver(list(getattr(request, "param", [])))
    yield made
    made.server.shutdown()
    made.server.server_close()


def settings(**given: str) -> Settings:
    return load_settings(environ={f"STEAD_{name.upper()}": value for name, value in given.items()})


def open_one(store: Store, severity: str = "page") -> monitors.Incident:
    finding = Finding("loss", "performance", severity, 0, "the loss is up", {"recent": 0.5})  # type: ignore[arg-type]
    model = {"name": "m", "level": "record", "loss": "mae", "settings": {}, "created_at": 0, "updated_at": 0}
    with store.db.write("monitors.incident") as tx:
        store.db.upsert(tx, models, model, ["name"])
        return open_in(tx, store, "m", 1, finding, at=0)


def told(store: Store, number: int) -> dict[str, tuple[str, int]]:
    found = monitors.list_deliveries(store, number)
    return {f"{each.event} {each.route}": (each.state, each.attempts) for each in found}


@pytest.mark.parametrize("receiver", [[500, 302]], indirect=True)
def test_a_receiver_that_fails_twice_gets_it_once(
    any_store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "FIRST_WAIT_MS", 1)
    monkeypatch.setenv("HOOK_KEY", "s3cret")
    incident = open_one(any_store)
    mine = settings(incident_webhook=receiver.url + "/hooks/${HOOK_KEY}", webhook_allow="127.0.0.1")
    monitors.resolve_incident(any_store, incident.id, reason="a fixture")
    for _ in range(2000):
        monitors.deliver(any_store, mine)
        if not any(state == "waiting" for state, _ in told(any_store, incident.id).values()):
            break
    assert told(any_store, incident.id)["opened webhook"] == ("sent", 3)
    assert told(any_store, incident.id)["resolved webhook"] == ("sent", 1)
    assert told(any_store, incident.id)["opened command"] == ("off", 1)
    assert [(path, body["event"]) for path, body in receiver.got] == [
        ("/hooks/s3cret", "opened"),
        ("/hooks/s3cret", "resolved"),
    ]
    body = receiver.got[0][1]
    assert body["id"] in {each.id for each in monitors.list_deliveries(any_store, incident.id)}
    assert body["text"] == "m: the loss is up (incident 1)" and body["incident"]["evidence"] == {"recent": 0.5}
    assert monitors.deliver(any_store, mine) == 0


def test_a_note_is_told_to_nobody(store: Store) -> None:
    assert told(store, open_one(store, "note").id) == {}


def test_what_fails_is_said_without_the_secret_and_given_up_in_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "FIRST_WAIT_MS", 0)
    monkeypatch.setattr(routes, "MOST_ATTEMPTS", 3)
    monkeypatch.setenv("HOOK_KEY", "s3cret")
    incident = open_one(store)
    mine = settings(incident_webhook="http://127.0.0.1:1/${HOOK_KEY}", incident_command="false ${HOOK_KEY}")
    while monitors.deliver(store, mine):
        pass
    found = {each.route: each for each in monitors.list_deliveries(store, incident.id)}
    assert {route: (each.state, each.attempts) for route, each in found.items()} == {
        "webhook": ("failed", 3),
        "command": ("failed", 3),
    }
    assert found["webhook"].error == (
        "incident_webhook: 127.0.0.1 leads to 127.0.0.1, a private address "
        '(hint: webhook_allow = "127.0.0.1" under [settings] in stead.toml, where it is meant so)'
    )
    assert found["command"].error == "incident_command ended with 1"
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(
    ("target", "kind", "code"),
    [
        ("http://127.0.0.1:9/", Refused, "webhook-private"),
        ("http://localhost:9/", Refused, "webhook-private"),
        ("http://[::1]:9/", Refused, "webhook-private"),
        ("http://10.1.2.3/", Refused, "webhook-private"),
        ("http://169.254.169.254/latest/meta-data", Refused, "webhook-private"),
        ("http://0.0.0.0:9/", Refused, "webhook-private"),
        ("http://[::ffff:127.0.0.1]:9/", Refused, "webhook-private"),
        ("ftp://192.0.2.1/", Failed, "webhook-invalid"),
        ("http://127.0.0.1:99999/", Failed, "webhook-invalid"),
        ("http:///x", Failed, "webhook-invalid"),
        ("https://${NOT_THERE}.example/", Failed, "variable-missing"),
        ("http://no-such-name.invalid/", Unreachable, "webhook-unreachable"),
    ],
)
def test_addresses_that_a_webhook_does_not_reach(target: str, kind: type[SteadError], code: str) -> None:
    with pytest.raises(kind) as raised:
        routes.post(target, {"id": "0" * 32}, settings())
    assert raised.value.code == code


def test_a_command_gets_the_message(store: Store, tmp_path: Path) -> None:
    open_one(store)
    monitors.deliver(store, settings(incident_command=f"tee '{tmp_path}/a b'"))
    assert json.loads((tmp_path / "a b").read_text())["incident"]["summary"] == "the loss is up"


def test_a_command_that_fails_tells_what_it_said_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", "s3cret")
    incident = open_one(store)
    monitors.deliver(store, settings(incident_command="cat /no/such/place >> ${HOOK_KEY}"))
    (found,) = [each for each in monitors.list_deliveries(store, incident.id) if each.route == "command"]
    assert found.error == "incident_command ended with 1: cat: …: No such file or directory"


def test_a_heartbeat_that_is_refused_names_its_setting_and_the_remedy() -> None:
    with pytest.raises(Refused, match=r"heartbeat_url: .* a private address") as refused:
        monitors.ping(settings(heartbeat_url="http://127.0.0.1:9/"))
    assert refused.value.hint is not None and refused.value.hint.startswith("webhook_allow = ")
