"""Batches that broke their dataset's contract: one incident while they do, over with the next batch that holds to it."""

from __future__ import annotations

import sqlalchemy as sa

from stead import datasets, jobs, models
from stead.datasets import Quarantined
from stead.errors import NotFound
from stead.monitors import incidents
from stead.monitors.folding import Finding
from stead.monitors.tables import incidents as table
from stead.store import Store

CAUSE = "batch"
MOST = 1000
"""Batches that are counted."""


def observe_batches(store: Store, model: models.Model, dataset: str) -> int:
    """Hold the incident of a model's dataset against what came last: a batch in quarantine, or rows; how many were opened or resolved.

    Asked often, so it writes only where something is new. An ingest that brings no rows changes nothing.
    """
    try:
        good = datasets.get_version(store, dataset).created_at
    except NotFound:
        good = 0
    bad = [batch for batch in datasets.list_quarantine(store, dataset=dataset, limit=1) if batch.at > good]
    if bad:
        bad = [batch for batch in datasets.list_quarantine(store, dataset=dataset, limit=MOST) if batch.at > good]
    mine = (table.c.model == model.name) & (table.c.cause == CAUSE) & (table.c.state == "open")
    with store.db.read() as tx:
        row = tx.execute(sa.select(table.c.evidence).where(mine)).first()
    if not bad and row is None:
        return 0
    begun = min((batch.until for batch in bad), default=0) if row is None else int(row.evidence["since"])
    findings = {CAUSE: _finding(dataset, bad, begun)} if bad else {}
    if row is not None and bad and row.evidence == findings[CAUSE].evidence:
        return 0
    actor = store.acting("agent")
    with store.db.write("monitors.incident") as tx:
        opened = incidents.opened_in(tx, model.name)
        held = jobs.held_in(tx, model.name)
        return incidents.reconcile(
            tx,
            actor,
            model.name,
            opened[CAUSE].version if CAUSE in opened else model.aliases.get("champion"),
            (CAUSE,),
            findings,
            opened,
            fine=f"rows of {dataset} came in that hold to the contract",
            restated=False,
            at=jobs.model_now(store, model.name) if held is None else held,
        )


def _finding(dataset: str, bad: list[Quarantined], since: int) -> Finding:
    """By the newest batch; `since` is the model's clock when the first one came."""
    last = bad[0]
    came = sum(batch.times for batch in bad)
    said = f"{'a batch' if came == 1 else f'{came} batches'} of {dataset} went into quarantine, {last.rows} rows: {'; '.join(last.problems)}"
    proof = {"dataset": dataset, "problems": last.problems, "rows": last.rows, "batches": came}
    return Finding(CAUSE, "data", "page", since, said, {**proof, "since": since, "until": last.until})
