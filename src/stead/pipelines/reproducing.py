"""Making a version again from what was recorded of it, and a verdict: is it the same?

Environment, data and code are those of its training; every step is run, none is taken from the results of earlier ones. Held against one another
are the answers to the golden rows, which were stored when the version was trained, and the losses of the hold-outs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from stead import jobs, ledger, models
from stead.jobs import Keeper
from stead.pipelines.explaining import EXPLAINING, explain
from stead.pipelines.recipes import must_be_there, recorded, training_of
from stead.pipelines.replaying import evidence_of, held_against, replay, told, tolerance_of, verdict_of
from stead.pipelines.tables import reproductions as table
from stead.pipelines.types import Reproduction
from stead.runtime.clock import now_ms
from stead.store import Store, checked_limit, from_row


def reproduce(store: Store, ref: str, *, explain: bool = False) -> jobs.Job:
    """Queue making a version (`demand@3`) again, to see whether the same comes out; with `explain`, where it does not, also why.

    Raises NotFound (`reproduce-missing`) and names all that it needs and that is not there, before anything runs; NotFound where there is no such version.
    """
    payload, wish = reproduction_of(store, ref, explain=explain)
    return jobs.enqueue(store, "reproduce", payload, **wish)


def reproduction_of(store: Store, ref: str, *, explain: bool = False) -> tuple[dict[str, Any], jobs.Wish]:
    """What `reproduce` queues, for who queues it as part of a larger change; raises what that one raises."""
    version = models.get_version(store, ref)
    logged = models.get_logged_model(store, version.logged_model)
    must_be_there(store, version.ref, logged)
    payload = {"model": version.model, "version": version.version, "explain": explain}
    timeout_s = training_of(store, logged).timeout_s * (EXPLAINING if explain else 1)
    return payload, {"model": version.model, "timeout_s": timeout_s}


def run_reproduction(store: Store, keeper: Keeper, *, allow: Sequence[str] = ()) -> dict[str, Any]:
    """The handler of `reproduce` jobs: the result is a `Reproduction`, which is kept with the version."""
    payload = keeper.job.payload
    version = models.get_version(store, f"{payload['model']}@{payload['version']}")
    logged = models.get_logged_model(store, version.logged_model)
    recipe, tolerance = recorded(store, logged), tolerance_of(logged)
    keeper.report("creating the environment", 1, 8)
    replayed = replay(store, keeper, recipe, allow=allow)
    keeper.report("comparing", 7, 8)
    apart = held_against(store, logged, replayed)
    difference = max(apart.values())
    evidence = evidence_of(logged, replayed, apart) | {"data": recipe.data}
    if payload.get("explain") and difference:
        explained = explain(store, keeper, logged, recipe, recipe, replayed, allow=allow)
        evidence["explained"] = msgspec.to_builtins(explained) | {"said": explained.said}
    values = {
        "model": version.model, "version": version.version, "verdict": verdict_of(difference, tolerance),
        "difference": told(difference), "tolerance": tolerance,
        "evidence": evidence, "job": keeper.job.id, "by": keeper.job.requested_by, "at": now_ms(),
    }  # fmt: skip
    with keeper.write("pipelines.reproduce") as tx:  # a second attempt of the job says nothing twice
        if tx.execute(sa.select(table.c.id).where(table.c.job == keeper.job.id)).first() is None:
            tx.execute(sa.insert(table).values(values))
            if values["verdict"] == "different":
                _record(tx, values)
    known = list_reproductions(store, version.model, version=version.version)
    found = next(each for each in known if each.job == keeper.job.id)
    keeper.report(f"{version.ref} made again: {found.said}", 8, 8)
    return dict(msgspec.to_builtins(found)) | {"said": found.said}


def _record(tx: sa.Connection, values: dict[str, Any]) -> None:
    """In the ledger stands what came out otherwise: who relies on the version should know."""
    ref = f"{values['model']}@{values['version']}"
    ledger.record(
        tx,
        actor=values["by"],
        action="reproduction.differed",
        model=values["model"],
        subject=ref,
        summary=f"{ref}, made again from its records, is not the same: {values['evidence']['furthest']} differ most",
        evidence={"job": values["job"], "difference": values["difference"], "tolerance": values["tolerance"]},
        event_time=jobs.held_in(tx, values["model"]),
    )


def list_reproductions(
    store: Store, model: str | None = None, *, version: int | None = None, limit: int = 50
) -> list[Reproduction]:
    """How versions that were made again compared with themselves, newest first. Raises InvalidInput (`limit-invalid`)."""
    query = sa.select(table).order_by(table.c.id.desc()).limit(checked_limit(limit))
    if model is not None:
        query = query.where(table.c.model == model)
    if version is not None:
        query = query.where(table.c.version == version)
    with store.db.read() as tx:
        return [from_row(row, Reproduction) for row in tx.execute(query).mappings()]
