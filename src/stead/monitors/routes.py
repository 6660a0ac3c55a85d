"""How people are told: a message is written in the incident's transaction, and sent by the agent until it is taken.

A message may arrive twice where the agent dies between sending it and noting that it was sent; its id tells a receiver so.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import sqlalchemy as sa

from stead.config import Settings
from stead.errors import Failed, Refused, SteadError, Unreachable
from stead.monitors.tables import deliveries as table
from stead.monitors.types import Delivery, Incident
from stead.runtime.clock import now_ms, to_iso
from stead.runtime.failpoints import failpoint
from stead.runtime.ids import new_id
from stead.runtime.secrets import looked_up
from stead.store import Store, from_row

ROUTES = ("webhook", "command")
TIMEOUT_S = 15
FIRST_WAIT_MS, LONGEST_WAIT_MS = 5_000, 3_600_000
"""After a failure it waits, twice as long each time, and at most an hour."""
MOST_ATTEMPTS = 30
"""Of about a day; then it has failed, and says so."""
AT_ONCE = 20
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
LONGEST_SAID = 200
"""Characters of what a command that failed said last."""


def announce(tx: sa.Connection, incident: Incident, event: str) -> None:
    """Write what is to be told of an incident, in the caller's transaction: of pages, by every route."""
    if incident.severity != "page":
        return
    now = now_ms()
    body = {
        "event": event,
        "text": _text(incident, event),
        "incident": asdict(incident),
        "runbook": f"stead runbook {incident.kind}",
        "event_time": to_iso(incident.event_time if event == "opened" else incident.resolved_event_time or 0),
    }
    for route in ROUTES:
        row = {"id": new_id(), "incident": incident.id, "event": event, "route": route, "state": "waiting"}
        tx.execute(sa.insert(table).values(**row, body=body, attempts=0, next_at=now, at=now))


def _text(incident: Incident, event: str) -> str:
    if event == "opened":
        return f"{incident.model}: {incident.summary} (incident {incident.id})"
    return f"{incident.model}: incident {incident.id} is over: {incident.reason}"


def deliver(store: Store, settings: Settings) -> int:
    """Send the messages that are due, each in its turn; how many were tried. Routes that are not set up send nothing."""
    tried = 0
    for _ in range(AT_ONCE):
        claimed = _claim(store)
        if claimed is None:
            break
        _send_one(store, settings, *claimed)
        tried += 1
    return tried


def _claim(store: Store) -> tuple[Delivery, dict[str, Any]] | None:
    """The next message that is due; while it is being sent, nobody else takes it. Those of an incident go in order."""
    now = now_ms()
    earlier = table.alias("earlier")
    before = (
        sa.exists()
        .where(earlier.c.incident == table.c.incident, earlier.c.route == table.c.route)
        .where(earlier.c.state == "waiting", earlier.c.id < table.c.id)
    )
    due = sa.select(table).where(table.c.state == "waiting", table.c.next_at <= now, ~before).order_by(table.c.id)
    with store.db.read() as tx:
        if tx.execute(due.limit(1)).first() is None:
            return None
    with store.db.write("monitors.deliver") as tx:
        row = tx.execute(due.limit(1).with_for_update(skip_locked=True)).mappings().first()
        if row is None:
            return None
        attempts = row["attempts"] + 1
        lease = now + 2 * TIMEOUT_S * 1000
        tx.execute(sa.update(table).where(table.c.id == row["id"]).values(attempts=attempts, next_at=lease))
        return from_row(row, Delivery, attempts=attempts, next_at=lease), dict(row["body"])


def _send_one(store: Store, settings: Settings, delivery: Delivery, body: dict[str, Any]) -> None:
    target = str(settings.values[f"incident_{delivery.route}"])
    if not target:
        _note(store, delivery, "off", None)
        return
    message = {"id": delivery.id, **body}
    try:
        failpoint("monitors.send:before")
        _SENDERS[delivery.route](target, message, settings)
        failpoint("monitors.send:after")
    except SteadError as error:
        said = f"{error.message} (hint: {error.hint})" if error.hint else error.message
        _note(store, delivery, "failed" if delivery.attempts >= MOST_ATTEMPTS else "waiting", said)
    else:
        _note(store, delivery, "sent", None)


def _note(store: Store, delivery: Delivery, state: str, error: str | None) -> None:
    now = now_ms()
    wait = min(FIRST_WAIT_MS << (delivery.attempts - 1), LONGEST_WAIT_MS)
    values = {"state": state, "error": error, "next_at": now + wait, "sent_at": now if state == "sent" else None}
    mine = (table.c.id == delivery.id) & (table.c.state == "waiting") & (table.c.attempts == delivery.attempts)
    with store.db.write("monitors.deliver") as tx:
        tx.execute(sa.update(table).where(mine).values(values))


def post(target: str, message: dict[str, Any], settings: Settings) -> None:
    """Send a message to a webhook.

    Raises Refused (`webhook-private`) where its name leads to a private network that `webhook_allow` does not name, Failed
    (`variable-missing`, `secret-missing`, `webhook-invalid`, `webhook-refused`), Unreachable. No message of an error has the address in it.
    """
    _ask("POST", "incident_webhook", target, settings, message)


def ping(settings: Settings) -> bool:
    """Ask `heartbeat_url`, which says to somebody outside that the loop turns; whether there is one. Raises what `post` raises."""
    if settings.heartbeat_url:
        _ask("GET", "heartbeat_url", str(settings.heartbeat_url), settings, None)
    return bool(settings.heartbeat_url)


def _ask(method: str, what: str, target: str, settings: Settings, message: dict[str, Any] | None) -> None:
    import httpx

    parts = urlsplit(expand(looked_up(target, os.environ, what=what), os.environ))
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise Failed("webhook-invalid", f"{what} is no http or https address")
    default = 443 if parts.scheme == "https" else 80
    try:
        port = parts.port or default
    except ValueError:
        raise Failed("webhook-invalid", f"{what} has no valid port") from None
    try:
        address = allowed_address(host, port, settings.names("webhook_allow"))
    except SteadError as error:
        raise type(error)(error.code, f"{what}: {error.message}", hint=error.hint) from None
    shown = f"[{address}]" if ":" in address else address
    user, _, _ = parts.netloc.rpartition("@")
    url = urlunsplit(parts._replace(netloc=f"{user}@{shown}:{port}" if user else f"{shown}:{port}"))
    try:
        with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client:
            answer = client.request(
                method,
                url,
                json=message,
                headers={"Host": parts.netloc.rpartition("@")[2]}
                | ({"X-Stead-Delivery": message["id"]} if message else {}),
                extensions={"sni_hostname": host},
            )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable("webhook-unreachable", f"{host} did not take it: {type(error).__name__}") from None
    if not answer.is_success:
        raise Failed("webhook-refused", f"{host} answered {answer.status_code}")


def allowed_address(host: str, port: int, allowed: tuple[str, ...]) -> str:
    """The address that a name leads to now; the connection goes there and nowhere else. Raises Refused, Unreachable.

    >>> allowed_address("127.0.0.1", 80, ("127.0.0.1",))
    '127.0.0.1'
    """
    try:
        found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError:
        raise Unreachable("webhook-unreachable", f"there is no address for {host}") from None
    if host not in allowed:
        for address in found:
            if not ipaddress.ip_address(address.partition("%")[0]).is_global and address not in allowed:
                raise Refused(
                    "webhook-private",
                    f"{host} leads to {address}, a private address",
                    hint=f'webhook_allow = "{host}" under [settings] in stead.toml, where it is meant so',
                )
    return found[0]


def run_command(target: str, message: dict[str, Any], settings: Settings) -> None:
    """Run a command with the message as JSON on its standard input. Raises Failed (`variable-missing`, `command-failed`)."""
    try:
        words = [expand(word, os.environ) for word in shlex.split(target)]
        done = subprocess.run(
            words, input=json.dumps(message).encode(), capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, ValueError) as error:
        raise Failed("command-failed", f"incident_command could not be run: {type(error).__name__}") from None
    except subprocess.TimeoutExpired:
        raise Failed("command-failed", f"incident_command took more than {TIMEOUT_S} s") from None
    if done.returncode:
        said = _last_line(done.stderr, [os.environ[name] for name in _VARIABLE.findall(target)])
        raise Failed("command-failed", f"incident_command ended with {done.returncode}" + (f": {said}" if said else ""))


def _last_line(stderr: bytes, secrets: Sequence[str]) -> str:
    """What a command said last, without what was filled in from the environment."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1].strip() if lines else ""
    for secret in filter(None, secrets):
        last = last.replace(secret, "…")
    return last[:LONGEST_SAID]


def expand(text: str, environ: Mapping[str, str]) -> str:
    """A text with `${NAME}` filled in from the environment, so that no secret stands in a file. Raises Failed (`variable-missing`).

    >>> expand("https://hooks.example/${KEY}", {"KEY": "s3cret"})
    'https://hooks.example/s3cret'
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise Failed("variable-missing", f"the environment of the agent has no variable {match[1]}")
        return environ[match[1]]

    return _VARIABLE.sub(value, text)


_SENDERS: dict[str, Callable[[str, dict[str, Any], Settings], None]] = {"webhook": post, "command": run_command}
