"""Work by hand: what people did, and how many minutes it took them: measured, corrected by a person, or a stated time a command.

An act is a ledger entry by a person (`person:…`, or `token:…`, which stands for whoever has it), or a training that one asked for.
Nothing is invented: a decision takes as long as the person looked at what waited (`begin_review`), and every other act
the time that `DEFAULT_MINUTES` states for its kind, until somebody corrects it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from stead import ledger, models
from stead.deployments.tables import deployments, outside
from stead.errors import InvalidInput, NotFound
from stead.jobs.tables import jobs
from stead.ledger import Undo
from stead.ledger.tables import ledger as entries
from stead.maturity.clocks import Clock, clocks
from stead.maturity.tables import corrections, reviews
from stead.maturity.types import Work
from stead.policies.tables import retrainings
from stead.runtime.clock import now_ms
from stead.store import Store

MINUTE = 60_000
DEFAULT_MINUTES = {"deploy": 10.0, "review": 10.0, "train": 5.0, "rollback": 10.0, "other": 2.0}
"""What a command stands for, with what a person looks at before and after it, where nothing was measured and nobody said better: to
choose a version, type the command and see it answer; to read a challenger's page; to start a training and read what came of it; to find out that
the version before is wanted back, and see it answer; to set something. They are small, as stead does the rest: the hours that the same
takes without it (2 to 4 a deployment) belong to `stead worth`, not here."""
LONGEST_REVIEW = 60.0
"""Minutes. What was looked at longer before it was decided was left lying: no more is counted."""
MOST = 10_080.0
"""Minutes, a week: what a person can say of one act."""
KINDS = {
    "deployment.requested": "deploy",
    "route.rolled_back": "rollback",
    "version.approved": "review",
    "version.rejected": "review",
    "version.registered": "other",
    "version.archived": "other",
    "version.restored": "other",
    "version.signed": "other",
    "signature.required": "other",
    "alias.set": "other",
    "alias.deleted": "other",
    "deployment.cancelled": "other",
    "route.removed": "other",
    "path.changed": "other",
    "retraining.cancelled": "other",
    "level.changed": "other",
    "automation.frozen": "other",
    "automation.thawed": "other",
    "incident.opened": "other",
    "incident.resolved": "other",
    "drill.rollback": "other",
    "drill.freeze": "other",
    "rows.erased": "other",
}
"""Kind of work by the action of a ledger entry. What is not here follows from another act (a route that changes after it was asked for, a gate
that is overridden with it, code that `stead train` hands over), is a word or two (tags, descriptions), or is about the store, not about a model."""


@dataclass(frozen=True)
class _Act:
    """A ledger entry of a person."""

    id: int
    at: int
    actor: str
    action: str
    model: str | None
    subject: str
    summary: str
    evidence: dict[str, Any]
    event_time: int | None


@dataclass(frozen=True)
class _Known:
    """What tells of an act what it was for."""

    retrainings: dict[int, Any]
    approved: dict[int, int]
    """By deployment the retraining whose approval asked for it."""
    at_once: set[int]
    """Deployments that were done where they were asked for, without a job."""
    trainings: dict[str, Any]
    """Jobs of trainings that a person asked for."""
    taken: dict[tuple[str, int], int]
    """By model and version its first deployment."""
    opened: dict[tuple[str, int], int]
    """By person and retraining the first look."""
    corrected: dict[int, float]


def list_work(
    store: Store, *, model: str | None = None, since: int | None = None, until: int | None = None
) -> list[Work]:
    """What people did by hand, newest first, from `since` on and before `until` (wall clock, milliseconds).

    Of a model or of all. Raises NotFound (`model-unknown`), InvalidInput (`span-invalid`).
    """
    if model is not None:
        models.get_model(store, model)
    if since is not None and until is not None and until < since:
        raise InvalidInput("span-invalid", f"until ({until}) is before since ({since})")
    known_clocks = clocks(store)
    with store.db.read() as tx:
        acts, known, said = _acts(tx), _known(tx), list(_said(tx, known_clocks))
    done = [*_from_ledger(acts, known, known_clocks), *_trainings(acts, known, known_clocks), *said]
    kept = [
        each
        for each in done
        if (since is None or each.at >= since) and (until is None or each.at < until) and model in (None, each.model)
    ]
    return sorted(kept, key=lambda each: (each.at, each.entry or 0), reverse=True)


def by_deployment(work: Iterable[Work]) -> dict[int, float]:
    """Minutes by hand of each deployment that some went into, by its number; one that is not here was made without.

    >>> acts = [Work(n, "review", "m", "m@2", "", 7, "person:ada", 0, 0, 12.0, "measured") for n in (1, 2)]
    >>> by_deployment(acts)
    {7: 24.0}
    """
    found: dict[int, float] = {}
    for each in work:
        if each.deployment is not None:
            found[each.deployment] = found.get(each.deployment, 0.0) + each.minutes
    return found


def correct_work(
    store: Store, entry: int, minutes: float | None, *, reason: str | None = None, undoes: int | None = None
) -> Work:
    """A person says how many minutes an act took, by the number of its ledger entry; None takes what was said back.

    Raises NotFound (`decision-unknown`, `work-unknown` where the entry is no work by hand), InvalidInput (`minutes-invalid`).
    """
    if minutes is not None and not 0 <= minutes <= MOST:
        raise InvalidInput(
            "minutes-invalid",
            f"{minutes:g} minutes is no time that an act takes",
            hint=f"0 to {MOST:g}: a week at most",
        )
    about = ledger.get_entry(store, entry)
    before = _work_of(store, about)
    with store.db.write("maturity.correct") as tx:
        mine = corrections.c.entry == entry
        earlier = tx.execute(sa.select(corrections.c.minutes).where(mine)).scalar()
        if earlier == minutes and undoes is None:
            return before
        tx.execute(sa.delete(corrections).where(mine))
        if minutes is not None:
            said = {"entry": entry, "minutes": minutes, "by": store.actor, "at": now_ms(), "reason": reason}
            tx.execute(sa.insert(corrections).values(said))
        now = "as it was counted" if minutes is None else f"{minutes:g} min"
        ledger.record(
            tx,
            actor=store.actor,
            action="work.corrected",
            model=about.model,
            subject=f"decision {entry}",
            summary=f"decision {entry} ({about.summary}) took {now}, was {before.minutes:.3g} min, {before.source}",
            reason=reason,
            evidence={"entry": entry, "minutes": minutes, "before": before.minutes, "source": before.source},
            undo=Undo("maturity.correct_work", {"entry": entry, "minutes": earlier}),
            undoes=undoes,
        )
    return _work_of(store, about)


def begin_review(store: Store, retraining: int) -> None:
    """A person looks at a version that waits for approval: their first look is kept, which their decision is measured from.

    Nothing is written at a later look, or where nothing waits. Raises NotFound (`retraining-unknown`).
    """
    subject = f"retraining {retraining}"
    mine = (reviews.c.subject == subject) & (reviews.c.by == store.actor)
    with store.db.read() as tx:
        waits = tx.execute(
            sa.select(retrainings.c.model, retrainings.c.state).where(retrainings.c.id == retraining)
        ).first()
        seen = tx.execute(sa.select(reviews.c.opened_at).where(mine)).first()
    if waits is None:
        raise NotFound("retraining-unknown", f"there is no retraining {retraining}", hint="stead retrainings list")
    if waits.state != "waiting" or seen is not None or not by_hand(store.actor):
        return
    values = {"subject": subject, "by": store.actor, "model": waits.model, "opened_at": now_ms()}
    with store.db.write("maturity.review") as tx:
        store.db.upsert(tx, reviews, values, ["subject", "by"], update=[])


def by_hand(actor: str) -> bool:
    """Whether a person did it. A token stands for whoever has it, so what a program does with one counts until it is corrected.

    >>> by_hand("person:ada"), by_hand("token:ci"), by_hand("agent")
    (True, True, False)
    """
    return actor.startswith(("person:", "token:"))


def _work_of(store: Store, about: ledger.Entry) -> Work:
    work = next((each for each in list_work(store) if each.entry == about.id), None)
    if work is None:
        raise NotFound(
            "work-unknown",
            f"decision {about.id} ({about.summary}) is no work by hand that is counted",
            hint="stead work",
        )
    return work


def _people(column: sa.Column[str]) -> sa.ColumnElement[bool]:
    return sa.or_(column.startswith("person:"), column.startswith("token:"))


def _acts(tx: sa.Connection) -> list[_Act]:
    """The entries of people, oldest first."""
    columns = [entries.c[name] for name in _Act.__dataclass_fields__]
    query = sa.select(*columns).where(_people(entries.c.actor), entries.c.action.in_(KINDS)).order_by(entries.c.id)
    return [_Act(*row) for row in tx.execute(query)]


def _known(tx: sa.Connection) -> _Known:
    asked = sa.select(retrainings.c.id, retrainings.c.version, retrainings.c.deployment, retrainings.c.decided_by)
    turns = {row.id: row for row in tx.execute(asked)}
    made = deployments.c
    taken: dict[tuple[str, int], int] = {}
    at_once = set()
    for row in tx.execute(sa.select(made.id, made.model, made.version, made.kind, made.job).order_by(made.id)):
        if row.kind == "deploy":
            taken.setdefault((row.model, row.version), row.id)
        if row.job is None:
            at_once.add(row.id)
    asked_for = sa.select(
        jobs.c.id, jobs.c.model, jobs.c.requested_by, jobs.c.created_at, jobs.c.event_time, jobs.c.state
    )
    trainings = tx.execute(asked_for.where(jobs.c.kind == "train", _people(jobs.c.requested_by)))
    looks = tx.execute(sa.select(reviews.c.by, reviews.c.subject, reviews.c.opened_at))
    return _Known(
        turns,
        {row.deployment: row.id for row in turns.values() if row.deployment is not None and row.decided_by},
        at_once,
        {row.id: row for row in trainings},
        taken,
        {(row.by, int(row.subject.rpartition(" ")[2])): row.opened_at for row in looks},
        {row.entry: row.minutes for row in tx.execute(sa.select(corrections.c.entry, corrections.c.minutes))},
    )


def _from_ledger(acts: Iterable[_Act], known: _Known, known_clocks: dict[str, Clock]) -> Iterator[Work]:
    last: dict[str, int] = {}
    for act in acts:
        kind, deployment, retraining = _what(act, known)
        if kind is None:
            continue
        minutes, source, note = _minutes(act, kind, retraining, known, last.get(act.actor, 0))
        last[act.actor] = act.at
        yield Work(
            act.id, kind, act.model or "", act.subject, act.summary + note, deployment, act.actor, act.at,
            _moment(known_clocks, act.model, act.at, act.event_time), minutes, source,
        )  # fmt: skip


def _what(act: _Act, known: _Known) -> tuple[str | None, int | None, int | None]:
    """Kind of an act, its deployment and the retraining that it decided; no kind where it is a part of another act."""
    kind: str | None = KINDS[act.action]
    deployment, retraining = act.evidence.get("deployment"), None
    if act.action == "deployment.requested":
        if deployment in known.approved:
            return None, None, None  # by an approval, which is the act
        kind = "rollback" if act.evidence.get("kind") == "rollback" else kind
    elif act.action == "route.rolled_back":
        kind = kind if deployment in known.at_once else None  # else it was asked for before
    elif act.action in ("version.approved", "version.rejected"):
        retraining = act.evidence.get("retraining")
        turn = known.retrainings.get(retraining or 0)
        deployment = turn.deployment if turn is not None else None
    elif act.action == "retraining.cancelled":
        retraining = int(act.subject.rpartition(" ")[2])
        turn = known.retrainings.get(retraining)
        kind = "review" if turn is not None and turn.version is not None else kind
    elif act.action == "version.registered":
        if act.evidence.get("run") in known.trainings:
            return None, None, None  # what came of a training, which is the act
        model, _, version = act.subject.rpartition("@")
        deployment = known.taken.get((model, int(version)))
    elif act.action.startswith("automation.") and act.evidence.get("drill"):
        kind = None  # a part of its drill
    return kind, deployment, retraining


def _minutes(
    act: _Act, kind: str, retraining: int | None, known: _Known, before: int
) -> tuple[float, Literal["measured", "default", "corrected"], str]:
    """How long an act took, where that comes from, and what is to be said of it; `before` is when the person's act before it was."""
    if act.id in known.corrected:
        return known.corrected[act.id], "corrected", ""
    opened = known.opened.get((act.actor, retraining)) if retraining is not None else None
    if opened is None or opened > act.at:
        return DEFAULT_MINUTES[kind], "default", ""
    begun = max(opened, min(before, act.at))  # nobody reads two pages at once
    took = (act.at - begun) / MINUTE
    if took <= LONGEST_REVIEW:
        return took, "measured", ""
    return LONGEST_REVIEW, "measured", f"; left lying for {took / 60:.1f} h, of which {LONGEST_REVIEW:g} min count"


def _trainings(acts: Iterable[_Act], known: _Known, known_clocks: dict[str, Clock]) -> Iterator[Work]:
    """Trainings that people asked for; what stands for one is the entry that registered its version, where it made one."""
    made = {act.evidence.get("run"): act for act in acts if act.action == "version.registered"}
    for job in known.trainings.values():
        act = made.get(job.id)
        model, _, version = act.subject.rpartition("@") if act is not None else ("", "", "0")
        corrected = known.corrected.get(act.id) if act is not None else None
        made_it = f"trained {act.subject}" if act is not None else f"a training of {job.model}, which made no version"
        yield Work(
            act.id if act is not None else None,
            "train",
            job.model or "",
            act.subject if act is not None else f"job {job.id[-12:]}",
            made_it if act is not None or job.state not in ("queued", "running") else f"a training of {job.model}",
            known.taken.get((model, int(version))),
            job.requested_by,
            job.created_at,
            _moment(known_clocks, job.model, job.created_at, job.event_time),
            DEFAULT_MINUTES["train"] if corrected is None else corrected,
            "default" if corrected is None else "corrected",
        )


def _said(tx: sa.Connection, known_clocks: dict[str, Clock]) -> Iterator[Work]:
    """Deployments outside stead of which people say how long they took."""
    for row in tx.execute(sa.select(outside).where(outside.c.hours.is_not(None))):
        version = f"@{row.version}" if row.version is not None else ""
        yield Work(
            None, "outside", row.model, f"outside {row.id}", f"deployed {row.model}{version} outside stead: {row.place}",
            None, row.by, row.at, _moment(known_clocks, row.model, row.at, row.event_time), row.hours * 60, "said",
        )  # fmt: skip


def _moment(known_clocks: dict[str, Clock], model: str | None, at: int, event_time: int | None) -> int:
    clock = known_clocks.get(model or "")
    return at if clock is None else clock.moment(at, event_time)
