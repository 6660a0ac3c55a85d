"""Reading `stead.toml`: every complaint names file, line, key and what would be right."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from stead.config.facts import FACTS, fact_problem
from stead.config.settings import SETTINGS
from stead.config.types import (
    EXECUTORS,
    FILE,
    LOSSES,
    ORDERS,
    ROLLOUTS,
    SIGNALS,
    GatesConfig,
    ModelConfig,
    PolicyConfig,
    Project,
    RolloutConfig,
    ServeConfig,
    StageConfig,
    TrainConfig,
)
from stead.config.units import checked_name, duration_ms
from stead.errors import InvalidInput, NotFound, did_you_mean


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


def load_loosely(root: Path) -> Project:
    """No more of a project than the settings that are right, whatever else is wrong in its file.

    It is enough to end and to show what runs. Raises InvalidInput where the file is not TOML or its `store` is wrong.
    """
    reader = _Reader(root / FILE)
    found = reader.data.get("settings")
    settings = found if isinstance(found, dict) else {}
    right = {name: v for name, v in settings.items() if name in SETTINGS and SETTINGS[name].problem(v) is None}
    if "store" in settings and "store" not in right:
        reader.project()
    return Project(name=root.name, root=root, python=None, requirements="", models={}, settings=right)


NUMBERS = {"age": ("max_age", '"90d"'), "loss": ("max_loss", "0.2"), "data": ("new_rows", "10000")}
"""Triggers that fire by a number: its key and an example."""


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
            self._fail(
                f"{where}.code", f"names {code!r}, which lies outside the project", hint="a path relative to stead.toml"
            )
        if not resolved.is_file() or resolved.suffix != ".py":
            self._fail(
                f"{where}.code",
                f"names {code!r}, and there is no such file"
                if not resolved.is_file()
                else f"names {code!r}, which is no Python file",
                hint="a Python file with ingest, features and train",
            )
        delay = table.get("label_delay", "0h")
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
            train=self._train(table, where),
            serve=self._serve(table, where),
            policy=self._policy(table, where),
            rollout=self._rollout(table, where),
            window=window,
            ingest_overlap=overlap,
            gates=self._gates(table, where),
            **self._facts(table, where),
        )

    def _facts(self, table: dict[str, Any], where: str) -> dict[str, Any]:
        """Whose the model is, how much it matters, and what its loss costs; a value and its currency only together."""
        given = {key: table[key] for key in FACTS if key in table}
        for key, value in given.items():
            if problem := fact_problem(key, value):
                self._fail(f"{where}.{key}", problem[0], hint=problem[1])
        for key, other, example in (("loss_value", "currency", '"EUR"'), ("currency", "loss_value", "0.02")):
            if key in given and other not in given:
                self._fail(f"{where}.{key}", f"says nothing without {other}", hint=f"{other} = {example}")
        return given

    def _gates(self, parent: dict[str, Any], where: str) -> GatesConfig:
        table = self._filled(GatesConfig, parent, "gates", where)
        if table.get("size", 1.0) < 1:
            self._fail(f"{where}.gates.size", f"is {table['size']}, and must be 1 at least", hint="size = 4")
        if table.get("margin", 1.0) <= 0:
            self._fail(f"{where}.gates.margin", f"is {table['margin']}, and must be above 0", hint="margin = 0.05")
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
        self._numbers(PolicyConfig(**table), where)
        return PolicyConfig(**table)

    def _numbers(self, policy: PolicyConfig, where: str) -> None:
        """A trigger has its number, and a number its trigger: either alone does nothing."""
        named = policy.triggers or ()
        for trigger, (key, example) in NUMBERS.items():
            given = getattr(policy, key) != getattr(PolicyConfig(), key)
            if trigger in named and not given:
                problem = f"names {trigger!r}, which never fires without {key}"
                self._fail(f"{where}.triggers", problem, hint=f"{key} = {example}", name=trigger)
            if given and trigger not in named:
                problem = f"does nothing: triggers do not name {trigger!r}"
                listed = ", ".join(f'"{each}"' for each in (*(named or ("schedule", "incident")), trigger))
                self._fail(f"{where}.{key}", problem, hint=f"triggers = [{listed}]")

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
                if "tuple" in str(types[name]) and isinstance(value, str | int | float):
                    hint = f"{name} = [{msgspec.json.encode(value).decode()}]"
                    self._fail(f"{where}.{key}.{name}", f"must be a list, not {value!r}", hint=hint)
                self._fail(f"{where}.{key}.{name}", f"cannot be {value!r}: {error}")
        return table

    def _all_of(self, key: str, table: dict[str, Any], known: Sequence[str], where: str) -> None:
        for name in table.get(key) or ():
            if name not in known:
                hint = did_you_mean(name, known) or f"known are: {', '.join(known)}"
                self._fail(f"{where}.{key}", f"names {name!r}, which is none", hint=hint, name=name)

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

    def _duration(self, text: Any, key: str) -> None:
        try:
            duration_ms(text if isinstance(text, str) else repr(text))
        except InvalidInput as error:
            self._fail(key, error.message, hint=error.hint)

    def _train(self, table: dict[str, Any], where: str) -> TrainConfig:
        stage = self._stage(table, "train", where, also=("threads", "seed", "order", "executor", "resources"))
        given = self._table(table, "train", where)
        numbers = {}
        for name, least, most in (("threads", 1, 1024), ("seed", 0, 2**32 - 1)):
            value = numbers[name] = given.get(name, getattr(TrainConfig, name))
            if type(value) is not int or not least <= value <= most:
                problem = f"must be a whole number from {least} to {most}, not {value!r}"
                self._fail(f"{where}.train.{name}", problem, hint=f"{name} = {least}")
        order = given.get("order", TrainConfig.order)
        if order not in ORDERS:
            hint = did_you_mean(str(order), ORDERS) or f"one of {', '.join(ORDERS)}"
            self._fail(f"{where}.train.order", f"is {order!r}", hint=hint)
        if given.get("order") == "time" and not table.get("time"):
            self._fail(f"{where}.train.order", "is 'time', and no column is named as it", hint='time = "…"')
        executor = self._string(given, "executor", f"{where}.train", TrainConfig.executor)
        if executor not in EXECUTORS:
            hint = did_you_mean(executor, EXECUTORS) or f"one of {', '.join(EXECUTORS)}"
            self._fail(f"{where}.train.executor", f"is {executor!r}", hint=hint)
        resources = self._table(given, "resources", f"{where}.train")
        for name, amount in resources.items():
            if type(amount) not in (int, float) or not 0 <= amount < 1 << 40:
                problem = f"must be a number, not {amount!r}"
                self._fail(f"{where}.train.resources.{name}", problem, hint="resources = { cpu = 4, gpu = 1 }")
        if resources and executor == "local":
            self._fail(f"{where}.train.resources", "says what a step takes of a cluster", hint='executor = "ray"')
        return TrainConfig(
            stage.env,
            stage.requirements,
            stage.image,
            **numbers,
            order=order,
            executor=executor,
            resources=dict(resources),
        )

    def _serve(self, table: dict[str, Any], where: str) -> ServeConfig:
        stage = self._stage(table, "serve", where, also=("fast",))
        fast = self._table(table, "serve", where).get("fast", True)
        if type(fast) is not bool:
            self._fail(f"{where}.serve.fast", f"must be true or false, not {fast!r}", hint="fast = false")
        return ServeConfig(stage.env, stage.requirements, stage.image, fast=fast)

    def _stage(self, table: dict[str, Any], key: str, where: str, also: Sequence[str] = ()) -> StageConfig:
        stage = self._table(table, key, where)
        where = f"{where}.{key}"
        self._known(stage, ("env", "requirements", "image", *also), where)
        env = self._table(stage, "env", where)
        for name, value in env.items():
            if not isinstance(value, str):
                self._fail(f"{where}.env.{name}", f"must be a string, not {value!r}", hint=f'{name} = "{value}"')
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
                self._fail(f"{where}.env.{name}", "is no environment variable", hint='TZ = "UTC"')
        requirements = stage.get("requirements", [])
        if not isinstance(requirements, list) or not all(isinstance(r, str) for r in requirements):
            self._fail(f"{where}.requirements", "must be a list of requirement lines", hint='requirements = ["pandas"]')
        image = stage.get("image", False)
        if not isinstance(image, bool):
            self._fail(f"{where}.image", f"must be true or false, not {image!r}", hint="image = true")
        return StageConfig(env=dict(env), requirements=tuple(requirements), image=image)

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

    def _fail(self, key: str, problem: str, *, hint: str | None = None, name: str = "") -> None:
        line = self._line_of(key, name)
        raise InvalidInput(
            "project-invalid",
            f"{self.path}, line {line}: {key} {problem}",
            hint=hint,
            file=str(self.path),
            line=line,
            key=key,
        )

    def _line_of(self, key: str, name: str) -> int:
        """The line of a name in the list of a key, which may go over several; the key's without one."""
        first = self._line(key)
        for number, text in enumerate(self.text.splitlines()[first - 1 :], first):
            if name and re.search(rf"""["']{re.escape(name)}["']""", text):
                return number
            if "]" in text:
                break
        return first

    def _line(self, key: str) -> int:
        """The line where a dotted key stands, or its nearest table."""
        parts = key.split(".")
        lines = self.text.splitlines()
        table, best = "", 0
        for number, text in enumerate(lines, 1):
            header = re.match(r"\s*\[\s*([^\]]+?)\s*\]", text)
            if header:
                table = header[1].replace('"', "")
                if key == table or key.startswith(table + ".") or (not best and table.startswith(key + ".")):
                    best = number
            elif (entry := re.match(r"\s*([A-Za-z0-9_\"'.-]+)\s*=", text)) is not None:
                name = f"{table}.{entry[1].strip(chr(34))}".lstrip(".")
                if name == key or (key.startswith(name + ".") and len(parts) > 1):
                    return number
        return best or 1
