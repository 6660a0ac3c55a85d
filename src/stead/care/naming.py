"""Which bytes something names: each BLAKE3 name in a row of any table, and in what such bytes name themselves.

It errs on the side of keeping. Whatever looks like a name counts, in texts and JSON of every table there is, so a new table
or a new kind of evidence is seen without being listed here; bytes that begin as a JSON object (manifests, folders, code) are read
for further names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import blake3
import sqlalchemy as sa

from stead.datasets import manifests
from stead.datasets.tables import dataset_versions
from stead.errors import Failed, NotFound
from stead.store import Store, metadata

NAME = re.compile(r"[0-9a-f]{64}")
PRINTED = frozenset({"job_logs", "run_console"})
"""Tables of what processes printed: a name there is no use of the bytes."""
Gone = Mapping[str, Callable[[Any], bool]]
"""By table whether a row is to be thought away."""


def named(store: Store, tx: sa.Connection, there: set[str], gone: Gone) -> set[str]:
    """All names of bytes that rows have, directly or through bytes of `there`; some may be of nothing.

    Raises Failed (`dataset-corrupt`, `blob-corrupt`) where what tells of further names is missing or was altered: then nobody knows
    what is needed.
    """
    found: set[str] = set()
    lists = _lists(tx, gone.get(dataset_versions.name))
    for digest, ref in lists.items():
        found.update(NAME.findall(manifests.contents(store, digest, ref).decode(errors="replace")))
    for table in metadata.sorted_tables:
        if table.name not in PRINTED:
            found |= _in_table(tx, table, gone.get(table.name))
    front = (found & there) - lists.keys()
    while front:
        further: set[str] = set()
        for digest in front:
            further |= _inside(store, digest)
        front = (further - found) & there
        found |= further
    return found


def _in_table(tx: sa.Connection, table: sa.Table, gone: Callable[[Any], bool] | None) -> set[str]:
    texts = [c for c in table.columns if isinstance(c.type, (sa.String, sa.JSON))]
    if not texts:
        return set()
    asked = [sa.cast(c, sa.Text).label(c.name) if isinstance(c.type, sa.JSON) else c for c in texts]
    asked += [c for c in table.primary_key.columns if c not in texts]
    found: set[str] = set()
    for row in tx.execute(sa.select(*asked).execution_options(yield_per=500)):
        if gone is None or not gone(row):
            for value in row:
                if isinstance(value, str):
                    found.update(NAME.findall(value))
    return found


def _lists(tx: sa.Connection, gone: Callable[[Any], bool] | None) -> dict[str, str]:
    """The manifest of each data version, and whose it is."""
    c = dataset_versions.c
    rows = tx.execute(sa.select(c.dataset, c.version, c.manifest))
    return {row.manifest: f"{row.dataset}@{row.version}" for row in rows if gone is None or not gone(row)}


def _inside(store: Store, digest: str) -> set[str]:
    """The names in bytes that begin as a JSON object."""
    pieces = store.blobs.stream(digest)
    try:
        first = next(pieces, b"")
        if not (first.startswith(b"{") or first[1:2] == b'"'):  # one damaged byte hides no object
            return set()
        data = first + b"".join(pieces)
    except NotFound:
        return set()
    if blake3.blake3(data).hexdigest() != digest:
        raise Failed(
            "blob-corrupt",
            f"the bytes of {digest[:12]} do not match their name, and may name others: what is needed cannot be told",
            hint="stead doctor --store says whose they are",
        )
    return set(NAME.findall(data.decode(errors="replace"))) if data.startswith(b"{") else set()
