"""Work by hand: what people did, and how many minutes it took them: measured, corrected by a person, or a stated time a command.

An act is a ledger entry by a person (`person:…`, or `token:…`, which stands for whoever has it), or a training that one asked for.
Nothing is invented: a decision takes as long as the person looked at what waited (`begin_review`), and every other act
the time that `DEFAULT_MINUTES` states for its kind, until somebody corrects it.
"""

from __future__ import annotations

from bisect import bisect_right
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
    event_time: int | None
    deployment: int | None
    rolls_back: bool
    retraining: int | None
    run: str | None
    drill: bool


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
    elsewhere: dict[str, list[int]]
    """By person when they did something for other models than the one that is looked at."""


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
        done = work_in(tx, known_clocks, model)
    kept = [each for each in done if (since is None or each.at >= since) and (until is None or each.at < until)]
    return sorted(kept, key=lambda each: (each.at, each.entry or 0), reverse=True)


def work_in(tx: sa.Connection, known_clocks: dict[str, Clock], model: str | None = None) -> list[Work]:
    """`list_work` inside a transaction, of all times and in no order."""
    acts, known, said = _acts(tx, model), _known(tx, model), list(_said(tx, known_clocks, model))
    return [*_from_ledger(acts, known, known_clocks), *_trainings(acts, known, known_clocks), *said]


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
    work = next((each for each in list_work(store, model=about.model) if each.entry == about.id), None)
    if work is None:
        raise NotFound(
            "work-unknown",
            f"decision {about.id} ({about.summary}) is no work by hand that is counted",
            hint="stead work",
        )
    return work


def _people(column: sa.Column[str]) -> sa.ColumnElement[bool]:
    return sa.or_(column.startswith("person:"), column.startswith("token:"))


def _of(query: sa.Select[Any], column: sa.Column[Any], model: str | None) -> sa.Select[Any]:
    return query if model is None else query.where(column == model)


def _acts(tx: sa.Connection, model: str | None) -> list[_Act]:
    """The entries of people, oldest first."""
    told, said = entries.c, entries.c.evidence
    parts = (
        said["deployment"].as_integer(),
        sa.func.coalesce(said["kind"].as_string() == "rollback", sa.false()),
        said["retraining"].as_integer(),
        said["run"].as_string(),
        sa.func.coalesce(said["drill"].as_boolean(), sa.false()),
    )
    columns = (told.id, told.at, told.actor, told.action, told.model, told.subject, told.summary, told.event_time)
    query = sa.select(*columns, *parts).where(_people(told.actor), told.action.in_(KINDS)).order_by(told.id)
    return [_Act(*row) for row in tx.execute(_of(query, told.model, model))]


def _known(tx: sa.Connection, model: str | None) -> _Known:
    turn, made, job = retrainings.c, deployments.c, jobs.c
    asked = sa.select(turn.id, turn.version, turn.deployment, turn.decided_by)
    turns = {row.id: row for row in tx.execute(_of(asked, turn.model, model))}
    taken: dict[tuple[str, int], int] = {}
    at_once = set()
    moves = sa.select(made.id, made.model, made.version, made.kind, made.job).order_by(made.id)
    for number, name, version, kind, its_job in tx.execute(_of(moves, made.model, model)):
        if kind == "deploy":
            taken.setdefault((name, version), number)
        if its_job is None:
            at_once.add(number)
    train = sa.select(job.id, job.model, job.requested_by, job.created_at, job.event_time, job.state)
    train = train.where(job.kind == "train", _people(job.requested_by))
    looks = sa.select(reviews.c.by, reviews.c.subject, reviews.c.opened_at)
    opened = {
        (by, int(subject.rpartition(" ")[2])): at for by, subject, at in tx.execute(_of(looks, reviews.c.model, model))
    }
    elsewhere: dict[str, list[int]] = {}
    if model is not None and opened:
        mine = entries.c.model.is_(None) | (entries.c.model != model)
        others = sa.select(entries.c.actor, entries.c.at).where(
            mine, entries.c.actor.in_(sorted({by for by, _ in opened})), entries.c.action.in_(KINDS)
        )
        for actor, at in tx.execute(others.order_by(entries.c.at)):
            elsewhere.setdefault(actor, []).append(at)
    return _Known(
        turns,
        {row.deployment: row.id for row in turns.values() if row.deployment is not None and row.decided_by},
        at_once,
        {row.id: row for row in tx.execute(_of(train, job.model, model))},
        taken,
        opened,
        {row.entry: row.minutes for row in tx.execute(sa.select(corrections.c.entry, corrections.c.minutes))},
        elsewhere,
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
    deployment, retraining = act.deployment, None
    if act.action == "deployment.requested":
        if deployment in known.approved:
            return None, None, None  # by an approval, which is the act
        kind = "rollback" if act.rolls_back else kind
    elif act.action == "route.rolled_back":
        kind = kind if deployment in known.at_once else None  # else it was asked for before
    elif act.action in ("version.approved", "version.rejected"):
        retraining = act.retraining
        turn = known.retrainings.get(retraining or 0)
        deployment = turn.deployment if turn is not None else None
    elif act.action == "retraining.cancelled":
        retraining = int(act.subject.rpartition(" ")[2])
        turn = known.retrainings.get(retraining)
        kind = "review" if turn is not None and turn.version is not None else kind
    elif act.action == "version.registered":
        if act.run in known.trainings:
            return None, None, None  # what came of a training, which is the act
        model, _, version = act.subject.rpartition("@")
        deployment = known.taken.get((model, int(version)))
    elif act.action.startswith("automation.") and act.drill:
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
    others = known.elsewhere.get(act.actor, [])
    place = bisect_right(others, act.at)
    begun = max(opened, min(before, act.at), others[place - 1] if place else 0)  # nobody reads two pages at once
    took = (act.at - begun) / MINUTE
    if took <= LONGEST_REVIEW:
        return took, "measured", ""
    return LONGEST_REVIEW, "measured", f"; left lying for {took / 60:.1f} h, of which {LONGEST_REVIEW:g} min count"


def _trainings(acts: Iterable[_Act], known: _Known, known_clocks: dict[str, Clock]) -> Iterator[Work]:
    """Trainings that people asked for; what stands for one is the entry that registered its version, where it made one."""
    made = {act.run: act for act in acts if act.action == "version.registered"}
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


def _said(tx: sa.Connection, known_clocks: dict[str, Clock], model: str | None) -> Iterator[Work]:
    """Deployments outside stead of which people say how long they took."""
    query = sa.select(outside).where(outside.c.hours.is_not(None))
    for row in tx.execute(_of(query, outside.c.model, model)):
        version = f"@{row.version}" if row.version is not None else ""
        yield Work(
            None, "outside", row.model, f"outside {row.id}", f"deployed {row.model}{version} outside stead: {row.place}",
            None, row.by, row.at, _moment(known_clocks, row.model, row.at, row.event_time), row.hours * 60, "said",
        )  # fmt: skip


def _moment(known_clocks: dict[str, Clock], model: str | None, at: int, event_time: int | None) -> int:
    clock = known_clocks.get(model or "")
    return at if clock is None else clock.moment(at, event_time)
