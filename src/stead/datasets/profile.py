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
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

Profile = dict[str, Any]


def profile_of(table: pa.Table, base: Mapping[str, Profile] | None = None) -> dict[str, Profile]:
    """Profile each column; with `base` count in that profile's edges and levels, so that both can be merged.

    >>> import pyarrow as pa
    >>> made = profile_of(pa.table({"x": [1.0, 2.0, None], "who": ["ann", "bob", "ann"]}))
    >>> made["x"]["mean"], made["x"]["null"], made["who"]["top"]
    (1.5, 1, [['ann', 2], ['bob', 1]])
    """
    return {name: _column(table[name], (base or {}).get(name)) for name in table.column_names}


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


def _column(column: pa.ChunkedArray[Any], base: Profile | None) -> Profile:
    import pyarrow as pa

    kind = column.type
    made: Profile = {"n": len(column), "null": column.null_count}
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = column.cast(pa.float64(), safe=False).drop_null().to_numpy()
        return _numbers(made, values, base)
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _levels(made, column.cast(pa.string()), base)
    if pa.types.is_temporal(kind) and not (pa.types.is_duration(kind) or pa.types.is_time(kind)):
        return _times(made, column)
    return made


def _numbers(made: Profile, values: np.ndarray[Any, Any], base: Profile | None) -> Profile:
    import numpy as np

    whole = np.isfinite(values)
    finite = values
    if not whole.all():
        present = values[~np.isnan(values)]
        finite = values[whole]
        made["null"] += len(values) - len(present)
        if len(present) > len(finite):
            made["infinite"] = len(present) - len(finite)
    if len(finite) == 0:
        return made
    known = (base or {}).get("histogram")
    if known:
        edges, made["edges_rows"] = np.array(known["edges"]), (base or {})["edges_rows"]
    else:
        sample = finite[:: max(1, len(finite) // SAMPLE)]
        edges, made["edges_rows"] = _edges(sample), made["n"]
    counts = _counted(finite, edges[1:-1])
    beyond = [int((finite < edges[0]).sum()), int((finite > edges[-1]).sum())]
    if any(beyond):
        made["beyond"] = beyond
    return made | {
        "min": float(finite.min()),
        "max": float(finite.max()),
        "mean": float(finite.mean()),
        "sd": float(finite.std()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _edges(sample: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    edges = np.unique(np.quantile(sample, np.linspace(0, 1, BINS + 1)))
    if len(edges) > BINS:
        return edges
    values = np.unique(sample)
    return np.append(values, values[-1]) if len(values) <= BINS else edges


def _counted(values: np.ndarray[Any, Any], inner: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """How many values lie in each bin between inner edges, an edge in the bin above it.

    A value's cell in an even grid tells its bin where the cell has no edge in it, five times as fast as a search; only the others
    are searched for. Rounding does no harm: a greater value never has a lesser cell.
    """
    import numpy as np

    low, high = (float(inner[0]), float(inner[-1])) if len(inner) else (0.0, 0.0)
    scale = (_CELLS - 2) / (high - low) if high > low else math.inf
    if len(values) < 4 * _CELLS or not 0 < scale < math.inf:
        return np.bincount(np.searchsorted(inner, values, side="right"), minlength=len(inner) + 1)
    cells = np.clip((np.clip(values, low, high) - low) * scale + 1, 0, _CELLS - 1).astype(np.int16)
    of_edges = np.clip((inner - low) * scale + 1, 0, _CELLS - 1).astype(np.int16)
    counts = np.bincount(cells, minlength=_CELLS)
    torn = np.zeros(_CELLS, dtype=bool)
    torn[of_edges] = True
    counted = np.bincount(
        np.searchsorted(of_edges, np.arange(_CELLS), side="right")[~torn], counts[~torn], minlength=len(inner) + 1
    ).astype(np.int64)
    rest = values[torn[cells]]
    return counted + np.bincount(np.searchsorted(inner, rest, side="right"), minlength=len(inner) + 1)


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
