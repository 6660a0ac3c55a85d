"""Taking one person's rows out of the log, by the key that their requests carried, and marking the data that holds the key.

What is to be done is written into the ledger and the data's records first, then it is done (`rewriting`); after a kill -9 the
same call finds what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import blake3

from stead import datasets, ledger
from stead.errors import Conflict, InvalidInput, NotFound, did_you_mean
from stead.predictions.compaction import clear_erased, compact
from stead.predictions.index import look
from stead.predictions.labels import seal_labels
from stead.predictions.rewriting import take_out
from stead.predictions.tail import tail
from stead.store import Store, may_delete


@dataclass(frozen=True)
class Erasure:
    """What was taken out of the log of a model."""

    model: str
    digest: str
    """BLAKE3 of the key, keyed by the model's name: whoever has the key can see that it was erased."""
    requests: int
    segments: int
    """Files of the log that were written anew without them."""
    marked: list[str]
    """Data versions that hold the key and say so from now on, such as `demand@3`."""
    without: list[str]
    """New data versions without the key's rows."""


def key_digest(model: str, key: str) -> str:
    """
    >>> key_digest("demand", "ada") == key_digest("demand", "ada") != key_digest("bikes", "ada")
    True
    """
    return blake3.blake3(key.encode(), derive_key_context=f"stead erasure {model}").hexdigest()[:32]


def erase_key(store: Store, model: str, key: str, *, reason: str | None = None, column: str | None = None) -> Erasure:
    """Take the predictions of a key out of a model's log for good, with their labels and what was scored aside, and mark the data.

    A data version that holds the key is marked: whoever trains on it is told. `column` names the data's column of keys: only it is
    looked at, and the newest version of each dataset is followed by one without those rows.
    Raises InvalidInput (`key-invalid`, `column-unknown`), NotFound (`key-unknown`), Conflict (`erase-waits`: some of it is in a file that a process
    writes to, or a backup is under way; the same call later takes the rest).
    """
    if not key:
        raise InvalidInput("key-invalid", "an empty key names nobody")
    if column is not None and column not in (known := datasets.columns_held(store)):
        hint = did_you_mean(column, known) or f"columns of the data: {', '.join(known) or 'none'}"
        raise InvalidInput("column-unknown", f"no data has a column {column!r}; nothing was erased", hint=hint)
    if not may_delete(store):
        raise Conflict(
            "erase-waits", "a backup is under way, and bytes that it copies stay", hint="try again when it is done"
        )
    seal_labels(store)
    compact(store)
    clear_erased(store)
    requests = _requests(store, model, key)
    raw = [a for s in tail(store, "predictions") for a in s.records if a.logged.model == model and a.logged.key == key]
    wanted = set(requests) | {answer.logged.id for answer in raw}
    digest = key_digest(model, key)
    held = datasets.find_key(store, key, digest=digest, column=column)
    if not wanted and not held:
        raise NotFound("key-unknown", f"neither the log of {model} nor any data that is not marked has this key")
    if raw or (wanted and _in_raw(store, wanted)):
        raise Conflict(
            "erase-waits",
            f"{len(raw) or 'labels'} of {len(wanted)} requests are in a file that a gateway or server writes to; nothing was erased",
            hint="try again in five minutes: stead erase MODEL --key KEY",
        )
    marked = _record(store, model, digest, len(wanted), held, reason)
    rewritten = take_out(store, model, wanted) if wanted else 0
    made = (
        [datasets.leave_out(store, name, column, key, digest=digest) for name in sorted({n for n, _ in held})]
        if column
        else []
    )
    return Erasure(model, digest, len(wanted), rewritten, marked, [version.ref for version in made if version])


def _record(store: Store, model: str, digest: str, requests: int, held: datasets.Held, reason: str | None) -> list[str]:
    """Mark the data and write the ledger's entry; which versions."""
    with store.db.write("predictions.erasure") as tx:
        marked = datasets.mark_in(tx, held, key=digest, by=store.actor)
        summary = f"{model}: {requests} requests of one key are erased from the log, with their labels"
        ledger.record(
            tx,
            actor=store.actor,
            action="rows.erased",
            model=model,
            subject=f"key {digest}",
            summary=summary + (f"; {len(marked)} data versions hold it and are marked" if marked else ""),
            reason=reason,
            evidence={"requests": requests, "key_digest": digest, "data": marked},
        )
    return marked


def _requests(store: Store, model: str, key: str) -> list[str]:
    import pyarrow.compute
    import pyarrow.parquet as pq

    pc: Any = pyarrow.compute
    found: list[str] = []
    for segment in look(store, "predictions", models=[model]).stored:
        table = pq.read_table(store.blobs.path(segment.digest), columns=["request", "key"])
        found += pc.unique(table.filter(pc.equal(table["key"], key))["request"]).to_pylist()
    return found


def _in_raw(store: Store, wanted: set[str]) -> bool:
    labels = any(label.request in wanted for segment in tail(store, "labels") for label in segment.records)
    return labels or any(answer.logged.id in wanted for s in tail(store, "shadows") for answer in s.records)
