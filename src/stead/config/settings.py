"""Every setting: name, type, default, help; from the environment, `stead.toml` or the default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stead.config.types import FILE, Project
from stead.config.units import duration_ms
from stead.errors import InvalidInput


@dataclass(frozen=True)
class Setting:
    """One setting: `STEAD_` + the name in capitals in the environment, the name itself under `[settings]`."""

    name: str
    type: type
    default: Any
    help: str
    least: int = 1
    most: int = 1 << 40
    """Bounds of a number."""
    shortest: str = ""
    """Of a duration, which may also be left empty."""

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, or None."""
        if not isinstance(value, self.type) or isinstance(value, bool):
            return f"must be {self.type.__name__}, not {value!r}"
        if isinstance(value, int) and not self.least <= value <= self.most:
            return f"must be {self.least} to {self.most}, not {value}"
        if self.shortest and isinstance(value, str) and value:
            try:
                if duration_ms(value) < duration_ms(self.shortest):
                    return f"must be {self.shortest} at least, not {value}"
            except InvalidInput as error:
                return f"is no duration: {error.message}; {error.hint}"
        return None

    @property
    def variable(self) -> str:
        return "STEAD_" + self.name.upper()


PROCESSES = ("server", "gateway", "agent")
"""What `stead up` starts, in this order."""

SETTINGS: dict[str, Setting] = {
    s.name: s
    for s in (
        Setting("store", str, "", "Folder of the store; default `.stead` beside stead.toml, else `~/.stead`."),
        Setting("database", str, "", "Database URL; default an SQLite file in the store's folder."),
        Setting(
            "blobs",
            str,
            "",
            "Where bytes lie: a folder or a URL such as s3://bucket/prefix; default in the store's folder.",
        ),
        Setting("url", str, "", "Address of a stead server; set it and every command and SDK call goes there."),
        Setting("token", str, "", "Token for that server."),
        Setting("host", str, "127.0.0.1", "Address that server and gateway listen on; anything else needs tokens."),
        Setting("port", int, 7700, "Port of pages and API.", most=65535),
        Setting("gateway_port", int, 7701, "Port of the gateway.", most=65535),
        Setting(
            "processes",
            str,
            ",".join(PROCESSES),
            "What `stead up` starts on this machine, by commas: server, gateway, agent.",
        ),
        Setting(
            "allowed_hosts", str, "", "Further host names, by commas, that requests to server and gateway may carry."
        ),
        Setting(
            "server_url",
            str,
            "",
            "Address at which other machines reach this server, such as https://stead.example; default host and port.",
        ),
        Setting(
            "ray_address",
            str,
            "",
            'Address of a Ray cluster\'s dashboard, such as http://127.0.0.1:8265, for models with `executor = "ray"`.',
        ),
        Setting("workers", int, 2, "Worker processes for each environment that serves.", most=256),
        Setting(
            "max_body_bytes",
            int,
            16 << 20,
            "Largest request body that server and gateway accept; the server takes 1 GiB of an artifact.",
        ),
        Setting(
            "max_waiting",
            int,
            1024,
            "Requests that may wait for a worker before the gateway answers 503 with Retry-After.",
        ),
        Setting("predict_timeout_s", int, 30, "Seconds after which a prediction is given up."),
        Setting(
            "env_allow",
            str,
            "",
            "Environment variables, by commas, that jobs and workers may see besides the basic ones.",
        ),
        Setting(
            "memory_mb",
            int,
            0,
            "Memory, in MB, that a process of a job or worker may take for itself (1000 is little); 0: what there is.",
            least=0,
        ),
        Setting(
            "open_files",
            int,
            0,
            "Files that a process of a job or worker may open; 0: what the system allows.",
            least=0,
        ),
        Setting(
            "image_base",
            str,
            "",
            "What images are built on: a reference `name@sha256:…` or a folder with an OCI layout; default what `stead image base` made.",
        ),
        Setting(
            "container_engine",
            str,
            "",
            "Command of the container engine, such as `docker` or `podman --runtime runc`; default podman, else docker.",
        ),
        Setting(
            "container_options",
            str,
            "",
            "Further options for each container that stead runs, such as `--ulimit nofile=1024:1024 --memory 2g`.",
        ),
        Setting(
            "incident_webhook",
            str,
            "",
            "Address that incidents of severity page are posted to as JSON, or `env:NAME` or `file:/path` where it stands; `${NAME}` in it is a variable of the agent's environment.",
        ),
        Setting(
            "incident_command",
            str,
            "",
            "Command that gets incidents of severity page as JSON on its standard input, run without a shell (`sh -c '…'` is one); `${NAME}` as above.",
        ),
        Setting(
            "webhook_allow",
            str,
            "",
            "Host names or addresses in private networks, by commas, that a webhook may reach.",
        ),
        Setting(
            "heartbeat_url",
            str,
            "",
            "Address that is asked (GET) once a minute while the agent's loop turns, so that somebody outside notices when it does not; `env:NAME` and `file:/path` as above.",
        ),
        Setting(
            "keep_predictions",
            str,
            "",
            "How long predictions and their labels are kept, such as `400d` (`60d` at least); empty: for good. Signals and gates look back up to a year.",
            shortest="60d",
        ),
        Setting(
            "keep_runs",
            str,
            "",
            "How long runs are kept that no version came from, and stored results of steps, such as `2y` (`7d` at least); empty: for good.",
            shortest="7d",
        ),
        Setting(
            "keep_data",
            str,
            "",
            "How long data versions are kept that nothing was made from and that are not the newest, and quarantined batches, such as `90d` (`7d` at least); empty: for good.",
            shortest="7d",
        ),
        Setting(
            "reproduce_sample",
            int,
            1,
            "Versions that are made again from their records each month, to see that they can be: live ones first, drawn by the agent from those of the last 180 days, from the month after the store was made on; 0: none.",
            least=0,
            most=1000,
        ),
        Setting("user", str, "", "Name for the ledger; default the login name."),
    )
}


@dataclass(frozen=True)
class Settings:
    """The settings in force. `where` tells for each name where it came from: environment, file or default."""

    values: Mapping[str, Any]
    where: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None

    def names(self, name: str) -> tuple[str, ...]:
        """The value of a setting that lists names by commas.

        >>> Settings({"env_allow": "AWS_*, WAREHOUSE"}, {}).names("env_allow")
        ('AWS_*', 'WAREHOUSE')
        """
        return tuple(part for part in (p.strip() for p in self.values[name].split(",")) if part)


def load_settings(project: Project | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """All settings with their origin. Raises InvalidInput (`setting-invalid`) where a value has the wrong type."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    where: dict[str, str] = {}
    for setting in SETTINGS.values():
        if environ.get(setting.variable):
            values[setting.name], where[setting.name] = (
                _typed(setting, environ[setting.variable], setting.variable),
                "environment",
            )
        elif project is not None and setting.name in project.settings:
            values[setting.name], where[setting.name] = project.settings[setting.name], FILE
        else:
            values[setting.name], where[setting.name] = setting.default, "default"
    if not values["store"]:
        values["store"] = str(project.root / ".stead") if project else str(Path.home() / ".stead")
    elif project and where["store"] == FILE:
        values["store"] = str((project.root / values["store"]).resolve())
    return Settings(values, where)


def _typed(setting: Setting, text: str, name: str) -> Any:
    value: Any = text
    with suppress(ValueError):
        value = setting.type(text)
    if problem := setting.problem(value):
        raise InvalidInput("setting-invalid", f"{name} {problem}", hint=setting.help)
    return value
