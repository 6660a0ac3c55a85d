"""`stead models` and `stead env`."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stead.cli import output
from stead.cli.common import NUMBER, connect, follow, looks_at, model_names, split_ref
from stead.cli.signing import signers
from stead.errors import Failed, InvalidInput, NotFound
from stead.runtime.ids import new_id
from stead.runtime.journal import clean_path

if TYPE_CHECKING:
    from stead.api import Caller


@click.group()
def models() -> None:
    """Models and their versions."""


@models.command("list")
@output.json_option
def models_list(as_json: bool) -> Any:
    """All models."""
    caller = connect()
    found = caller.call("models.list_models")
    if as_json:
        return found
    rows = [
        (
            m.name,
            m.level,
            m.loss,
            m.versions,
            f"v{m.aliases['champion']}" if "champion" in m.aliases else None,
            output.when(m.updated_at),
        )
        for m in found
    ]
    output.table(
        ("model", "level", "loss", "versions", "champion", "changed"),
        rows,
        right=(3,),
        empty="no models yet (stead train MODEL, or stead.log_model in a notebook)",
    )
    return None


@models.command("show")
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
@output.json_option
def models_show(ref: str, as_json: bool) -> Any:
    """A model with its versions, or one version with its lineage."""
    caller = connect()
    name, number = split_ref(ref)
    if number is None:
        model, versions = caller.call("models.get_model", name=name), caller.call("models.list_versions", model=name)
        if as_json:
            return {"model": model, "versions": versions}
        output.facts(
            [
                ("model", model.name),
                ("level", model.level),
                ("owner", model.owner or f"nobody (stead models set {name} --owner NAME)"),
                ("importance", model.importance),
                ("loss", model.loss),
                ("a unit of it costs", model.loss_value and f"{model.loss_value:g} {model.currency}"),
                ("aliases", ", ".join(f"{a} v{v}" for a, v in model.aliases.items()) or None),
            ]
        )
        known = {each.id: each for each in caller.call("models.list_logged_models", model=name, limit=1000)}
        rows = []
        for version in versions:
            logged = known.get(version.logged_model) or caller.call("models.get_logged_model", id=version.logged_model)
            rows.append(
                (
                    f"v{version.version}",
                    ", ".join(version.aliases) or None,
                    logged.flavor,
                    *(logged.metrics.get(k) for k in ("holdout_random", "holdout_time")),
                    version.created_by,
                    output.when(version.created_at),
                )
            )
        output.table(
            ("version", "alias", "flavor", "random hold-out", "hold-out in time", "by", "made"), rows, right=(3, 4)
        )
        return None
    version = caller.call("models.get_version", ref=ref)
    logged = caller.call("models.get_logged_model", id=version.logged_model)
    origin = caller.call("lineage.trace", ref=f"version:{version.ref}", direction="up")
    verdicts = list(reversed(caller.call("gates.list_verdicts", model=version.model, version=version.version)))
    again = caller.call("pipelines.list_reproductions", model=version.model, version=version.version)
    path = caller.call("serving.get_fast_path", model=version.model, version=version.version)
    route = caller.call("serving.get_route", model=version.model)
    if as_json:
        return {
            "fast_path": path,
            "fast": bool(route and version.version in route.fast),
            "version": version,
            "logged_model": logged,
            "lineage": origin.arrows,
            "verdicts": verdicts,
            "reproductions": again,
        }
    looks_at(caller, version.model, [version.version])
    output.facts(
        [
            ("version", version.ref),
            ("aliases", ", ".join(version.aliases) or None),
            ("flavor", logged.flavor + (" (a pickle: loading it runs code)" if logged.info.get("pickle") else "")),
            ("run", version.run_id),
            ("environment", logged.environment[:12]),
            (
                "serves in",
                version.serving_environment[:12] + (", in containers of its image" if version.serving_image else ""),
            ),
            ("variables when it serves", version.serving_env or None),
            ("answers by", path and _path_said(path, bool(route and version.version in route.fast))),
            ("by", f"{version.created_by}, {output.when(version.created_at)}"),
        ]
    )
    for name, value in logged.metrics.items():
        print(f"  {name:20} {value:.4f}")
    inputs = (logged.signature or {}).get("inputs", [])
    if inputs:
        print("takes " + ", ".join(f"{field.get('name', '')} ({field.get('type')})" for field in inputs))
    for verdict in verdicts:
        print(f"gate {verdict.gate} {verdict.outcome}: {verdict.summary}")
    for each in again:
        print(f"made again {output.when(each.at)}: {each.said}")
    for arrow in origin.arrows:
        print(f"  {arrow.source} → {arrow.target}  {arrow.relation}")
    return None


def _path_said(path: Any, taken: bool) -> str:
    if path.state != "ready":
        return f"its library; no fast path: {path.said}"
    return f"its fast path, {path.said}" if taken else f"its library; a fast path is known: {path.said}"


@models.command("accelerate")
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
@click.option("--off", is_flag=True, help="Go the usual path again, at once and without a request failing.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the end.")
@output.json_option
def models_accelerate(ref: str, off: bool, no_wait: bool, as_json: bool) -> Any:
    """Put a version into ONNX, and serve that where it answers the same as its library does, and sooner.

    Both are asked for the stored rows and the newest logged ones, and timed. What serves the version takes it up by itself.
    """
    caller = connect()
    version = caller.call("models.get_version", ref=ref)
    if off:
        caller.call("serving.set_fast", model=version.model, version=version.version, fast=False)
        output.note(f"{version.ref} goes its usual path")
        return None
    job = caller.call("gates.accelerate", ref=version.ref)
    if no_wait:
        output.note(f"job {job.id[-12:]} waits: stead jobs log --follow {job.id[-12:]}")
        return job
    follow(caller, job)
    path = caller.call("serving.get_fast_path", model=version.model, version=version.version)
    if as_json:
        return path
    print(f"{version.ref}: {path.said}" if path.state == "ready" else f"{version.ref} is served as before: {path.said}")
    return None


@models.command("get")
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
@click.argument("folder", type=click.Path(path_type=Path))
def models_get(ref: str, folder: Path) -> None:
    """Write a version's files into FOLDER, in the layout that MLflow and `stead.log_model` read."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput("folder-not-empty", f"{folder} is not empty", hint="name a new folder")
    caller = connect()
    version = caller.call("models.get_version", ref=ref)
    logged = caller.call("models.get_logged_model", id=version.logged_model)
    building = folder / f".part-{new_id()}"
    try:
        for path, file in logged.files.items():
            caller.fetch_blob(file.digest, building / clean_path(path))
        for each in sorted(building.iterdir()):
            each.rename(folder / each.name)
    except OSError as error:
        said = f"could not write to {folder}: {error.strerror}"
        raise Failed("disk-full", said, hint="free space, or name another folder") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    print(folder)
    output.note(f"{version.ref}: {len(logged.files)} files")


@models.command("card")
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
def models_card(ref: str) -> None:
    """A version's model card: Markdown with the head that the Hugging Face Hub reads."""
    print(connect().call("lineage.model_card", ref=ref), end="")


@models.command("bom")
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
def models_bom(ref: str) -> None:
    """A version's bill of materials: a CycloneDX document with model card, data and packages."""
    output.print_json(connect().call("lineage.bom", ref=ref))


@models.command("set")
@click.argument("model", shell_complete=model_names)
@click.option("--owner", help="Who answers for it: a person or a team; '' for nobody.")
@click.option("--importance", help="How much it matters: low, normal or high.")
@click.option(
    "--loss-value",
    type=NUMBER,
    help="Money that one unit of its summed loss costs (of mae and wape one unit that an answer is off, of error one wrong answer); 0 where nobody knows.",
)
@click.option("--currency", help="What --loss-value is in, by ISO 4217: EUR.")
@click.option("--reason", help="Kept in the ledger.")
@output.json_option
def models_set(
    model: str,
    owner: str | None,
    importance: str | None,
    loss_value: float | None,
    currency: str | None,
    reason: str | None,
    as_json: bool,
) -> Any:
    """Say whose MODEL is, how much it matters, and what its loss costs.

    It holds for models that no stead.toml names, too. What stead.toml says otherwise holds again from the next training or push.
    """
    caller = connect()
    said = {"owner": owner, "importance": importance, "loss_value": loss_value, "currency": currency}
    found = caller.call("models.set_facts", model=model, reason=reason, **said)
    if as_json:
        return found
    costs = f"; a unit of its loss costs {found.loss_value:g} {found.currency}" if found.loss_value else ""
    print(f"{model}: owner {found.owner or 'nobody'}, importance {found.importance}{costs}")
    stated = _stated(caller, model)
    for name, value in stated.items():
        if said[name] is not None and getattr(found, name) != value:
            output.note(f"stead.toml says {name} = {value!r}, which holds again from the next training or push")
    return None


def _stated(caller: Caller, model: str) -> dict[str, Any]:
    """What the stead.toml that was handed over says of a model's owner, importance and value."""
    with suppress(NotFound):
        facts: dict[str, Any] = caller.call("policies.get_standing", model=model).spec.facts
        return facts
    return {}


@models.command("alias")
@click.argument("ref", metavar="MODEL@VERSION", shell_complete=model_names)
@click.argument("alias")
def models_alias(ref: str, alias: str) -> None:
    """Let ALIAS name a version."""
    name, number = split_ref(ref)
    if number is None:
        raise InvalidInput("version-missing", f"{ref!r} names no version", hint=f"stead models alias {name}@1 {alias}")
    connect().call("models.set_alias", model=name, alias=alias, version=number)
    output.note(f"{alias} of {name} is version {number}")


models.add_command(signers)
