"""Bringing a dataset up to a time: ask the project for rows after the watermark, hold them against the contract, add them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stead import datasets
from stead.config import duration_ms
from stead.errors import Conflict, InvalidInput, NotFound, Refused
from stead.pipelines.steps import Workshop
from stead.pipelines.types import Spec
from stead.runtime.clock import to_iso
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

TRIES = 3
LEAST_AGAIN = 0.5
"""Share of the rows in the overlap that a source must give again: else it is the source that is broken, not the past."""


def ingest_until(
    store: Store, shop: Workshop, spec: Spec, end: int, *, since: int | None = None
) -> datasets.DatasetVersion:
    """Ask the project for the rows after the watermark, less the overlap for late ones, and add what is new as a part.

    In the overlap the source is right: late rows are added, changed ones replace what was there. A batch that breaks the contract is put
    into quarantine. Where another ingest of the dataset comes between, the source is asked anew for what is missing then.
    Raises Refused (`batch-quarantined`), InvalidInput (`ingest-empty`), Conflict (`dataset-changed`).
    """
    for tries_left in range(TRIES - 1, -1, -1):
        try:
            return _ingested(store, shop, spec, end, since)
        except Conflict as conflict:
            if conflict.code != "dataset-changed" or not tries_left:
                raise
    raise AssertionError


def _ingested(store: Store, shop: Workshop, spec: Spec, end: int, since: int | None) -> datasets.DatasetVersion:
    try:
        newest: datasets.DatasetVersion | None = datasets.get_version(store, spec.dataset)
    except NotFound:
        newest = None
    watermark = start = since or 0
    if newest is not None:
        watermark = start = int(newest.source.get("until") or (newest.time_max or -1) + 1)
        if start >= end:
            return newest
        if spec.ingest_overlap and newest.time_column is not None:
            start = max(newest.time_min or 0, start - duration_ms(spec.ingest_overlap))
    root = Path(spec.root)
    made = shop.run(
        "ingest",
        outputs=["rows"],
        params={"since": start, "until": end},
        cache=False,
        cwd=root if root.is_dir() else None,
    )
    import pyarrow.parquet as pq

    table = pq.read_table(store.blobs.path(made.digests["rows"]))
    if table.num_rows == 0 and newest is None:
        raise InvalidInput(
            "ingest-empty",
            f"ingest gave no rows from {to_iso(start)} to {to_iso(end)}",
            hint="stead train … --since … --until …",
        )
    if table.num_rows == 0 and start == watermark:
        assert newest is not None
        return newest
    origin = {"kind": "ingest", "since": start, "until": end, "entry": spec.entry, "job": shop.keeper.job.id}
    problems, hint = _problems(spec, newest, table), ""
    if newest is not None and table.num_rows and set(table.column_names) != {each.name for each in newest.schema}:
        hint = _with_columns(spec)
    before = _overlap(store, newest, start, watermark)
    if not problems and before is not None and (again := _again(before, table, spec.time, watermark)) is not None:
        problems.append(again)
    if not problems:
        try:
            if before is None:
                upon = newest.version if newest is not None else 0
                return datasets.add(
                    store, spec.dataset, table, append=upon > 0, time_column=spec.time, origin=origin, upon=upon
                )
            return _replace(store, spec, newest, before, table, watermark, origin)
        except InvalidInput as error:  # other columns or types than before
            problems.append(error.message)
    datasets.put_aside(
        store, spec.dataset, made.digests["rows"], rows=table.num_rows, since=start, until=end, problems=problems,
        job=shop.keeper.job.id,
    )  # fmt: skip
    raise Refused(
        "batch-quarantined",
        f"the rows of {spec.dataset} from {to_iso(start)[:16]} to {to_iso(end)[:16]} are in quarantine: {'; '.join(problems)}",
        hint=f"stead data quarantine; put the source right, or {hint or f'{spec.dataset}.contract.toml (stead data contract {spec.model}), and ingest again'}",
    )


def _with_columns(spec: Spec) -> str:
    """How a source that has other columns than before comes in: a version has one schema, so all rows are added with it."""
    time = f" --time {spec.time}" if spec.time else ""
    return f"take the columns in: all rows with them to a file, stead data add {spec.dataset} FILE{time}, then ingest again"


def _problems(spec: Spec, newest: datasets.DatasetVersion | None, table: pa.Table) -> list[str]:
    """What a batch breaks of the contract that people wrote, else of what the rows before it hold to."""
    if table.num_rows == 0:
        return []
    contract = spec.contract
    if contract is None and newest is not None:
        contract = datasets.inferred(newest)
    return [] if contract is None else datasets.violations(contract, table)


def _overlap(store: Store, newest: datasets.DatasetVersion | None, start: int, watermark: int) -> pa.Table | None:
    """The rows that are there of the time that was asked for again; None without an overlap."""
    if newest is None or start >= watermark:
        return None
    return datasets.read(store, newest.ref, since=start)


def _again(before: pa.Table, table: pa.Table, time: str | None, watermark: int) -> str | None:
    assert time is not None
    given = sum(moment < watermark for moment in datasets.times_of(table, time))
    if given >= LEAST_AGAIN * before.num_rows:
        return None
    return f"the source gives {given} rows where it gave {before.num_rows} before"


def _replace(
    store: Store,
    spec: Spec,
    newest: datasets.DatasetVersion | None,
    before: pa.Table,
    table: pa.Table,
    watermark: int,
    origin: dict[str, Any],
) -> datasets.DatasetVersion:
    """Add what is new; where rows of the overlap have changed or gone, put what the source says now in their place."""
    assert newest is not None and spec.time is not None
    add = partial(
        datasets.add, store, spec.dataset, append=True, time_column=spec.time, origin=origin, upon=newest.version
    )
    there: dict[tuple[Any, ...], int] = {}
    for row in datasets.contents(before, before.column_names):
        there[row] = there.get(row, 0) + 1
    new = []
    for place, row in enumerate(datasets.contents(table, before.column_names)):
        if there.get(row, 0):
            there[row] -= 1
        else:
            new.append(place)
    if any(there.values()):
        return add(table, replace_since=origin["since"])
    if not new:
        return newest
    return add(table.take(new))
