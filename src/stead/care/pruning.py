"""Letting go, by rule, of what is old and needed by nothing: predictions, runs, data versions, and bytes that nothing names;
and of layers of images that no build used for a month.

Rows go in one transaction, with the ledger's entry of all that goes; then the log is written anew without old requests, and
bytes go last, where no row names them any more. So a kill -9 leaves at worst something that the next call takes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from stead import images, ledger, predictions, serving
from stead.care.checking import users_of_bytes
from stead.care.naming import Gone, named
from stead.care.types import Pruned, Rules
from stead.config import SETTINGS, Settings, duration_ms
from stead.datasets.tables import dataset_versions, quarantine
from stead.errors import Conflict, Failed, InvalidInput
from stead.jobs.tables import jobs
from stead.jobs.types import ENDED
from stead.models.tables import edges, logged_models, versions
from stead.pipelines.tables import step_results
from stead.runs.tables import run_inputs, runs
from stead.runtime.clock import now_ms
from stead.store import Store, may_delete, metadata
from stead.store.blobs import OLD_S, RESTORE, Stored
from stead.store.repacking import Needed, freed, needed, sweep

TOGETHER = 500
SHOWN = 20
"""So many names stand in the ledger's entry."""


def rules_of(settings: Settings) -> Rules:
    """The rules that the settings have."""
    return Rules(settings.keep_predictions, settings.keep_runs, settings.keep_data)


def prune(store: Store, *, rules: Rules, dry_run: bool = False) -> Pruned:
    """Let go of what the rules call old and nothing needs; with `dry_run` say what would go, and change nothing.

    Never: runs that a version came from or that have younger ones below them, data that a version or a run that stays was made from,
    the newest version of a dataset, anything that a job under way uses, and bytes that a row names or that are younger than a day.
    Raises InvalidInput (`setting-invalid`), Conflict (`prune-waits`: a backup is under way; `erase-waits`: a merge came between).
    """
    ages = _ages(rules)
    if not dry_run and not may_delete(store):
        raise Conflict("prune-waits", "a backup is under way, and bytes that it copies stay", hint="try again after it")
    if dry_run:
        requests, log_bytes = _old_requests(store, ages.predictions)
        with store.db.read() as tx:
            doomed = _doomed(tx, ages)
        unnamed, keep = _unnamed(store, doomed.gone())
        size = sum(blob.bytes for blob in unnamed) + freed(store.packs, keep)
        return doomed.told(requests, log_bytes + size, _layers(store, dry_run=True), dry_run=True)
    requests, log_bytes = _old_requests(store, ages.predictions)
    with store.db.write("care.prune") as tx:
        doomed = _doomed(tx, ages)
        _delete(tx, doomed)
        said = doomed.told(requests, 0, 0, dry_run=False)
        if said.anything:
            _record(tx, store, rules, said)
    if ages.predictions is not None:
        predictions.expire(store, age_ms=ages.predictions)
    return doomed.told(requests, log_bytes + _sweep(store), _layers(store, dry_run=False), dry_run=False)


def _layers(store: Store, *, dry_run: bool) -> int:
    """Bytes of layers of images that go, or would; none while a version on a route serves from an image."""
    if _serves_images(store):
        return 0
    pool = images.pool(store)
    return sum(images.unused(pool).values()) if dry_run else images.prune(pool)


def _serves_images(store: Store) -> bool:
    """Whether a version on a route serves from an image: however long ago that was built, its containers may begin anew tomorrow."""
    with store.db.read() as tx:
        found = tx.execute(sa.select(versions.c.model, versions.c.version).where(versions.c.serving_image)).all()
    made = {tuple(row) for row in found}
    return bool(made) and any(
        (route.model, version) in made for route in serving.list_routes(store) for version in route.named
    )


@dataclass(frozen=True)
class _Ages:
    """Milliseconds; None for what is kept for good."""

    predictions: int | None
    runs: int | None
    data: int | None


def _ages(rules: Rules) -> _Ages:
    found: dict[str, int | None] = {}
    for name, text in msgspec.to_builtins(rules).items():
        if problem := SETTINGS[f"keep_{name}"].problem(text):
            raise InvalidInput("setting-invalid", f"keep_{name} {problem}", hint=SETTINGS[f"keep_{name}"].help)
        found[name] = duration_ms(text) if text else None
    return _Ages(**found)


def _old_requests(store: Store, age: int | None) -> tuple[int, int]:
    if age is None:
        return 0, 0
    found = [(len(each.requests), each.bytes) for each in predictions.find_expired(store, age_ms=age)]
    return sum(number for number, _ in found), sum(size for _, size in found)


@dataclass(frozen=True)
class _Doomed:
    """Rows that are to go."""

    runs: frozenset[str]
    logged: frozenset[str]
    """Models that these runs logged and nobody registered."""
    results: frozenset[str]
    data: frozenset[tuple[str, int]]
    batches: frozenset[int]

    def gone(self) -> Gone:
        """By table, which rows count as gone already."""
        found: dict[str, Any] = {table.name: lambda row: row.run_id in self.runs for table in _of_runs()}
        return found | {
            "runs": lambda row: row.id in self.runs,
            "logged_models": lambda row: row.id in self.logged,
            "step_results": lambda row: row.key in self.results,
            "dataset_versions": lambda row: (row.dataset, row.version) in self.data,
            "quarantine": lambda row: row.id in self.batches,
        }

    def told(self, requests: int, size: int, layers: int, *, dry_run: bool) -> Pruned:
        data = [f"{name}@{version}" for name, version in sorted(self.data)]
        batches, results = len(self.batches), len(self.results)
        return Pruned(dry_run, requests, sorted(self.runs), data, batches, results, size + layers, layers)


def _of_runs() -> list[sa.Table]:
    """Tables whose rows belong to a run."""
    return [t for t in metadata.sorted_tables if any(key.column.table is runs for key in t.foreign_keys)]


def _doomed(tx: sa.Connection, ages: _Ages) -> _Doomed:
    payloads = tx.execute(sa.select(jobs.c.id, jobs.c.payload).where(jobs.c.state.not_in(ENDED))).all()
    busy = {row.id for row in payloads}
    wanted = {str(row.payload.get("data")) for row in payloads}
    old_runs = _old_runs(tx, now_ms() - ages.runs, busy) if ages.runs is not None else frozenset()
    registered = sa.select(versions.c.logged_model)
    logged = _where_in(tx, logged_models.c.id, logged_models.c.run_id, old_runs, logged_models.c.id.not_in(registered))
    results: frozenset[str] = frozenset()
    if ages.runs is not None and not busy:  # a job that goes on after a kill takes its steps' results from there
        old = step_results.c.at < now_ms() - ages.runs
        results = frozenset(tx.execute(sa.select(step_results.c.key).where(old)).scalars())
    data: frozenset[tuple[str, int]] = frozenset()
    batches: frozenset[int] = frozenset()
    if ages.data is not None:
        before = now_ms() - ages.data
        data = _old_data(tx, before, old_runs, wanted)
        batches = frozenset(tx.execute(sa.select(quarantine.c.id).where(quarantine.c.at < before)).scalars())
    return _Doomed(old_runs, frozenset(logged), results, data, batches)


def _old_runs(tx: sa.Connection, before: int, busy: set[str]) -> frozenset[str]:
    """Runs that ended before a time, that no version came from, and that stand above no run that stays."""
    used = set(tx.execute(sa.select(versions.c.run_id)).scalars())
    used |= set(
        tx.execute(
            sa.select(logged_models.c.run_id).join(versions, versions.c.logged_model == logged_models.c.id)
        ).scalars()
    )
    old = tx.execute(sa.select(runs.c.id, runs.c.job_id).where(runs.c.ended_at < before, runs.c.status != "running"))
    doomed = {row.id for row in old if row.id not in used and row.job_id not in busy}
    above = dict(tx.execute(sa.select(runs.c.id, runs.c.parent_id).where(runs.c.parent_id.is_not(None))).all())
    for run, parent in above.items():
        while run not in doomed and parent in doomed:
            doomed.discard(parent)
            run, parent = parent, above.get(parent)
    return frozenset(doomed)


def _old_data(tx: sa.Connection, before: int, old_runs: frozenset[str], wanted: set[str]) -> frozenset[tuple[str, int]]:
    """Data versions from before a time that are not the newest and that nothing was made from that stays."""
    newest = dict(
        tx.execute(
            sa.select(dataset_versions.c.dataset, sa.func.max(dataset_versions.c.version)).group_by(
                dataset_versions.c.dataset
            )
        ).all()
    )
    read = sa.select(run_inputs.c.run_id, run_inputs.c.dataset, run_inputs.c.version)
    needed = {f"{row.dataset}@{row.version}" for row in tx.execute(read) if row.run_id not in old_runs}
    for edge in tx.execute(sa.select(edges.c.source, edges.c.target).where(edges.c.source.startswith("dataset:"))):
        if edge.target.removeprefix("run:") not in old_runs:
            needed.add(edge.source.removeprefix("dataset:"))
    needed |= wanted
    rows = tx.execute(
        sa.select(dataset_versions.c.dataset, dataset_versions.c.version).where(dataset_versions.c.created_at < before)
    )
    return frozenset(
        (row.dataset, row.version)
        for row in rows
        if row.version != newest[row.dataset] and f"{row.dataset}@{row.version}" not in needed
    )


def _delete(tx: sa.Connection, doomed: _Doomed) -> None:
    for table in reversed(_of_runs()):
        _delete_in(tx, table, table.c.run_id, doomed.runs)
    _delete_in(tx, logged_models, logged_models.c.id, doomed.logged)
    ends = [f"run:{run}" for run in doomed.runs]
    _delete_in(tx, edges, edges.c.source, ends)
    _delete_in(tx, edges, edges.c.target, ends)
    _delete_in(tx, runs, runs.c.id, doomed.runs)
    _delete_in(tx, step_results, step_results.c.key, doomed.results)
    _delete_in(tx, quarantine, quarantine.c.id, doomed.batches)
    for name, version in doomed.data:
        here = (dataset_versions.c.dataset == name) & (dataset_versions.c.version == version)
        tx.execute(sa.delete(dataset_versions).where(here))


def _delete_in(tx: sa.Connection, table: sa.Table, column: sa.Column[Any], values: Any) -> None:
    for some in _slices(sorted(values)):
        tx.execute(sa.delete(table).where(column.in_(some)))


def _where_in(tx: sa.Connection, wanted: sa.Column[Any], column: sa.Column[Any], values: Any, also: Any) -> list[Any]:
    found: list[Any] = []
    for some in _slices(sorted(values)):
        found += tx.execute(sa.select(wanted).where(column.in_(some), also)).scalars()
    return found


def _slices(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[first : first + TOGETHER] for first in range(0, len(values), TOGETHER))


def _unnamed(store: Store, gone: Gone) -> tuple[list[Stored], Needed]:
    """Bytes older than a day that nothing names, and what stays in packs. They are listed before the rows are read: what is named later was stored later.

    Raises what `named` raises: where it cannot be told what something needs, nothing may go.
    """
    there = list(store.blobs.all())
    with store.db.read() as tx:
        names = named(store, tx, {blob.digest for blob in there}, gone)
    try:
        keep = needed(store.packs, names)
    except Failed as error:
        raise _named(store, error) from None
    kept = names | keep.blobs
    return [blob for blob in there if blob.digest not in kept and blob.at < time.time() - OLD_S], keep


def _named(store: Store, error: Failed) -> Failed:
    """The same error, with what the files of which it cannot be told what they need are of."""
    lost = error.details.get("files", {})
    found = [f"{what} {lost[digest]}" for what, digest in users_of_bytes(store, []) if digest in lost]
    if not found:
        return error
    said = f"{', '.join(found)}: what is needed cannot be told, so no bytes were freed"
    ref = next((each.split()[0] for each in found if "@" in each.split()[0]), None)
    if ref is None:
        return Failed("blob-corrupt", said, hint=RESTORE)
    return Failed("dataset-corrupt", said, hint=f"stead data verify {ref} --repair-from BACKUPS")


def _sweep(store: Store) -> int:
    """Delete the bytes that nothing names; how many."""
    store.blobs.finish_forgetting()
    unnamed, keep = _unnamed(store, {})
    size = sweep(store.packs, keep, lambda: may_delete(store))
    for place, blob in enumerate(unnamed):
        if place % TOGETHER == 0 and not may_delete(store):
            break  # a backup began: the next call goes on
        if store.blobs.forget(blob):
            size += blob.bytes
    return size


def _record(tx: sa.Connection, store: Store, rules: Rules, said: Pruned) -> None:
    ledger.record(
        tx,
        actor=store.actor,
        action="store.pruned",
        subject="store",
        summary=f"by rule: {said.sentence}",
        evidence={
            "rules": msgspec.to_builtins(rules),
            "requests": said.requests,
            "runs": len(said.runs),
            "some_runs": said.runs[:SHOWN],
            "data": said.data[:SHOWN],
            "data_versions": len(said.data),
            "quarantined": said.quarantined,
            "results": said.results,
        },
    )
