"""kill -9 while monitors look, while a person opens an incident, and while people are told: nothing is lost, a message keeps its id."""

from __future__ import annotations

import json
from pathlib import Path

import sqlalchemy as sa
from dying import Scenario, dies
from watched import Watched

from stead import ledger, monitors
from stead.config import load_settings
from stead.monitors.tables import deliveries
from stead.store import Store
from tests.conftest import new_store

BEGIN = """
import sys; from pathlib import Path; from tests.conftest import new_store
from stead import monitors; from stead.config import load_settings
store = new_store(Path(sys.argv[1]))
"""


def _seen(store: Store) -> tuple[object, ...]:
    """All that a look leaves behind, but the time of day."""
    found = monitors.list_incidents(store)
    told = [sorted((d.event, d.route, d.state) for d in monitors.list_deliveries(store, each.id)) for each in found]
    entries = [entry.action for entry in ledger.list_entries(store) if entry.action.startswith("incident.")]
    days = [(d.monitor, d.day, round(d.value or 0, 9), d.outcome) for d in monitors.monitor_days(store, "m")]
    return [(each.cause, each.state, each.event_time, each.summary) for each in found], told, entries, days


def _life(root: Path) -> tuple[Store, Watched]:
    """A reference of 28 days, then twelve days of three times the loss that nobody has looked at."""
    store = new_store(root)
    watched = Watched(store)
    watched.live()
    for day in range(40):
        watched.serve(day)
        watched.label(day, loss=1.0 if day < 28 else 3.0)
    watched.hold(40)
    return store, watched


def _observe(root: Path, point: str) -> None:
    undisturbed, watched = _life(root / "twin")
    watched.look(40)
    store, watched = _life(root / "store")
    dies(point, BEGIN + "monitors.observe(store, 'm')", str(root / "store"))
    (incident, *rest), _, _, days = _seen(undisturbed)
    assert incident[0] == "loss" and not rest and days
    if point.endswith(":after"):
        assert _seen(store) == _seen(undisturbed)
    else:
        assert _seen(store) == ([], [], [], [])
    watched.hold(40)
    monitors.observe(store, "m")
    monitors.observe(store, "m")
    assert _seen(store) == _seen(undisturbed)
    undisturbed.close()
    store.close()


def _incident(root: Path, point: str) -> None:
    store = new_store(root)
    Watched(store).live()
    dies(point, BEGIN + "monitors.open_incident(store, 'm', 'it is off')", str(root))
    happened = point.endswith(":after")
    assert len(monitors.list_incidents(store)) == int(happened)
    if not happened:
        monitors.open_incident(store, "m", "it is off")
    (incident,) = monitors.list_incidents(store)
    assert len(monitors.list_deliveries(store, incident.id)) == 2
    assert [entry.action for entry in ledger.list_entries(store)].count("incident.opened") == 1
    store.close()


def _deliver(root: Path, point: str) -> None:
    store = new_store(root)
    Watched(store).live()
    monitors.open_incident(store, "m", "it is off")
    told = root / "told"
    environ = {"STEAD_STORE": str(root), "STEAD_INCIDENT_COMMAND": f"tee -a {told}"}
    settings = load_settings(environ=environ)
    dies(point, BEGIN + f"monitors.deliver(store, load_settings(environ={environ!r}))", str(root))
    (command,) = (d for d in monitors.list_deliveries(store, 1) if d.route == "command")
    assert command.state == "waiting" or point.endswith(":after")
    with store.db.write("monitors.deliver") as tx:  # the time of whoever died is up
        tx.execute(sa.update(deliveries).values(next_at=0))
    monitors.deliver(store, settings)
    assert {d.route: d.state for d in monitors.list_deliveries(store, 1)} == {"command": "sent", "webhook": "off"}
    assert monitors.deliver(store, settings) == 0
    decoder, text, messages = json.JSONDecoder(), told.read_text(), []
    while text:
        message, end = decoder.raw_decode(text)
        messages.append(message)
        text = text[end:]
    assert {message["id"] for message in messages} == {command.id} and 1 <= len(messages) <= 2
    assert len(messages) == 1 or point.startswith("monitors.send:after")
    store.close()


POINTS: dict[str, Scenario] = {
    "monitors.observe": _observe,
    "monitors.incident": _incident,
    "monitors.deliver": _deliver,
    "monitors.send": _deliver,
}
