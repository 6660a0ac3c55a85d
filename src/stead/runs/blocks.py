"""The blocks in which a run's points lie: added to as points come, joined into larger ones as they grow many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from stead.runs.points import (
    POINT,
    Columns,
    Summary,
    arrays,
    concatenate,
    pack,
    summary_of,
    summary_of_block,
)
from stead.runs.prepared import Prepared, insert
from stead.runs.tables import metric_blocks as blocks
from stead.runs.tables import metric_summaries as summaries
from stead.runtime.journal import checked_key

OPEN = 128
"""A last block with fewer points is still added to: a slow run writes 3 kB a key and delivery at most."""
JOIN_EVERY = 64
LARGE = 1 << 16


@dataclass
class Batch:
    """The points of one delivery by key, in the order in which they came."""

    columns: dict[str, Columns] = field(default_factory=dict)
    packed: dict[str, list[bytes]] = field(default_factory=dict)

    def add(self, step: int, at: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            points = self.columns.get(key)
            if points is None:
                points = self.columns[key] = Columns([], [], [])
            points.steps.append(step)
            points.times.append(at)
            points.values.append(value)

    def add_block(self, key: str, block: bytes) -> None:
        if block:
            self.packed.setdefault(key, []).append(block)

    def by_key(self) -> dict[str, tuple[bytes, Summary]]:
        made: dict[str, tuple[bytes, Summary]] = {}
        for key, points in self.columns.items():
            made[key] = (pack(points), summary_of(points))
        for key, pieces in self.packed.items():
            block = concatenate(pieces) if len(pieces) > 1 else pieces[0]
            summary = summary_of_block(block)
            if key in made:
                earlier, first = made[key]
                block, summary = concatenate([earlier, block]), first.joined(summary)
            made[key] = (block, summary)
        return made


def store_points(tx: sa.Connection, run_id: str, batch: Batch, *, fresh: bool, final: bool) -> None:
    """Store a delivery's points and bring the summaries up to date; `final` joins all blocks of the run."""
    made = batch.by_key()
    known = {} if fresh else _known(tx, run_id, list(made))
    new_blocks: list[dict[str, Any]] = []
    changed_blocks: list[dict[str, Any]] = []
    new_summaries: list[dict[str, Any]] = []
    changed_summaries: list[dict[str, Any]] = []
    join: list[str] = []
    for key, (block, summary) in made.items():
        checked_key(key)
        row = known.get(key)
        count = 0
        if row is not None:
            summary = _summary(row).joined(summary)
            count = row["blocks"]
        if row is not None and row["data"] is not None:
            changed_blocks.append(
                {"b_run": run_id, "b_key": key, "b_block": count - 1} | _block(concatenate([row["data"], block]))
            )
        else:
            new_blocks.append({"run_id": run_id, "key": key, "block": count, **_block(block)})
            count += 1
            if count % JOIN_EVERY == 0:
                join.append(key)
        values = {"blocks": count} | vars(summary)
        if row is None:
            new_summaries.append({"run_id": run_id, "key": key} | values)
        else:
            changed_summaries.append({"b_run": run_id, "b_key": key} | values)
    for statement, rows in (
        (_NEW_BLOCK, new_blocks),
        (_CHANGE_BLOCK, changed_blocks),
        (_NEW_SUMMARY, new_summaries),
        (_CHANGE_SUMMARY, changed_summaries),
    ):
        if rows:
            statement.run(tx, *rows)
    if final and not fresh:
        join = list(
            tx.execute(sa.select(summaries.c.key).where(summaries.c.run_id == run_id, summaries.c.blocks > 1)).scalars()
        )
    for key in join:
        join_blocks(tx, run_id, key)


def join_blocks(tx: sa.Connection, run_id: str, key: str, *, large: int = LARGE) -> None:
    """Join neighbouring blocks of a key into blocks of at most `large` points; the order of points stays."""
    where = (blocks.c.run_id == run_id, blocks.c.key == key)
    found = tx.execute(sa.select(blocks.c.block, blocks.c.n).where(*where).order_by(blocks.c.block)).all()
    groups: list[list[int]] = [[]]
    size = 0
    for number, n in found:
        if groups[-1] and size + n > large:
            groups.append([])
            size = 0
        groups[-1].append(number)
        size += n
    for group in groups:
        if len(group) > 1:
            _join(tx, run_id, key, group)


def _join(tx: sa.Connection, run_id: str, key: str, numbers: list[int]) -> None:
    where = (blocks.c.run_id == run_id, blocks.c.key == key, blocks.c.block.between(numbers[0], numbers[-1]))
    data = concatenate(tx.execute(sa.select(blocks.c.data).where(*where).order_by(blocks.c.block)).scalars().all())
    tx.execute(sa.delete(blocks).where(*where))
    _NEW_BLOCK.run(tx, {"run_id": run_id, "key": key, "block": numbers[0]} | _block(data))


def _block(data: bytes) -> dict[str, Any]:
    n = len(data) // POINT
    if n == 1:
        low = high = int.from_bytes(data[:8], "little", signed=True)
    else:
        steps = arrays(data)[0]
        low, high = int(steps.min()), int(steps.max())
    return {"n": n, "step_min": low, "step_max": high, "data": data}


def _known(tx: sa.Connection, run_id: str, keys: list[str]) -> dict[str, Any]:
    """Summaries of these keys, each with the data of its last block where that is still open."""
    if not keys:
        return {}
    rows: list[Any] = []
    if len(keys) <= 4:
        for key in keys:
            rows += _KNOWN_ONE.rows(tx, {"run": run_id, "one": key})
    else:
        for start in range(0, len(keys), 500):
            rows += tx.execute(_KNOWN, {"run": run_id, "some": keys[start : start + 500]}).mappings()
    return {row["key"]: row for row in rows}


def _summary(row: Any) -> Summary:
    return Summary(
        row["n"],
        row["last"],
        row["last_step"],
        row["last_at"],
        row["min"],
        row["min_step"],
        row["max"],
        row["max_step"],
    )


_OPEN_BLOCK = sa.and_(
    blocks.c.run_id == summaries.c.run_id,
    blocks.c.key == summaries.c.key,
    blocks.c.block == summaries.c.blocks - sa.literal_column("1"),
    blocks.c.n < sa.literal_column(str(OPEN)),
)
_OF_RUN = (
    sa.select(summaries, blocks.c.data)
    .select_from(summaries.outerjoin(blocks, _OPEN_BLOCK))
    .where(summaries.c.run_id == sa.bindparam("run"))
)
_KNOWN = _OF_RUN.where(summaries.c.key.in_(sa.bindparam("some", expanding=True)))
_KNOWN_ONE = Prepared(_OF_RUN.where(summaries.c.key == sa.bindparam("one")))
_NEW_BLOCK = insert(blocks)
_NEW_SUMMARY = insert(summaries)
_CHANGE_BLOCK = Prepared(
    sa.update(blocks).where(
        blocks.c.run_id == sa.bindparam("b_run"),
        blocks.c.key == sa.bindparam("b_key"),
        blocks.c.block == sa.bindparam("b_block"),
    ),
    ["n", "step_min", "step_max", "data"],
)
_CHANGE_SUMMARY = Prepared(
    sa.update(summaries).where(summaries.c.run_id == sa.bindparam("b_run"), summaries.c.key == sa.bindparam("b_key")),
    [column.name for column in summaries.columns if not column.primary_key],
)
