"""What users saw: a report of a person, whether a monitor had told of it before, and reports that come by a link."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from stead import predictions
from stead.errors import Conflict, InvalidInput
from stead.models.tables import models as registry
from stead.monitors.tables import incidents as table
from stead.monitors.types import Incident
from stead.runtime.clock import checked_ms, to_iso
from stead.store import Store, from_row

BY_PEOPLE = "person: "
"""How the cause of an incident begins that people opened."""
ANONYMOUS = "anonymous"
LONGEST_NAME = 60
MOST_BY_LINK = 20
"""Reports of a model that came by its link and are open."""
SLACK_MS = 60_000
"""So much may the clocks of two machines differ."""
_PREDICTION = re.compile(r"[A-Za-z0-9._:-]{1,100}")


def found_first(incidents: Iterable[Incident], *, at: int, since: int | None = None) -> int | None:
    """The incident of a monitor that told people before a user did, at `at`; None where the user was first.

    Of a model's `incidents` those count that a monitor opened by then, that people were told of (severity `page`), and that
    were still open or had ended after `since`, from when on the user saw it. All times are the model's clock, milliseconds.
    """
    first = at if since is None else since
    told = [
        each
        for each in incidents
        if not each.cause.startswith(BY_PEOPLE) and each.severity == "page" and each.event_time <= at
    ]
    open_then = [e for e in told if e.resolved_event_time is None or e.resolved_event_time >= first]
    return min((each.id for each in open_then), default=None)


def evidence_in(
    tx: sa.Connection,
    store: Store,
    model: str,
    *,
    at: int,
    since: int | None,
    reported_by: str | None,
    prediction: str | None,
) -> dict[str, Any]:
    """What is kept of a report: `reported_by`, `since`, `found_by` (a monitor's incident, or None), and `prediction` where one was named.

    Raises InvalidInput (`name-invalid`, `time-invalid`, `time-ahead`).
    """
    name = " ".join((reported_by or store.actor.partition(":")[2] or store.actor).split())
    if not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
        said = f"{name[:LONGEST_NAME]!r} is no name of whoever noticed it"
        raise InvalidInput("name-invalid", said, hint=f"1 to {LONGEST_NAME} characters")
    if since is not None and checked_ms(since) > at + SLACK_MS:
        said = f"it cannot be wrong since {to_iso(since)}, which has not come yet"
        raise InvalidInput("time-ahead", said, hint="since when a user saw it, on the model's clock")
    known = sa.select(table).where(table.c.model == model, table.c.severity == "page")
    before = [from_row(row, Incident) for row in tx.execute(known).mappings()]
    found = {"reported_by": name, "since": since, "found_by": found_first(before, at=at, since=since)}
    return found | ({"prediction": prediction} if prediction else {})


def must_be_of(store: Store, model: str, prediction: str) -> None:
    """Raises NotFound (`prediction-unknown`), InvalidInput (`prediction-id-invalid`, `prediction-foreign`)."""
    found = predictions.get_prediction(store, prediction)
    if found.model != model:
        said = f"prediction {prediction} was answered by {found.model}, not by {model}"
        raise InvalidInput("prediction-foreign", said, hint=f"stead predictions list {model}")


def text_of(text: str) -> str:
    """What somebody typed, on one line, of characters that can be read.

    >>> text_of(" too  low\\r\\nagain\\x00 ")
    'too low again'
    """
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def room_in(tx: sa.Connection, model: str) -> None:
    """Raises Conflict (`reports-full`) where so many reports of a model came by its link that nobody has looked at."""
    tx.execute(sa.select(registry.c.name).where(registry.c.name == model).with_for_update())  # one after the other
    mine = (table.c.model == model) & (table.c.state == "open") & table.c.opened_by.like("user:%")
    if tx.execute(sa.select(sa.func.count()).where(mine)).scalar_one() >= MOST_BY_LINK:
        raise Conflict("reports-full", f"{MOST_BY_LINK} reports of {model} are open", hint="stead incidents list")


def known_prediction(text: str | None) -> str | None:
    """The id of a prediction as a link carries it, None where it is none; whether it exists is not asked."""
    return text if text and _PREDICTION.fullmatch(text) else None
