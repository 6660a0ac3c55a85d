"""A unit for systemd that keeps `stead up` running, and the words that a supervised process says to it."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from contextlib import suppress
from pathlib import Path

from stead.config import SETTINGS, Settings
from stead.errors import Conflict, Failed
from stead.runtime.secrets import is_reference

NAME = "stead.service"
WATCHDOG_S = 60
_SECRET = ("token", "incident_webhook", "heartbeat_url", "database")
"""Settings whose value may hold a secret: they go into the unit only where they name one."""


SECRETS, USER_SECRETS = "/etc/stead.env", ".config/stead.env"
"""The file that the unit takes secrets from: the system's, and a user's in the home."""


def withheld(settings: Settings) -> list[str]:
    """Variables of settings that are in force and not in the unit, since their value may be a secret: without them it goes by the default."""
    found = []
    for name in _SECRET:
        setting, value = SETTINGS[name], str(settings.values[name])
        plain = is_reference(value) or (name == "database" and "@" not in value)
        if name != "token" and settings.values[name] != setting.default and not plain:
            found.append(setting.variable)
    return found


def unit(settings: Settings, *, user: bool) -> str:
    """The unit that runs `stead up` on this store with these settings.

    One unit is enough: the supervisor keeps server, gateway and agent, ends them with itself, and is kept by systemd: it tells
    when it is ready, and once in a while that its own loop turns.
    """
    lines = []
    left = withheld(settings)
    for name, setting in SETTINGS.items():
        value = settings.values[name]
        if name in ("url", "token", "user") or (value == setting.default and name != "store"):
            continue
        if name == "store":
            value = str(Path(value).expanduser().resolve())
        if setting.variable in left:
            lines.append(f"# {setting.variable} may hold a secret: put it into the file below")
            continue
        lines.append(f"Environment={_quoted(f'{setting.variable}={value}')}")
    environment = "\n".join(lines)
    secret = f"%h/{USER_SECRETS}" if user else SECRETS
    return f"""[Unit]
Description=stead: server, gateway and agent
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={_quoted(sys.executable)} -m stead up
{environment}
# Secrets that settings and stead.toml name as env:NAME, a line NAME=value each; mode 0600.
EnvironmentFile=-{secret}
Restart=always
RestartSec=2
WatchdogSec={WATCHDOG_S}
TimeoutStartSec=120
TimeoutStopSec=30
KillMode=mixed

[Install]
WantedBy={"default.target" if user else "multi-user.target"}
"""


def _quoted(text: str) -> str:
    """A word as systemd reads it: a percent sign is doubled, spaces and quotes are within quotes."""
    text = text.replace("%", "%%")
    if shlex.quote(text) == text:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def write_unit(settings: Settings, folder: Path, *, force: bool = False) -> Path:
    """Write the unit into a folder of systemd; one under the home is a user's. Raises Conflict (`unit-exists`), Failed."""
    path = folder / NAME
    text = unit(settings, user=folder.resolve().is_relative_to(Path.home()))
    if path.exists() and path.read_text(encoding="utf-8") != text and not force:
        raise Conflict("unit-exists", f"{path} is there and says something else", hint="remove it, and try again")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failed("file-failed", f"{path}: {error.strerror}") from None
    return path


def notify(word: str) -> None:
    """Tell the service manager that started this process: `READY=1`, `WATCHDOG=1`, `STOPPING=1`. Nothing without one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.sendto(word.encode(), address)
