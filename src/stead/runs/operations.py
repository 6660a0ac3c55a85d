"""Starting, ending, finding, marking and deleting runs."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import msgspec
import sqlalchemy as sa

from stead.errors import Conflict, InvalidInput, NotFound
from stead.runs.delivery import SILENT, apply, begin
from stead.runs.filters import ATTRIBUTES, Name, parse, parse_order
from stead.runs.tables import experiments, metric_summaries, params, run_inputs, run_tags, runs
from stead.runs.types import MetricSummary, Run, RunPage
from stead.runtime import journal as j
from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.store import Store

MAX_PAGE = 50_000
COUNTED = 10_000
"""Runs that the total of a page counts at most."""


def start(
    store: Store,
    *,
    project: str,
    run_id: str | None = None,
    name: str | None = None,
    config: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    parent: str | None = None,
    job: str | None = None,
    source: dict[str, Any] | None = None,
    environment: str | None = None,
    user: str | None = None,
    started_at: int | None = None,
) -> Run:
    """Begin a run, or return the one that was begun with this `run_id` before."""
    run_id = checked_id(run_id or new_id())
    at = now_ms() if started_at is None else started_at
    by = user if user is not None else store.actor.partition(":")[2] or store.actor
    started = j.Started(at, project, name or "", by, parent, job, source or {}, environment)
    with store.db.write("runs.start") as tx:
        if begin(tx, run_id, started):
            apply(store, tx, run_id, [j.Params(at, config or {}), j.Tags(at, tags or {})], fresh=True)
    return get_run(store, run_id)


def log(
    store: Store,
    run_id: str,
    *,
    metrics: dict[str, float] | None = None,
    step: int = 0,
    params: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    at: int | None = None,
) -> None:
    """Record values without a journal, for those who hold none. Raises Conflict (`param-changed`) and changes nothing."""
    at = now_ms() if at is None else at
    records: list[j.Record] = [j.Metrics(at, step, metrics or {}), j.Params(at, params or {}), j.Tags(at, tags or {})]
    with store.db.write("runs.log") as tx:
        told = apply(store, tx, run_id, records)
        if told:
            raise Conflict("param-changed", told[0].split(";")[0], hint="log it under another name, or as a metric")


def end(store: Store, run_id: str, *, status: str = "finished", error: str | None = None) -> Run:
    """End a run that is running; one that has ended stays as it is. Raises NotFound (`run-unknown`)."""
    with store.db.write("runs.end") as tx:
        row = tx.execute(sa.select(runs.c.status).where(runs.c.id == run_id).with_for_update()).first()
        if row is None:
            raise _unknown(run_id)
        if row.status == "running":
            apply(store, tx, run_id, [j.Ended(now_ms(), status, error)])
    return get_run(store, run_id)


def end_silent(store: Store, *, after_ms: int = 900_000) -> list[str]:
    """Mark runs as killed of which nothing was heard for `after_ms`; if one speaks again it runs again."""
    now = now_ms()
    silent = (runs.c.status == "running", runs.c.beat_at < now - after_ms)
    with store.db.read() as tx:
        if tx.execute(sa.select(runs.c.id).where(*silent).limit(1)).first() is None:
            return []
    with store.db.write("runs.end") as tx:
        found = list(tx.execute(sa.select(runs.c.id).where(*silent)).scalars())
        values = {"status": "killed", "error": SILENT, "ended_at": runs.c.beat_at}
        tx.execute(sa.update(runs).where(runs.c.id.in_(found), *silent).values(values))
    return found


def get_run(store: Store, run_id: str) -> Run:
    """One run by its id, or by the end or beginning of the id where only one run has it.

    Raises NotFound (`run-unknown`), InvalidInput (`run-ambiguous`).
    """
    with store.db.read() as tx:
        found = _load(tx, _SELECT.where(runs.c.id == run_id))
        if not found and 4 <= len(run_id) < 32 and run_id.isalnum():
            near = sa.or_(runs.c.id.like(f"%{run_id}"), runs.c.id.like(f"{run_id}%"))
            found = _load(tx, _SELECT.where(near).limit(2))
            if len(found) > 1:
                raise InvalidInput("run-ambiguous", f"several runs have {run_id} in their id", hint="stead runs list")
    if not found:
        raise _unknown(run_id)
    return found[0]


def get_runs(store: Store, run_ids: Sequence[str]) -> list[Run]:
    """Several runs in the order named. Raises NotFound (`run-unknown`)."""
    with store.db.read() as tx:
        found = {run.id: run for run in _load_many(tx, list(dict.fromkeys(run_ids)))}
    for run_id in run_ids:
        if run_id not in found:
            found[run_id] = get_run(store, run_id)
    return [found[run_id] for run_id in run_ids]


def list_runs(
    store: Store,
    *,
    project: str | None = None,
    filter: str = "",  # noqa: A002
    order: str = "started desc",
    limit: int = 100,
    after: str | None = None,
    deleted: bool = False,
) -> RunPage:
    """Runs that a filter picks (see `stead.runs.filters`), in order, a page at a time; `after` is the last page's `next`.

    Runs without the value that is ordered by come last, after those where it is NaN; ties go newest first. A page begins
    behind the last run of the page before, whatever was added meanwhile.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput("limit-invalid", f"a page has 1 to {MAX_PAGE} runs, not {limit}")
    name, descending = parse_order(order)
    columns, query = _ordered(name, descending)
    query = query.where(runs.c.lifecycle == ("deleted" if deleted else "active"))
    query = query.where(experiments.c.lifecycle == "active") if not deleted else query
    if project is not None:
        query = query.where(experiments.c.name == project)
    if (clause := parse(filter)) is not None:
        query = query.where(clause)
    counted = query.with_only_columns(runs.c.id).order_by(None).limit(COUNTED).subquery()
    if after is not None:
        query = query.where(_behind(columns, _cursor(after, len(columns))))
    with store.db.read() as tx:
        ids = tx.execute(query.limit(limit + 1)).all()
        page = ids[:limit]
        found = {run.id: run for run in _load_many(tx, [row[0] for row in page])}
        total = len(ids)
        if after is not None or total > limit:
            total = tx.execute(sa.select(sa.func.count()).select_from(counted)).scalar_one()
    more = _token(page[-1][1:]) if len(ids) > limit else None
    return RunPage([found[row[0]] for row in page if row[0] in found], more, total)


def set_tag(store: Store, run_id: str, key: str, value: str | None) -> Run:
    """Set a tag of a run, or take it away with None."""
    with store.db.write("runs.tag") as tx:
        _must_exist(tx, run_id)
        if value is None:
            tx.execute(sa.delete(run_tags).where(run_tags.c.run_id == run_id, run_tags.c.key == key))
        else:
            store.db.upsert(tx, run_tags, {"run_id": run_id, "key": key, "value": value}, ("run_id", "key"))
    return get_run(store, run_id)


def rename_run(store: Store, run_id: str, name: str) -> Run:
    """Give a run another name."""
    if not name.strip() or len(name) > 250:
        raise InvalidInput("name-invalid", f"{name!r} is no name for a run", hint="1 to 250 characters")
    return _change(store, run_id, name=name)


def delete_run(store: Store, run_id: str) -> Run:
    """Put a run out of sight; `restore_run` brings it back."""
    return _change(store, run_id, lifecycle="deleted")


def restore_run(store: Store, run_id: str) -> Run:
    """Bring a deleted run back."""
    return _change(store, run_id, lifecycle="active")


def checked_id(run_id: str) -> str:
    """Raises InvalidInput (`run-id-invalid`) where it is not 32 hexadecimal digits."""
    if len(run_id) != 32 or any(c not in "0123456789abcdef" for c in run_id):
        raise InvalidInput("run-id-invalid", f"{run_id!r} is no id for a run", hint="32 lower-case hexadecimal digits")
    return run_id


_SELECT = sa.select(runs, experiments.c.name.label("experiment")).join_from(runs, experiments)


def _change(store: Store, run_id: str, **values: str) -> Run:
    with store.db.write("runs.change") as tx:
        _must_exist(tx, run_id)
        tx.execute(sa.update(runs).where(runs.c.id == run_id).values(values))
    return get_run(store, run_id)


def _must_exist(tx: sa.Connection, run_id: str) -> None:
    if tx.execute(sa.select(runs.c.id).where(runs.c.id == run_id)).first() is None:
        raise _unknown(run_id)


def _unknown(run_id: str) -> NotFound:
    return NotFound("run-unknown", f"there is no run {run_id!r}", hint="stead runs list")


def _load_many(tx: sa.Connection, ids: Sequence[str]) -> list[Run]:
    found: list[Run] = []
    for first in range(0, len(ids), 500):
        found += _load(tx, _SELECT.where(runs.c.id.in_(ids[first : first + 500])))
    return found


def _load(tx: sa.Connection, query: sa.Select[Any]) -> list[Run]:
    """Runs with all that belongs to them, in five statements however many they are."""
    rows = tx.execute(query).all()
    ids = [row.id for row in rows]
    of_params = _by_run(tx, params, ("key", "value"), ids)
    of_tags = _by_run(tx, run_tags, ("key", "value"), ids)
    of_metrics = _by_run(tx, metric_summaries, _SUMMARY, ids)
    of_inputs = _by_run(tx, run_inputs, ("dataset", "version"), ids)
    return [
        Run(
            id=row.id,
            experiment=row.experiment,
            name=row.name,
            status=row.status,
            lifecycle=row.lifecycle,
            user=row.user,
            parent_id=row.parent_id,
            job_id=row.job_id,
            source=row.source,
            environment=row.environment,
            started_at=row.started_at,
            ended_at=row.ended_at,
            beat_at=row.beat_at,
            error=row.error,
            params={key: value for _, key, value in of_params.get(row.id, ())},
            tags={key: value for _, key, value in of_tags.get(row.id, ())},
            metrics={found[1]: MetricSummary(*found[1:]) for found in of_metrics.get(row.id, ())},
            inputs=[f"{dataset}@{version}" for _, dataset, version in of_inputs.get(row.id, ())],
        )
        for row in rows
    ]


_SUMMARY = tuple(field.name for field in fields(MetricSummary))


def _by_run(
    tx: sa.Connection, table: sa.Table, columns: Sequence[str], ids: Sequence[str]
) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of a table by run, each with the run's id before the columns, by primary key."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    if ids:
        query = sa.select(table.c.run_id, *[table.c[name] for name in columns]).where(table.c.run_id.in_(ids))
        for row in tx.execute(query.order_by(*table.primary_key.columns)):
            found.setdefault(row[0], []).append(tuple(row))
    return found


Columns = list[tuple[sa.ColumnElement[Any], bool]]
"""What runs are ordered by: each column, and whether its greatest value comes first."""


def _ordered(name: Name, descending: bool) -> tuple[Columns, sa.Select[Any]]:
    """The columns of the order, and the query of run ids followed by their values of these columns."""
    source: sa.FromClause = runs.join(experiments, experiments.c.id == runs.c.experiment_id)
    if name.kind == "attributes":
        value = ATTRIBUTES[name.key]
        absent: list[sa.ColumnElement[Any]] = [_flag(value.is_(None))]
    else:
        table = {"metrics": metric_summaries, "params": params, "tags": run_tags}[name.kind]
        source = source.outerjoin(table, sa.and_(table.c.run_id == runs.c.id, table.c.key == name.key))
        value = table.c[name.aggregate] if name.kind == "metrics" else table.c.value
        absent = [_flag(table.c.run_id.is_(None)), _flag(value.is_(None))]
        if name.kind == "params":
            absent.append(_flag(table.c.number.is_(None)))
    columns: Columns = [(column, False) for column in absent]
    if name.kind == "params":
        number = params.c.number
        columns.append((sa.func.coalesce(number, 0.0), descending))
    is_text = name.kind in ("params", "tags") or (name.kind == "attributes" and name.key not in ("started", "ended"))
    columns.append((sa.func.coalesce(value, "" if is_text else 0), descending))
    columns += [(runs.c.started_at, True), (runs.c.id, True)]
    query = sa.select(runs.c.id, *[column.label(f"o{n}") for n, (column, _) in enumerate(columns)]).select_from(source)
    return columns, query.order_by(*[column.desc() if down else column.asc() for column, down in columns])


def _flag(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.case((condition, 1), else_=0)


def _behind(columns: Columns, values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """The condition that a row stands behind `values` in the order of `columns`."""
    clause: sa.ColumnElement[bool] = sa.false()
    for (column, down), value in reversed(list(zip(columns, values, strict=True))):
        further = column < value if down else column > value
        clause = sa.or_(further, sa.and_(column == value, clause))
    return clause


def _token(values: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(list(values))).decode().rstrip("=")


def _cursor(token: str, length: int) -> list[Any]:
    try:
        values = msgspec.msgpack.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=list)
    except (msgspec.DecodeError, binascii.Error, ValueError):
        values = []
    if len(values) != length:
        raise InvalidInput(
            "page-invalid", "'after' is not the 'next' of a page in this order", hint="start again without it"
        )
    return values
