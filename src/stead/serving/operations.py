"""Routes as data, what a worker needs to load a version, and waiting until every gateway follows."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from stead import jobs
from stead.errors import Failed, InvalidInput, Unreachable, from_dict
from stead.runtime.clock import now_ms
from stead.serving.tables import gateways as gateways_table
from stead.serving.tables import route_revision
from stead.serving.tables import routes as routes_table
from stead.serving.types import Arm, Gateway, Route, Served
from stead.store import Database, Store, from_row

IN_IMAGE = "/opt/stead/model"
"""Where the model lies in an image."""
ALIVE_MS = 10_000
"""A gateway whose last sign of life is older does not count."""


_TOLD = [column for column in gateways_table.columns if column.name != "secret"]


def get_route(store: Store, model: str) -> Route | None:
    """The route of a model, or None where nothing was ever deployed."""
    with store.db.read() as tx:
        return route_in(tx, model)


def route_in(tx: sa.Connection, model: str) -> Route | None:
    """`get_route` inside a transaction."""
    row = tx.execute(sa.select(routes_table).where(routes_table.c.model == model)).mappings().first()
    return from_row(row, Route) if row else None


def list_routes(store: Store) -> list[Route]:
    """All routes by model."""
    with store.db.read() as tx:
        rows = tx.execute(sa.select(routes_table).order_by(routes_table.c.model)).mappings()
        return [from_row(row, Route) for row in rows]


def read_revision(store: Store) -> int:
    """The newest revision of any route; 0 where there is none."""
    with store.db.read() as tx:
        return int(tx.execute(sa.select(route_revision.c.revision)).scalar() or 0)


def read_news(store: Store) -> tuple[int, dict[str, int]]:
    """What a gateway follows: the newest revision of any route, and where models' clocks are held."""
    with store.db.read() as tx:
        return int(tx.execute(sa.select(route_revision.c.revision)).scalar() or 0), jobs.held_clocks(tx)


def set_route(
    db: Database,
    tx: sa.Connection,
    model: str,
    *,
    arms: Sequence[Arm],
    warm: Sequence[int] = (),
    shadow: Sequence[int] = (),
    fast: Sequence[int] | None = None,
) -> int:
    """Change a model's route in the caller's transaction and return the new revision. The ledger entry is the caller's.

    `fast` are the versions that go their fast path; those that did go on to where it is left out.

    Raises InvalidInput (`route-invalid`) where shares do not sum to 1 or a version has two.
    """
    _checked(model, arms)
    db.upsert(tx, route_revision, {"id": 1, "revision": 0}, ["id"], update=[])
    tx.execute(sa.update(route_revision).values(revision=route_revision.c.revision + 1))
    revision = int(tx.execute(sa.select(route_revision.c.revision)).scalar_one())
    versions = [arm.version for arm in arms]
    if fast is None:
        before = route_in(tx, model)
        fast = before.fast if before else ()
    values = {
        "model": model,
        "revision": revision,
        "arms": msgspec.to_builtins(list(arms)),
        "warm": sorted(set(warm) - set(versions)),
        "shadow": sorted(set(shadow)),
        "fast": sorted(set(fast) & {*versions, *warm, *shadow}),
        "updated_at": now_ms(),
    }
    db.upsert(tx, routes_table, values, ["model"])
    return revision


def _checked(model: str, arms: Sequence[Arm]) -> None:
    versions = [arm.version for arm in arms]
    if len(set(versions)) != len(versions):
        raise InvalidInput("route-invalid", f"the route of {model} names a version twice: {versions}")
    if any(not 0 <= arm.share <= 1 for arm in arms) or (arms and abs(sum(arm.share for arm in arms) - 1) > 1e-9):
        shares = ", ".join(f"version {arm.version}: {arm.share:g}" for arm in arms)
        raise InvalidInput("route-invalid", f"the shares of {model} do not sum to 1: {shares}")


def served(store: Store, model: str, version: int) -> Served:
    """What a worker needs to load a version; creates its environment and its folder on this machine where they are missing.

    Raises what `models` and `environments` raise.
    """
    from stead import environments, models

    registered = models.get_version(store, f"{model}@{version}")
    python, folder = Path(), Path(IN_IMAGE)
    shared: list[Any] = [registered.serving_environment, sorted(registered.serving_env.items())]
    if registered.serving_image:
        shared.append(registered.ref)
    else:
        python = environments.ensure(store, registered.serving_environment)
        folder = models.materialise(store, registered.logged_model)
    key = hashlib.sha256(msgspec.json.encode(shared)).hexdigest()[:16]
    return Served(
        model=model,
        version=version,
        environment=registered.serving_environment,
        python=str(python),
        folder=str(folder),
        env=dict(registered.serving_env),
        key=key,
        image=registered.serving_image,
    )


def gateways(store: Store, *, alive: bool = True) -> list[Gateway]:
    """Gateways that gave a sign of life in the last ten seconds; with `alive=False` all that are written down."""
    with store.db.read() as tx:
        rows = tx.execute(sa.select(*_TOLD).order_by(gateways_table.c.url)).mappings().all()
    found = [from_row(row, Gateway) for row in rows]
    return [gateway for gateway in found if _lives(gateway)] if alive else found


def _lives(gateway: Gateway) -> bool:
    if now_ms() - gateway.beat_at > ALIVE_MS:
        return False
    if gateway.host != socket.gethostname():
        return True
    try:
        os.kill(gateway.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def gateway_secret(store: Store, url: str) -> str | None:
    """The token that opens a gateway for stead's own processes, which can read the store; never given out over HTTP."""
    query = sa.select(gateways_table.c.secret).where(gateways_table.c.url == url)
    with store.db.read() as tx:
        return tx.execute(query.order_by(gateways_table.c.beat_at.desc()).limit(1)).scalar()


def write_gateway(store: Store, gateway: Gateway, *, first: bool = False, secret: str | None = None) -> None:
    """A gateway's own description of itself; with `first` it takes the place of an earlier one at the same address."""
    with store.db.write("serving.gateway") as tx:
        if first:
            same = (gateways_table.c.url == gateway.url) & (gateways_table.c.id != gateway.id)
            old = gateways_table.c.beat_at < now_ms() - 24 * 3_600_000
            tx.execute(sa.delete(gateways_table).where(same | old))
        values = msgspec.to_builtins(gateway) | ({"secret": secret} if secret is not None else {})
        store.db.upsert(tx, gateways_table, values, ["id"])


def remove_gateway(store: Store, gateway_id: str) -> None:
    """A gateway has ended well."""
    with store.db.write("serving.gateway") as tx:
        tx.execute(sa.delete(gateways_table).where(gateways_table.c.id == gateway_id))


def wait_applied(store: Store, revision: int, *, timeout_s: float) -> None:
    """Wait until every live gateway follows a revision: no request that arrives later is answered by the route before it.

    Returns at once where no gateway lives. Raises Failed with the error of a version that could not be loaded, or
    Unreachable (`gateway-slow`).
    """
    with store.db.read() as tx:
        model = tx.execute(sa.select(routes_table.c.model).where(routes_table.c.revision == revision)).scalar()
    route = get_route(store, model) if model else None
    waited: list[Gateway] = []
    for living in _polled(store, timeout_s):
        # a revision that a newer one of its model has replaced is only known by its number
        waited = [g for g in living if (g.followed.get(model, 0) if model else g.revision) < revision]
        if not waited:
            return
        for gateway in waited:
            for arm in route.arms if route else []:
                _raise_error(gateway, f"{model}@{arm.version}", revision)
    raise Unreachable(
        "gateway-slow",
        f"the gateway {waited[0].url} does not follow the route of {model} after {timeout_s:g} s",
        hint="stead status",
    )


def wait_loaded(
    store: Store, model: str, version: int, *, timeout_s: float, progress: Callable[[str], None] | None = None
) -> None:
    """Wait until every live gateway has loaded a version that the route names now. `progress` is told each change of state.

    A gateway that does not follow this route yet may be about to let go of the version, so its word does not count; one
    that has told why it cannot follow lets go of nothing.

    Raises Failed with the worker's own error, or Unreachable (`gateway-none`, `gateway-slow`).
    """
    name = f"{model}@{version}"
    route = get_route(store, model)
    since = route.revision if route else 0
    told: dict[str, Any] = {}
    living: list[Gateway] = []
    for living in _polled(store, timeout_s):
        for gateway in living:
            state = gateway.loaded.get(name)
            _raise_error(gateway, name, since)
            if progress and told.get(gateway.id) != state and isinstance(state, str):
                told[gateway.id] = state
                progress(f"{name} {state} at {gateway.url}")
        if living and all(gateway.loaded.get(name) == "ready" and _taken(gateway, route) for gateway in living):
            return
    if not living:
        raise Unreachable("gateway-none", "no gateway runs, so nothing can answer", hint="stead up")
    raise Unreachable("gateway-slow", f"{name} was not loaded after {timeout_s:g} s", hint="stead status")


def _polled(store: Store, timeout_s: float) -> Iterator[list[Gateway]]:
    end = time.monotonic() + timeout_s
    while True:
        yield gateways(store)
        if time.monotonic() > end:
            return
        time.sleep(0.02)


def _taken(gateway: Gateway, route: Route | None) -> bool:
    """Whether a gateway follows a route, or has told why not."""
    if route is None or gateway.followed.get(route.model, 0) >= route.revision:
        return True
    states = [gateway.loaded.get(f"{route.model}@{arm.version}") for arm in route.arms]
    return any(isinstance(state, dict) and state.get("revision", 0) >= route.revision for state in states)


def _raise_error(gateway: Gateway, name: str, since: int) -> None:
    """Raise what a gateway says went wrong with a version since a revision; an older failure is being tried again."""
    state = gateway.loaded.get(name)
    if isinstance(state, dict) and state.get("revision", 0) >= since:
        error = from_dict(state)
        raise Failed(error.code, f"{name} could not be loaded: {error.message}", hint=error.hint)
