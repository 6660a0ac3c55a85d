"""Reading what runs recorded: series, console, artifacts, and runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from stead.errors import InvalidInput, NotFound, did_you_mean
from stead.runs.operations import get_run, get_runs
from stead.runs.points import concatenate, ordered, thin
from stead.runs.tables import artifacts, metric_blocks, metric_summaries
from stead.runs.tables import console as texts
from stead.runs.types import Artifact, Comparison, ConsoleText, Run, Series
from stead.runtime.journal import clean_path
from stead.store import Store, checked_limit, from_row

MAX_COMPARED = 1_000


def series(
    store: Store,
    run_ids: Sequence[str],
    key: str,
    *,
    points: int = 1_000,
    since_step: int | None = None,
    until_step: int | None = None,
) -> list[Series]:
    """One metric of several runs between two steps (both included), by step, then time.

    Where a run has more than twice `points`, each of `points` stretches of equal width gives its least and greatest
    value and a NaN if it has one. `points=0` gives all. Runs without the metric are left out.
    """
    found: dict[str, list[bytes]] = {}
    where = [metric_blocks.c.run_id.in_(list(run_ids)), metric_blocks.c.key == key]
    if since_step is not None:
        where.append(metric_blocks.c.step_max >= since_step)
    if until_step is not None:
        where.append(metric_blocks.c.step_min <= until_step)
    query = sa.select(metric_blocks.c.run_id, metric_blocks.c.data).where(*where)
    with store.db.read() as tx:
        for run_id, data in tx.execute(query.order_by(metric_blocks.c.run_id, metric_blocks.c.block)):
            found.setdefault(run_id, []).append(data)
    return [
        _series(run_id, key, concatenate(found[run_id]), points, since_step, until_step)
        for run_id in dict.fromkeys(run_ids)
        if run_id in found
    ]


def metric_keys(store: Store, run_ids: Sequence[str]) -> list[str]:
    """Names of all metrics that any of these runs has, in alphabetical order."""
    query = sa.select(metric_summaries.c.key).where(metric_summaries.c.run_id.in_(list(run_ids))).distinct()
    with store.db.read() as tx:
        return sorted(tx.execute(query).scalars())


def compare(store: Store, run_ids: Sequence[str]) -> Comparison:
    """Runs side by side: parameters, tags, data, commit and environment that differ, all metrics, and the parameters that they share."""
    if not 1 <= len(run_ids) <= MAX_COMPARED:
        raise InvalidInput("compare-invalid", f"1 to {MAX_COMPARED} runs can be compared, not {len(run_ids)}")
    found = get_runs(store, run_ids)
    params = _table(found, "params")
    keys = sorted({key for run in found for key in run.metrics})
    return Comparison(
        runs=[run.id for run in found],
        names=[run.name for run in found],
        params={key: values for key, values in params.items() if len(set(values)) > 1},
        tags={key: values for key, values in _table(found, "tags").items() if len(set(values)) > 1},
        metrics={key: [run.metrics.get(key) for run in found] for key in keys},
        same={key: str(values[0]) for key, values in params.items() if len(set(values)) == 1},
        facts={key: values for key, values in _facts(found).items() if len(set(values)) > 1},
    )


def _facts(found: Sequence[Run]) -> dict[str, list[str | None]]:
    return {
        "data": [", ".join(run.inputs) or None for run in found],
        "commit": [_commit(run) for run in found],
        "environment": [run.environment[:12] if run.environment else None for run in found],
    }


def _commit(run: Run) -> str | None:
    git = run.source.get("git") or {}
    commit = git.get("commit")
    return f"{commit[:8]}{' changed' if git.get('dirty') else ''}" if commit else None


def console(store: Store, run_id: str, *, after: int = 0, limit: int = 1_000) -> ConsoleText:
    """Console output after a place; blocks as they were delivered, at most `limit` of them."""
    checked_limit(limit)
    get_run(store, run_id)
    query = sa.select(texts.c.seq, texts.c.text).where(texts.c.run_id == run_id, texts.c.seq > after)
    with store.db.read() as tx:
        rows = tx.execute(query.order_by(texts.c.seq).limit(limit)).all()
    return ConsoleText("".join(row.text for row in rows), rows[-1].seq if rows else after)


def list_artifacts(store: Store, run_id: str, *, path: str = "") -> list[Artifact]:
    """Artifacts of a run, all of them or those in the folder `path` (at any depth), by path."""
    get_run(store, run_id)
    query = sa.select(artifacts).where(artifacts.c.run_id == run_id)
    if path:
        folder = clean_path(path)
        query = query.where(
            sa.or_(artifacts.c.path == folder, artifacts.c.path.startswith(folder + "/", autoescape=True))
        )
    with store.db.read() as tx:
        return [from_row(row, Artifact) for row in tx.execute(query.order_by(artifacts.c.path)).mappings()]


def get_artifact(store: Store, run_id: str, path: str) -> Artifact:
    """One artifact; its bytes are the blob that its digest names. Raises NotFound (`artifact-unknown`)."""
    path = clean_path(path)
    for artifact in (known := list_artifacts(store, run_id)):
        if artifact.path == path:
            return artifact
    hint = did_you_mean(path, [artifact.path for artifact in known])
    raise NotFound("artifact-unknown", f"run {run_id} has no artifact {path!r}", hint=hint)


def read_artifact(store: Store, run_id: str, path: str) -> bytes:
    """The bytes of an artifact."""
    return store.blobs.get(get_artifact(store, run_id, path).digest)


def _series(run_id: str, key: str, block: bytes, points: int, since: int | None, until: int | None) -> Series:
    import numpy as np

    steps, times, values = ordered(block)
    low = 0 if since is None else int(np.searchsorted(steps, since, side="left"))
    high = len(steps) if until is None else int(np.searchsorted(steps, until, side="right"))
    steps, times, values = steps[low:high], times[low:high], values[low:high]
    n = len(steps)
    if points and n:
        chosen = thin(steps, values, points)
        steps, times, values = steps[chosen], times[chosen], values[chosen]
    plain: list[Any] = values.tolist()
    if np.isnan(values).any():
        plain = [None if value != value else value for value in plain]
    return Series(run_id, key, steps.tolist(), times.tolist(), plain, n, len(steps) < n)


def _table(found: Sequence[Run], what: str) -> dict[str, list[str | None]]:
    columns: list[dict[str, str]] = [getattr(run, what) for run in found]
    return {key: [column.get(key) for column in columns] for key in sorted({k for c in columns for k in c})}
