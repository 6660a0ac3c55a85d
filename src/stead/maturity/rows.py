"""The rows behind each check: from one model's records and a window to what is counted. All are pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from stead.config.units import lasting, percent
from stead.maturity.clocks import DAY_MS
from stead.maturity.records import AUTOMATIC, Decision, Deployed, OfModel, Version
from stead.maturity.types import Row

LABELLED = 0.5
"""Share of the rows whose labels must have come."""
ASLEEP = 8 * DAY_MS
"""A day is looked at when it is over: its look is younger than 7 days where it began at most 8 days ago."""
KINDS = {"retrain": "retraining.begun", "promote": "route.changed"}
MISSING = ("feature", "budget", "retire")
"""Kinds of decisions that stead does not take yet."""
SOME_DAYS = 28


def recorded(of: OfModel, since: int, until: int) -> list[Row]:
    """Versions, and whether code, data and environment of each are known."""
    return [
        _version(of, each, not each.lacks, f"{' and '.join(each.lacks)} not recorded" if each.lacks else "code, data, environment")
        for each in of.versions.within(since, until)
    ]  # fmt: skip


def registered(of: OfModel, since: int, until: int) -> list[Row]:
    """What answers now, and whether it is a version of the registry."""
    known = {each.version for each in of.versions}
    return [
        _deployment(of, each, each.version in known, f"answers from {each.place}" if each.outside else "answers")
        for each in of.live_at(until)
    ]


def reproduced(of: OfModel, since: int, until: int) -> list[Row]:
    """Versions that were made again, the last time of each, and whether the same came out."""
    last = {each.version: each for each in of.again.within(since, until)}
    return [
        _row(of, f"{of.name}@{each.version}", f"made again: {each.verdict}", _at(of, each.version), each.moment,
            each.verdict in ("identical", "tolerance"))
        for each in last.values()
    ]  # fmt: skip


def owned(of: OfModel, since: int, until: int) -> list[Row]:
    """The model, where it answers, and whether somebody owns it."""
    if not of.live_at(until):
        return []
    return [_model(of, until, bool(of.owner), f"owner {of.owner}" if of.owner else "nobody owns it")]


def trained(of: OfModel, since: int, until: int) -> list[Row]:
    """Versions, and whether a pipeline of stead trained each."""
    return [
        _version(of, each, each.job is not None, "trained by stead" if each.job else "brought by hand")
        for each in of.versions.within(since, until)
    ]


def piped(of: OfModel, since: int, until: int) -> list[Row]:
    """Deployments, and whether stead made each: loaded, checked, switched."""
    return [
        _deployment(of, each, not each.outside, f"outside stead, to {each.place}" if each.outside else f"by stead, asked for by {_who(each.by)}")
        for each in _changes(of, since, until)
    ]  # fmt: skip


def handmade(of: OfModel, since: int, until: int) -> list[Row]:
    """Deployments of which it is known how many minutes people worked on them."""
    return [
        _deployment(of, each, each.minutes <= 30, f"{each.minutes:.3g} min by hand", each.minutes)
        for each in _changes(of, since, until)
        if each.minutes is not None
    ]


def watched(of: OfModel, since: int, until: int) -> list[Row]:
    """The model, where it answers, and whether a monitor has looked in the last week."""
    if not of.live_at(until):
        return []
    place = bisect_right(of.looked, until)
    days = of.looked[place - 1] if place else None
    last = max((each for each in (days, of.watched) if each is not None and each <= until), default=None)
    said = "no monitor has looked" if last is None else f"a monitor looked {lasting(max(until - last, 0))} ago"
    return [_model(of, last, last is not None and last > until - ASLEEP, said)]


def returned(of: OfModel, since: int, until: int) -> list[Row]:
    """Roll-backs, canaries that were taken back, and drills."""
    real = [
        each for each in of.decisions.within(since, until) if each.action in ("route.rolled_back", "deployment.aborted")
    ]
    drilled = of.drills.within(since, until)
    return [_decision(of, each, True) for each in real] + [_decision(of, each, each.worked) for each in drilled]


def by_person(of: OfModel, since: int, until: int) -> list[Row]:
    """Deployments; what a person asked for or approved counts against it."""
    return [
        _deployment(of, each, each.by not in AUTOMATIC, f"outside stead, by {_who(each.by)}" if each.outside else f"asked for by {_who(each.by)}")
        for each in _changes(of, since, until)
    ]  # fmt: skip


def gated(of: OfModel, since: int, until: int) -> list[Row]:
    """Versions, and whether a gate has said yes or no to each."""
    return [
        _version(of, each, each.gated is not None and each.gated <= until, "judged by a gate" if each.gated else "no gate judged it")
        for each in of.versions.within(since, until)
    ]  # fmt: skip


def refused(of: OfModel, since: int, until: int) -> list[Row]:
    """What gates said no to."""
    return [
        _row(of, f"{of.name}@{each.version}", each.said, _at(of, each.version), each.moment, True)
        for each in of.refusals.within(since, until)
    ]


def triggered(of: OfModel, since: int, until: int) -> list[Row]:
    """Versions that came after the first one answered, and whether a signal began their training."""
    begun = of.begun
    found = []
    for each in of.versions.within(since, until):
        if begun is not None and each.moment > begun:
            by_itself = each.trigger not in ("", "person")
            said = f"trained because of {each.trigger}" if by_itself else "a person began it"
            found.append(_version(of, each, by_itself, said))
    return found


def labelled(of: OfModel, since: int, until: int) -> list[Row]:
    """The model, where it answers, and whether labels come for half of its rows, or its loss is estimated without."""
    if not of.live_at(until):
        return []
    days = of.days.within(since - of.delay, until - of.delay - DAY_MS)
    rows = sum(day.predictions for day in days)
    share = sum(day.labelled for day in days) / rows if rows else None
    if share is not None and share >= LABELLED:
        return [_model(of, until, True, f"labels of {percent(share, 0)} of {rows:,} rows")]
    place = bisect_right(of.estimated, until)
    last = of.estimated[place - 1] if place else None
    if last is not None and last > until - SOME_DAYS * DAY_MS:
        return [_model(of, until, True, "its loss is estimated without labels")]
    return [
        _model(
            of,
            until,
            False,
            "no rows of which labels are due" if share is None else f"labels of {percent(share, 0)} of {rows:,} rows",
        )
    ]


def found_first(of: OfModel, since: int, until: int) -> list[Row]:
    """What people were told of, or told: a monitor's page, or a user's report that no page of a monitor had come before."""
    found = []
    for each in of.incidents.within(since, until):
        if each.page and each.before is None:
            said = f"reported by {_who(each.by)}" if each.reported else "found by a monitor"
            href = f"/incidents/{each.id}"
            found.append(_row(of, f"incident {each.id}", f"{said}: {each.said}", href, each.moment, not each.reported))
    return found


def quiet(of: OfModel, since: int, until: int) -> list[Row]:
    """The model, where it answers and nothing happened: whether monitors looked on most of the days on which it was asked."""
    if not of.live_at(until):
        return []
    asked, looks = len(of.days.within(since, until)), of.looks(since, until)
    return [
        _model(
            of, until, 0 < asked < 2 * looks, f"no incident; monitors looked on {looks} of {asked} days with requests"
        )
    ]


def waited(of: OfModel, since: int, until: int) -> list[Row]:
    """Deployments, and how many days their version had waited until it first answered."""
    made = {each.version: each.moment for each in of.versions}
    seen: set[int | None] = set()
    found = []
    for each in of.deployments.within(since, until):
        if each.back or each.version in seen or each.version not in made:
            continue
        seen.add(each.version)
        days = max(each.moment - made[each.version], 0) / DAY_MS
        found.append(
            _deployment(
                of,
                each,
                days <= 1,
                f"waited {lasting(round(days * DAY_MS))}" if days * 1440 >= 1 else "answered within a minute",
                days,
            )
        )
    return found


def failed(of: OfModel, since: int, until: int) -> list[Row]:
    """Deployments that took over; those from which one went back, or that later rows judge wrong, count against it."""
    found = []
    for each in _changes(of, since, until):
        if each.live is None and not each.outside:
            continue  # a canary that was taken back: its guard did what it is for
        back = each.rolled_back and each.ended is not None and each.ended <= until
        wrong = each.wrong is not None and each.wrong <= until
        said = "rolled back" if back else "judged wrong by later rows" if wrong else "stood"
        found.append(_deployment(of, each, back or wrong, said))
    return found


def by_policy(of: OfModel, since: int, until: int) -> list[Row]:
    """Trainings, promotions and roll-backs, and whether a policy decided each."""
    found = [
        _decision(of, each, each.by in AUTOMATIC)
        for each in of.decisions.within(since, until)
        if each.action != "retraining.begun"
    ]
    return found + triggered(of, since, until)


def kinds(of: OfModel, since: int, until: int) -> list[Row]:
    """Kinds of decisions, and whether a policy took one of each."""
    taken = {each.action: each for each in _automatic(of, since, until)}
    if not taken:
        return []
    found = []
    for kind, action in KINDS.items():
        one = taken.get(action)
        said = one.said if one is not None else "no policy decided it"
        found.append(
            Row("", kind, said, _entry(of, one.id) if one else "", one.moment if one else None, one is not None)
        )
    return found + [Row("", kind, "stead has no policy for it yet", "", None, False) for kind in MISSING]


def founded(of: OfModel, since: int, until: int) -> list[Row]:
    """Decisions by policy, and whether each names its evidence, its policy with the bounds, and the way back."""
    found = []
    for each in _automatic(of, since, until):
        lacks = {"evidence": each.founded, "a way back": each.reversible, "a policy with its bounds": bool(each.policy)}
        gone = [what for what, there in lacks.items() if not there]
        found.append(_decision(of, each, not gone, f"without {' and '.join(gone)}" if gone else ""))
    return found


def tried(of: OfModel, since: int, until: int) -> list[Row]:
    """The policy in force, where it has decided something, and whether a backtest came before its first decision."""
    if of.policy is None:
        return []
    number, pushed = of.policy
    under = [
        each.wall
        for each in of.decisions
        if each.policy == f"{of.name} {number}" and each.by in AUTOMATIC and each.wall <= until
    ]
    if not under:
        return []
    test = of.backtests.last(min(under))
    said = f"used since; {'a backtest came before' if test else 'no backtest came before'}"
    href = f"/jobs/{test.job}" if test else f"/models/{of.name}"
    return [_row(of, f"policy {of.name} {number}", said, href, pushed, test is not None)]


def overridden(of: OfModel, since: int, until: int) -> list[Row]:
    """Decisions by policy; what a person took back, and gates that a person overrode, count against it."""
    found = []
    for each in _automatic(of, since, until):
        back = each.undone is not None and each.undone[0] <= until and each.undone[1] not in AUTOMATIC
        found.append(_decision(of, each, back, f"taken back by {_who(each.undone[1])}" if back and each.undone else ""))
    return found + [_decision(of, each, True) for each in of.rejected.within(since, until) if each.by not in AUTOMATIC]


def judged_wrong(of: OfModel, since: int, until: int) -> list[Row]:
    """Decisions by policy whose judgement stands; the wrong ones count against it."""
    return [
        _decision(of, each, each.judged[1] == "wrong", f"judged {each.judged[1]}: {each.judged[2]}")
        for each in _automatic(of, since, until)
        if each.judged is not None and each.judged[0] <= until
    ]


def stopped(of: OfModel, since: int, until: int) -> list[Row]:
    """Drills of the emergency stop, of this model or of all of them."""
    return [
        Row("", f"decision {each.id}", each.said, f"/decisions#d{each.id}", each.wall, each.worked)
        for each in of.stops.within(since, until)
    ]


def live(of: OfModel, since: int, until: int) -> list[Row]:
    """The model, where it answers."""
    answering = of.live_at(until)
    return [_model(of, until, True, f"answers by {_place(answering[0])}")] if answering else []


def _changes(of: OfModel, since: int, until: int) -> Iterable[Deployed]:
    """Deployments of a window that were to bring something new."""
    return (each for each in of.deployments.within(since, until) if not each.back)


def _automatic(of: OfModel, since: int, until: int) -> Iterable[Decision]:
    return (each for each in of.decisions.within(since, until) if each.by in AUTOMATIC)


def _who(actor: str) -> str:
    return "stead" if actor in AUTOMATIC else actor.removeprefix("person:").removeprefix("user:")


def _place(each: Deployed) -> str:
    return f"outside deployment {each.id}" if each.outside else f"deployment {each.id}"


def _at(of: OfModel, version: int) -> str:
    return f"/models/{of.name}/versions/{version}"


def _entry(of: OfModel, number: int) -> str:
    return f"/decisions?model={of.name}#d{number}"


def _row(
    of: OfModel, subject: str, said: str, href: str, moment: int | None, good: bool, value: float | None = None
) -> Row:
    return Row(of.name, subject, said, href, moment, good, value, of.weight)


def _model(of: OfModel, moment: int | None, good: bool, said: str) -> Row:
    href = f"/models/{of.name}" if of.registered else "/deployments"
    return _row(of, of.name, said, href, moment, good)


def _version(of: OfModel, each: Version, good: bool, said: str) -> Row:
    return _row(of, f"{of.name}@{each.version}", said, _at(of, each.version), each.moment, good)


def _deployment(of: OfModel, each: Deployed, good: bool, said: str, value: float | None = None) -> Row:
    ref = f"{of.name}@{each.version}" if each.version is not None else f"{of.name}, a version of no registry"
    href = "/deployments" if each.outside else f"/deployments/{each.id}"
    return _row(of, _place(each), f"{ref}: {said}", href, each.moment, good, value)


def _decision(of: OfModel, each: Decision, good: bool, said: str = "") -> Row:
    about = each.said + (f"; {said}" if said else "")
    return _row(of, f"decision {each.id}", about, _entry(of, each.id), each.moment, good)
