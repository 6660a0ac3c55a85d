"""A drill of the roll-back: all that one does, but for the traffic, which stays where it is."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from stead import gates, jobs, ledger, serving
from stead.deployments import operations
from stead.deployments.types import RollbackDrill
from stead.errors import SteadError, Unreachable
from stead.jobs import Keeper
from stead.store import Store

LOAD_S = 600
GATEWAY_S = 30


def drill_rollback(store: Store, model: str, *, to: int | None = None, reason: str | None = None) -> jobs.Job:
    """Queue trying the roll-back that `rollback` with the same arguments would be, without moving traffic.

    Every gateway that runs has the version loaded by its own workers (where it is not warm it is loaded, and let go afterwards), is asked its
    stored rows, and follows a route that says what it said before. Raises what `rollback` raises, and Unreachable (`gateway-none`).
    """
    version = operations.way_back(store, model, to)
    if not serving.gateways(store):
        raise Unreachable("gateway-none", "no gateway runs, so nothing can answer", hint="stead up")
    payload = {"model": model, "version": version, "reason": reason}
    key = f"drill:{model}@{version}"
    return jobs.enqueue(store, "drill", payload, model=model, key=key, max_attempts=1, timeout_s=2 * LOAD_S)


def run_drill(store: Store, keeper: Keeper) -> dict[str, Any]:
    """The handler of `drill` jobs: the result is a `RollbackDrill`, which is kept in the ledger.

    It is tried once: where its process dies the version may stay loaded, and nothing else is changed.
    """
    drill = _Drill(store, keeper, keeper.job.payload["model"], keeper.job.payload["version"])
    try:
        found = drill.rolled_back()
    except SteadError as error:  # that is what would have happened
        found = drill.told(f"{drill.doing}: {error.message}")
    finally:
        drill.let_go()
    with keeper.write("deployments.drill") as tx:
        ledger.record(
            tx,
            actor=store.actor,
            action="drill.rollback",
            model=found.model,
            subject=f"{found.model}@{found.version}",
            summary=found.said,
            reason=keeper.job.payload["reason"],
            evidence={name: value for name, value in asdict(found).items() if name != "model"},
            event_time=jobs.held_in(tx, found.model),
        )
    keeper.report(found.said, 4, 4)
    return asdict(found)


class _Drill:
    """The steps of one drill, timed."""

    def __init__(self, store: Store, keeper: Keeper, model: str, version: int) -> None:
        self.store = store
        self.keeper = keeper
        self.model = model
        self.version = version
        self.doing = ""
        self.revision: int | None = None
        """Of the route, since the drill had the version loaded."""
        self.warm = False
        self.rows = 0
        self.loaded_s: float | None = None
        self.answered_s: float | None = None
        self.moved_s: float | None = None

    @property
    def ref(self) -> str:
        return f"{self.model}@{self.version}"

    def rolled_back(self) -> RollbackDrill:
        begun = time.monotonic()
        self._report("loading the version", 1)
        route = serving.get_route(self.store, self.model)
        here = route is not None and self.version in route.warm
        self.warm = here and operations.loaded_everywhere(self.store, self.model, self.version)
        if not self.warm:
            self._load()
        self.loaded_s = time.monotonic() - begun
        self._report("stored rows through every gateway", 2)
        begun = time.monotonic()
        verdicts = [gates.ask_golden(self.store, self.ref, gateway_url=each.url) for each in self._gateways()]
        self.answered_s = time.monotonic() - begun
        self._report("the gateways follow the route", 3)
        begun = time.monotonic()
        serving.wait_applied(self.store, self._same_route(), timeout_s=GATEWAY_S)
        self.moved_s = time.monotonic() - begun
        self.rows = int(verdicts[0].evidence.get("rows") or 0)
        wrong = next((each for each in verdicts if each.outcome != "passed"), None)
        if wrong is not None and wrong.outcome == "skipped":
            return self.told("it is loaded, and whether it answers is not known: it was saved without rows to ask it")
        return self.told(None if wrong is None else f"it does not answer as it was trained: {wrong.summary}")

    def told(self, failed: str | None) -> RollbackDrill:
        """What came of it: `failed` is what was in the way."""
        seconds = (self.loaded_s or 0.0) + (self.moved_s or 0.0)
        if failed is None:
            how = "is kept warm" if self.warm else f"had to be loaded ({self.loaded_s:.1f} s)"
            said = (
                f"a roll-back of {self.model} would have been done after {seconds:.2f} s: {self.ref} {how}, "
                f"and {self.rows} stored rows answer as in training"
            )
        else:
            said = f"a roll-back of {self.model} to version {self.version} would not have helped: {failed}"
        return RollbackDrill(
            self.model, self.version, failed is None, round(seconds, 3), said, self.warm, self.rows,
            *(None if each is None else round(each, 3) for each in (self.loaded_s, self.answered_s, self.moved_s)),
        )  # fmt: skip

    def let_go(self) -> None:
        """The route's list of what is warm as it was, where nobody has changed the route since."""
        if self.revision is None:
            return
        with self.store.db.write("deployments.drill") as tx:
            route = serving.route_in(tx, self.model)
            if route is None or route.revision != self.revision:
                return
            warm = [version for version in route.warm if version != self.version]
            serving.set_route(self.store.db, tx, self.model, arms=route.arms, warm=warm, shadow=route.shadow)

    def _load(self) -> None:
        """As a roll-back to a version that is not warm begins: the gateways load it, the present one answers meanwhile."""
        with self.keeper.write("deployments.drill") as tx:
            route = serving.route_in(tx, self.model)
            if route is None or self.version not in route.named:
                self.revision = operations.warm_up(tx, self.store, self.model, self.version)
        serving.served(self.store, self.model, self.version)
        serving.wait_loaded(self.store, self.model, self.version, timeout_s=LOAD_S, progress=self._say)

    def _same_route(self) -> int:
        """The route as it is, with a new number: as far as the gateways are concerned a move."""
        with self.keeper.write("deployments.drill") as tx:
            route = serving.route_in(tx, self.model)
            arms, warm, shadow = (route.arms, route.warm, route.shadow) if route is not None else ([], [], [])
            made = serving.set_route(self.store.db, tx, self.model, arms=arms, warm=warm, shadow=shadow)
            if route is not None and self.revision == route.revision:
                self.revision = made
        return made

    def _gateways(self) -> list[serving.Gateway]:
        found = serving.gateways(self.store)
        if not found:
            raise Unreachable("gateway-none", "no gateway runs, so nothing can answer", hint="stead up")
        return found

    def _report(self, doing: str, done: int) -> None:
        self.keeper.check()
        self.doing = doing
        self.keeper.report(doing, done, 4)

    def _say(self, text: str) -> None:
        self.keeper.check()
        self.keeper.log(text + "\n")
