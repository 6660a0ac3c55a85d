"""Deployments that stead did not make: what people say of them, so that work by hand counts, too."""

from __future__ import annotations

import math
from typing import Any

import sqlalchemy as sa

from stead import jobs, ledger, models
from stead.config import checked_name
from stead.deployments.tables import outside as table
from stead.deployments.types import Outside
from stead.errors import InvalidInput, NotFound, did_you_mean
from stead.ledger import Undo
from stead.runtime.clock import checked_ms, now_ms, to_iso
from stead.store import Store, checked_limit, from_row

LONGEST_PLACE, LONGEST_NOTE = 100, 1000
MOST_HOURS = 10_000.0
SLACK_MS = 60_000
"""So much may the clocks of two machines differ."""


def record_outside(
    store: Store,
    model: str,
    *,
    place: str,
    version: int | None = None,
    hours: float | None = None,
    at: int | None = None,
    note: str = "",
    reason: str | None = None,
    undoes: int | None = None,
) -> Outside:
    """Say that a model was deployed outside stead: where to, how many hours of work by hand that took, and when.

    Without a version what was deployed counts as one that is in no registry; so does a model that nobody registered. `at` is
    a time of the model's own clock, milliseconds; by default where that stands. Raises InvalidInput (`name-invalid`,
    `place-invalid`, `hours-invalid`, `note-invalid`, `time-invalid`, `time-ahead`), NotFound (`version-unknown`).
    """
    checked_name(model)
    place, note = place.strip(), " ".join(note.split())
    if not (place.isprintable() and 0 < len(place) <= LONGEST_PLACE):
        hint = f"where it was deployed to, 1 to {LONGEST_PLACE} characters: --place prod-1"
        raise InvalidInput("place-invalid", f"{place[:LONGEST_PLACE]!r} is no place", hint=hint)
    if not note.isprintable() or len(note) > LONGEST_NOTE:
        raise InvalidInput("note-invalid", f"a note is text of at most {LONGEST_NOTE} characters")
    if hours is not None and not (math.isfinite(hours) and 0 <= hours <= MOST_HOURS):
        hint = f"0 to {MOST_HOURS:,.0f}; leave it out where nobody knows"
        raise InvalidInput("hours-invalid", f"{hours:g} hours of work is none", hint=hint)
    if version is not None:
        _must_have(store, model, version)
    held = jobs.held_at(store, model)
    now = now_ms()
    if at is not None and checked_ms(at) > (now + SLACK_MS if held is None else held):
        said = f"{to_iso(at)} has not come yet" + ("" if held is None else f": a replay holds the clock of {model}")
        raise InvalidInput("time-ahead", said, hint="when it was deployed: --at 2026-11-03")
    values: dict[str, Any] = {
        "model": model,
        "version": version,
        "place": place,
        "hours": hours,
        "at": now if at is None else at,
        "event_time": held if at is None else at,
        "note": note,
        "by": store.actor,
        "recorded_at": now,
    }
    with store.db.write("deployments.outside") as tx:
        key = tx.execute(sa.insert(table).values(values)).inserted_primary_key
        assert key is not None
        made = _get(tx, int(key[0]))
        took = "" if hours is None else f", {hours:g} h of work by hand"
        ledger.record(
            tx,
            actor=store.actor,
            action="deployment.recorded",
            model=model,
            subject=f"outside {made.id}",
            summary=f"{made.ref} was deployed outside stead, to {place}{took}",
            reason=reason or note or None,
            evidence={"outside": made.id, "place": place, "hours": hours, "day": made.at},
            undo=Undo("deployments.forget_outside", {"number": made.id}),
            undoes=undoes,
            event_time=held,
        )
    return made


def forget_outside(store: Store, number: int, *, reason: str | None = None, undoes: int | None = None) -> Outside:
    """Take back what was said of a deployment outside stead. Raises NotFound (`outside-unknown`)."""
    with store.db.write("deployments.outside") as tx:
        gone = _get(tx, number)
        tx.execute(sa.delete(table).where(table.c.id == number))
        said = {name: getattr(gone, name) for name in ("model", "version", "place", "hours", "at", "note")}
        ledger.record(
            tx,
            actor=store.actor,
            action="deployment.forgotten",
            model=gone.model,
            subject=f"outside {number}",
            summary=f"{gone.ref} was not deployed outside stead, to {gone.place}, as was said",
            reason=reason,
            evidence={"outside": number},
            undo=Undo("deployments.record_outside", said),
            undoes=undoes,
            event_time=jobs.held_in(tx, gone.model),
        )
    return gone


def list_outside(store: Store, *, model: str | None = None, limit: int = 1000) -> list[Outside]:
    """Deployments that people made outside stead, the last one first."""
    query = sa.select(table).order_by(table.c.at.desc(), table.c.id.desc()).limit(checked_limit(limit))
    if model is not None:
        query = query.where(table.c.model == model)
    with store.db.read() as tx:
        return [from_row(row, Outside) for row in tx.execute(query).mappings()]


def _must_have(store: Store, model: str, version: int) -> None:
    known = [each.name for each in models.list_models(store)]
    if model not in known:
        near = did_you_mean(model, known)
        raise NotFound(
            "version-unknown",
            f"nobody registered a model {model!r}, so that it has no version {version}",
            hint=near or "without a version it counts as one that is in no registry",
        )
    models.get_version(store, f"{model}@{max(version, 0)}")


def _get(tx: sa.Connection, number: int) -> Outside:
    row = tx.execute(sa.select(table).where(table.c.id == number)).mappings().first()
    if row is None:
        hint = "stead deployments list --outside"
        raise NotFound("outside-unknown", f"there is no deployment outside stead {number}", hint=hint)
    return from_row(row, Outside)
