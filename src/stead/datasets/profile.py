"""A statistical profile of each column, made so that profiles of parts add up without reading the parts again.

By column: `n` rows and `null` among them (NaN counts as null), and then
- numbers: `min`, `max`, `mean`, `sd` (of the finite values), `infinite` where there are any, and `histogram`: `edges` at 32
  quantiles of the rows they were made from, or a bin for each value where there are no more than 32, and a count for each bin; what
  lies beyond the outer edges is in the outer bins, and told in `beyond`, below and above, where there is any;
- texts and truths: `top`, up to 20 levels with their counts, and `other`, the count of all else;
- times: `min` and `max` as milliseconds.

Counts are integers and so add up exactly; mean and sd are merged by the formula of Chan, Golub & LeVeque (1983, The American
Statistician 37). Edges and levels stay those of the first part until a version has eight times as many rows.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np
    import pyarrow as pa

BINS = 32
LEVELS = 20
SAMPLE = 200_000
RENEW = 8
"""A profile's edges and levels are made anew when the rows have become so many times more."""
PIECE = 1 << 18
"""Rows are looked at so many at a time."""
_LONGEST = 200
_CELLS = 1 << 12
_BLOCK = 1 << 15
"""Numbers are looked at so many at a time: what is made of them meanwhile stays near the processor."""

Profile = dict[str, Any]


def profile_of(table: pa.Table, base: Mapping[str, Profile] | None = None) -> dict[str, Profile]:
    """Profile each column; with `base` count in that profile's edges and levels, so that both can be merged.

    >>> import pyarrow as pa
    >>> made = profile_of(pa.table({"x": [1.0, 2.0, None], "who": ["ann", "bob", "ann"]}))
    >>> made["x"]["mean"], made["x"]["null"], made["who"]["top"]
    (1.5, 1, [['ann', 2], ['bob', 1]])
    """
    return {name: profile_of_column(table[name], (base or {}).get(name)) for name in table.column_names}


def profile_columns(columns: Iterable[tuple[str, pa.ChunkedArray[Any]]]) -> dict[str, Profile]:
    """Profile columns that come one after the other, two at a time; of no more than four is anything held.

    >>> import pyarrow as pa
    >>> profile_columns([("x", pa.chunked_array([[1, 2]])), ("y", pa.chunked_array([["a", "b"]]))])["x"]["mean"]
    1.5
    """
    from concurrent.futures import ThreadPoolExecutor  # it cannot be loaded while a process ends

    made: dict[str, Profile] = {}
    under_way: deque[tuple[str, Future[Profile]]] = deque()
    with ThreadPoolExecutor(2, "profiling") as workers:
        for name, column in columns:
            under_way.append((name, workers.submit(profile_of_column, column)))
            if len(under_way) > 2:
                name, first = under_way.popleft()
                made[name] = first.result()
        return made | {name: each.result() for name, each in under_way}


def profile_pieces(
    pieces: Iterable[pa.Table], base: Mapping[str, Profile] | None = None, sample: pa.Table | None = None
) -> dict[str, Profile]:
    """The profile of a table that comes in pieces, which need not fit into memory together; without `base` in the edges and levels of a `sample`.

    Without both the edges are those of the first piece.
    """
    first = dict(base) if base is not None else profile_of(sample) if sample is not None and sample.num_rows else {}
    made: dict[str, Profile] | None = None
    for piece in pieces:
        if made is None:
            made = profile_of(piece, first)
            continue
        known = {name: made[name] if _has_edges(made[name]) else first.get(name, made[name]) for name in made}
        made = merge(made, profile_of(piece, known))
    made = made or {}
    if base is None and sample is not None:
        for column in made.values():
            if "edges_rows" in column:
                column["edges_rows"] = column["n"]
            if "top" in column:
                column["top"].sort(key=lambda level: (-level[1], level[0]))
    return made


class Sampler:
    """Rows spread evenly over a table of unknown length: every so many, fewer the longer it gets.

    >>> import pyarrow as pa
    >>> sampler = Sampler(3)
    >>> for first in range(0, 20, 5):
    ...     sampler.see(pa.table({"n": list(range(first, first + 5))}))
    >>> sampler.table()["n"].to_pylist()
    [0, 8, 16]
    """

    def __init__(self, number: int = SAMPLE) -> None:
        self.number = number
        self.step = 1
        self.seen = 0
        self._kept: list[pa.Table] = []
        self._count = 0

    def see(self, piece: pa.Table) -> None:
        import numpy as np

        first = -self.seen % self.step
        self.seen += piece.num_rows
        if first < piece.num_rows:
            self._kept.append(piece.take(np.arange(first, piece.num_rows, self.step)) if self.step > 1 else piece)
            self._count += self._kept[-1].num_rows
        while self._count > self.number:
            self.step *= 2
            kept = self.table()
            self._kept = [kept.take(np.arange(0, kept.num_rows, 2))]
            self._count = self._kept[0].num_rows

    def table(self) -> pa.Table:
        """What was kept of at least one piece."""
        import pyarrow as pa

        return pa.concat_tables(self._kept)


def _has_edges(column: Profile) -> bool:
    return "histogram" in column or "top" in column


def merge(one: Mapping[str, Profile], other: Mapping[str, Profile]) -> dict[str, Profile]:
    """The profile of both sets of rows; `other` was counted in the edges and levels of `one`."""
    return {name: _merged(one[name], other[name]) if name in one else other[name] for name in other}


def worn(profile: Mapping[str, Profile], rows: int) -> bool:
    """Whether a profile's edges and levels come from too few of its rows."""
    return any(rows >= RENEW * max(1, column.get("edges_rows", rows)) for column in profile.values())


def profile_of_column(column: pa.ChunkedArray[Any], base: Profile | None = None) -> Profile:
    """Profile one column; with `base` in that profile's edges or levels."""
    import pyarrow as pa

    kind = column.type
    made: Profile = {"n": len(column), "null": column.null_count}
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        chunks: Any = (chunk.cast(pa.float64(), safe=False).drop_null().to_numpy() for chunk in column.chunks)
        return _numbers(made, chunks, base)
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _levels(made, column.cast(pa.string()), base)
    if pa.types.is_temporal(kind) and not (pa.types.is_duration(kind) or pa.types.is_time(kind)):
        return _times(made, column)
    return made


def _numbers(made: Profile, chunks: Iterable[np.ndarray[Any, Any]], base: Profile | None) -> Profile:
    import numpy as np

    blocks: list[np.ndarray[Any, Any]] = []
    low, high, mean, square, number = math.inf, -math.inf, 0.0, 0.0, 0
    """`square`: the sum of squared distances from the mean."""
    for block in (chunk[first : first + _BLOCK] for chunk in chunks for first in range(0, len(chunk), _BLOCK)):
        least, most = float(block.min()), float(block.max())
        finite = block
        if not (math.isfinite(least) and math.isfinite(most)):
            present = block[~np.isnan(block)]
            finite = present[np.isfinite(present)]
            made["null"] += len(block) - len(present)
            if len(present) > len(finite):
                made["infinite"] = made.get("infinite", 0) + len(present) - len(finite)
            if not len(finite):
                continue
            least, most = float(finite.min()), float(finite.max())
        blocks.append(finite)
        low, high, number = min(low, least), max(high, most), number + len(finite)
        middle = float(finite.mean())
        gap = middle - mean
        mean += gap * len(finite) / number
        apart = finite - middle
        square += float(np.square(apart, out=apart).sum()) + gap**2 * len(finite) * (number - len(finite)) / number
    if not blocks:
        return made
    known = (base or {}).get("histogram")
    if known:
        edges, made["edges_rows"] = np.array(known["edges"]), (base or {})["edges_rows"]
    else:
        edges, made["edges_rows"] = _edges(_spread(blocks)), made["n"]
    if low < edges[0] or high > edges[-1]:
        ends = [((block < edges[0]).sum(), (block > edges[-1]).sum()) for block in blocks]
        made["beyond"] = [int(sum(beyond)) for beyond in zip(*ends, strict=True)]
    return made | {
        "min": low,
        "max": high,
        "mean": mean,
        "sd": math.sqrt(square / number),
        "histogram": {"edges": edges.tolist(), "counts": _counted(blocks, edges[1:-1]).tolist()},
    }


def _edges(sample: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    edges = np.unique(np.quantile(sample, np.linspace(0, 1, BINS + 1)))
    if len(edges) > BINS:
        return edges
    values = np.unique(sample)
    return np.append(values, values[-1]) if len(values) <= BINS else edges


def _spread(blocks: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Every so many of the values, `SAMPLE` to twice as many of them, or all."""
    import numpy as np

    step = max(1, sum(map(len, blocks)) // SAMPLE)
    taken, seen = [], 0
    for block in blocks:
        taken.append(block[-seen % step :: step])
        seen += len(block)
    return np.concatenate(taken)


def _counted(blocks: Sequence[np.ndarray[Any, Any]], inner: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """How many values lie in each bin between inner edges, an edge in the bin above it.

    A value's cell in an even grid tells its bin where the cell has no edge in it, five times as fast as a search; only the others
    are searched for. Rounding does no harm: a greater value never has a lesser cell.
    """
    import numpy as np

    def searched(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.bincount(np.searchsorted(inner, values, side="right"), minlength=len(inner) + 1)

    low, high = (float(inner[0]), float(inner[-1])) if len(inner) else (0.0, 0.0)
    scale = (_CELLS - 2) / (high - low) if high > low else math.inf
    counts = np.zeros(len(inner) + 1, dtype=np.int64)
    if sum(map(len, blocks)) < 4 * _CELLS or not 0 < scale < math.inf:
        for block in blocks:
            counts += searched(block)
        return counts
    grid, whole = np.empty(_BLOCK), np.empty(_BLOCK, dtype=np.intp)

    def cells(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Cell 0 lies below the edges, the last one above."""
        places, made = grid[: len(values)], whole[: len(values)]
        np.subtract(values, low, out=places)
        np.multiply(places, scale, out=places)
        np.clip(places, -1, _CELLS - 1, out=places)
        np.add(places, 1, out=places)
        np.copyto(made, places, casting="unsafe")
        return made

    with np.errstate(over="ignore"):
        of_edges = cells(inner).copy()
        torn = np.zeros(_CELLS + 1, dtype=bool)
        torn[of_edges] = True
        full = np.zeros(_CELLS + 1, dtype=np.int64)
        for block in blocks:
            places = cells(block)
            full += np.bincount(places, minlength=_CELLS + 1)
            counts += searched(block[torn[places]])
    bins = np.searchsorted(of_edges, np.arange(_CELLS + 1), side="right")[~torn]
    np.add.at(counts, bins, full[~torn])
    return counts


def _levels(made: Profile, column: pa.ChunkedArray[Any], base: Profile | None) -> Profile:
    found: Any = column.value_counts()
    counted = {each["values"]: each["counts"] for each in found.to_pylist() if each["values"] is not None}
    if base is not None and "top" in base:
        top, made["edges_rows"] = [[level, counted.pop(level, 0)] for level, _ in base["top"]], base["edges_rows"]
    else:
        most = sorted(counted, key=lambda level: (-counted[level], level))[:LEVELS]
        top, made["edges_rows"] = [[level, counted.pop(level)] for level in most if len(level) <= _LONGEST], made["n"]
    return made | {"top": top, "other": sum(counted.values())}


def _times(made: Profile, column: pa.ChunkedArray[Any]) -> Profile:
    import pyarrow as pa
    import pyarrow.compute as pc

    ends: Any = pc.min_max(column.cast(pa.timestamp("ms"), safe=False))
    low, high = (ends[end].cast(pa.int64()).as_py() for end in ("min", "max"))
    return made if low is None else made | {"min": low, "max": high}


def over_time(
    pieces: Iterable[pa.Table], spans: Mapping[str, tuple[int, int]], bins: int = BINS
) -> dict[str, dict[str, list[Any]]]:
    """How many rows lie in each of so many equal stretches of time, by column; `edges` in milliseconds.

    >>> import pyarrow as pa
    >>> day = pa.array([0, 1, 2, 4], pa.int64()).cast(pa.timestamp("ms"))
    >>> over_time([pa.table({"day": day})], {"day": (0, 4)}, bins=2)["day"]
    {'edges': [0.0, 2.0, 4.0], 'counts': [2, 2]}
    """
    import numpy as np
    import pyarrow as pa

    edges = {name: np.linspace(low, high, bins + 1) for name, (low, high) in spans.items()}
    counts = {name: np.zeros(bins, dtype=np.int64) for name in spans}
    for piece in pieces:
        for name in spans:
            moments: Any = piece[name].cast(pa.timestamp("ms"), safe=False).drop_null().cast(pa.int64())
            counts[name] += np.histogram(moments.to_numpy(), edges[name])[0]
    return {name: {"edges": edges[name].tolist(), "counts": counts[name].tolist()} for name in spans}


def _merged(one: Profile, other: Profile) -> Profile:
    made: Profile = {"n": one["n"] + other["n"], "null": one["null"] + other["null"]}
    if "infinite" in one or "infinite" in other:
        made["infinite"] = one.get("infinite", 0) + other.get("infinite", 0)
    if "beyond" in one or "beyond" in other:
        both = zip(one.get("beyond", (0, 0)), other.get("beyond", (0, 0)), strict=True)
        made["beyond"] = [mine + theirs for mine, theirs in both]
    if "top" in one and "top" in other:
        made["top"] = [[level, n + m] for (level, n), (_, m) in zip(one["top"], other["top"], strict=True)]
        return made | {"other": one["other"] + other["other"], "edges_rows": one["edges_rows"]}
    if "min" not in one or "min" not in other:
        filled = other if "min" in other else one
        return {**filled, **made}
    made |= {"min": min(one["min"], other["min"]), "max": max(one["max"], other["max"])}
    if "histogram" in one:
        counts = zip(one["histogram"]["counts"], other["histogram"]["counts"], strict=True)
        made["histogram"] = {"edges": one["histogram"]["edges"], "counts": [a + b for a, b in counts]}
        made |= _moments(one, other) | {"edges_rows": one["edges_rows"]}
    return made


def _moments(one: Profile, other: Profile) -> Profile:
    n, m = (sum(profile["histogram"]["counts"]) for profile in (one, other))
    gap = other["mean"] - one["mean"]
    square = n * one["sd"] ** 2 + m * other["sd"] ** 2 + gap**2 * n * m / (n + m)
    return {"mean": one["mean"] + gap * m / (n + m), "sd": math.sqrt(square / (n + m))}
