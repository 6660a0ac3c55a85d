"""What several commands share: the caller, references, and waiting for a job."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from stead.cli.output import Bar, note
from stead.config import LEVELS, Project, Settings, find_project, load_loosely, load_project, load_settings
from stead.errors import Failed, InvalidInput, NotFound, SteadError, Unreachable, from_dict

if TYPE_CHECKING:
    from stead.api import Caller
    from stead.jobs import Job
    from stead.policies import Standing


LOOK_S = 1.0


def project_or_none() -> Project | None:
    root = find_project()
    return load_project(root) if root else None


def settings() -> Settings:
    """The settings in force in this folder."""
    return load_settings(project_or_none())


def settings_anyway() -> Settings:
    """The settings in force, with a warning where stead.toml is wrong: for commands that end, show or go back."""
    root = find_project()
    try:
        return settings()
    except InvalidInput as error:
        if root is None:
            raise
        loose = load_settings(load_loosely(root))
        note(f"warning: {error.message}; it goes by the rest of the settings, store {loose.store}")
        return loose


def connect(chosen: Settings | None = None) -> Caller:
    from stead.api import connect

    return connect(chosen or settings())


def model_names(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """What the shell completes where a model is named: those of stead.toml and of the store."""
    names: set[str] = set()
    with suppress(SteadError):
        project = project_or_none()
        names |= set(project.models) if project else set()
        names |= {model.name for model in connect().call("models.list_models")}
    return sorted(name for name in names if name.startswith(begun))


def dataset_names(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """What the shell completes where a dataset is named."""
    with suppress(SteadError):
        found = {version.dataset for version in connect().call("datasets.list_datasets")}
        return sorted(name for name in found if name.startswith(begun))
    return []


def level_names(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """What the shell completes where a level is named."""
    return [level for level in LEVELS if level.startswith(begun)]


def push_project(caller: Caller, model: str) -> Standing:
    """Hand the code and the policy of a model of this folder's project over. Raises NotFound, InvalidInput."""
    from stead.pipelines import pack

    project = load_project()
    spec, config = pack(project, model, caller.put_blob), project.model(model)
    pushed: Standing = caller.call(
        "policies.push", model=model, spec=spec, policy=config.policy, rollout=config.rollout
    )
    return pushed


def split_ref(ref: str) -> tuple[str, int | None]:
    """`demand@3` → name and version; `demand` → name and None. Raises InvalidInput (`version-invalid`)."""
    name, _, version = ref.partition("@")
    if not version:
        return name, None
    if not version.isdigit() or int(version) < 1:
        raise InvalidInput("version-invalid", f"{version!r} is no version number", hint=f"{name}@1")
    return name, int(version)


def looks_at(caller: Caller, model: str | None, versions: Collection[int | None] | None = None) -> None:
    """Keep that the person looks at the versions of a model that wait for approval (of all models, all versions where None is given).

    What they decide is measured from there. It is in nobody's way: who may not decide, or where it cannot be written, looks all the same.
    """
    with suppress(SteadError):
        for each in caller.call("policies.list_approvals", model=model):
            if versions is None or each.version in versions:
                caller.call("maturity.begin_review", retraining=each.id)


class Moment(click.ParamType[int]):
    """A time, as milliseconds: 2012-01-31, 2012-01-31T13:00, with or without a zone (UTC)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from stead.runtime.clock import to_ms

        return value if isinstance(value, int) else to_ms(str(value))


MOMENT = Moment()


class Number(click.ParamType[float]):
    """A number that a database can keep and JSON can tell: neither NaN nor infinite."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InvalidInput("number-invalid", f"{value!r} is no number", hint="2.5")
        return number


NUMBER = Number()


def gateway_url(caller: Caller) -> str:
    """Address of a gateway that runs. Raises Unreachable (`gateway-missing`)."""
    alive = caller.call("serving.gateways", alive=True)
    if not alive:
        raise Unreachable("gateway-missing", "no gateway runs", hint="stead up --background")
    return _reachable(str(alive[0].url), caller.url)


def _reachable(gateway: str, server: str | None) -> str:
    """A gateway that listens on every address is reached by the name that the server was reached by.

    >>> _reachable("http://0.0.0.0:7701", "http://ml.example:7700"), _reachable("http://0.0.0.0:7701", None)
    ('http://ml.example:7701', 'http://127.0.0.1:7701')
    """
    parts = urlsplit(gateway)
    if parts.hostname not in ("0.0.0.0", "::"):
        return gateway
    host = urlsplit(server).hostname if server else "127.0.0.1"
    return f"{parts.scheme}://{f'[{host}]' if host and ':' in host else host}:{parts.port}"


def ensure_up(caller: Caller) -> str | None:
    """Start `stead up` in the background where nothing runs for this store; returns a line that says so, or None."""
    if caller.url is not None or (_up_here(caller) and caller.call("serving.gateways", alive=True)):
        return None
    from stead.processes.supervisor import start_in_background

    state = start_in_background(caller.settings)
    return f"started stead in the background: {where_it_is(state)} (stead status, stead down)"


def where_it_is(state: dict[str, Any]) -> str:
    """Addresses of what `stead up` started, in words.

    >>> where_it_is({"server": "http://a:1", "gateway": None}), where_it_is({"server": None, "gateway": None})
    ('pages at http://a:1', 'the agent alone')
    """
    named = (("pages", state["server"]), ("gateway", state["gateway"]))
    return ", ".join(f"{name} at {url}" for name, url in named if url) or "the agent alone"


def _agent_runs(caller: Caller) -> bool:
    return _up_here(caller) and bool(caller.call("jobs.agent_alive"))


def _up_here(caller: Caller) -> bool:
    """Whether what a store says of its processes can be so: one on SQLite that was copied tells of those of the other one."""
    from stead.api import Embedded
    from stead.processes import lifeline

    if not isinstance(caller, Embedded) or not caller.store.db.is_sqlite:
        return True
    return lifeline.is_up(caller.store.root)


def follow(caller: Caller, job: Job) -> Job:
    """Show a job's progress and log until it ends; do it here where no agent runs. Raises the error that it ended with."""
    done: Job | None = None
    with Bar(only_bar=True) as bar:
        while done is None:
            here = caller.url is None and not _agent_runs(caller)
            done = _do_here(caller, job, bar) if here else _watch(caller, job, bar)
    if done.state == "cancelled":
        raise Failed("job-cancelled", f"job {done.id[-12:]} was cancelled")
    if done.state == "failed":
        raise from_dict(
            {"error": {"code": "job-failed", "message": "the job failed", "kind": _kind(done), **(done.error or {})}}
        )
    return done


def _kind(job: Job) -> str:
    return str((job.error or {}).get("kind", "Failed"))


def _watch(caller: Caller, job: Job, bar: Bar) -> Job | None:
    """What an agent makes of a job; None where it is to be done here, since no agent is left."""
    after, looked, alone = 0, time.monotonic(), False
    try:
        while True:
            current: Job = caller.call("jobs.get_job", job_id=job.id)
            for seq, _, text in caller.call("jobs.job_log", job_id=job.id, after=after):
                after = seq
                _show_log(bar, text)
            if current.progress:
                bar.show(current.progress.doing, current.progress.done, current.progress.total)
            if current.ended_at is not None:
                return current
            if not alone and time.monotonic() - looked > LOOK_S:
                looked, alone = time.monotonic(), not _agent_runs(caller)
                if alone and caller.url is None:
                    bar.line("no agent runs any more: the job goes on here")
                    return None
                if alone:
                    bar.line(f"no agent runs at {caller.url}: the job waits for one")
            time.sleep(0.1)
    except KeyboardInterrupt:
        bar.line(f"the job goes on: stead jobs show {job.id[-12:]}; stead jobs cancel {job.id[-12:]}")
        raise


def _do_here(caller: Caller, job: Job, bar: Bar) -> Job:
    from stead import jobs
    from stead.api import Embedded
    from stead.processes.handlers import handlers

    assert isinstance(caller, Embedded)
    owner = f"command-{os.getpid()}"
    mine, limits = handlers(caller.settings), jobs.Limits.of(caller.settings)
    echo = partial(_show_log, bar)
    while True:
        worked = jobs.work(caller.store, mine, owner=owner, job_id=job.id, echo=echo, limits=limits)
        current = worked or jobs.get_job(caller.store, job.id)
        if current.ended_at is not None:
            return current
        time.sleep(0.2)


def _show_log(bar: Bar, text: str) -> None:
    for line in text.splitlines():
        bar.line(f"  {line}")


def read_text(path: str) -> str:
    """A file's text, or standard input for `-`. Raises NotFound (`file-missing`), InvalidInput (`file-invalid`)."""
    try:
        return (sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()).decode()
    except FileNotFoundError:
        raise NotFound("file-missing", f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(
            "file-invalid", f"{path} is no text in UTF-8: {error.reason} at byte {error.start}"
        ) from None
