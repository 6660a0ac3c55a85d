"""Two versions side by side: schema, files, the distribution of each column, and with a key the rows that came, went and changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stead.datasets import manifests, profile
from stead.datasets.operations import get_version
from stead.datasets.profile import Profile
from stead.datasets.reading import check_columns
from stead.datasets.rows import pieces_of, read_manifest
from stead.datasets.types import Change, ColumnDiff, DatasetDiff, DatasetVersion, FileDiff, RowDiff, RowsDiff
from stead.errors import Failed, InvalidInput
from stead.store import Store, duckdb_for

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_EXAMPLES = 1000


def diff(store: Store, before: str, after: str, *, key: Sequence[str] = (), examples: int = 5) -> DatasetDiff:
    """What changed from one version to another, of one dataset or of two.

    Of each column the distance of both distributions, in the bins of the first; of times the rows of both over time. With `key`, columns whose values name a row, the rows that came, went
    and changed, with up to `examples` of each. Rows are read part by part, and compared by key on the disk where they do not fit into memory.
    Raises NotFound (`dataset-unknown`, `dataset-version-unknown`), InvalidInput (`dataset-no-frame`, `column-unknown`,
    `key-type-differs`, `key-not-unique`, `limit-invalid`),
    Failed (`dataset-corrupt`).
    """
    if not 0 <= examples <= MOST_EXAMPLES:
        raise InvalidInput("limit-invalid", f"examples is {examples}", hint=f"0 to {MOST_EXAMPLES}")
    old, new = (get_version(store, ref, with_parts=True) for ref in (before, after))
    if key:
        _check_key(key, old, new)
    columns = _columns(store, old, new)
    files = _files(old, new)
    rows = _rows(store, old, new, list(dict.fromkeys(key)), examples) if key else None
    return DatasetDiff(replace(old, part_list=[]), replace(new, part_list=[]), columns, files, rows)


def _check_key(key: Sequence[str], old: DatasetVersion, new: DatasetVersion) -> None:
    for version in (old, new):
        if not version.schema:
            raise InvalidInput("dataset-no-frame", f"{version.ref} holds files, not rows", hint="leave out the key")
        check_columns(version, key)
    before, after = ({column.name: column.type for column in version.schema} for version in (old, new))
    for name in key:
        if _kin(before[name]) != _kin(after[name]):
            said = f"the key {name!r} is {before[name]} in {old.ref} and {after[name]} in {new.ref}"
            raise InvalidInput(
                "key-type-differs", said, hint="leave out the key, or store one of both with the other's type"
            )


def _kin(kind: str) -> str:
    """What a type is of, in whatever width or unit: what pandas made and what was read from a CSV have the same values in other types.

    >>> _kin("large_string") == _kin("string"), _kin("timestamp[s]") == _kin("timestamp[us]"), _kin("int64") == _kin("string")
    (True, True, False)
    """
    if kind.startswith(("int", "uint", "float", "halffloat", "double", "decimal")):
        return "number"
    if kind.startswith("timestamp"):
        return "zoned time" if "tz=" in kind else "time"
    return "text" if kind in ("string", "large_string") else kind


def _columns(store: Store, old: DatasetVersion, new: DatasetVersion) -> list[ColumnDiff]:
    """Those of the first in its order, then those that came."""
    before, after = ({column.name: column for column in version.schema} for version in (old, new))
    both = [name for name in before if name in after and _kin(before[name].type) == _kin(after[name].type)]
    ours = _recounted(store, old, new, both)
    when = _over_time(store, old, new, both)
    found = []
    for name in [*before, *(name for name in after if name not in before)]:
        one, other = before.get(name), after.get(name)
        mine, theirs = old.profile.get(name, {}), ours.get(name) or new.profile.get(name, {})
        change: Change | None = "removed" if other is None else "added" if one is None else None
        if one is not None and other is not None and one.type != other.type and _kin(one.type) != "text":
            change = "changed"
        if name in when:
            mine, theirs = ({**of, "over_time": rows} for of, rows in zip((mine, theirs), when[name], strict=True))
        apart = _distance(mine, theirs) if name in both else None
        kinds = (one.type if one else None, other.type if other else None)
        found.append(ColumnDiff(name, change, *kinds, apart, mine if one else {}, theirs if other else {}))
    return found


def _recounted(store: Store, old: DatasetVersion, new: DatasetVersion, names: Sequence[str]) -> dict[str, Profile]:
    """The profile of the second version in the edges and levels of the first; where it has these already, its own."""
    known = {name: old.profile[name] for name in names if name in old.profile}
    wanted = [name for name in known if not _same_bins(known[name], new.profile.get(name, {}))]
    if not wanted:
        return {}
    manifest = manifests.get(store, new.manifest, new.ref)
    return profile.profile_pieces(pieces_of(store, manifest, wanted), known)


def _over_time(
    store: Store, old: DatasetVersion, new: DatasetVersion, names: Sequence[str]
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The rows of both versions over the time from the first to the last of either, by column of times."""
    spans = {}
    for name in names if old.manifest != new.manifest else ():
        one, other = old.profile.get(name, {}), new.profile.get(name, {})
        if "min" in one and "min" in other and "histogram" not in one:
            low, high = min(one["min"], other["min"]), max(one["max"], other["max"])
            if low < high:
                spans[name] = (low, high)
    if not spans:
        return {}
    before, after = (
        profile.over_time(pieces_of(store, manifests.get(store, version.manifest, version.ref), list(spans)), spans)
        for version in (old, new)
    )
    return {name: (before[name], after[name]) for name in spans}


def _same_bins(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if "histogram" in one:
        return bool((other.get("histogram") or {}).get("edges") == one["histogram"]["edges"])
    return [level for level, _ in one.get("top", [])] == [level for level, _ in other.get("top", [])]


def _distance(one: Profile, other: Profile) -> float | None:
    """Jensen–Shannon distance of two profiles in the same bins, with bins for missing values and for those beyond the edges; None for times and without rows.

    >>> _distance({"n": 4, "null": 0, "top": [["a", 4]], "other": 0}, {"n": 2, "null": 2, "top": [["a", 0]], "other": 0})
    1.0
    """
    import numpy as np

    from stead.stats.drift import distance_of

    mine, theirs = _counts(one), _counts(other)
    if mine is None or theirs is None or len(mine) != len(theirs):
        return None
    found = distance_of(np.array(mine, dtype=np.float64), np.array(theirs, dtype=np.float64))
    return None if math.isnan(found) else found


def binned(of: Profile) -> list[int]:
    """The rows below the edges of a number's histogram, in each bin, and above.

    >>> binned({"histogram": {"edges": [0, 1, 1], "counts": [3, 5]}, "beyond": [0, 2]})
    [0, 3, 3, 2]
    """
    below, above = of.get("beyond", (0, 0))
    counts = [below, *of["histogram"]["counts"], above]
    counts[1] -= below
    counts[-2] -= above
    return counts


def _counts(of: Profile) -> list[int] | None:
    missing = [of.get("null", 0), of.get("infinite", 0)]
    if "histogram" in of:
        return [*missing, *binned(of)]
    return [*missing, *(count for _, count in of["top"]), of.get("other", 0)] if "top" in of else None


def _files(old: DatasetVersion, new: DatasetVersion) -> list[FileDiff]:
    """Files of both by path; parts of tables are files, too."""
    before, after = ({part.path: part for part in version.part_list} for version in (old, new))
    found = []
    for path in sorted(before.keys() | after.keys()):
        one, other = before.get(path), after.get(path)
        if one is not None and other is not None and one.digest == other.digest:
            continue
        change: Change = "added" if one is None else "removed" if other is None else "changed"
        found.append(FileDiff(path, change, one.bytes if one else None, other.bytes if other else None))
    return found


def _rows(store: Store, old: DatasetVersion, new: DatasetVersion, key: list[str], examples: int) -> RowsDiff:
    kinds = [{column.name: column.type for column in version.schema} for version in (old, new)]
    shared = [name for name in kinds[0] if name in kinds[1] and name not in key]
    refs = f"{old.ref} or {new.ref}"
    with duckdb_for(
        lambda error: Failed("dataset-corrupt", f"{refs} could not be read: {error}", hint="stead data verify")
    ) as con:
        for place, version in (("b", old), ("a", new)):
            _view(con, store, version, place)
            _check_unique(con, version, place, key)
        read = {name: _read(name, kinds[0][name], kinds[1][name]) for name in (*key, *shared)}
        differs = {name: " is distinct from ".join(read[name]) for name in shared}
        changed = " or ".join(differs.values()) or "false"
        joined = (
            f"from b full outer join a on {' and '.join(' is not distinct from '.join(read[name]) for name in key)}"
        )
        there = "b._there is not null and a._there is not null"
        which: dict[Change, str] = {
            "added": "b._there is null", "removed": "a._there is null", "changed": f"{there} and ({changed})"
        }  # fmt: skip
        counts = [
            *(f"count(*) filter ({each})" for each in which.values()),
            f"count(*) filter ({there} and not ({changed}))",
            *(f"count(*) filter ({there} and {each})" for each in differs.values()),
        ]
        numbers = con.sql(f"select {', '.join(counts)} {joined}").fetchall()[0]
        shown: list[RowDiff] = []
        for (change, where), number in zip(which.items(), numbers[:3], strict=True):
            if number and examples:
                shown += _examples(con, joined, change, where, key, list(differs.items()), kinds, read, examples)
    by_column = {name: number for name, number in zip(shared, numbers[4:], strict=True) if number}
    added, removed, changed_rows, same = numbers[:4]
    return RowsDiff(key, added, removed, changed_rows, same, by_column, shown)


def _view(con: DuckDBPyConnection, store: Store, version: DatasetVersion, name: str) -> None:
    """The rows of a version as a view, with a column that tells that a row is there."""
    manifest = manifests.get(store, version.manifest, version.ref)
    files = [str(store.blobs.path(part.digest)) for part in manifest.parts if part.rows]
    if manifest.reference is not None:
        con.register(f"{name}_rows", read_manifest(store, manifest))
    elif files:
        con.read_parquet(files, union_by_name=True).create_view(f"{name}_rows")
    else:
        con.register(f"{name}_rows", manifests.unpacked(manifest.schema).empty_table())
    con.execute(f"create view {name} as select *, true as _there from {name}_rows")


def _check_unique(con: DuckDBPyConnection, version: DatasetVersion, view: str, key: list[str]) -> None:
    names = ", ".join(_quoted(name) for name in key)
    twice = con.sql(f"select {names}, count(*) from {view} group by {names} having count(*) > 1 limit 1").fetchall()
    if twice:
        *values, number = twice[0]
        said = ", ".join(f"{name} {value}" for name, value in zip(key, values, strict=True))
        raise InvalidInput(
            "key-not-unique",
            f"{version.ref} has {number} rows with {said}",
            hint="name more columns, until each row has a key of its own",
        )


def _examples(
    con: DuckDBPyConnection,
    joined: str,
    change: Change,
    where: str,
    key: list[str],
    differs: list[tuple[str, str]],
    kinds: list[dict[str, str]],
    read: dict[str, tuple[str, str]],
    number: int,
) -> list[RowDiff]:
    """Rows as texts, in the order of their keys; of a changed one the columns that changed."""
    names = [[name for name in each if name not in key] for each in kinds]
    keys = [f"coalesce({', '.join(read[name])})" for name in key]
    values = [f"{side}.{_quoted(name)}" for side, some in zip("ba", names, strict=True) for name in some]
    chosen = ", ".join([*(f"{each}::varchar" for each in (*keys, *values)), *(sql for _, sql in differs)])
    found = con.sql(f"select {chosen} {joined} where {where} order by {', '.join(keys)} limit {number}").fetchall()
    ends = [len(key), len(key) + len(names[0]), len(key) + len(names[0]) + len(names[1])]
    out = []
    for row in found:
        before = dict(zip(names[0], row[ends[0] : ends[1]], strict=True))
        after = dict(zip(names[1], row[ends[1] : ends[2]], strict=True))
        if change == "changed":
            moved = {name for (name, _), yes in zip(differs, row[ends[2] :], strict=True) if yes}
            before, after = ({n: v for n, v in each.items() if n in moved} for each in (before, after))
        given = dict(zip(key, row[: ends[0]], strict=True))
        out.append(RowDiff(change, given, {} if change == "added" else before, {} if change == "removed" else after))
    return out


def _read(name: str, one: str, other: str) -> tuple[str, str]:
    """A column of both versions as it is compared: two types of numbers as numbers, other two types as texts."""
    whole = all(kind.startswith(("int", "uint")) for kind in (one, other))
    cast = "" if one == other or whole else "::double" if _kin(one) == _kin(other) == "number" else "::varchar"
    return f"b.{_quoted(name)}{cast}", f"a.{_quoted(name)}{cast}"


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
