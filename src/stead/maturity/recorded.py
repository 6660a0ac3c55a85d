"""What a store's records say to the questions of the interview: a year of each model, on its own clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from statistics import mean, median
from typing import Any

import sqlalchemy as sa

from stead.config.units import lasting
from stead.deployments import Deployment
from stead.deployments.tables import deployments as deployment_table
from stead.deployments.tables import outside as outside_table
from stead.deployments.types import WAS_LIVE
from stead.ledger.tables import ledger
from stead.maturity.advice import fit_of, steps_of
from stead.maturity.clocks import DAY_MS, Clock, clocks
from stead.maturity.reading import load
from stead.maturity.staging import members_of, stage_of_model, stage_of_team
from stead.maturity.types import Fact, Recorded, Step, Work
from stead.maturity.work import list_work
from stead.models.tables import models as model_table
from stead.models.tables import versions as version_table
from stead.monitors import Incident
from stead.monitors.tables import incidents as incident_table
from stead.predictions.tables import performance
from stead.runtime.clock import now_ms
from stead.store import Store, from_row

YEAR_MS = 365 * DAY_MS
SHORTEST_MS, QUIET_MS = 28 * DAY_MS, 180 * DAY_MS
"""Over less there is no rate; and without any deployment in it, no word of a standstill."""
ASKED_DAYS, OF_DAYS = 14, 28
"""A model that is asked on so many days of the last ones is part of some process."""
LATE_DAYS = 7
DECAY = ("performance", "estimate")
"""Kinds of incidents that tell of a model that became worse."""
MACHINES = ("agent", "system", "policy:")


@dataclass(frozen=True)
class Live:
    """A deployment that went live, on its model's clock."""

    id: int
    model: str
    version: int
    at: int
    by: str
    trained_at: int | None


@dataclass(frozen=True)
class Outside:
    """A deployment that stead did not make."""

    model: str
    at: int
    hours: float | None


@dataclass(frozen=True)
class History:
    """What was read: a year of each model, on its own clock."""

    clocks: dict[str, Clock] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    live: tuple[str, ...] = ()
    deployed: tuple[Live, ...] = ()
    """Since the first one ever, oldest first: a rate needs to know when it began."""
    outside: tuple[Outside, ...] = ()
    incidents: tuple[Incident, ...] = ()
    asked: dict[str, int] = field(default_factory=dict)
    """By model, days of the last `OF_DAYS` on which it was asked."""
    people: dict[str, set[str]] = field(default_factory=dict)
    """By model, persons who are in the ledger of a year."""
    work: tuple[Work, ...] = ()
    """By hand, in stead, of the year."""

    def within(self, model: str, at: int, span: int = YEAR_MS) -> bool:
        """Whether a moment lies in the window that ends at the model's clock."""
        now = self.clocks[model].now if model in self.clocks else now_ms()
        return now - span < at <= now


def history(store: Store) -> History:
    """Read it, in a handful of questions to the database."""
    found = clocks(store)
    with store.db.read() as tx:
        settings = {row.name: row.settings for row in tx.execute(sa.select(model_table.c.name, model_table.c.settings))}
        trained = {
            (row.model, row.version): _moment(found, row.model, row.created_at, row.event_time)
            for row in tx.execute(sa.select(version_table))
        }
        rows = tx.execute(sa.select(deployment_table).order_by(deployment_table.c.id)).mappings().all()
        made = [from_row(row, Deployment) for row in rows if row["state"] in ("live", *WAS_LIVE)]
        outside = tuple(
            Outside(row.model, _moment(found, row.model, row.at, row.event_time), row.hours)
            for row in tx.execute(sa.select(outside_table).order_by(outside_table.c.at))
        )
        opened = sa.select(incident_table).order_by(incident_table.c.id)
        incidents = tuple(from_row(row, Incident) for row in tx.execute(opened).mappings())
        asked = _asked(tx, found)
        people = _people(tx)
    read = History(
        clocks=found,
        settings=settings,
        live=tuple(sorted({each.model for each in made if each.state == "live"})),
        deployed=tuple(_live(each, found, trained) for each in made if each.kind == "deploy"),
        outside=outside,
        incidents=incidents,
        asked=asked,
        people=people,
    )
    done = (each for each in list_work(store) if each.kind != "outside" and read.within(each.model, each.moment))
    return replace(read, work=tuple(done))


def standing(store: Store) -> tuple[int, Step | None]:
    """The stage at which the team stands by its records, and its next step; everybody starts at 1."""
    found = load(store)
    members = members_of(found, found.now)
    stages = [stage_of_model(member) for member in members]
    team = stage_of_team(members, found.now, stages)
    return team.stage, next(iter(steps_of(team, stages, fit_of(members, team))), None)


def _live(each: Deployment, found: dict[str, Clock], trained: dict[tuple[str, int], int]) -> Live:
    wall = next((step.at for step in each.steps if step.state == "live"), each.created_at)
    at = _moment(found, each.model, wall, None)
    return Live(each.id, each.model, each.version, at, each.requested_by, trained.get((each.model, each.version)))


def _moment(found: dict[str, Clock], model: str, at: int, event_time: int | None) -> int:
    return found[model].moment(at, event_time) if model in found else event_time or at


def _asked(tx: sa.Connection, found: dict[str, Clock]) -> dict[str, int]:
    """Days with answers of the last `OF_DAYS`, by model."""
    table, span = performance, OF_DAYS * DAY_MS
    answered = (table.c.role == "") & (table.c.predictions > table.c.failed)
    last = sa.func.max(table.c.day).label("last")
    newest = sa.select(table.c.model, last).where(answered).group_by(table.c.model).subquery()
    days = sa.select(table.c.model, table.c.day).distinct().join(newest, newest.c.model == table.c.model)
    asked: dict[str, int] = {}
    for model, day in tx.execute(days.where(answered, table.c.day > newest.c.last - span)):
        if model in found and found[model].now - span - DAY_MS < day <= found[model].now:
            asked[model] = asked.get(model, 0) + 1
    return asked


def _people(tx: sa.Connection) -> dict[str, set[str]]:
    query = sa.select(ledger.c.model, ledger.c.actor).where(
        ledger.c.model.is_not(None), ledger.c.actor.like("person:%"), ledger.c.at > now_ms() - YEAR_MS
    )
    found: dict[str, set[str]] = {}
    for model, actor in tx.execute(query.distinct()):
        found.setdefault(model, set()).add(actor)
    return found


def records_of(read: History, stage: int = 1, step: Step | None = None) -> Recorded:
    """The answers that follow from it; a question is absent where the records do not say."""
    outside = {each.model for each in read.outside if read.within(each.model, each.at)}
    production = set(read.live) | outside
    facts: dict[str, Fact | None] = {
        "models": _models(read, outside - set(read.live)),
        "depends": _depends(read),
        "low_impact": _low_impact(read),
        "retrains": _retrains(read, production),
        "late": _late(read),
        "people": _several(read, production),
        "hours": _hours(read),
        "review": _review(read),
    }
    return Recorded({name: fact for name, fact in facts.items() if fact is not None}, stage, step, read.live)


def even(value: float) -> tuple[float, float, float]:
    """A figure without a range."""
    return value, value, value


def some(names: Iterable[str], most: int = 3) -> str:
    """Names, few of them.

    >>> some(["a", "b"]), some(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    kept = list(names)
    return ", ".join(kept[:most]) + (f" and {len(kept) - most} more" if len(kept) > most else "")


def _models(read: History, outside: set[str]) -> Fact | None:
    if not read.live and not outside:
        return None
    said = f"live: {some(read.live)}" if read.live else ""
    further = f"deployed outside stead within a year: {some(sorted(outside))}" if outside else ""
    return Fact(even(len(read.live) + len(outside)), "; ".join(each for each in (said, further) if each))


def _depends(read: History) -> Fact | None:
    if not read.live:
        return None
    matter = [m for m in read.live if _of(read, m, "importance") == "high" or _of(read, m, "loss_value") is not None]
    if matter:
        return Fact(True, f"somebody set the importance or the value of a loss of {some(matter)}")
    rest = [model for model in read.live if _of(read, model, "importance") != "low"]
    if not rest:
        return Fact(False, f"somebody set the importance of {some(read.live)} to low")
    asked = [model for model in rest if read.asked.get(model, 0) >= ASKED_DAYS]
    if asked:
        days = read.asked[asked[0]]
        return Fact(True, f"{some(asked)}: asked on {days} of the last {OF_DAYS} days")
    return None


def _low_impact(read: History) -> Fact | None:
    if read.live and all(_of(read, model, "importance") == "low" for model in read.live):
        return Fact(True, f"somebody set the importance of {some(read.live)} to low")
    return None


def _of(read: History, model: str, name: str) -> Any:
    return read.settings.get(model, {}).get(name)


def _retrains(read: History, production: set[str]) -> Fact | None:
    """Deployments a year after each model's first one, over the year at most; the mean of the models that have a rate."""
    rates, count, longest = [], 0, 0
    by_model: dict[str, list[int]] = {}
    for model, at in [(each.model, each.at) for each in read.deployed] + [
        (each.model, each.at) for each in read.outside
    ]:
        by_model.setdefault(model, []).append(at)
    for model in sorted(production):
        now = read.clocks[model].now if model in read.clocks else now_ms()
        moments = sorted(at for at in by_model.get(model, ()) if at <= now)
        if not moments:
            continue
        window = min(YEAR_MS, now - moments[0])
        again = sum(at > now - window for at in moments[1:])
        if window < SHORTEST_MS or (again < 2 and window < QUIET_MS):
            continue
        rates.append(again / window * YEAR_MS)
        count, longest = count + again, max(longest, window)
    if not rates:
        return None
    of = "one model" if len(rates) == 1 else f"{len(rates)} models"
    return Fact(
        even(round(mean(rates), 1)), f"{count} deployments of {of} after its first, in {longest // DAY_MS} days"
    )


def noticed_after(incident: Incident) -> float | None:
    """Days from the first bad day to the incident; None where that day is not known."""
    since = incident.evidence.get("since")
    return max(0.0, (incident.event_time - since) / DAY_MS) if isinstance(since, int) else None


def by_user(incident: Incident) -> bool:
    """Whether a person saw it, and no monitor."""
    return not incident.opened_by.startswith(MACHINES)


def decays(read: History) -> list[Incident]:
    """Incidents of a year that tell of a model that became worse."""
    kept = [each for each in read.incidents if each.kind in DECAY]
    return [each for each in kept if read.within(each.model, each.event_time)]


def _late(read: History) -> Fact | None:
    found = decays(read)
    if not found:
        return None
    after = {each.id: noticed_after(each) for each in found}
    slow = [each for each in found if (after[each.id] or 0) > LATE_DAYS]
    people = [each for each in found if by_user(each)]
    known = [days for days in after.values() if days is not None]
    longest = f"; at the latest after {lasting(int(max(known) * DAY_MS))}" if known else ""
    said = f"of {len(found)} times that a model became worse, {len(slow)} were noticed after more than {LATE_DAYS} days and {len(people)} by people{longest}"
    return Fact(bool(slow or people), said)


def _several(read: History, production: set[str]) -> Fact | None:
    counts = {model: len(read.people.get(model, ())) for model in production}
    if not any(counts.values()):
        return None
    model = max(counts, key=lambda name: (counts[name], name))
    who = sorted(actor.removeprefix("person:") for actor in read.people[model])
    return Fact(even(counts[model]), f"in the ledger of {model}: {some(who)}")


def _hours(read: History) -> Fact | None:
    told = [each.hours for each in read.outside if each.hours is not None and read.within(each.model, each.at)]
    if not told:
        return None
    number = "one deployment" if len(told) == 1 else f"{len(told)} deployments"
    return Fact((min(told), median(told), max(told)), f"{number} outside stead, as recorded by people")


def _review(read: History) -> Fact | None:
    """Minutes a week that people looked at what runs by itself, as far as that was measured or they said it."""
    found = [each for each in read.work if each.kind == "review" and each.source != "default"]
    spans = [min(YEAR_MS, read.clocks[each.model].now - each.at) for each in read.deployed if each.model in read.clocks]
    if not found or max(spans, default=0) < SHORTEST_MS:
        return None
    minutes, weeks = sum(each.minutes for each in found), max(spans) / (7 * DAY_MS)
    number = "one review" if len(found) == 1 else f"{len(found)} reviews"
    return Fact(even(round(minutes / weeks, 1)), f"{number} of {minutes:,.0f} min in {weeks:,.0f} weeks")
