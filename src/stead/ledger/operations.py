"""Writing and reading the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import blake3
import msgspec
import sqlalchemy as sa

from stead.errors import Conflict, Failed, NotFound
from stead.ledger.judgements import judgements_in
from stead.ledger.tables import checkpoints, ledger
from stead.ledger.types import Checkpoint, Entry, Undo
from stead.runtime.clock import now_ms
from stead.store import Row, Store, checked_limit, from_row


def record(
    tx: sa.Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    summary: str,
    model: str | None = None,
    reason: str | None = None,
    evidence: dict[str, Any] | None = None,
    undo: Undo | None = None,
    undoes: int | None = None,
    event_time: int | None = None,
    alternatives: Sequence[str] = (),
    policy: str | None = None,
) -> int:
    """Write one entry in the transaction of the change that it records, and return its number.

    What stead decides by itself names the `alternatives`, and the `policy` with its version. Raises Conflict (`already-undone`) where `undoes` names an entry that was taken back before.
    """
    if undoes is not None and tx.execute(sa.select(ledger.c.id).where(ledger.c.undoes == undoes)).first():
        raise Conflict("already-undone", f"decision {undoes} was undone already", hint=f"stead decisions show {undoes}")
    values = {
        "at": now_ms(),
        "actor": actor,
        "action": action,
        "model": model,
        "subject": subject,
        "summary": summary,
        "reason": reason,
        "evidence": evidence or {},
        "undo": msgspec.to_builtins(undo) if undo else None,
        "undoes": undoes,
        "event_time": event_time,
        "alternatives": list(alternatives),
        "policy": policy,
    }
    key = tx.execute(sa.insert(ledger).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def list_entries(
    store: Store, *, model: str | None = None, subject: str | None = None, before: int | None = None, limit: int = 100
) -> list[Entry]:
    """Entries, newest first, of a model or of one thing (`deployment 16`); `before` continues an earlier list."""
    query = _select().order_by(ledger.c.id.desc()).limit(checked_limit(limit))
    if model is not None:
        query = query.where(ledger.c.model == model)
    if subject is not None:
        query = query.where(ledger.c.subject == subject)
    if before is not None:
        query = query.where(ledger.c.id < before)
    with store.db.read() as tx:
        return _entries(tx, tx.execute(query).mappings().all())


def newest_in(tx: sa.Connection, model: str, action: str) -> Entry | None:
    """The last entry of an action on a model, inside a transaction."""
    query = _select().where(ledger.c.model == model, ledger.c.action == action).order_by(ledger.c.id.desc()).limit(1)
    found = _entries(tx, tx.execute(query).mappings().all())
    return found[0] if found else None


def get_entry(store: Store, number: int) -> Entry:
    """One entry. Raises NotFound (`decision-unknown`)."""
    with store.db.read() as tx:
        found = _entries(tx, tx.execute(_select().where(ledger.c.id == number)).mappings().all())
    if not found:
        raise NotFound("decision-unknown", f"there is no decision {number}", hint="stead decisions")
    return found[0]


def checkpoint(store: Store) -> Checkpoint | None:
    """Chain the entries since the last checkpoint; None where there are none."""
    with store.db.write("ledger.checkpoint") as tx:
        last = tx.execute(sa.select(checkpoints).order_by(checkpoints.c.last_entry.desc()).limit(1)).mappings().first()
        start, digest = (last["last_entry"], last["digest"]) if last else (None, "")
        made = _chain(tx, start, None, digest)
        if made is None:
            return None
        point = Checkpoint(last_entry=made[0], at=now_ms(), digest=made[1])
        tx.execute(sa.insert(checkpoints).values(last_entry=point.last_entry, at=point.at, digest=point.digest))
        return point


def verify(store: Store) -> int:
    """Recompute every checkpoint and return how many entries they cover. Raises Failed (`ledger-altered`)."""
    with store.db.read() as tx:
        start: int | None = None
        digest = ""
        for row in tx.execute(sa.select(checkpoints).order_by(checkpoints.c.last_entry)).mappings().all():
            made = _chain(tx, start, row["last_entry"], digest)
            if made is None or made != (row["last_entry"], row["digest"]):
                raise Failed(
                    "ledger-altered",
                    f"the entries up to {row['last_entry']} are not what checkpoint {row['last_entry']} sealed",
                )
            start, digest = made
    return start or 0


def _chain(tx: sa.Connection, after: int | None, last: int | None, digest: str) -> tuple[int, str] | None:
    hasher = blake3.blake3(digest.encode())
    query = sa.select(ledger).order_by(ledger.c.id)
    if after is not None:
        query = query.where(ledger.c.id > after)
    if last is not None:
        query = query.where(ledger.c.id <= last)
    number = None
    for row in tx.execute(query).mappings():
        hasher.update(msgspec.json.encode([row[c.name] for c in ledger.columns], order="sorted"))
        number = row["id"]
    return None if number is None else (number, hasher.hexdigest())


def _entries(tx: sa.Connection, rows: Iterable[Row]) -> list[Entry]:
    """Rows of the ledger, each with its judgement."""
    kept = list(rows)
    judged = judgements_in(tx, [row["id"] for row in kept])
    return [from_row(row, Entry, judgement=judged.get(row["id"])) for row in kept]


def _select() -> sa.Select[Any]:
    undoing = ledger.alias("undoing")
    undone_by = sa.select(undoing.c.id).where(undoing.c.undoes == ledger.c.id).scalar_subquery()
    return sa.select(ledger, undone_by.label("undone_by"))
