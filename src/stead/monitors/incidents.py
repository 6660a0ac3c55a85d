"""Incidents: one by cause, opened and resolved in the transaction of what they follow from, with the ledger and the messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from stead import jobs, ledger, models
from stead.errors import Conflict, InvalidInput, NotFound, did_you_mean
from stead.ledger import Undo
from stead.monitors import reports
from stead.monitors.folding import Finding
from stead.monitors.routes import announce
from stead.monitors.tables import deliveries
from stead.monitors.tables import incidents as table
from stead.monitors.types import PEOPLES, Delivery, Incident, Kind
from stead.runtime.clock import now_ms
from stead.store import Store, checked_limit, from_row

LONGEST = 1000
"""Characters of what a person writes."""


def list_incidents(
    store: Store, *, model: str | None = None, state: str | None = None, limit: int = 100
) -> list[Incident]:
    """Incidents, newest first; `state` is `open` or `resolved`. Raises InvalidInput (`limit-invalid`, `state-unknown`)."""
    if state not in (None, "open", "resolved"):
        raise InvalidInput("state-unknown", f"an incident is never {state!r}", hint="open or resolved")
    query = sa.select(table).order_by(table.c.id.desc()).limit(checked_limit(limit))
    if model is not None:
        query = query.where(table.c.model == model)
    if state is not None:
        query = query.where(table.c.state == state)
    with store.db.read() as tx:
        return [from_row(row, Incident) for row in tx.execute(query).mappings()]


def get_incident(store: Store, number: int) -> Incident:
    """One incident. Raises NotFound (`incident-unknown`)."""
    with store.db.read() as tx:
        return _get(tx, number)


def list_deliveries(store: Store, number: int) -> list[Delivery]:
    """The messages about an incident, oldest first. Raises NotFound (`incident-unknown`)."""
    query = sa.select(deliveries).where(deliveries.c.incident == number).order_by(deliveries.c.at, deliveries.c.id)
    with store.db.read() as tx:
        _get(tx, number)
        return [from_row(row, Delivery) for row in tx.execute(query).mappings()]


def open_incident(
    store: Store,
    model: str,
    summary: str,
    *,
    kind: str = "performance",
    since: int | None = None,
    reported_by: str | None = None,
    prediction: str | None = None,
    reason: str | None = None,
    undoes: int | None = None,
) -> Incident:
    """A person says that something is wrong with a model: what a user saw, `since` when (the model's clock), and who noticed it.

    `performance` counts like a measured rise of the loss: where the policy listens to incidents, the model is trained again;
    `data` and `other` only tell people. Its evidence says who reported it, by default who calls, and which incident of a monitor had
    told of it before (`found_first`). Raises NotFound (`model-unknown`, `prediction-unknown`), InvalidInput (`summary-invalid`,
    `kind-unknown`, `name-invalid`, `time-invalid`, `time-ahead`, `prediction-id-invalid`, `prediction-foreign`), Conflict (`incident-open`).
    """
    known_kind = next((each for each in PEOPLES if each == kind), None)
    if known_kind is None:
        hint = did_you_mean(kind, PEOPLES) or f"one of {', '.join(PEOPLES)}"
        raise InvalidInput("kind-unknown", f"{kind!r} is no kind of incident that people open", hint=hint)
    known = models.get_model(store, model)
    if prediction is not None:
        reports.must_be_of(store, model, prediction)
    undone = None if undoes is None else ledger.get_entry(store, undoes)
    with store.db.write("monitors.incident") as tx:
        held = jobs.held_in(tx, model)
        at = now_ms() if held is None else held
        if undone is not None:  # that it is not over after all is no new report
            evidence = {"reopens": undone.evidence.get("incident")}
        else:
            evidence = reports.evidence_in(
                tx, store, model, at=at, since=since, reported_by=reported_by, prediction=prediction
            )
        return _open_by_person(tx, store, known, summary, known_kind, evidence, at=at, reason=reason, undoes=undoes)


def take_report(
    store: Store, model: str, summary: str, *, name: str = "", since: int | None = None, prediction: str | None = None
) -> Incident:
    """A user without an account says by a link what is wrong; it tells people, and trains nothing.

    Raises NotFound (`model-unknown`), InvalidInput (`summary-invalid`, `name-invalid`, `time-invalid`, `time-ahead`), Conflict
    (`incident-open` where the same was said, `reports-full` where too many are open).
    """
    name = reports.text_of(name) or reports.ANONYMOUS
    user = store.acting(f"user:{name[: reports.LONGEST_NAME]}")
    known = models.get_model(store, model)
    with store.db.write("monitors.incident") as tx:
        reports.room_in(tx, model)
        held = jobs.held_in(tx, model)
        at = now_ms() if held is None else held
        if since is not None and held is not None and since > held:
            since = None  # it is told by the wall's clock, and a replay holds the model's
        named = reports.known_prediction(prediction)
        evidence = reports.evidence_in(tx, user, model, at=at, since=since, reported_by=name, prediction=named)
        return _open_by_person(tx, user, known, summary, "other", evidence, at=at)


def _open_by_person(
    tx: sa.Connection,
    store: Store,
    model: models.Model,
    summary: str,
    kind: Kind,
    evidence: dict[str, Any],
    *,
    at: int,
    reason: str | None = None,
    undoes: int | None = None,
) -> Incident:
    summary = reports.text_of(summary)
    if not 0 < len(summary) <= LONGEST:
        raise InvalidInput("summary-invalid", f"an incident needs a sentence of 1 to {LONGEST} characters")
    cause = f"{reports.BY_PEOPLE}{summary}"
    same = sa.select(table.c.id).where(table.c.model == model.name, table.c.cause == cause, table.c.state == "open")
    if number := tx.execute(same).scalar():
        raise Conflict("incident-open", f"incident {number} says so already", hint=f"stead incidents show {number}")
    finding = Finding(cause, kind, "page", 0, summary, evidence)
    return open_in(tx, store, model.name, model.aliases.get("champion"), finding, at=at, reason=reason, undoes=undoes)


def resolve_incident(store: Store, number: int, *, reason: str | None = None, undoes: int | None = None) -> Incident:
    """A person says that an incident is over; a monitor opens it again only where things were well in between.

    Raises NotFound (`incident-unknown`), Conflict (`incident-resolved`).
    """
    with store.db.write("monitors.incident") as tx:
        found = _get(tx, number)
        if found.state != "open":
            raise Conflict("incident-resolved", f"incident {number} was resolved by {found.resolved_by}")
        held = jobs.held_in(tx, found.model)
        at = now_ms() if held is None else held
        resolve_in(tx, store, found, reason or f"{store.actor} says so", at=at, undoes=undoes)
        return _get(tx, number)


def open_in(
    tx: sa.Connection,
    store: Store,
    model: str,
    version: int | None,
    finding: Finding,
    *,
    at: int,
    reason: str | None = None,
    undoes: int | None = None,
) -> Incident:
    """Open an incident, `at` the model's clock, in the caller's transaction."""
    now = now_ms()
    values = {
        "model": model,
        "version": version,
        "cause": finding.cause,
        "kind": finding.kind,
        "state": "open",
        "severity": finding.severity,
        "summary": finding.summary,
        "evidence": finding.evidence,
        "opened_by": store.actor,
        "opened_at": now,
        "event_time": at,
        "updated_at": now,
    }
    key = tx.execute(sa.insert(table).values(values)).inserted_primary_key
    assert key is not None
    made = _get(tx, int(key[0]))
    ledger.record(
        tx,
        actor=store.actor,
        action="incident.opened",
        model=model,
        subject=f"incident {made.id}",
        summary=f"{model}: {finding.summary}",
        reason=reason,
        evidence={"incident": made.id, "cause": made.cause, "severity": made.severity, **finding.evidence},
        undo=Undo("monitors.resolve_incident", {"number": made.id}),
        undoes=undoes,
        event_time=jobs.held_in(tx, model),
        alternatives=["keep it as a note on the model's page", "wait for more days"],
        policy=models.policy_of(tx, model),
    )
    announce(tx, made, "opened")
    return made


def resolve_in(
    tx: sa.Connection, store: Store, incident: Incident, reason: str, *, at: int, undoes: int | None = None
) -> None:
    """Resolve an incident, `at` the model's clock, in the caller's transaction."""
    now = now_ms()
    values = {
        "state": "resolved",
        "resolved_by": store.actor,
        "resolved_at": now,
        "resolved_event_time": at,
        "updated_at": now,
        "reason": reason,
    }
    kind = incident.kind if incident.kind in PEOPLES else "other"
    here = (table.c.id == incident.id) & (table.c.state == "open")
    if not tx.execute(sa.update(table).where(here).values(values)).rowcount:
        return
    ledger.record(
        tx,
        actor=store.actor,
        action="incident.resolved",
        model=incident.model,
        subject=f"incident {incident.id}",
        summary=f"{incident.model}: incident {incident.id} is over: {reason}",
        reason=reason,
        evidence={"incident": incident.id, "cause": incident.cause},
        undo=Undo("monitors.open_incident", {"model": incident.model, "summary": incident.summary, "kind": kind}),
        undoes=undoes,
        event_time=jobs.held_in(tx, incident.model),
        alternatives=["keep it open until a person looks"],
        policy=models.policy_of(tx, incident.model),
    )
    announce(tx, _get(tx, incident.id), "resolved")


def opened_in(tx: sa.Connection, model: str) -> dict[str, Incident]:
    """The open incidents of a model by cause, inside a transaction that may change them."""
    query = sa.select(table).where(table.c.model == model, table.c.state == "open").with_for_update()
    return {row["cause"]: from_row(row, Incident) for row in tx.execute(query).mappings()}


def reconcile(
    tx: sa.Connection,
    store: Store,
    model: str,
    version: int | None,
    causes: Collection[str],
    findings: Mapping[str, Finding],
    opened: dict[str, Incident],
    *,
    fine: str,
    restated: bool,
    at: int,
) -> int:
    """Bring the incidents of some causes to what a monitor of the live version finds; how many were opened or resolved.

    `opened` are the open ones of the model by cause, and is kept up. One that an earlier version opened ends when there is
    evidence (`fine`) that the present one is well. One that a person resolved is not opened again while the trouble lasts.
    """
    moved = 0
    for cause, finding in findings.items():
        if (incident := opened.get(cause)) is not None:
            opened[cause] = _update(tx, incident, version, finding)
        elif not waved_off(tx, model, finding):
            opened[cause] = open_in(tx, store, model, version, finding, at=at)
            moved += 1
    for cause in causes:
        found = opened.get(cause)
        if found is None or cause in findings or (found.version != version and not fine):
            continue
        if found.version != version:
            reason = f"version {version} took over, and {fine}"
        else:
            reason = "what came late takes it back" if restated else fine or "it has passed"
        resolve_in(tx, store, opened.pop(cause), reason, at=at)
        moved += 1
    return moved


def _update(tx: sa.Connection, incident: Incident, version: int | None, finding: Finding) -> Incident:
    values: dict[str, Any] = {
        "version": version,
        "severity": "page" if "page" in (incident.severity, finding.severity) else "note",
        "summary": finding.summary,
        "evidence": finding.evidence,
    }
    if all(getattr(incident, key) == value for key, value in values.items()):
        return incident
    tx.execute(sa.update(table).where(table.c.id == incident.id).values(**values, updated_at=now_ms()))
    updated = _get(tx, incident.id)
    if updated.severity != incident.severity:
        announce(tx, updated, "opened")
    return updated


def waved_off(tx: sa.Connection, model: str, finding: Finding) -> bool:
    """Whether a person resolved an incident of this trouble since it began."""
    last = (
        sa.select(table.c.resolved_by, table.c.resolved_event_time)
        .where(table.c.model == model, table.c.cause == finding.cause, table.c.state == "resolved")
        .order_by(table.c.id.desc())
        .limit(1)
    )
    row = tx.execute(last).first()
    return (
        row is not None
        and row.resolved_by.startswith(("person:", "token:"))
        and row.resolved_event_time > finding.since
    )


def _get(tx: sa.Connection, number: int) -> Incident:
    row = tx.execute(sa.select(table).where(table.c.id == number)).mappings().first()
    if row is None:
        raise NotFound("incident-unknown", f"there is no incident {number}", hint="stead incidents list")
    return from_row(row, Incident)
