"""The fast path of a version: its model in ONNX, in a locked environment of its own, used where it answers the same and sooner."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import sqlalchemy as sa

from stead import environments, jobs, ledger, models
from stead.errors import Conflict, NotFound, SteadError
from stead.models import ModelFile
from stead.serving.operations import route_in, set_route
from stead.serving.operations import served as usual
from stead.serving.tables import fast_paths
from stead.serving.types import FastPath, Served
from stead.store import Store, from_row

READY = "ready"
"""It answers as the model itself does, within what is stated with it, and sooner. All other states tell why it is not used."""


def get_fast_path(store: Store, model: str, version: int) -> FastPath | None:
    """What is known of a version's fast path; None where it was not tried yet."""
    with store.db.read() as tx:
        return fast_path_in(tx, model, version)


def fast_path_in(tx: sa.Connection, model: str, version: int) -> FastPath | None:
    """`get_fast_path` inside a transaction."""
    query = sa.select(fast_paths).where(fast_paths.c.model == model, fast_paths.c.version == version)
    row = tx.execute(query).mappings().first()
    return from_row(row, FastPath) if row else None


def keep_fast_path(store: Store, tx: sa.Connection, path: FastPath) -> None:
    """Write down what was found, in the caller's transaction."""
    store.db.upsert(tx, fast_paths, msgspec.to_builtins(path), ["model", "version"])


def may_be_fast(tx: sa.Connection, model: str, version: int) -> bool:
    """Whether a version has a fast path that may be used: proven, and `fast = false` is not said of the model."""
    path = fast_path_in(tx, model, version)
    return path is not None and path.state == READY and models.setting_of(tx, model, "fast") is not False


def fast_after(tx: sa.Connection, model: str, version: int, fast: bool) -> list[int]:
    """The versions of a model that go the fast path, once one goes it or does not."""
    route = route_in(tx, model)
    others = [each for each in (route.fast if route else []) if each != version]
    return sorted([*others, version] if fast else others)


def set_fast(
    store: Store, model: str, version: int, fast: bool, *, reason: str | None = None, undoes: int | None = None
) -> None:
    """Let a version that is loaded go its fast path or its usual one; it answers on while the other is loaded.

    Raises NotFound (`version-unknown`, `fast-unknown`), Conflict (`not-loaded`).
    """
    models.get_version(store, f"{model}@{version}")
    with store.db.write("serving.path") as tx:
        path = fast_path_in(tx, model, version)
        if fast and (path is None or path.state != READY):
            said = f"{model}@{version} has no fast path" + (f": {path.said}" if path else "")
            raise NotFound("fast-unknown", said, hint=f"stead models accelerate {model}@{version}")
        if not set_fast_in(store, tx, model, version, fast, reason=reason, undoes=undoes):
            raise Conflict("not-loaded", f"{model}@{version} is not loaded", hint=f"stead deploy {model}@{version}")


def set_fast_in(
    store: Store,
    tx: sa.Connection,
    model: str,
    version: int,
    fast: bool,
    *,
    reason: str | None = None,
    undoes: int | None = None,
) -> bool:
    """`set_fast` as part of a larger change; False where the route does not name the version."""
    route = route_in(tx, model)
    if route is None or version not in route.named:
        return False
    if (version in route.fast) == fast and undoes is None:
        return True
    after = fast_after(tx, model, version, fast)
    set_route(store.db, tx, model, arms=route.arms, warm=route.warm, shadow=route.shadow, fast=after)
    path = fast_path_in(tx, model, version)
    ledger.record(
        tx,
        actor=store.actor,
        action="path.changed",
        model=model,
        subject=f"{model}@{version}",
        summary=f"{model}@{version} goes its {'fast' if fast else 'usual'} path" + (f": {path.said}" if path else ""),
        reason=reason,
        evidence=path.evidence if path else {},
        undo=ledger.Undo("serving.set_fast", {"model": model, "version": version, "fast": not fast}),
        undoes=undoes,
        event_time=jobs.held_in(tx, model),
    )
    return True


def served(store: Store, model: str, version: int, *, fast: bool = False) -> Served:
    """What a worker needs to load a version by its fast path or its usual one.

    Where the fast path's environment cannot be made here, it is the usual one, which answers the same.
    """
    path = get_fast_path(store, model, version) if fast else None
    registered = models.get_version(store, f"{model}@{version}")
    if path is None or path.environment is None or registered.serving_image:
        return usual(store, model, version)
    try:
        return place(store, path.environment, path.files, registered, key="fast")
    except SteadError as error:
        print(f"{model}@{version} goes its usual path: {error.message}")
        return usual(store, model, version)


def place(store: Store, environment: str, files: dict[str, ModelFile], version: models.Version, *, key: str) -> Served:
    """The interpreter and the folder of a fast path on this machine, made where they are missing."""
    python = environments.ensure(store, environment)
    named = hashlib.sha256(msgspec.json.encode([key, environment, sorted(version.serving_env.items())])).hexdigest()
    return Served(
        model=version.model,
        version=version.version,
        environment=environment,
        python=str(python),
        folder=str(_folder(store, files)),
        env=dict(version.serving_env),
        key=named[:16],
        fast=True,
    )


def _folder(store: Store, files: dict[str, ModelFile]) -> Path:
    digest = hashlib.sha256(msgspec.json.encode(files, order="sorted")).hexdigest()
    return models.write_folder(store, files, store.root / "cache" / "fast" / digest[:32])
