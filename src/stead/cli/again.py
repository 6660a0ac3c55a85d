"""`stead reproduce`, `stead rerun`: a training once more, as it was or with something replaced."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stead.cli import output
from stead.cli.common import connect, follow, model_names
from stead.config import ORDERS, Project, load_project
from stead.errors import Failed, InvalidInput, NotFound
from stead.runtime import typed

if TYPE_CHECKING:
    from stead.api import Caller
    from stead.pipelines import Spec


@click.command()
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
@click.option(
    "--explain", is_flag=True, help="Where it differs, say which recorded fact explains it: takes several runs."
)
@click.option("--no-wait", is_flag=True, help="Return when the job is queued; an agent does it.")
@output.json_option
def reproduce(ref: str, explain: bool, no_wait: bool, as_json: bool) -> Any:
    """Make a version again from its data, code and environment, and say whether the same comes out.

    Nothing is registered. The verdict stays with the version: identical, within tolerance, or different (exit code 1).
    """
    caller = connect()
    version = caller.call("models.get_version", ref=ref)
    job = caller.call("pipelines.reproduce", ref=version.ref, explain=explain)
    if no_wait:
        output.note(f"job {job.id[-12:]} waits: stead jobs log --follow {job.id[-12:]}")
        return job
    follow(caller, job)
    known = caller.call("pipelines.list_reproductions", model=version.model, version=version.version)
    found = next(each for each in known if each.job == job.id)
    if as_json:
        return found
    print(f"{version.ref}: {found.said}")
    print(
        f"made again from {found.evidence['data']} in environment {found.evidence['environment'][:12]}, with the code of its training"
    )
    if not found.evidence["same_rows"]:
        print("  the rows that it learns from are not those that were recorded")
    _tell_apart(found.evidence)
    _tell_why(found.evidence.get("explained"), explain, found.difference)
    if len(known) > 1:
        same = sum(each.verdict != "different" for each in known)
        print(f"  made again {len(known)} times so far, the same {same} times")
    if found.verdict == "different":
        raise Failed(
            "reproduced-differently",
            f"{version.ref} is not what its records make",
            hint=f"stead models show {version.ref}" if explain else f"stead reproduce {version.ref} --explain",
        )
    return None


@click.command()
@click.argument("run", metavar="RUN|MODEL[@VERSION]", shell_complete=model_names)
@click.option("--data", metavar="DATASET@N", help="Learn from this dataset version, all of its rows.")
@click.option(
    "--env",
    "environment",
    metavar="WHAT",
    help="`.` for what this project requires now, a requirements file, a digest, or a version whose environment it is.",
)
@click.option(
    "--code",
    metavar="WHAT",
    help="`.` for the project as it is now, a commit or branch of it, or a version with the code.",
)
@click.option("--seed", type=int, help="Seed the training with this number.")
@click.option("--threads", type=int, help="Compute on so many threads.")
@click.option("--order", type=click.Choice(ORDERS), help="Give `train` its rows in this order.")
@click.option(
    "--explain", is_flag=True, help="Where the result differs, say which replacement explains it: takes several runs."
)
@click.option("--no-wait", is_flag=True, help="Return when the job is queued; an agent does it.")
@output.json_option
def rerun(
    run: str,
    data: str | None,
    environment: str | None,
    code: str | None,
    seed: int | None,
    threads: int | None,
    order: str | None,
    explain: bool,
    no_wait: bool,
    as_json: bool,
) -> Any:
    """Train once more what a run trained, with what is named instead of what was recorded, and hold both results side by side.

    It is a new run, which says of which one it is a rerun; no version is registered.
    """
    from stead.pipelines import Rerun

    caller = connect()
    run = _run_id(caller, run)
    wanted: dict[str, Any] = {"data": data, "seed": seed, "threads": threads, "order": order, "explain": explain}
    wanted |= _code(caller, run, code) | _environment(caller, run, environment)
    job = caller.call("pipelines.rerun", run=run, **wanted)
    if no_wait:
        output.note(f"job {job.id[-12:]} waits: stead jobs log --follow {job.id[-12:]}")
        return job
    found = typed.convert(follow(caller, job).result, Rerun)
    if as_json:
        return found
    print(f"run {found.run_id[-12:]} is a rerun of {found.of[-12:]}")
    for name, (then, now) in found.replaced.items():
        print(f"  {name}: {then} → {now}")
    if not found.replaced:
        print("  nothing differs from what was recorded: data, code, environment and settings are the same")
    rows = [(name, then, now) for name, (then, now) in found.metrics.items()]
    output.table(("metric", "recorded", "now"), rows, right=(1, 2))
    words = {"identical": "identical", "tolerance": "the same within tolerance", "different": "different"}
    apart = (
        "" if not found.difference else f", apart by {found.difference:.1e} relative, {found.tolerance:g} are allowed"
    )
    print(f"golden rows and losses: {words[found.verdict]}{apart}")
    _tell_apart(found.evidence, told=found.replaced)
    _tell_why(found.explained, explain, found.difference)
    return None


def _tell_apart(evidence: dict[str, Any], told: Container[str] = ()) -> None:
    """What came out otherwise, and facts that are not as recorded but for those that are told already."""
    for name, apart in evidence["apart"].items():
        print(f"  {name:24} apart by {'kind or number' if apart is None else f'{apart:.1e}'}")
    for name in evidence["files"]:
        print(f"  {name:24} has other bytes")
    for name, (then, now) in evidence.get("facts", {}).items():
        if name not in told:
            print(f"  {name}: trained with {then or 'none'}, now {now or 'none'}")


def _tell_why(explained: dict[str, Any] | None, asked: bool, difference: float | None) -> None:
    if explained is not None:
        runs = explained["runs"]
        print(f"{explained['said']} ({runs} {'run' if runs == 1 else 'runs'})")
        if explained["innocent"]:
            print(f"  changed, too, and of no effect: {', '.join(explained['innocent'])}")
    elif asked and difference == 0:
        print("nothing differs, so there is nothing to explain")


def _run_id(caller: Caller, run: str) -> str:
    """A run by its id or by the end of it that lists show; a version stays one, a model is its newest."""
    if "@" in run or len(run) == 32:
        return run
    if any(model.name == run for model in caller.call("models.list_models")):
        return str(caller.call("models.get_version", ref=run).ref)
    near = [each.id for each in caller.call("runs.list_runs", limit=1000).runs if each.id.endswith(run)]
    if len(near) != 1:
        raise NotFound(
            "run-unknown",
            f"no run's id ends in {run!r}" if not near else f"several ids end in {run!r}",
            hint="stead runs list",
        )
    return str(near[0])


def _code(caller: Caller, run: str, code: str | None) -> dict[str, Any]:
    """The argument `--code`, as the operation takes it."""
    if code is None or "@" in code:
        return {"code_of": code}
    from stead.pipelines import pack

    model = _recorded(caller, run).model
    if Path(code).is_dir():
        return {"code": pack(load_project(Path(code).resolve()), model, caller.put_blob)}
    with _checked_out(load_project(), code) as (folder, commit):
        return {"code": replace(pack(load_project(folder), model, caller.put_blob), git={"commit": commit})}


def _environment(caller: Caller, run: str, what: str | None) -> dict[str, Any]:
    """The argument `--env`, as the operation takes it."""
    if what is None or ("@" in what and not Path(what).exists()):
        return {"environment": what}
    from stead.pipelines import pack

    path, recorded = Path(what), _recorded(caller, run)
    if path.is_dir():
        return {"requirements": pack(load_project(path.resolve()), recorded.model, caller.put_blob)}
    if path.is_file():
        file = {"name": path.name, "digest": caller.put_blob(path.read_bytes())}
        return {"requirements": replace(recorded, requirements=[], requirements_file=file, train_requirements=[])}
    if len(what) >= 8 and set(what) <= set("0123456789abcdef"):
        return {"environment": what}
    raise InvalidInput(
        "environment-invalid",
        f"{what!r} is no folder, file, version or digest",
        hint="--env requirements.txt, or --env .",
    )


def _recorded(caller: Caller, run: str) -> Spec:
    """The recipe of a run's training, or of the version that it made."""
    from stead.pipelines import Spec

    if "@" in run:
        version = caller.call("models.get_version", ref=run)
        run = str(caller.call("models.get_logged_model", id=version.logged_model).run_id)
    return typed.convert(caller.call("jobs.get_job", job_id=run).payload.get("spec"), Spec)


@contextmanager
def _checked_out(project: Project, commit: str) -> Iterator[tuple[Path, str]]:
    """The project's folder as it was at a commit, for as long as the block runs, and the commit's full name. Raises InvalidInput (`commit-unknown`)."""
    found = subprocess.run(
        ["git", "-C", str(project.root), "rev-parse", "--verify", f"{commit}^{{commit}}"],
        capture_output=True,
        text=True,
    )
    if found.returncode or commit.startswith("-"):
        raise InvalidInput(
            "commit-unknown",
            f"{commit!r} is no folder, no version, and no commit of {project.root}",
            hint="git log --oneline",
        )
    with tempfile.TemporaryDirectory(prefix="stead-commit-") as folder:
        packed = subprocess.run(
            ["git", "-C", str(project.root), "archive", found.stdout.strip()], capture_output=True, check=True
        )
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python knows it from 3.11.4 on
            archive.extractall(folder)
        yield Path(folder), found.stdout.strip()
