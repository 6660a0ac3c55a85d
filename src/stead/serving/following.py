"""A gateway follows the routes: it loads new versions, moves the split, then lets go of old ones, and says how far it is."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stead import environments
from stead.errors import Failed, SteadError
from stead.images import Containers
from stead.jobs import Limits
from stead.runtime.clock import now_ms
from stead.runtime.worker import Facts
from stead.serving import operations
from stead.serving.fast import served as fast_or_usual
from stead.serving.pool import Pool
from stead.serving.split import Split
from stead.serving.types import Gateway, Route, Served
from stead.serving.workers import Launch
from stead.store import Store

POLL_S = 0.05
BEAT_S = 2.0
RETRY_S = (1.0, 2.0, 5.0, 15.0, 60.0)


@dataclass(frozen=True)
class Target:
    """A loaded version: the pool that answers for it."""

    pool: Pool
    name: bytes
    facts: Facts
    apart: bool
    """Whether the workers are its own, not those of its environment."""
    fast: bool = False
    """Whether it answers by its fast path."""


class Follower:
    """Keeps `splits` and `targets`, from which requests are answered, as the routes in the store say.

    A route is applied by a task of its own, so that a slow version holds up no other model. The old split answers until
    every arm of the new one is loaded; where one cannot be, the old split stays, the error is told and it is tried again.
    A version that is loaded while another one answers gets workers of its own, so that none that hangs, as it loads or as it
    predicts, keeps the present one from answering; it moves to the workers of its environment when it takes over.
    """

    def __init__(
        self,
        store: Store,
        me: Gateway,
        *,
        make_pool: Callable[[Launch], Pool],
        allow: tuple[str, ...],
        limits: Limits,
        secret: str | None = None,
        containers: Containers,
    ) -> None:
        self.splits: dict[str, Split] = {}
        self.targets: dict[tuple[str, int], Target] = {}
        self.errors: dict[str, SteadError] = {}
        """Why the newest route of a model is not followed."""
        self.shadows: dict[str, tuple[int, ...]] = {}
        """By model the loaded versions that score aside what others answer."""
        self.clocks: dict[str, int] = {}
        """Event time, by model, where a replay holds it; known within `POLL_S`."""
        self.pools: dict[str, Pool] = {}
        self.stats: Callable[[], dict[str, Any]] = dict
        self._store = store
        self._me = me
        self._make_pool = make_pool
        self._allow = allow
        self._limits = limits
        self._secret = secret
        self._containers = containers
        self._routes: dict[str, Route] = {}
        self._seen = 0
        self._states: dict[str, Any] = {}
        self._loads: dict[tuple[str, int], asyncio.Task[Target]] = {}
        self._proven: set[tuple[str, int]] = set()
        """Versions that were the one that answers."""
        self._applying: dict[str, asyncio.Task[None]] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._stopping: set[asyncio.Task[None]] = set()
        self._news: dict[str, asyncio.Event] = {}
        self._tell = asyncio.Event()

    async def start(self) -> None:
        """Read the routes once, so that the models are known, and follow them from then on."""
        await self._poll()
        await asyncio.to_thread(
            operations.write_gateway, self._store, self._described(), first=True, secret=self._secret
        )
        self._loops = [asyncio.create_task(self._polling()), asyncio.create_task(self._telling())]

    async def stop(self) -> None:
        """End all workers when they have answered, and take the gateway's row away."""
        tasks = [*self._loops, *self._applying.values(), *self._loads.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(pool.stop() for pool in self.pools.values()), *self._stopping)
        with suppress(SteadError):
            await asyncio.to_thread(operations.remove_gateway, self._store, self._me.id)

    def models(self) -> list[str]:
        """Models that have a route with arms."""
        return [model for model, route in self._routes.items() if route.arms]

    def knows(self, model: str) -> bool:
        return model in self._routes

    def versions(self, model: str) -> list[int]:
        return sorted(version for name, version in self.targets if name == model)

    def ready(self) -> bool:
        """Whether every route is followed, or has told why not."""
        return all(model in self.splits or model in self.errors for model in self._routes)

    async def settled(self, model: str) -> None:
        """Wait until a model's first route is followed or has failed."""
        while model in self._routes and model not in self.splits and model not in self.errors:
            await self._news.setdefault(model, asyncio.Event()).wait()

    # following

    async def _polling(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._poll()
            except Exception as error:  # the store may be away for a while; the routes that we have stay
                print(f"the routes could not be read: {error}", file=sys.stderr)
                await asyncio.sleep(1)

    async def _poll(self) -> None:
        newest, self.clocks = await asyncio.to_thread(operations.read_news, self._store)
        if newest == self._seen:
            return
        for route in await asyncio.to_thread(operations.list_routes, self._store):
            known = self._routes.get(route.model)
            if known is not None and known.revision >= route.revision:
                continue
            self._routes[route.model] = route
            running = self._applying.pop(route.model, None)
            if running is not None:
                running.cancel()
            self._applying[route.model] = asyncio.create_task(self._apply(route))
        self._seen = newest
        self._tell.set()

    async def _apply(self, route: Route) -> None:
        """Bring a route into force, however often it takes."""
        self.errors.pop(route.model, None)
        self._proven |= {(route.model, arm.version) for arm in route.arms[:1]}
        trial = {*(arm.version for arm in route.arms), *route.shadow}
        apart = {version for version in trial if route.arms and (route.model, version) not in self._proven}
        for (model, version), load in list(self._loads.items()):
            if model == route.model and version not in route.named:
                load.cancel()  # others would wait for it
        for version in {*route.warm, *route.shadow}:
            if (known := self.targets.get((route.model, version))) and known.fast != (version in route.fast):
                self._states[f"{route.model}@{version}"] = "loading"  # whoever waits for it waits for the other path
        for attempt in range(1_000_000):
            arms_ok = await self._load_all(route, [arm.version for arm in route.arms], apart)
            if arms_ok:
                self.splits[route.model] = Split(route.arms, salt=route.model)
                self.errors.pop(route.model, None)
                self._me = dataclasses.replace(self._me, followed=self._me.followed | {route.model: route.revision})
            self._changed(route.model)
            warm_ok = await self._load_all(route, [*route.warm, *route.shadow], apart)
            self.shadows[route.model] = tuple(v for v in route.shadow if (route.model, v) in self.targets)
            if arms_ok:
                await self._let_go(route)
            if arms_ok and warm_ok and await self._move_all(route, apart):
                return
            await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])

    async def _load_all(self, route: Route, versions: list[int], apart: set[int]) -> bool:
        results = await asyncio.gather(*(self._ensure(route, version, version in apart) for version in versions))
        return all(results)

    async def _ensure(self, route: Route, version: int, apart: bool) -> bool:
        """Have a version loaded; its failure is written down, not raised."""
        key = (route.model, version)
        name = f"{route.model}@{version}"
        answers = any(arm.version == version for arm in route.arms)  # on by the path it has, until it is moved
        fast = version in route.fast
        if (known := self.targets.get(key)) and (known.apart or not apart) and (answers or known.fast == fast):
            return True
        try:
            target = await self._loaded(*key, apart=apart, fast=fast)
        except Exception as error:
            told = error if isinstance(error, SteadError) else Failed("load-failed", f"{type(error).__name__}: {error}")
            print(f"{name} could not be loaded: {told}", file=sys.stderr)
            self._states[name] = told.as_dict() | {"revision": route.revision}
            if any(arm.version == version for arm in route.arms):
                self.errors[route.model] = told
            self._changed(route.model)
            return False
        self.targets[key] = target
        self._states[name] = "ready"
        self._changed(route.model)
        return True

    async def _move_all(self, route: Route, apart: set[int]) -> bool:
        """Have the version that answers among the workers of its environment, and one on trial apart from them.

        Each answers where it is until it is loaded where it belongs.
        """
        for version in (*(arm.version for arm in route.arms), *route.shadow):
            key = (route.model, version)
            here = (version in apart, version in route.fast)
            if key not in self.targets or (self.targets[key].apart, self.targets[key].fast) == here:
                continue
            try:
                self.targets[key] = await self._loaded(*key, apart=here[0], fast=here[1])
            except Exception as error:
                print(f"{route.model}@{version} could not be moved: {error}", file=sys.stderr)
                return False
            await self._let_go(route)
        return True

    async def _loaded(self, model: str, version: int, *, apart: bool, fast: bool) -> Target:
        """Load a version, or wait for who does so already. One that no route names any more is given up by `_let_go`."""
        key = (model, version)
        task = self._loads.get(key)
        if task is None:
            task = self._loads[key] = asyncio.create_task(self._load(*key, apart=apart, fast=fast))
            task.add_done_callback(lambda done: self._loads.pop(key) if self._loads.get(key) is done else None)
            if key not in self.targets:
                self._states[f"{model}@{version}"] = "loading"
                self._tell.set()
        return await asyncio.shield(task)  # a newer route may still want it

    async def _load(self, model: str, version: int, *, apart: bool, fast: bool) -> Target:
        served = await asyncio.to_thread(fast_or_usual, self._store, model, version, fast=fast)
        if apart:
            served = dataclasses.replace(served, key=f"{served.key}-{model}-{version}")
        launch = await asyncio.to_thread(self._launch, served)
        pool = self.pools.get(served.key)
        if pool is None:
            pool = self.pools[served.key] = self._make_pool(launch)
            pool.start()
        name = f"{model}@{version}".encode()
        return Target(pool, name, await pool.load(name, served.folder), apart, fast)

    def _launch(self, served: Served) -> Launch:
        return Launch(
            python=served.python,
            variables=environments.variables(allow=self._allow, extra=served.env),
            runtime_path=environments.runtime_path(self._store),
            folder=Path(self._store.root) / "workers",
            key=served.key,
            limits=self._limits,
            container=self._containers.of_version(self._store, f"{served.model}@{served.version}")
            if served.image
            else None,
        )

    async def _let_go(self, route: Route) -> None:
        """Unload versions of a model that its route does not name any more, when their last request is answered."""
        wanted = {f"{route.model}@{version}" for version in route.named}
        for name in [name for name in self._states if _model(name) == route.model and name not in wanted]:
            self._states.pop(name)
            self.targets.pop(key := (route.model, int(name.rpartition("@")[2])), None)
            if (load := self._loads.pop(key, None)) is not None:
                load.cancel()
                await asyncio.gather(load, return_exceptions=True)
        self._tell.set()
        for place, pool in list(self.pools.items()):
            used = {target.name for target in self.targets.values() if target.pool is pool}
            for stale in [name for name in pool.facts if _model(name.decode()) == route.model and name not in used]:
                while pool.busy_with(stale):
                    pool.hurry(stale)
                    await asyncio.sleep(0.02)
                await asyncio.shield(asyncio.create_task(pool.unload(stale)))
            if not pool.facts and not pool.pending and self.pools.pop(place, None) is not None:
                task = asyncio.create_task(pool.stop())
                self._stopping.add(task)
                task.add_done_callback(self._stopping.discard)

    # telling

    def _changed(self, model: str) -> None:
        self._tell.set()
        event = self._news.pop(model, None)
        if event is not None:
            event.set()

    def _described(self) -> Gateway:
        behind = [
            route.revision
            for route in self._routes.values()
            if self._me.followed.get(route.model, 0) < route.revision and route.model not in self.errors
        ]
        revision = min([self._seen, *(revision - 1 for revision in behind)])
        self._me = dataclasses.replace(self._me, revision=revision)
        return dataclasses.replace(self._me, loaded=dict(self._states), stats=self.stats(), beat_at=now_ms())

    async def _telling(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._tell.wait()
            self._tell.clear()
            try:
                await asyncio.to_thread(operations.write_gateway, self._store, self._described())
            except Exception as error:
                print(f"the gateway's state could not be written: {error}", file=sys.stderr)
                await asyncio.sleep(1)
                self._tell.set()


def _model(name: str) -> str:
    return name.rpartition("@")[0]
