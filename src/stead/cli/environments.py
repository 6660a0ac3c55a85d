"""`stead env`: what trainings and servings are made of, compared, checked and made here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stead.cli import output
from stead.cli.common import connect, follow, model_names, project_or_none
from stead.cli.output import Bar
from stead.errors import Failed, InvalidInput

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from stead.api import Caller
    from stead.config import Project
    from stead.environments import Environment
    from stead.models import LoggedModel
    from stead.store import Store

TARGET = "MODEL[@VERSION]|DIGEST"


@click.group()
def env() -> None:
    """Environments: locked with hashes, made when needed, compared and checked."""


@env.command("list")
@output.json_option
def env_list(as_json: bool) -> Any:
    """All locked environments."""
    found = connect().call("environments.list_environments")
    if as_json:
        return found
    rows = [
        (e.digest[:12], e.python, e.platform, len(e.packages), e.source.get("kind"), output.when(e.created_at))
        for e in found
    ]
    output.table(
        ("environment", "python", "platform", "packages", "from", "locked"),
        rows,
        right=(3,),
        empty="no environments yet",
    )
    return None


@env.command("show")
@click.argument("target", metavar=TARGET, shell_complete=model_names)
@output.json_option
def env_show(target: str, as_json: bool) -> Any:
    """The lock of an environment: requirements with hashes. Of a version also what its training computed with, as comments."""
    caller = connect()
    found, logged = _target(caller, target)
    lock = caller.get_blob(found.lock).decode()
    facts = dict(logged.info.get("facts") or {}) if logged else {}
    if as_json:
        import msgspec

        return {**msgspec.to_builtins(found), "lock": lock, "facts": facts}
    print(f"# environment {found.digest[:12]}, python {found.python}, {found.platform}")
    for name, value in facts.items():
        print(f"# {name}: {value}")
    print(lock, end="")
    return None


@env.command("diff")
@click.argument("ref", metavar="MODEL@VERSION", shell_complete=model_names)
@click.option("--all", "everything", is_flag=True, help="Also what is the same, and what only one of them has.")
@output.json_option
def env_diff(ref: str, everything: bool, as_json: bool) -> Any:
    """Training, serving and this machine in one table: packages, variables, processor, arithmetic libraries, threads.

    Of training it is what was recorded, of serving what a process of its environment has here, where it is made here.
    """
    caller = connect()
    version = caller.call("models.get_version", ref=ref)
    logged = caller.call("models.get_logged_model", id=version.logged_model)
    found = caller.call(
        "environments.compare",
        digests=[logged.environment, version.serving_environment],
        here=True,
        variables=[logged.info.get("train_env", {}), dict(version.serving_env)],
        equal=everything,
        facts=[logged.info.get("facts", {}), None],
    )
    shown = [d for d in found if everything or d.matters]
    if as_json:
        return shown
    output.table(
        ("package or fact", "training", "serving", "here"), [(d.name, *d.values) for d in shown], empty="all the same"
    )
    return None


@env.command("build")
@click.argument("target", metavar=f"{TARGET}|FILE", shell_complete=model_names)
@output.json_option
def env_build(target: str, as_json: bool) -> Any:
    """Make an environment on this machine and print its interpreter.

    Of a FILE (requirements.txt, pyproject.toml, a script with a PEP 723 header) a lock is made first.
    """
    from stead import environments

    caller = connect()
    store = _here(caller, "stead env build")
    with Bar() as bar:
        if _is_file(target):
            bar.show("locking", 0, None)
            digest = environments.lock(store, Path(target)).digest
        else:
            digest = _target(caller, target)[0].digest
        python = environments.ensure(store, digest, progress=bar.line)
    if as_json:
        return {"digest": digest, "python": str(python)}
    print(python)
    return None


@env.command("vendor")
@click.argument("target", metavar=TARGET, shell_complete=model_names)
@click.option("--no-wait", is_flag=True, help="Return when the job is queued; an agent does it.")
@output.json_option
def env_vendor(target: str, no_wait: bool, as_json: bool) -> Any:
    """Keep the wheels of an environment in the store: it can be made whatever becomes of the index."""
    caller = connect()
    job = caller.call("environments.vendor", digest=_target(caller, target)[0].digest)
    if no_wait:
        output.note(f"job {job.id[-12:]} waits: stead jobs log --follow {job.id[-12:]}")
        return job
    result = follow(caller, job).result or {}
    if not as_json:
        print(f"{result['kept']} wheels of {result['environment'][:12]} are kept, {result['new']} of them new")
    return result


@env.command("check")
@click.argument("target", metavar=f"[{TARGET}]", required=False, shell_complete=model_names)
@output.json_option
def env_check(target: str | None, as_json: bool) -> Any:
    """What of this interpreter, of the environment as it was made here and of this project contradicts a lock; exit code 1 where something does.

    Without an argument the lock is that of the newest version of the project's only model.
    """
    from stead import environments
    from stead.api import Embedded

    caller, project = connect(), project_or_none()
    if target is None:
        if project is None or len(project.models) != 1:
            raise InvalidInput("target-missing", "whose lock? name a model or an environment", hint="stead env list")
        (target,) = project.models
    found, logged = _target(caller, target)
    made = environments.made(caller.store, found.digest) if isinstance(caller, Embedded) else None
    asked = _asked(project, logged.name) if project and logged and logged.name in project.models else []
    rows = environments.check(found, made=made, asked=asked)
    if as_json:
        return rows
    if rows:
        output.table(("package or fact", *environments.CHECKED), [(d.name, *d.values) for d in rows])
    if logged:
        _tell_machine(logged)
    if rows:
        what = f"{len(rows)} of {len(found.packages)} packages and facts differ from the lock {found.digest[:12]}"
        raise Failed("environment-differs", what, hint=f"stead env build {target}")
    output.note(f"nothing differs from the lock {found.digest[:12]}")
    return None


def _tell_machine(logged: LoggedModel) -> None:
    """Say where this machine computes with something else than the training did; a result may then differ in its last digits."""
    from stead.runtime import computing

    then, now = logged.info.get("facts") or {}, computing.facts()
    for name in ("cpu", "cpu flags", "os", "interpreter"):
        if name in then and then[name] != now.get(name):
            output.note(f"{name}: trained with {then[name]}, here {now.get(name, 'nothing known')}")


def _asked(project: Project, model: str) -> list[Requirement]:
    from stead.environments import Requirements, read_requirements
    from stead.environments.requirements import checked
    from stead.pipelines.packing import requirements

    config = project.model(model)
    lines, file = requirements(project, config)
    read: Requirements = read_requirements(list(config.train.requirements) or file or lines)
    return [checked(line, "requirements") for line in read.lines]


def _target(caller: Caller, target: str) -> tuple[Environment, LoggedModel | None]:
    """An environment by its digest or by the version that was trained in it."""
    if len(target) >= 8 and set(target) <= set("0123456789abcdef"):
        return caller.call("environments.get", digest=target), None
    version = caller.call("models.get_version", ref=target)
    logged: LoggedModel = caller.call("models.get_logged_model", id=version.logged_model)
    return caller.call("environments.get", digest=logged.environment), logged


def _is_file(target: str) -> bool:
    return Path(target).suffix in (".txt", ".toml", ".py", ".in", ".lock") or Path(target).is_file()


def _here(caller: Caller, command: str) -> Store:
    """The store, where this process has it itself."""
    from stead.api import Embedded

    if not isinstance(caller, Embedded):
        raise InvalidInput(
            "not-on-this-machine",
            f"{command} works where the store is, and this is the client of {caller.url}",
            hint=f"there: {command}",
        )
    return caller.store
