"""What ingest brings: batches that broke their dataset's contract, and none at all. One incident of each, over with the next good rows."""

from __future__ import annotations

from itertools import pairwise

import sqlalchemy as sa

from stead import datasets, jobs, models
from stead.datasets import DatasetVersion, Quarantined
from stead.errors import NotFound
from stead.monitors import incidents
from stead.monitors.folding import Finding
from stead.monitors.tables import incidents as table
from stead.runtime.clock import to_iso
from stead.store import Store

CAUSES = ("batch", "stale")
MOST = 1000
"""Batches that are counted."""
EMPTY = 3
"""Ingests in a row without rows before the data is called stale."""
PATIENCE = 2.0
"""So many times as old as they were at worst when others came in, the newest rows must be, too."""
LATELY = 20
"""Versions from which it is known how old the newest rows were when others came in."""


def observe_batches(store: Store, model: models.Model, dataset: str) -> int:
    """Hold the incidents of a model's dataset against what its ingests brought; how many were opened or resolved.

    Asked often, so it writes only where something is new.
    """
    try:
        newest: DatasetVersion | None = datasets.get_version(store, dataset)
    except NotFound:
        newest = None
    mine = (table.c.model == model.name) & table.c.cause.in_(CAUSES) & (table.c.state == "open")
    with store.db.read() as tx:
        known = {row.cause: row.evidence for row in tx.execute(sa.select(table.c.cause, table.c.evidence).where(mine))}
    found = (_broken(store, dataset, newest, known.get("batch")), _stale(store, model.name, newest))
    with store.db.read() as tx:  # what a person waved off is no news: else each turn would take the write lock for it
        findings = {
            finding.cause: finding
            for finding in found
            if finding is not None and (finding.cause in known or not incidents.waved_off(tx, model.name, finding))
        }
    if known == {cause: finding.evidence for cause, finding in findings.items()}:
        return 0
    actor = store.acting("agent")
    with store.db.write("monitors.incident") as tx:
        opened = incidents.opened_in(tx, model.name)
        held = jobs.held_in(tx, model.name)
        at = jobs.model_now(store, model.name) if held is None else held
        ends = {"batch": f"rows of {dataset} came in that hold to the contract", "stale": f"rows of {dataset} came in"}
        return sum(
            incidents.reconcile(
                tx,
                actor,
                model.name,
                opened[cause].version if cause in opened else model.aliases.get("champion"),
                (cause,),
                {cause: findings[cause]} if cause in findings else {},
                opened,
                fine=ends[cause],
                restated=False,
                at=at,
            )
            for cause in CAUSES
        )


def _broken(store: Store, dataset: str, newest: DatasetVersion | None, known: dict[str, int] | None) -> Finding | None:
    """Batches in quarantine since rows came in last, told by the newest; since the model's clock when the first one came."""
    good = newest.created_at if newest else 0
    bad = _aside(store, dataset, good, 1)
    if not bad:
        return None
    bad = _aside(store, dataset, good, MOST)
    last, came = bad[0], sum(batch.times for batch in bad)
    since = known["since"] if known else min(batch.until for batch in bad)
    said = f"{'a batch' if came == 1 else f'{came} batches'} of {dataset} went into quarantine, {last.rows} rows: {'; '.join(last.problems)}"
    proof = {"dataset": dataset, "problems": last.problems, "rows": last.rows, "batches": came}
    return Finding("batch", "data", "page", since, said, {**proof, "since": since, "until": last.until})


def _aside(store: Store, dataset: str, good: int, limit: int) -> list[Quarantined]:
    return [batch for batch in datasets.list_quarantine(store, dataset=dataset, limit=limit) if batch.at > good]


def _stale(store: Store, model: str, newest: DatasetVersion | None) -> Finding | None:
    """Ingests that ended well and brought no rows, time after time, while the newest rows grow older than they ever were."""
    if newest is None or newest.time_max is None:
        return None
    ended = jobs.list_jobs(store, model=model, kind="ingest", state="succeeded", limit=EMPTY)
    empty = [job for job in ended if (job.result or {}).get("added") is False and job.created_at > newest.created_at]
    if len(empty) < EMPTY:
        return None
    until = int(empty[0].payload["until"])
    usual = max(_ages(datasets.list_versions(store, newest.dataset)[:LATELY]), default=0)
    if until - newest.time_max <= PATIENCE * usual:
        return None
    said = f"{newest.dataset} has no rows after {to_iso(newest.time_max)[:16]}: its last {EMPTY} ingests brought none"
    return Finding(
        "stale", "data", "page", newest.time_max, said, {"dataset": newest.dataset, "since": newest.time_max}
    )


def _ages(versions: list[DatasetVersion]) -> list[int]:
    """How old the newest rows were, each time that an ingest brought others; milliseconds."""
    return [
        int(later.source["until"]) - earlier.time_max
        for later, earlier in pairwise(versions)
        if earlier.time_max is not None and later.source.get("until") is not None
    ]
