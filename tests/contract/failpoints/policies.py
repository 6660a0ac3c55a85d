"""kill -9 in what levels, policies and the loop write: each is one change, and the same call again finds it done or does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import sqlalchemy as sa
from dying import Scenario, dies
from watched import DAY, START, Watched

from stead import datasets, deployments, fleet, jobs, ledger, models, policies
from stead.config import PolicyConfig, RolloutConfig
from stead.deployments.tables import deployments as deployments_table
from stead.jobs.tables import jobs as jobs_table
from stead.pipelines import Spec
from stead.policies.proxy import watched
from stead.runtime.clock import now_ms
from stead.store import Store
from tests.conftest import new_store

SPEC = Spec(
    project="p", model="m", entry="m.py", module="m", files={}, target="y", time="t", loss="mae", label_delay="0h",
    dataset="m", timeout_s=60, python=None, requirements=["six"], requirements_file=None, root="/nowhere",
)  # fmt: skip


def push(store: Store) -> policies.Standing:
    return policies.push(store, "m", spec=SPEC, policy=PolicyConfig(triggers=("schedule",)), rollout=RolloutConfig())


def has_standing(store: Store) -> bool:
    with store.db.read() as tx:
        return policies.find_standing(tx, "m") is not None


def hold(store: Store, day: int) -> None:
    jobs.hold_clock(store, "m", now=START + day * DAY, holder="replay-1")


def live(store: Store) -> None:
    """A version that answers, its code handed over, at level train."""
    Watched(store).live()
    values = {
        "model": "m", "version": 1, "kind": "deploy", "state": "live", "overrides": [], "steps": [], "plan": {},
        "shares": [], "requested_by": "ada", "created_at": now_ms(), "event_time": START,
    }  # fmt: skip
    with store.db.write("deployments.request") as tx:
        tx.execute(sa.insert(deployments_table).values(values))
    push(store)
    policies.set_level(store, "m", "train")


def due(store: Store) -> None:
    """A schedule that fires at the next look."""
    live(store)
    hold(store, 0)
    assert policies.decide(store, models.get_model(store, "m")) is None
    hold(store, 40)


def decide(store: Store) -> None:
    hold(store, 40)
    policies.decide(store, models.get_model(store, "m"))


def ingesting(store: Store) -> None:
    """An ingest that is due at the next look."""
    live(store)
    policy = PolicyConfig(triggers=("schedule",), ingest="0 5 * * *")
    policies.push(store, "m", spec=SPEC, policy=policy, rollout=RolloutConfig())
    hold(store, 0)
    assert policies.ingest_due(store, models.get_model(store, "m")) is None
    hold(store, 1)


def ingest(store: Store) -> None:
    hold(store, 1)
    policies.ingest_due(store, models.get_model(store, "m"))


def begun(store: Store) -> None:
    due(store)
    decide(store)


def trained(store: Store) -> None:
    """The training of a retraining has succeeded."""
    begun(store)
    ended = {"state": "succeeded", "result": {"version": 1}, "ended_at": now_ms()}
    with store.db.write("jobs.finish") as tx:
        tx.execute(sa.update(jobs_table).values(**ended))


def trained_by_hand(store: Store) -> None:
    live(store)
    jobs.enqueue(store, "train", {}, model="m")
    ended = {"state": "succeeded", "result": {"version": 1}, "ended_at": now_ms()}
    with store.db.write("jobs.finish") as tx:
        tx.execute(sa.update(jobs_table).values(**ended))


def adopt(store: Store) -> None:
    policies.adopt(store, models.get_model(store, "m"), policies.get_standing(store, "m"))


def advance(store: Store) -> None:
    policies.advance(store, policies.open_retrainings(store)[0])


def state(store: Store) -> str:
    return str(policies.list_retrainings(store)[0].state)


def aged(store: Store) -> None:
    """A champion that learned from a dataset, and a month on which it answered nothing."""
    times = [START + hour * 3_600_000 for hour in range(-2400, 0)]
    table = pa.table(
        {
            "t": pa.array(times, pa.timestamp("ms")),
            "x": [float(i % 7) for i in range(2400)],
            "y": [float(i % 5) for i in range(2400)],
        }
    )
    datasets.add(store, "m", table, time_column="t")
    live(store)
    with store.db.write("models.register") as tx:
        from stead.models.tables import logged_models
        from stead.models.tables import models as models_table

        tx.execute(
            sa.update(logged_models).values(info={"trained_on": {"dataset": "m@1", "since": None, "until": START}})
        )
        tx.execute(
            sa.update(models_table).values(settings={"time": "t", "target": "y", "dataset": "m", "label_delay": "0h"})
        )


def observe_age(store: Store) -> None:
    from stead.policies.proxy import observe_proxy

    answering = deployments.live_deployment(store, "m")
    assert answering is not None
    observe_proxy(store, policies.get_standing(store, "m"), answering, now=START + 20 * DAY)


def turn(store: Store) -> None:
    jobs.move_clock(store, "m", to=START + 3 * DAY, holder="replay-1")
    fleet.tick(store)


def followed(store: Store) -> bool:
    return jobs.held_at(store, "m") == START + 3 * DAY


def one_change(
    act: Callable[[Store], object],
    there: Callable[[Store], bool],
    *,
    prepare: Callable[[Store], None] | None = None,
    entries: int = 0,
) -> Scenario:
    """`act` dies: it is there if the point is `after`, with its ledger entries; done again, it is there once."""

    def scenario(root: Path, point: str) -> None:
        store = new_store(root)
        if prepare:
            prepare(store)
        before = len(ledger.list_entries(store, limit=1000))
        script = (
            "import sys, importlib.util; from pathlib import Path; from tests.conftest import new_store\n"
            f"spec = importlib.util.spec_from_file_location('world', {str(Path(__file__))!r})\n"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "world = importlib.util.module_from_spec(spec); spec.loader.exec_module(world)\n"
            f"world.{act.__name__}(new_store(Path(sys.argv[1])))"
        )
        dies(point, script, str(root))
        happened = point.partition("#")[0].endswith(":after")
        assert there(store) == happened
        assert len(ledger.list_entries(store, limit=1000)) - before == (entries if happened else 0)
        if not happened:
            act(store)
        assert there(store)
        assert len(ledger.list_entries(store, limit=1000)) - before == entries
        store.close()

    return scenario


def raise_level(store: Store) -> None:
    policies.set_level(store, "m", "deploy")


def freeze(store: Store) -> None:
    policies.freeze(store, model="m")


def cancel(store: Store) -> None:
    policies.cancel_retraining(store, 1)


POINTS: dict[str, Scenario] = {
    "policies.push": one_change(push, has_standing, entries=1),
    "policies.level": one_change(
        raise_level, lambda s: models.get_model(s, "m").level == "deploy", prepare=live, entries=1
    ),
    "policies.freeze": one_change(freeze, lambda s: len(policies.list_freezes(s)) == 1, prepare=live, entries=1),
    "policies.decide": one_change(
        decide, lambda s: len(policies.list_retrainings(s)) == 1 == len(jobs.open_jobs(s)), prepare=due, entries=1
    ),
    "policies.ingest": one_change(
        ingest, lambda s: [job.kind for job in jobs.open_jobs(s)] == ["ingest"], prepare=ingesting
    ),
    "policies.move": one_change(advance, lambda s: state(s) == "judging", prepare=trained),
    "policies.adopt": one_change(adopt, lambda s: len(policies.list_retrainings(s)) == 1, prepare=trained_by_hand),
    "policies.cancel": one_change(cancel, lambda s: state(s) == "rejected", prepare=begun, entries=1),
    "policies.proxy": one_change(observe_age, lambda s: watched(s, "m") is not None, prepare=aged),
    "jobs.turn": one_change(turn, followed, prepare=live),
}
