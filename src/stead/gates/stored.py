"""Served = stored: the raw rows that were asked for lately are those that came in as data for the same moments.

A wrong version can beat a champion that has grown stale, and no comparison on stored rows sees that other values are served: a temperature
in other units, an hour of another zone. So rows are held against one another, column by column.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stead import datasets, predictions
from stead.errors import SteadError
from stead.gates.beside import DAY, find_champion
from stead.gates.types import Verdict
from stead.pipelines import Candidate
from stead.runtime.clock import to_ms
from stead.runtime.formats.sameness import same
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

DAYS = 28
LEAST_ROWS = 30
SHARE = 0.98
FEATURE = "features."


def stored(store: Store, candidate: Candidate) -> Verdict:
    """In at least 98 % of the rows that both have, each column was served as it is stored.

    Rows belong together by event time and, where several have the same, by their text columns; what is not told apart is left out.
    """
    import pyarrow.parquet as pq

    spec, champion = candidate.spec, find_champion(store, candidate.version.model)
    if champion is None or spec.time is None:
        return Verdict("stored", "skipped", "there is no champion yet, or no time to know rows by")
    raw = pq.read_table(io.BytesIO(store.blobs.get(candidate.rows)))
    try:
        times = datasets.times_of(raw, spec.time)
    except SteadError as error:
        return Verdict("stored", "skipped", error.message)
    since, until = max(times) - DAYS * DAY + 1, max(times) + 1
    served = predictions.read_columns(store, spec.model, version=champion.version, since=since, until=until)
    names = [name for name in raw.column_names if f"{FEATURE}{name}" in served.column_names and name != spec.target]
    pairs = _pairs(raw, times, served, names, since) if names else []
    evidence: dict[str, Any] = {"champion": champion.version, "rows": len(pairs), "served": served.num_rows}
    if len(pairs) < LEAST_ROWS:
        said = f"{len(pairs)} rows are both served and stored, {LEAST_ROWS} are needed"
        return Verdict("stored", "skipped", said, evidence)
    differ: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(names):
        odd = [pair for pair in pairs if not _same(pair[0][place], pair[1][place])]
        if len(odd) > (1 - SHARE) * len(pairs):
            was, came = (str(each[place]) for each in odd[0])
            differ[name] = {"rows": len(odd), "stored": was, "served": came}
    evidence |= {"columns": names, "differ": differ}
    if not differ:
        said = f"{len(pairs)} rows were served as they are stored, by {len(names)} columns"
        return Verdict("stored", "passed", said, evidence)
    name, first = next(iter(differ.items()))
    more = f"; so do {', '.join(list(differ)[1:])}" if len(differ) > 1 else ""
    said = f"the column {name!r} differs in {first['rows']} of {len(pairs)} rows, such as {first['served']} served and {first['stored']} stored"
    return Verdict("stored", "failed", said + more, evidence | {"column": name})


Values = tuple[Any, ...]


def _pairs(
    raw: pa.Table, times: Sequence[int], served: pa.Table, names: Sequence[str], since: int
) -> list[tuple[Values, Values]]:
    """Rows as stored and as served, of the same moment and texts, where both sides have just one."""
    mine: list[tuple[int, Values]] = list(zip(times, datasets.contents(raw, names), strict=True))
    mine = [(moment, row) for moment, row in mine if moment >= since]
    its: list[tuple[int, Values]] = list(
        zip(
            served["event_time"].to_numpy().tolist(),
            datasets.contents(served, [FEATURE + name for name in names]),
            strict=True,
        )
    )
    for texts in ([], [place for place, name in enumerate(names) if _is_text(raw, name)]):
        first, second = _single(mine, texts), _single(its, texts)
        shared = sorted(first.keys() & second.keys(), key=lambda key: key[0])
        found = [(first[key], second[key]) for key in shared]
        if len(found) >= LEAST_ROWS:
            break
    return found


def _single(rows: list[tuple[int, Values]], texts: Sequence[int]) -> dict[Any, Values]:
    keyed = [((moment, *(row[place] for place in texts)), row) for moment, row in rows]
    often = Counter(key for key, _ in keyed)
    return {key: row for key, row in keyed if often[key] == 1}


def _is_text(table: pa.Table, name: str) -> bool:
    return str(table.schema.field(name).type) in ("string", "large_string")


def _same(stored: Any, served: Any) -> bool:
    if isinstance(stored, datetime):  # JSON carries times as texts
        try:
            return to_ms(str(stored)) == to_ms(str(served))
        except (SteadError, ValueError):
            return str(stored) == str(served)
    return same(
        float(stored) if isinstance(stored, bool) else stored, float(served) if isinstance(served, bool) else served
    )
