"""Every setting (name, type, default, help) and the project file `stead.toml`.

There is little to configure. Settings come from the environment (`STEAD_…`), then from `[settings]` in `stead.toml`,
then from the default. What belongs to a model stands in `stead.toml` under `[models.NAME]`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_type_hints

import msgspec

from stead.errors import InvalidInput, NotFound, did_you_mean

Level = Literal["record", "train", "deploy", "manage"]
LEVELS: tuple[Level, ...] = ("record", "train", "deploy", "manage")
LOSSES = ("wape", "mae", "mse", "error", "log_loss", "brier")
FILE = "stead.toml"


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

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, or None."""
        if not isinstance(value, self.type) or isinstance(value, bool):
            return f"must be {self.type.__name__}, not {value!r}"
        if isinstance(value, int) and not self.least <= value <= self.most:
            return f"must be {self.least} to {self.most}, not {value}"
        return None

    @property
    def variable(self) -> str:
        return "STEAD_" + self.name.upper()


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
            "allowed_hosts", str, "", "Further host names, by commas, that requests to server and gateway may carry."
        ),
        Setting("workers", int, 2, "Worker processes for each environment that serves.", most=256),
        Setting("max_body_bytes", int, 16 << 20, "Largest request body that server and gateway accept."),
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
            "incident_webhook",
            str,
            "",
            "Address that incidents of severity page are posted to as JSON, or `env:NAME` or `file:/path` where it stands; `${NAME}` in it is a variable of the agent's environment.",
        ),
        Setting(
            "incident_command",
            str,
            "",
            "Command that gets incidents of severity page as JSON on its standard input; `${NAME}` as above.",
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


@dataclass(frozen=True)
class StageConfig:
    """How training or serving of a model differs from the rest: environment variables and other requirements."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that are set there, by name; `env:NAME` and `file:/path` name a secret, whose value is never stored."""
    requirements: tuple[str, ...] = ()
    """Requirement lines that are used there instead of the project's."""


SIGNALS = ("schedule", "data", "age", "incident", "loss", "proxy")
"""What may make stead train again, by name."""
ROLLOUTS = ("swap", "canary", "shadow", "ab")


@dataclass(frozen=True)
class PolicyConfig:
    """`[models.NAME.policy]`: when stead trains by itself, and how often at most. What is None follows from the level."""

    ingest: str = ""
    """Cron line by which new rows are ingested; empty for only when something is trained."""
    train: str = "0 4 1 * *"
    """Cron line of the trigger `schedule`."""
    time_zone: str = "UTC"
    """Zone of the cron lines; the model's own clock is UTC."""
    triggers: tuple[str, ...] | None = None
    """Signals that train again; by default schedule and incident at `train`, proxy and incident at `deploy`."""
    new_rows: int = 0
    """Rows that make the trigger `data`; 0 for none."""
    max_age: str = ""
    """Age of the champion that makes the trigger `age`, such as `90d`."""
    max_loss: float | None = None
    """Loss of the last 28 days that makes the trigger `loss`."""
    retrain_price: float = 1.0
    """What a retraining costs, in days of the champion's loss; the trigger `proxy` asks for two prices."""
    rest: str = "28d"
    """Least time between two trainings that stead decides on by itself, the schedule's apart."""
    retrains_a_day: int = 1
    """Trainings a day, of the model's clock, beyond which stead asks."""
    deployments_a_week: int = 2
    """Deployments a week beyond which stead asks."""


@dataclass(frozen=True)
class RolloutConfig:
    """`[models.NAME.rollout]`: how a version takes over."""

    kind: str | None = None
    """`swap`, `canary`, `shadow` or `ab`; by default swap up to `train` and canary at `deploy`."""
    steps: tuple[float, ...] = (0.25,)
    """Shares of the traffic, one after the other; the last step is followed by the whole."""
    rows: int = 30
    """Labelled rows that the new version's arm must have before a step decides anything."""
    days: int = 2
    """Days of the model's clock that a step lasts at least."""
    margin: float = 0.02
    """Harm that is still taken: a loss higher by this share of the champion's."""
    guards: tuple[str, ...] = ("errors", "latency", "outputs", "loss")
    """What takes a canary back when it breaks."""
    judge_days: int = 28
    """Days for which the version that was displaced, or taken back for its loss, goes on scoring aside, so that the decision
    can be judged; 0 for none. A swap by hand at level `record` has none either."""


@dataclass(frozen=True)
class GatesConfig:
    """`[models.NAME.gates]`: what a version must hold to."""

    slices: tuple[str, ...] = ()
    """Raw columns; on no value of theirs may a version be clearly worse than the champion."""
    size: float = 4.0
    """So many times the champion's bytes and time to answer are allowed."""


@dataclass(frozen=True)
class ModelConfig:
    """`[models.NAME]`: one model of a project."""

    name: str
    code: str
    """Python file with `ingest`, `features`, `train`; relative to the project."""
    target: str
    """Column that is predicted; its true value comes later as the label."""
    time: str | None = None
    """Column with the event time of a row, or None for rows without one."""
    loss: str = "mae"
    """What is measured at training and against labels: `wape`, `mae`, `mse`, `error`, `log_loss`, `brier`."""
    dataset: str = ""
    """Dataset that `ingest` adds to; the model's name where none is given."""
    label_delay: str = "0h"
    """How long after the event a label is known: `24h`, `7d`."""
    timeout_s: int = 3600
    """Seconds after which a training is given up."""
    ingest_overlap: str = ""
    """How far behind the newest rows `ingest` asks again, such as `2d`: for rows that come late or are put right."""
    window: str = ""
    """How far back a training looks, such as `180d`, or `all`; by default 12 months, or all where that is clearly better."""
    train: StageConfig = field(default_factory=StageConfig)
    serve: StageConfig = field(default_factory=StageConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    gates: GatesConfig = field(default_factory=GatesConfig)


@dataclass(frozen=True)
class Project:
    """A project: the folder with `stead.toml`, its environment and its models."""

    name: str
    """Name of the project that runs are filed under; the folder's where none is given."""
    root: Path
    python: str | None
    """Version of Python for training and serving, such as `3.12`; this one's where none is given."""
    requirements: tuple[str, ...] | str
    """Requirement lines, or the name of a file beside stead.toml (`requirements.txt`, `pyproject.toml`, a script)."""
    models: Mapping[str, ModelConfig]
    settings: Mapping[str, Any]

    def model(self, name: str) -> ModelConfig:
        """The configuration of a model. Raises NotFound (`model-unknown`)."""
        try:
            return self.models[name]
        except KeyError:
            raise NotFound(
                "model-unknown",
                f"stead.toml has no model {name!r}",
                hint=did_you_mean(name, self.models) or f"it has: {', '.join(self.models) or 'none'}",
            ) from None


def find_project(start: Path | None = None) -> Path | None:
    """The nearest folder, from `start` upwards, that holds a `stead.toml`; None where there is none."""
    folder = (start or Path.cwd()).resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / FILE).is_file():
            return candidate
    return None


def load_project(root: Path | None = None) -> Project:
    """Read `stead.toml`. Raises NotFound (`project-missing`) or InvalidInput with file, line, key and hint."""
    folder = root or find_project()
    if folder is None or not (folder / FILE).is_file():
        raise NotFound("project-missing", f"no {FILE} in {Path.cwd()} or above it", hint="stead init")
    return _Reader(folder / FILE).project()


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


class _Reader:
    """Reads one stead.toml; every complaint names file, line, key and what would be right."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.text = path.read_text(encoding="utf-8")
            self.data = tomllib.loads(self.text)
        except UnicodeDecodeError as error:
            raise InvalidInput(
                "project-invalid",
                f"{path}: no text in UTF-8: {error.reason} at byte {error.start}",
                hint="save it as UTF-8",
            ) from None
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(
                "project-invalid", f"{path}: {error}", hint="the line is not TOML: https://toml.io/en/v1.0.0"
            ) from None

    def project(self) -> Project:
        self._known(self.data, ("project", "models", "settings"), "")
        top = self._table(self.data, "project", "")
        self._known(top, ("name", "python", "requirements"), "project")
        models = self._table(self.data, "models", "")
        settings = self._table(self.data, "settings", "")
        self._known(settings, SETTINGS, "settings")
        for name, value in settings.items():
            if problem := SETTINGS[name].problem(value):
                self._fail(f"settings.{name}", problem, hint=SETTINGS[name].help)
        requirements = top.get("requirements", "")
        if not isinstance(requirements, str) and not (
            isinstance(requirements, list) and all(isinstance(r, str) for r in requirements)
        ):
            self._fail("project.requirements", "must be a file name or a list of requirement lines", hint='["pandas"]')
        python = self._string(top, "python", "project", "")
        if python and not re.fullmatch(r"3\.\d+(\.\d+)?", python):
            self._fail("project.python", f"is {python!r}", hint='python = "3.12"')
        return Project(
            name=self._name(self._string(top, "name", "project", self.path.parent.name), "project.name"),
            root=self.path.parent,
            python=python or None,
            requirements=requirements if isinstance(requirements, str) else tuple(requirements),
            models={name: self._model(name, models) for name in models},
            settings=settings,
        )

    def _model(self, name: str, models: dict[str, Any]) -> ModelConfig:
        where = f"models.{name}"
        self._name(name, where)
        table = self._table(models, name, "models")
        if "level" in table:
            problem = "is no line of this file: who acts is kept with the model, so that each change is recorded"
            self._fail(f"{where}.level", problem, hint=f"stead level {name} train")
        self._known(table, ModelConfig.__dataclass_fields__.keys() - {"name"}, where)
        for key in ("code", "target"):
            if key not in table:
                self._fail(where, f"needs {key!r}", hint=f'{key} = "…"')
        loss = self._string(table, "loss", where, "mae")
        if loss not in LOSSES:
            self._fail(
                f"{where}.loss", f"is {loss!r}", hint=did_you_mean(loss, LOSSES) or f"one of {', '.join(LOSSES)}"
            )
        timeout = table.get("timeout_s", 3600)
        if type(timeout) is not int or not 0 < timeout < 1 << 40:
            self._fail(
                f"{where}.timeout_s", f"must be a positive number of seconds, not {timeout!r}", hint="timeout_s = 3600"
            )
        code = self._string(table, "code", where, "")
        resolved = (self.path.parent / code).resolve()
        if not resolved.is_relative_to(self.path.parent.resolve()):
            self._fail(f"{where}.code", f"{code!r} lies outside the project", hint="a path relative to stead.toml")
        if not resolved.is_file() or resolved.suffix != ".py":
            self._fail(
                f"{where}.code",
                f"there is no file {code!r}" if not resolved.is_file() else f"{code!r} is no Python file",
                hint="a Python file with ingest, features and train",
            )
        delay = self._string(table, "label_delay", where, "0h")
        self._duration(delay, f"{where}.label_delay")
        overlap = self._string(table, "ingest_overlap", where, "")
        if overlap:
            self._duration(overlap, f"{where}.ingest_overlap")
        window = self._string(table, "window", where, "")
        if window not in ("", "all"):
            self._duration(window, f"{where}.window")
        target, time = self._string(table, "target", where, ""), self._string(table, "time", where, "") or None
        if not target or target == time:
            self._fail(f"{where}.target", f"is {target!r}", hint="the column that is predicted, another one than time")
        return ModelConfig(
            name=name,
            code=code,
            target=target,
            time=time,
            loss=loss,
            dataset=self._name(self._string(table, "dataset", where, "") or name, f"{where}.dataset"),
            label_delay=delay,
            timeout_s=timeout,
            train=self._stage(table, "train", where),
            serve=self._stage(table, "serve", where),
            policy=self._policy(table, where),
            rollout=self._rollout(table, where),
            window=window,
            ingest_overlap=overlap,
            gates=self._gates(table, where),
        )

    def _gates(self, parent: dict[str, Any], where: str) -> GatesConfig:
        table = self._filled(GatesConfig, parent, "gates", where)
        if table.get("size", 1.0) < 1:
            self._fail(f"{where}.gates.size", f"is {table['size']}, and must be 1 at least", hint="size = 4")
        return GatesConfig(**table)

    def _policy(self, parent: dict[str, Any], where: str) -> PolicyConfig:
        table = self._filled(PolicyConfig, parent, "policy", where)
        where = f"{where}.policy"
        for key in ("ingest", "train"):
            if table.get(key):
                self._cron(table[key], f"{where}.{key}")
        if "time_zone" in table:
            self._zone(table["time_zone"], f"{where}.time_zone")
        for key in ("max_age", "rest"):
            if table.get(key):
                self._duration(table[key], f"{where}.{key}")
        self._all_of("triggers", table, SIGNALS, where)
        for key in ("retrains_a_day", "deployments_a_week", "retrain_price", "new_rows"):
            if table.get(key, 1) < 0:
                self._fail(f"{where}.{key}", f"is {table[key]}, below nothing", hint=f"{key} = 1")
        return PolicyConfig(**table)

    def _rollout(self, parent: dict[str, Any], where: str) -> RolloutConfig:
        table = self._filled(RolloutConfig, parent, "rollout", where)
        where = f"{where}.rollout"
        if (kind := table.get("kind")) is not None and kind not in ROLLOUTS:
            hint = did_you_mean(kind, ROLLOUTS) or f"one of {', '.join(ROLLOUTS)}"
            self._fail(f"{where}.kind", f"is {kind!r}", hint=hint)
        steps = table.get("steps", (0.25,))
        if not steps or any(not 0 < step < 1 for step in steps) or list(steps) != sorted(set(steps)):
            self._fail(f"{where}.steps", "must be rising shares between 0 and 1", hint="steps = [0.1, 0.5]")
        for key, least in (("rows", 1), ("days", 0), ("margin", 0)):
            if key in table and table[key] < least:
                self._fail(f"{where}.{key}", f"is {table[key]}, and must be {least} at least", hint=f"{key} = {least}")
        self._all_of("guards", table, RolloutConfig().guards, where)
        return RolloutConfig(**table)

    def _filled(self, kind: type, parent: dict[str, Any], key: str, where: str) -> dict[str, Any]:
        """A table with the fields of a dataclass, each of the field's type; lists as tuples."""
        table = dict(self._table(parent, key, where))
        types = get_type_hints(kind)
        self._known(table, types, f"{where}.{key}")
        for name, value in table.items():
            if isinstance(value, int) and not isinstance(value, bool) and types[name] in (float, float | None):
                value = float(value)
            elif isinstance(value, list):
                value = tuple(float(v) if isinstance(v, int) and types[name] == tuple[float, ...] else v for v in value)
            try:
                table[name] = msgspec.convert(value, types[name])
            except msgspec.ValidationError as error:
                self._fail(f"{where}.{key}.{name}", f"cannot be {value!r}: {error}")
        return table

    def _all_of(self, key: str, table: dict[str, Any], known: Sequence[str], where: str) -> None:
        for name in table.get(key) or ():
            if name not in known:
                hint = did_you_mean(name, known) or f"known are: {', '.join(known)}"
                self._fail(f"{where}.{key}", f"names {name!r}, which is none", hint=hint)

    def _cron(self, line: str, key: str) -> None:
        from cronsim import CronSim, CronSimError

        try:
            next(CronSim(line, datetime(2024, 1, 1)))
        except (CronSimError, StopIteration) as error:
            self._fail(
                key, f"{line!r} is no cron line: {error}", hint='"0 4 1 * *" is the first of a month at 4 o\'clock'
            )

    def _zone(self, name: str, key: str) -> None:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            self._fail(key, f"{name!r} is no time zone", hint='"UTC" or "Europe/Berlin"')

    def _duration(self, text: str, key: str) -> None:
        try:
            duration_ms(text)
        except InvalidInput as error:
            self._fail(key, error.message, hint=error.hint)

    def _stage(self, table: dict[str, Any], key: str, where: str) -> StageConfig:
        stage = self._table(table, key, where)
        where = f"{where}.{key}"
        self._known(stage, ("env", "requirements"), where)
        env = self._table(stage, "env", where)
        for name, value in env.items():
            if not isinstance(value, str):
                self._fail(f"{where}.env.{name}", f"must be a string, not {value!r}", hint=f'{name} = "{value}"')
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
                self._fail(f"{where}.env.{name}", "is no environment variable", hint='TZ = "UTC"')
        requirements = stage.get("requirements", [])
        if not isinstance(requirements, list) or not all(isinstance(r, str) for r in requirements):
            self._fail(f"{where}.requirements", "must be a list of requirement lines", hint='requirements = ["pandas"]')
        return StageConfig(env=dict(env), requirements=tuple(requirements))

    def _table(self, parent: dict[str, Any], key: str, where: str) -> dict[str, Any]:
        value = parent.get(key, {})
        if not isinstance(value, dict):
            self._fail(
                f"{where}.{key}".lstrip("."),
                f"must be a table, not {value!r}",
                hint=f"[{where}.{key}]".replace("[.", "["),
            )
        return value  # type: ignore[no-any-return]

    def _string(self, table: dict[str, Any], key: str, where: str, default: str) -> str:
        value = table.get(key, default)
        if not isinstance(value, str):
            self._fail(f"{where}.{key}", f"must be a string, not {value!r}", hint=f'{key} = "{value}"')
        return value  # type: ignore[no-any-return]

    def _name(self, name: str, where: str) -> str:
        try:
            return checked_name(name)
        except InvalidInput as error:
            self._fail(where, error.message, hint=error.hint)
            raise AssertionError from None

    def _known(self, table: dict[str, Any], known: Iterable[str], where: str) -> None:
        for key in table:
            if key not in known:
                self._fail(
                    f"{where}.{key}".lstrip("."),
                    "is not known",
                    hint=did_you_mean(key, known) or f"known here: {', '.join(sorted(known))}",
                )

    def _fail(self, key: str, problem: str, *, hint: str | None = None) -> None:
        line = self._line(key)
        raise InvalidInput(
            "project-invalid",
            f"{self.path}, line {line}: {key} {problem}",
            hint=hint,
            file=str(self.path),
            line=line,
            key=key,
        )

    def _line(self, key: str) -> int:
        """The line where a dotted key stands, or its nearest table."""
        parts = key.split(".")
        lines = self.text.splitlines()
        table, best = "", 1
        for number, text in enumerate(lines, 1):
            header = re.match(r"\s*\[\s*([^\]]+?)\s*\]", text)
            if header:
                table = header[1].replace('"', "")
                if key == table or key.startswith(table + "."):
                    best = number
            elif (entry := re.match(r"\s*([A-Za-z0-9_\"'.-]+)\s*=", text)) is not None:
                name = f"{table}.{entry[1].strip(chr(34))}".lstrip(".")
                if name == key or (key.startswith(name + ".") and len(parts) > 1):
                    return number
        return best


def checked_name(name: str) -> str:
    """A name fit for a model, dataset or project. Raises InvalidInput (`name-invalid`).

    >>> checked_name("demand-2")
    'demand-2'
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) or ".." in name:
        raise InvalidInput(
            "name-invalid",
            f"{name!r} is no name",
            hint="letters, digits, '.', '_' and '-', at most 100, a letter or digit first",
        )
    return name


_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def duration_ms(text: str) -> int:
    """
    >>> duration_ms("24h"), duration_ms("7d")
    (86400000, 604800000)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", text)
    if not match:
        raise InvalidInput("duration-invalid", f"{text!r} is no duration", hint="write it as 30s, 15m, 24h, 7d or 2w")
    return int(float(match[1]) * _UNITS[match[2]])


def size_text(count: float | None) -> str:
    """A number of bytes, for people.

    >>> size_text(1536), size_text(None)
    ('1.5 kB', '–')
    """
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GB"
