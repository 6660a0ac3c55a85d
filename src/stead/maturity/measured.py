"""What stead measured itself, beside the business case: how long, by how many hands, who saw it first, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from stead import predictions
from stead.config.units import lasting
from stead.maturity.clocks import DAY_MS
from stead.maturity.recorded import History, by_user, decays, noticed_after, some
from stead.maturity.types import Case, Measured
from stead.monitors import Incident
from stead.store import Store

BEFORE_DAYS = 28
"""Days before the first bad one whose mean is the level that a loss is held against."""


def measured_of(store: Store, read: History, case: Case) -> list[Measured]:
    """The figures that there are records for, and for the others why there is none."""
    return [_trained_to_deployed(read), _found_first(read), _late_cost(store, read)]


def _trained_to_deployed(read: History) -> Measured:
    name = "From trained to deployed"
    spans, seen = [], set()
    for each in read.deployed:
        ref = (each.model, each.version)
        if each.trained_at is not None and ref not in seen and read.within(each.model, each.at):
            spans.append(max(0, each.at - each.trained_at))
        seen.add(ref)
    if not spans:
        return Measured(name, "–", "nothing was deployed within a year")
    number = "one version" if len(spans) == 1 else f"{len(spans)} versions"
    return Measured(
        name, lasting(int(median(spans))), f"median of {number} of a year; the longest {lasting(max(spans))}"
    )


def _found_first(read: History) -> Measured:
    name = "Found by a monitor before a user"
    found = [each for each in read.incidents if read.within(each.model, each.event_time)]
    if not found:
        return Measured(name, "–", "no incident within a year")
    first = [each for each in found if not by_user(each) or _seen_before(each, found)]
    return Measured(name, f"{len(first)} of {len(found)}", "incidents of a year")


def _seen_before(reported: Incident, found: Sequence[Incident]) -> bool:
    """Whether a monitor had an incident of the same model open when a person reported one."""
    return any(
        not by_user(each)
        and each.model == reported.model
        and each.event_time <= reported.event_time
        and (each.resolved_event_time is None or each.resolved_event_time >= reported.event_time)
        for each in found
    )


def _late_cost(store: Store, read: History) -> Measured:
    name = "Cost of decay until it was noticed"
    valued = {model for model in read.clocks if read.settings.get(model, {}).get("loss_value") is not None}
    if not valued:
        return Measured(name, "–", "no model has a value of its loss (loss_value in stead.toml)")
    found = [each for each in decays(read) if each.model in valued and noticed_after(each) is not None]
    if not found:
        return Measured(name, "–", f"no decay within a year of {some(sorted(valued))}")
    by_currency: dict[str, list[float]] = {}
    for each in found:
        settings = read.settings[each.model]
        noticed, mended = (cost * float(settings["loss_value"]) for cost in _extra(store, read, each))
        sums = by_currency.setdefault(str(settings.get("currency") or ""), [0.0, 0.0])
        sums[0], sums[1] = sums[0] + noticed, sums[1] + mended
    value = ", ".join(f"{noticed:,.0f} {currency}".strip() for currency, (noticed, _) in sorted(by_currency.items()))
    later = ", ".join(f"{mended:,.0f} {currency}".strip() for currency, (_, mended) in sorted(by_currency.items()))
    number = "one decay" if len(found) == 1 else f"{len(found)} decays"
    return Measured(
        name, value, f"loss above the level before × its value, {number} of a year; {later} until it was mended"
    )


def _extra(store: Store, read: History, incident: Incident) -> tuple[float, float]:
    """Loss × weight above the level before, from the first bad day until it was noticed, and until it was mended."""
    since = int(incident.evidence["since"])
    mended = incident.resolved_event_time or read.clocks[incident.model].now
    days = predictions.performance(store, incident.model, since=since - BEFORE_DAYS * DAY_MS, until=mended + 1)
    before = [each for each in days if each.day < since]
    weight = sum(each.weight_sum for each in before)
    if not weight:
        return 0.0, 0.0
    level = sum(each.loss_sum for each in before) / weight
    more = [(each.day, each.loss_sum - level * each.weight_sum) for each in days if each.day >= since]
    return sum(extra for day, extra in more if day < incident.event_time), sum(extra for _, extra in more)
