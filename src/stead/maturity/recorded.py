"""What a store's records say to the questions of the interview: a year of each model, on its own clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any

import sqlalchemy as sa

from stead import monitors
from stead.config.units import lasting, some
from stead.ledger.tables import ledger
from stead.maturity.advice import fit_of, steps_of
from stead.maturity.clocks import DAY_MS
from stead.maturity.reading import GRACE, load
from stead.maturity.records import Deployed, Incident, OfModel, Records, Series, T
from stead.maturity.staging import members_of, stage_of_model, stage_of_team
from stead.maturity.types import Fact, Recorded, Step, Work
from stead.maturity.work import list_work
from stead.models.tables import models as model_table
from stead.monitors.tables import incidents as incident_table
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


@dataclass(frozen=True)
class History:
    """What was read, and what the answers are drawn from."""

    records: Records
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By model; who is not told there matters as much as any."""
    decays: tuple[monitors.Incident, ...] = ()
    """Of all models and times, those that tell of one that became worse."""
    people: dict[str, set[str]] = field(default_factory=dict)
    """By model, persons who are in the ledger of a year."""
    work: tuple[Work, ...] = ()
    """By hand, in stead, of the year."""

    @property
    def models(self) -> list[OfModel]:
        return list(self.records.models.values())

    @property
    def live(self) -> list[OfModel]:
        """Those of which stead serves a version."""
        return [of for of in self.models if any(not each.outside for each in of.live_at(of.clock.now))]

    @property
    def outside(self) -> list[OfModel]:
        """Those that answer elsewhere, and not in stead."""
        served = {of.name for of in self.live}
        return [of for of in self.models if of.name not in served and of.live_at(of.clock.now)]

    def incidents(self) -> list[tuple[OfModel, Incident]]:
        """Of the year."""
        return [(of, each) for of in self.models for each in year(of, of.incidents)]

    def deployed(self) -> list[tuple[OfModel, Deployed]]:
        """Deployments by stead of the year that came to answer, without those that went back."""
        made = [(of, each) for of in self.models for each in year(of, of.deployments)]
        return [(of, each) for of, each in made if not each.outside and not each.back]


def year(of: OfModel, series: Series[T]) -> Sequence[T]:
    """What lies in the year that ends at the model's clock."""
    return series.within(of.clock.now - YEAR_MS, of.clock.now + GRACE)


def history(store: Store) -> History:
    """Read it, in a handful of questions to the database."""
    records = load(store)
    with store.db.read() as tx:
        settings = {row.name: row.settings for row in tx.execute(sa.select(model_table.c.name, model_table.c.settings))}
        worse = sa.select(incident_table).where(incident_table.c.kind.in_(DECAY)).order_by(incident_table.c.id)
        decays = tuple(from_row(row, monitors.Incident) for row in tx.execute(worse).mappings())
        people = _people(tx)
    since = {of.name: of.clock.now - YEAR_MS for of in records.models.values()}
    work = [each for each in list_work(store) if each.kind != "outside"]
    kept = (each for each in work if since.get(each.model, now_ms() - YEAR_MS) < each.moment)
    return History(records, settings, decays, people, tuple(kept))


def standing(read: History) -> tuple[int, Step | None]:
    """The stage at which the team stands by its records, and its next step; everybody starts at 1."""
    members = members_of(read.records, read.records.now)
    stages = [stage_of_model(member) for member in members]
    team = stage_of_team(members, read.records.now, stages)
    return team.stage, next(iter(steps_of(team, stages, fit_of(members, team))), None)


def _people(tx: sa.Connection) -> dict[str, set[str]]:
    query = sa.select(ledger.c.model, ledger.c.actor).where(
        ledger.c.model.is_not(None), ledger.c.actor.like("person:%"), ledger.c.at > now_ms() - YEAR_MS
    )
    found: dict[str, set[str]] = {}
    for model, actor in tx.execute(query.distinct()):
        found.setdefault(model, set()).add(actor)
    return found


def recorded(read: History) -> Recorded:
    """The answers that follow from it; a question is absent where the records do not say."""
    stage, step = standing(read)
    facts: dict[str, Fact | None] = {
        "models": _models(read),
        "depends": _depends(read),
        "low_impact": _low_impact(read),
        "retrains": _retrains(read),
        "late": _late(read),
        "people": _several(read),
        "hours": _hours(read),
        "review": _review(read),
    }
    known = {name: fact for name, fact in facts.items() if fact is not None}
    return Recorded(known, stage, step, tuple(of.name for of in read.live))


def even(value: float) -> tuple[float, float, float]:
    """A figure without a range."""
    return value, value, value


def _models(read: History) -> Fact | None:
    live, outside = ([of.name for of in some_models] for some_models in (read.live, read.outside))
    if not live and not outside:
        return None
    said = [f"live: {some(live)}" if live else "", f"deployed outside stead: {some(outside)}" if outside else ""]
    return Fact(even(len(live) + len(outside)), "; ".join(each for each in said if each))


def _depends(read: History) -> Fact | None:
    live = read.live
    matter = [of.name for of in live if of.importance == "high" or loss_value(read, of) is not None]
    if matter:
        return Fact(True, f"somebody set the importance or the value of a loss of {some(matter)}")
    if live and all(of.importance == "low" for of in live):
        return Fact(False, f"somebody set the importance of {some(of.name for of in live)} to low")
    asked = {of.name: _asked(of) for of in live if of.importance != "low"}
    often = [name for name, days in asked.items() if days >= ASKED_DAYS]
    if often:
        return Fact(True, f"{some(often)}: asked on {asked[often[0]]} of the last {OF_DAYS} days")
    return None


def loss_value(read: History, of: OfModel) -> float | None:
    """Money per unit of its loss and weight; None where nobody said."""
    value = read.settings.get(of.name, {}).get("loss_value")
    return None if value is None else float(value)


def _asked(of: OfModel) -> int:
    """Days of the last ones on which it was asked."""
    today = of.clock.now // DAY_MS * DAY_MS
    return sum(today - OF_DAYS * DAY_MS <= each.moment < today + DAY_MS for each in of.days)


def _low_impact(read: History) -> Fact | None:
    live = read.live
    if live and all(of.importance == "low" for of in live):
        return Fact(True, f"somebody set the importance of {some(of.name for of in live)} to low")
    return None


def _retrains(read: History) -> Fact | None:
    """Deployments a year after each model's first one, over the year at most; the mean of the models that have a rate."""
    rates, count, longest = [], 0, 0
    for of in [*read.live, *read.outside]:
        moments = [each.moment for each in of.deployments if not each.back]
        window = min(YEAR_MS, of.clock.now - moments[0])
        again = sum(at > of.clock.now - window for at in moments[1:])
        if window < SHORTEST_MS or (again < 2 and window < QUIET_MS):
            continue
        rates.append(again / window * YEAR_MS)
        count, longest = count + again, max(longest, window)
    if not rates:
        return None
    of_models = "one model after its first" if len(rates) == 1 else f"{len(rates)} models after their first"
    return Fact(even(round(mean(rates), 1)), f"{count} deployments of {of_models}, in {longest // DAY_MS} days")


def noticed_after(one: Incident, incident: monitors.Incident) -> int | None:
    """Milliseconds of the model's clock from the first bad day to the incident; None where that day is not known."""
    since = incident.evidence.get("since")
    return max(0, one.moment - since) if isinstance(since, int) else None


def decays(read: History) -> list[tuple[Incident, monitors.Incident]]:
    """Each time of the year that a model became worse."""
    of_year = {each.id: each for _, each in read.incidents()}
    return [(of_year[each.id], each) for each in read.decays if each.id in of_year]


def _late(read: History) -> Fact | None:
    found = decays(read)
    if not found:
        return None
    told = {one.id for one, _ in found}
    times: dict[int, list[int]] = {}
    """By the incident that told of it first, how long after its beginning each noticed it."""
    for one, incident in found:
        first = one.before if one.before in told else one.id
        after = noticed_after(one, incident)
        times.setdefault(first or one.id, []).extend([] if after is None else [after])
    known = [ms for each in times.values() for ms in each]
    slow = sum(max(each, default=0) > LATE_DAYS * DAY_MS for each in times.values())
    people = sum(each.reported and each.before is None for each, _ in found)
    longest = f"; at the latest after {lasting(max(known))}" if known else ""
    said = f"of {len(times)} times that a model became worse, {slow} were noticed after more than {LATE_DAYS} days and {people} by people first{longest}"
    return Fact(slow + people > 0, said)


def _several(read: History) -> Fact | None:
    counts = {of.name: len(read.people.get(of.name, ())) for of in [*read.live, *read.outside]}
    if not any(counts.values()):
        return None
    model = max(counts, key=lambda name: (counts[name], name))
    who = sorted(actor.removeprefix("person:") for actor in read.people[model])
    return Fact(even(counts[model]), f"in the ledger of {model}: {some(who)}")


def _hours(read: History) -> Fact | None:
    made = [each for of in read.models for each in year(of, of.deployments) if each.outside]
    told = [each.minutes / 60 for each in made if each.minutes is not None]
    if not told:
        return None
    number = "one deployment" if len(told) == 1 else f"{len(told)} deployments"
    return Fact((min(told), median(told), max(told)), f"{number} outside stead, as recorded by people")


def _review(read: History) -> Fact | None:
    """Minutes a week that people looked at what runs by itself, as far as that was measured or they said it."""
    found = [each for each in read.work if each.kind == "review" and each.source != "default"]
    span = max((min(YEAR_MS, of.clock.now - of.begun) for of in read.models if of.begun is not None), default=0)
    if not found or span < SHORTEST_MS:
        return None
    minutes, weeks = sum(each.minutes for each in found), span / (7 * DAY_MS)
    number = "one review" if len(found) == 1 else f"{len(found)} reviews"
    return Fact(even(round(minutes / weeks, 1)), f"{number} of {minutes:,.0f} min in {weeks:,.0f} weeks")
