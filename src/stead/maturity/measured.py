"""What stead measured itself, beside the business case: how long, by how many hands, who saw it first, and what it cost."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

from stead import predictions
from stead.config.units import lasting, some
from stead.maturity.case import span
from stead.maturity.clocks import DAY_MS
from stead.maturity.reading import GRACE
from stead.maturity.recorded import YEAR_MS, History, decays, loss_value, year
from stead.maturity.records import Deployed
from stead.maturity.rows import found_first
from stead.maturity.types import Case, Input, Measured
from stead.maturity.work import by_hand
from stead.store import Store

BEFORE_DAYS = 28
"""Days before the first bad one whose mean is the level that a loss is held against."""


def measured_of(store: Store, read: History, case: Case) -> list[Measured]:
    """The figures that there are records for, and for the others why there is none."""
    return [
        _trained_to_deployed(read),
        _by_hand(read),
        _saved(read, case.input("hours")),
        _found_first(read),
        _late_cost(store, read),
    ]


def _trained_to_deployed(read: History) -> Measured:
    name = "From trained to deployed"
    spans: list[int] = []
    for of in read.models:
        trained = {each.version: each.moment for each in of.versions}
        first: dict[int | None, Deployed] = {}
        for each in of.deployments:
            if not each.outside:
                first.setdefault(each.version, each)
        within = set(year(of, of.deployments))
        spans += [
            max(0, each.moment - trained[version])
            for version, each in first.items()
            if version in trained and each in within
        ]
    if not spans:
        return Measured(name, "–", "nothing was deployed within a year")
    said = f"median of {_number(len(spans), 'version')} of a year; the longest {lasting(max(spans))}"
    return Measured(name, lasting(int(median(spans))), said)


def _by_hand(read: History) -> Measured:
    name = "Work by hand for a deployment"
    made = [each for _, each in read.deployed()]
    if not made:
        return Measured(name, "–", "nothing was deployed within a year")
    spent = [each.minutes or 0.0 for each in made]
    numbers = {each.id for each in made}
    acts = [each for each in read.work if each.deployment in numbers]
    stated = sum(each.source == "default" for each in acts)
    said = f"median of {_number(len(made), 'deployment')} of a year, {sum(spent) / 60:,.1f} h in all"
    return Measured(
        name, f"{median(spent):,.0f} min", f"{said}; {stated:,} of {_number(len(acts), 'act')} at a stated time"
    )


def _saved(read: History, hours: Input) -> Measured:
    """Deployments that nobody touched, at the stated hours by hand, without all work by hand that there was in stead."""
    name = "Hours saved so far"
    made = [each for _, each in read.deployed()]
    if not made:
        return Measured(name, "–", "nothing was deployed within a year")
    free = [each for each in made if not each.minutes and not by_hand(each.by)]
    spent = sum(each.minutes for each in read.work) / 60
    worked = f"{spent:,.1f} h of work by hand within a year"
    if not free:
        return Measured(name, "–", f"none of {_number(len(made), 'deployment')} was made without hands; {worked}")
    low, high = (len(free) * end - spent for end in (hours.low, hours.high))
    of_each = span(hours.low, hours.high, "g")
    said = f"{len(free):,} of {_number(len(made), 'deployment')} without hands × {of_each} h ({hours.source}), less {worked}"
    return Measured(name, f"{span(low, high, ',.0f')} h".replace("-", "−"), said)


def _number(count: int, what: str) -> str:
    """
    >>> _number(1, "act"), _number(2, "act")
    ('1 act', '2 acts')
    """
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _found_first(read: History) -> Measured:
    name = "Found by a monitor before a user"
    found = [each for of in read.models for each in found_first(of, of.clock.now - YEAR_MS, of.clock.now + GRACE)]
    if not found:
        return Measured(name, "–", "no incident within a year")
    first = [each for each in found if each.good]
    return Measured(name, f"{len(first):,} of {len(found):,}", "incidents of a year")


class Decay(NamedTuple):
    """A time in which a model was worse, however many incidents told of it; milliseconds of its clock."""

    model: str
    since: int
    noticed: int
    mended: int


def spans_of(read: History) -> list[Decay]:
    """The decays of a year whose first bad day is known: incidents that overlap are one, noticed with the first of them."""
    found: list[Decay] = []
    known = [pair for pair in decays(read) if isinstance(pair[1].evidence.get("since"), int)]
    for placed, each in sorted(known, key=lambda pair: (pair[1].model, pair[1].evidence["since"])):
        now = read.records.models[each.model].clock.now
        one = Decay(each.model, each.evidence["since"], placed.moment, min(each.resolved_event_time or now, now))
        last = found[-1] if found else None
        if last is not None and last.model == one.model and one.since <= last.mended:
            noticed, mended = min(last.noticed, one.noticed), max(last.mended, one.mended)
            found[-1] = last._replace(noticed=noticed, mended=mended)
        else:
            found.append(one)
    return found


def _late_cost(store: Store, read: History) -> Measured:
    name = "Cost of decay until it was noticed"
    worth = {of.name: value for of in read.models if (value := loss_value(read, of)) is not None}
    if not worth:
        return Measured(name, "–", "no model has a value of its loss (loss_value in stead.toml)")
    found = [each for each in spans_of(read) if each.model in worth]
    if not found:
        return Measured(name, "–", f"no decay within a year of {some(sorted(worth))}")
    by_currency: dict[str, list[float]] = {}
    for each in found:
        sums = by_currency.setdefault(str(read.settings[each.model].get("currency") or ""), [0.0, 0.0])
        for place, cost in enumerate(_extra(store, each)):
            sums[place] += cost * worth[each.model]
    noticed, mended = (
        ", ".join(f"{sums[place]:,.0f} {currency}".strip() for currency, sums in sorted(by_currency.items()))
        for place in (0, 1)
    )
    said = f"loss above the level before × its value, {_number(len(found), 'decay')} of a year; {mended} until it was mended"
    return Measured(name, noticed.replace("-", "−"), said.replace(" -", " −"))


def _extra(store: Store, decay: Decay) -> tuple[float, float]:
    """Loss × weight above the level before, from the first bad day until it was noticed, and until it was mended."""
    first = decay.since // DAY_MS * DAY_MS
    days = predictions.performance(store, decay.model, since=first - BEFORE_DAYS * DAY_MS, until=decay.mended + 1)
    before = [each for each in days if each.day < first]
    weight = sum(each.weight_sum for each in before)
    if not weight:
        return 0.0, 0.0
    level = sum(each.loss_sum for each in before) / weight
    more = [(each.day, each.loss_sum - level * each.weight_sum) for each in days if each.day >= first]
    return sum(extra for day, extra in more if day < decay.noticed), sum(extra for _, extra in more)
