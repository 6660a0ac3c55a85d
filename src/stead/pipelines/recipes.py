"""All that a training depends on and that can be had again, and what differs between two such recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from stead import datasets, environments, jobs, models
from stead.errors import NotFound, SteadError
from stead.pipelines.types import Spec
from stead.runtime import typed
from stead.runtime.computing import SETTINGS
from stead.store import Store

TRAININGS = ("train", "rerun")
"""Kinds of jobs whose payload is a recipe."""
GOLDEN = "stead/golden.json"
KERNEL = "OPENBLAS_CORETYPE"
FILES_TOLD = 5


@dataclass(frozen=True)
class Recipe:
    """What a training is made from."""

    spec: Spec
    environment: str
    data: str
    """Dataset version: `demand@3`."""
    since: int | None
    """Where its rows begin; None where the window is chosen."""
    until: int | None
    machine: Mapping[str, str] = field(default_factory=dict)
    """Variables that make this machine compute as another one, such as the kernel of its BLAS."""
    packages: tuple[str, ...] = ()
    """Packages that are taken from `packages_of` instead."""
    packages_of: str = ""


@dataclass(frozen=True)
class Change:
    """Something that is not as it was recorded, and how to have it as it was."""

    name: str
    then: str | None
    now: str | None
    restore: Callable[[Recipe], Recipe]
    parts: Callable[[], list[Change]] = list
    """What it consists of, where that can be restored piece by piece: the packages of an environment, the files of the code."""


TRAIN = "what stead trains can be made again: stead init NAME, then stead train NAME"


def recorded(store: Store, logged: models.LoggedModel) -> Recipe:
    """What a model was made from. Raises NotFound (`recipe-missing`)."""
    job, learned = training_of(store, logged), logged.info["trained_on"]
    return Recipe(spec_of(job), logged.environment, str(learned["dataset"]), job.payload["since"], learned["until"])


def training_of(store: Store, logged: models.LoggedModel) -> jobs.Job:
    """The job that made a model, whose payload is its recipe. Raises NotFound (`recipe-missing`)."""
    said = NotFound("recipe-missing", "stead did not train it, so its recipe is not recorded", hint=TRAIN)
    if logged.run_id is None:
        raise said
    try:
        job = jobs.get_job(store, logged.run_id)
    except NotFound:
        raise said from None
    if job.kind not in TRAININGS:
        raise said
    return job


RESTORE = "restore what is missing from a backup: stead restore"


def spec_of(training: jobs.Job) -> Spec:
    return typed.convert(training.payload["spec"], Spec)


def must_be_there(store: Store, what: str, logged: models.LoggedModel, recipe: Recipe | None = None) -> None:
    """Raises NotFound (`reproduce-missing`) naming all that a training needs, by default the recorded one, and that is not there."""
    try:
        missing = list(_missing(store, recipe or recorded(store, logged), what.removeprefix("run ")))
        if GOLDEN not in logged.files:
            missing.append(("no golden rows were stored with it", RESTORE))
        elif not store.blobs.has(logged.files[GOLDEN].digest):
            missing.append(("the bytes of its golden rows are gone", RESTORE))
    except NotFound as error:
        missing = [(error.message, error.hint or RESTORE)]
    except KeyError:
        missing = [("its data was not recorded", RESTORE)]
    if missing:
        raise NotFound(
            "reproduce-missing",
            f"{what} cannot be made again: {'; '.join(told for told, _ in missing)}",
            hint="; ".join(dict.fromkeys(hint for _, hint in missing)),
        )


def _missing(store: Store, recipe: Recipe, ref: str) -> Iterator[tuple[str, str]]:
    """What is not there, and how to have it again."""
    for path, digest in recipe.spec.files.items():
        if not store.blobs.has(digest):
            yield f"the bytes of its code {path} are gone", RESTORE
    try:
        version = datasets.get_version(store, recipe.data, with_parts=True)
        gone = [part.path for part in version.part_list if not store.blobs.complete(part.digest)]
        if gone:
            yield f"parts of {recipe.data} are gone: {', '.join(gone[:5])}", RESTORE
    except SteadError as error:
        yield f"its data {recipe.data}: {error.message}", RESTORE
    if not recipe.environment:  # it is locked again
        return
    try:
        environment = environments.get(store, recipe.environment)
        if not store.blobs.has(environment.lock):
            yield f"the lock {environment.digest[:12]} is gone", RESTORE
        elif _computes_here(recipe.spec) and (why := environments.foreign(store, environment)):
            yield why, f"with what the project requires now, locked here: stead rerun {ref} --env ."
        elif environments.made(store, environment.digest) is None:
            kept = {wheel.name for wheel in environment.wheels}
            anew = (
                f"with an index that has it (UV_INDEX): stead env vendor {environment.digest[:12]}; "
                f"or with what the project requires now, locked anew: stead rerun {ref} --env ."
            )
            if _computes_here(recipe.spec) and (why := environments.without_python(environment.python)):
                yield why, f"uv python install {environment.python}, or stead rerun {ref} --env ."
            for name, why in environments.unobtainable(store, environment).items():
                yield f"the package {name} {why}", RESTORE if name in kept else anew
    except SteadError as error:
        yield f"its environment: {error.message}", RESTORE


def _computes_here(spec: Spec) -> bool:
    """Whether its steps run on a machine such as this one; the nodes of a cluster and containers of an image may be others."""
    return spec.executor == "local" and not spec.train_image


def changes(
    store: Store, then: Recipe, now: Recipe, facts_then: Mapping[str, str], facts_now: Mapping[str, str]
) -> list[Change]:
    """What of `now` is not as it was `then` and can be restored; the facts are those that both trainings recorded."""
    found = [
        *_code(then, now),
        *_environment(store, then, now),
        *_data(then, now, facts_then, facts_now),
        *_settings(then, now),
        *_variables(then, now),
    ]
    told = {change.name for change in found}
    return [*found, *_machine(facts_then, facts_now, threads="threads" not in told)]


def beyond(facts_then: Mapping[str, str], facts_now: Mapping[str, str]) -> list[str]:
    """What differs of the machine and cannot be restored on it."""
    names = ("cpu", "cpu flags", "os", "interpreter")
    return [
        f"{name} ({facts_then[name]} → {facts_now[name]})"
        for name in names
        if name in facts_then and name in facts_now and facts_then[name] != facts_now[name]
    ]


def _code(then: Recipe, now: Recipe) -> Iterator[Change]:
    """The project's own files."""
    a, b = then.spec.files, now.spec.files
    names = _changed(then.spec, now.spec)
    moved = (then.spec.entry, then.spec.module) != (now.spec.entry, now.spec.module)

    def whole(recipe: Recipe) -> Recipe:
        return replace(recipe, spec=replace(recipe.spec, files=dict(a), entry=then.spec.entry, module=then.spec.module))

    def part(name: str) -> Change:
        def restore(recipe: Recipe) -> Recipe:
            files = {key: digest for key, digest in recipe.spec.files.items() if key != name}
            return replace(recipe, spec=replace(recipe.spec, files=files | ({name: a[name]} if name in a else {})))

        return Change(f"code {name}", _short(a.get(name)), _short(b.get(name)), restore)

    if names and not moved and len(names) == 1:
        yield part(names[0])
    elif names or moved:
        yield Change("code", *code_apart(then.spec, now.spec), whole, lambda: [] if moved else [part(n) for n in names])


def _environment(store: Store, then: Recipe, now: Recipe) -> Iterator[Change]:
    """The locked packages."""
    if then.environment == now.environment:
        return
    a, b = environments.get(store, then.environment), environments.get(store, now.environment)
    names = sorted(name for name in {*a.packages, *b.packages} if a.packages.get(name) != b.packages.get(name))
    mixable = (a.python, a.platform) == (b.python, b.platform) and bool(names)

    def whole(recipe: Recipe) -> Recipe:
        return replace(recipe, environment=then.environment, packages=(), packages_of="")

    def part(name: str) -> Change:
        def restore(recipe: Recipe) -> Recipe:
            return replace(recipe, packages=(*recipe.packages, name), packages_of=then.environment)

        return Change(f"library {name}", a.packages.get(name), b.packages.get(name), restore)

    if mixable and len(names) == 1:
        yield replace(part(names[0]), restore=whole)
    else:
        told = (f"python {a.python}, {a.digest[:12]}", f"python {b.python}, {b.digest[:12]}")
        yield Change("environment", *told, whole, lambda: [part(name) for name in names] if mixable else [])


def _data(then: Recipe, now: Recipe, facts_then: Mapping[str, str], facts_now: Mapping[str, str]) -> Iterator[Change]:
    """The rows, or no more than their order."""
    bounds = [(r.data, r.since, r.until) for r in (then, now)]
    known = all("row order" in facts for facts in (facts_then, facts_now))
    if bounds[0] == bounds[1] or (known and facts_then["row order"] == facts_now["row order"]):
        return
    name = "row order" if known and facts_then["rows"] == facts_now["rows"] else "data"

    def restore(recipe: Recipe) -> Recipe:
        return replace(recipe, data=then.data, since=then.since, until=then.until)

    yield Change(name, then.data, now.data, restore)


def _settings(then: Recipe, now: Recipe) -> Iterator[Change]:
    for name in ("seed", "threads", "order", "target", "time", "loss", "window", "train_image", "executor"):
        a, b = getattr(then.spec, name), getattr(now.spec, name)
        if a != b:

            def restore(recipe: Recipe, name: str = name, a: Any = a) -> Recipe:
                return replace(recipe, spec=replace(recipe.spec, **{name: a}))

            yield Change(name.replace("train_image", "image"), str(a), str(b), restore)


def _variables(then: Recipe, now: Recipe) -> Iterator[Change]:
    a, b = then.spec.train_env, now.spec.train_env
    for name in sorted({*a, *b}):
        if a.get(name) != b.get(name):

            def restore(recipe: Recipe, name: str = name) -> Recipe:
                variables = {key: value for key, value in recipe.spec.train_env.items() if key != name}
                variables |= {name: a[name]} if name in a else {}
                return replace(recipe, spec=replace(recipe.spec, train_env=variables))

            yield Change(f"variable {name}", a.get(name), b.get(name), restore)


def _machine(facts_then: Mapping[str, str], facts_now: Mapping[str, str], *, threads: bool) -> Iterator[Change]:
    """The kernel that a BLAS computes with here, and variables that the machine set otherwise than it was recorded."""

    def setting(variables: Mapping[str, str]) -> Callable[[Recipe], Recipe]:
        return lambda recipe: replace(recipe, machine={**recipe.machine, **variables})

    a, b = facts_then.get("blas kernel"), facts_now.get("blas kernel")
    if a and b and a != b and ", " not in a:
        yield Change("blas kernel", a, b, setting({KERNEL: a}))
    numbers = {k: v for k, v in facts_then.items() if k.endswith("_THREADS") and facts_now.get(k) != v}
    if threads and numbers:
        was, found = ({facts.get(name) for name in numbers} for facts in (facts_then, facts_now))
        yield Change("threads", _all(was), _all(found), setting(numbers))
    for name, value in facts_then.items():
        other = SETTINGS.fullmatch(name) and not name.endswith("_THREADS") and name not in (KERNEL, "LANG")
        if other and facts_now.get(name) != value:
            yield Change(f"variable {name}", value, facts_now.get(name), setting({name: value}))


def _all(values: Iterable[str | None]) -> str:
    return ", ".join(sorted(value or "unset" for value in values))


def _changed(then: Spec, now: Spec) -> list[str]:
    """Files of the code whose bytes are not the same, or that only one of both has."""
    return sorted(name for name in {*then.files, *now.files} if then.files.get(name) != now.files.get(name))


def code_apart(then: Spec, now: Spec) -> tuple[str, str]:
    """The code of two recipes in words, by what they do not share: the entry, files with the begin of their digests, and the commit where one is known."""
    names = _changed(then, now)
    more = f" and {len(names) - FILES_TOLD} more" if len(names) > FILES_TOLD else ""

    def said(spec: Spec) -> str:
        parts = [spec.entry] if then.entry != now.entry else []
        parts += [f"{name} {_short(spec.files.get(name)) or 'absent'}" for name in names[:FILES_TOLD]]
        commit = spec.git.get("commit")
        at = f" (commit {commit[:12]}{', with changes' if spec.git.get('dirty') else ''})" if commit else ""
        return ", ".join(parts) + more + at

    return said(then), said(now)


def _short(digest: str | None) -> str | None:
    return digest and digest[:12]


def restored(now: Recipe, some: Iterable[Change]) -> Recipe:
    """A recipe with some changes undone."""
    for change in some:
        now = change.restore(now)
    return now


def replaced(then: Recipe, now: Recipe) -> dict[str, list[str]]:
    """What a rerun was given instead of what was recorded, by name, both in words."""
    told: dict[str, list[str]] = {}
    if then.data != now.data:
        told["data"] = [then.data, now.data]
    if then.environment != now.environment:
        told["environment"] = [then.environment[:12], now.environment[:12]]
    if then.spec.files != now.spec.files or then.spec.entry != now.spec.entry:
        told["code"] = list(code_apart(then.spec, now.spec))
    for each in fields(Spec):
        if each.name in ("seed", "threads", "order", "train_env"):
            a, b = getattr(then.spec, each.name), getattr(now.spec, each.name)
            if a != b:
                told[each.name.replace("train_env", "variables")] = [str(a), str(b)]
    return told
