"""What ingest brings: batches that broke their dataset's contract, and none at all. One incident of each, over with the next good rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import sqlalchemy as sa

from stead import datasets, jobs, models
from stead.datasets import DatasetVersion
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


class BatchNews(NamedTuple):
    """Where a look at what ingest brought may find something: told for all models by two questions."""

    open: Mapping[str, Mapping[str, dict[str, Any]]]
    """By model, the incidents of it that are open: cause → evidence."""
    aside: Collection[str]
    """Datasets to which no rows were added since a batch went into quarantine."""


def batch_news(store: Store) -> BatchNews:
    """What `observe_batches` goes by."""
    mine = table.c.cause.in_(CAUSES) & (table.c.state == "open")
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with store.db.read() as tx:
        for row in tx.execute(sa.select(table.c.model, table.c.cause, table.c.evidence).where(mine)):
            found.setdefault(row.model, {})[row.cause] = row.evidence
    return BatchNews(found, datasets.held_back(store))


def observe_batches(store: Store, model: models.Model, dataset: str, news: BatchNews, *, scheduled: bool) -> int:
    """Hold the incidents of a model's dataset against what its ingests brought; how many were opened or resolved.

    Asked often, so it reads little where nothing can be new, and writes only where something is. Rows are missed only
    where an ingest is `scheduled`: who asks for them by hand sees that none came.
    """
    known = news.open.get(model.name, {})
    found = (
        _broken(store, dataset, known.get("batch")) if "batch" in known or dataset in news.aside else None,
        _stale(store, model.name, dataset) if "stale" in known or scheduled else None,
    )
    findings = {finding.cause: finding for finding in found if finding is not None}
    if findings.keys() - known.keys():
        # what a person waved off is no news: else each turn would take the write lock for it
        with store.db.read() as tx:
            findings = {
                cause: finding
                for cause, finding in findings.items()
                if cause in known or not incidents.waved_off(tx, model.name, finding)
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


def _broken(store: Store, dataset: str, known: dict[str, int] | None) -> Finding | None:
    """Batches in quarantine since rows came in last, told by the newest; since the model's clock when the first one came."""
    newest = _newest(store, dataset)
    good = newest.created_at if newest else 0
    bad = [batch for batch in datasets.list_quarantine(store, dataset=dataset, limit=MOST) if batch.at > good]
    if not bad:
        return None
    last, came = bad[0], sum(batch.times for batch in bad)
    since = known["since"] if known else min(batch.until for batch in bad)
    said = f"{'a batch' if came == 1 else f'{came} batches'} of {dataset} went into quarantine, {last.rows} rows: {'; '.join(last.problems)}"
    proof = {"dataset": dataset, "problems": last.problems, "rows": last.rows, "batches": came}
    return Finding("batch", "data", "page", since, said, {**proof, "since": since, "until": last.until})


def _newest(store: Store, dataset: str) -> DatasetVersion | None:
    try:
        return datasets.get_version(store, dataset)
    except NotFound:
        return None


def _stale(store: Store, model: str, dataset: str) -> Finding | None:
    """Ingests that ended well and brought no rows, time after time, while the newest rows grow older than they ever were."""
    ended = jobs.list_jobs(store, model=model, kind="ingest", state="succeeded", limit=EMPTY)
    empty = [job for job in ended if (job.result or {}).get("added") is False]
    if len(empty) < EMPTY:
        return None
    newest = _newest(store, dataset)
    if newest is None or newest.time_max is None or empty[-1].created_at <= newest.created_at:
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
