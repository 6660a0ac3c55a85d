"""Taking requests out of the log for good, wherever they stand in it.

Labels and what was scored aside go first and the predictions, which alone know the key, last; so after a kill -9 the same
call finds what is left. In the transaction that names a segment's new bytes the old ones are noted as to be deleted; the
next erasure or compaction deletes them if this one does not come to it. Sums by day stay: they hold no row.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from stead.errors import Conflict
from stead.predictions.compaction import ERASED, ROW_GROUP, clear_erased
from stead.predictions.index import StoredSegment, look
from stead.predictions.segment import Kind
from stead.predictions.tables import segments
from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


def take_out(store: Store, model: str, wanted: set[str]) -> int:
    """Write every file of a model's log anew that has some of these requests, without them; how many files.

    Raises Conflict (`erase-waits`).
    """
    rewritten = 0
    kinds: tuple[tuple[Kind, str], ...] = (("labels", ""), ("shadows", model), ("predictions", model))
    for kind, owner in kinds:
        for segment in look(store, kind, models=[owner], ids=(min(wanted), max(wanted))).stored:
            rewritten += _rewrite(store, segment, wanted)
        _forget_merged(store, kind, owner)
    clear_erased(store)
    return rewritten


def _rewrite(store: Store, segment: StoredSegment, wanted: set[str]) -> int:
    """Name new bytes for a segment, without some requests; 1 where it had any of them."""
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet as pq

    pc: Any = pyarrow.compute
    table = pq.read_table(store.blobs.path(segment.digest))
    kept: pa.Table = table.filter(pc.invert(pc.is_in(table["request"], pa.array(sorted(wanted), pa.string()))))
    if kept.num_rows == table.num_rows:
        return 0
    values: dict[str, Any] = {"digest": "", "merged_into": ERASED, "rows": 0, "requests": 0, "failed": 0}
    values |= {"id_min": "", "id_max": ""}
    if kept.num_rows:
        out = io.BytesIO()
        pq.write_table(kept, out, compression="zstd", row_group_size=ROW_GROUP)
        predictions = segment.kind == "predictions"
        values = {
            "digest": store.blobs.put(out.getvalue()),
            "rows": kept.num_rows,
            "id_min": kept["request"][0].as_py(),
            "id_max": kept["request"][-1].as_py(),
            "requests": int((kept["row"].to_numpy() == 0).sum()) if predictions else 0,
            "failed": int((kept["rows"].to_numpy() == 0).sum()) if predictions else 0,
            "event_min": pc.min(kept["event_time"]).as_py(),
            "event_max": pc.max(kept["event_time"]).as_py(),
        }
    mine = (segments.c.id == segment.id) & (segments.c.model == segment.model) & (segments.c.digest == segment.digest)
    with store.db.write("predictions.erase") as tx:
        still = sa.update(segments).where(mine, segments.c.merged_into.is_(None)).values(values)
        if not tx.execute(still).rowcount:
            raise Conflict("erase-waits", "a segment of the log was merged meanwhile", hint="try again")
        old = {column.name: getattr(segment, column.name) for column in segments.columns}
        tx.execute(sa.insert(segments).values(old | {"id": f"{ERASED}-{new_id()}", "merged_into": ERASED}))
    return 1


def _forget_merged(store: Store, kind: Kind, model: str) -> None:
    """What was merged a moment ago has the rows, too: its bytes go now and not in an hour."""
    mine = (segments.c.kind == kind) & (segments.c.model == model) & (segments.c.digest != "")
    with store.db.read() as tx:
        merged = tx.execute(sa.select(segments).where(mine, segments.c.merged_into.is_not(None))).mappings().all()
    if not merged:
        return
    with store.db.write("predictions.erase") as tx:
        for row in merged:
            if row["merged_into"] == ERASED:
                continue
            here = (segments.c.id == row["id"]) & (segments.c.model == model)
            tx.execute(sa.update(segments).where(here).values(digest=""))
            tx.execute(
                sa.insert(segments).values(
                    {**row, "id": f"{ERASED}-{new_id()}", "merged_into": ERASED, "created_at": now_ms()}
                )
            )
