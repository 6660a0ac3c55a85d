"""Asking where a team stands: all of it, one check with the rows behind it, and keeping the months that are over."""

from __future__ import annotations

from collections.abc import Sequence

from stead.errors import InvalidInput, NotFound, did_you_mean
from stead.maturity import advice, history
from stead.maturity.checks import named
from stead.maturity.clocks import DAY_MS
from stead.maturity.figures import Member, looked, spoken
from stead.maturity.history import month_of
from stead.maturity.reading import LOOK_BACK, load
from stead.maturity.records import Records
from stead.maturity.staging import members_of, stage_of_model, stage_of_team
from stead.maturity.types import Checked, Figure, Maturity, Month, Stage
from stead.runtime.clock import checked_ms, now_ms, to_iso
from stead.store import Store

WINDOW = 90 * DAY_MS
FIGURES = {
    "hand-work": "Hand work a deployment",
    "waited": "Trained to first answer",
    "found-first": "Found before a user",
    "failed": "Failed in service",
}
SHOWN_MONTHS = 1000
"""So many months of models are computed for one answer; what is more the agent keeps once a day."""
TOGETHER = 500
"""So many months are computed by one turn of the loop: two seconds."""
SOON = 600_000


def assess(store: Store, *, model: str | None = None, at: int | None = None) -> Maturity:
    """Where the team and its models stand, from the records of the last 90 days of each one's own clock, and what the next step is.

    With `model` the answer is about that one. `at` looks back: at records up to that moment, milliseconds, by the wall clock or,
    where a model lives in a replay, by its own. Raises NotFound (`model-unknown`), InvalidInput (`moment-ahead`).
    """
    looks_back = at is not None
    records, at = _read(store, at)
    kept = history.kept(store)
    wanted = {name: [m for m in months if m <= month_of(at)] for name, months in history.wanted(records).items()}
    missing = {name: [m for m in months if (name, m) not in kept] for name, months in wanted.items()}
    count = sum(map(len, missing.values()))
    if 0 < count <= SHOWN_MONTHS:
        records = load(store, since=min(history.reaching(missing) or at, at - LOOK_BACK))
        kept |= {(stage.model, month): stage.stage for month, stage in history.made(records, missing)}
    members = _known(records, members_of(records, at), model)
    stages = [stage_of_model(member) for member in members]
    team = stage_of_team(members, at, stages)
    past = history.before(kept, [team, *stages])
    team, *stages = history.dated([team, *stages], past)
    fit = advice.fit_of(members, team, past=looks_back)
    about = next((stage for stage in stages if stage.model == model), team)
    steps = advice.steps_of_model(about) if model else advice.steps_of(team, stages, fit)
    present = [Month(stage.model, month_of(stage.now), stage.stage) for stage in (team, *stages)]
    return Maturity(
        at=at, team=team, models=[about] if model else stages, verdict=advice.verdict(about, members, fit, steps), steps=steps,
        only=advice.only(about), fit=fit, history=[m for m in (*past, *present) if model is None or m.model in ("", model)],
        figures=_figures(records, members, at, about), notes=_notes(members, about, count if count > SHOWN_MONTHS else 0),
    )  # fmt: skip


def check_rows(store: Store, check: str, *, model: str | None = None, at: int | None = None) -> Checked:
    """One check with the rows that it rests on, newest first, of the team or of a model.

    Raises NotFound (`check-unknown`, `model-unknown`), InvalidInput (`moment-ahead`, `check-of-team`).
    """
    asked = named(check)
    if asked.team and model is not None:
        raise InvalidInput(
            "check-of-team", f"{check} is asked of the team, not of a model", hint=f"stead maturity --check {check}"
        )
    records, at = _read(store, at)
    members = _known(records, members_of(records, at), model)
    about = [member for member in members if model in (None, member.of.name)]
    stage = (
        stage_of_model(about[0]) if model else stage_of_team(members, at, [stage_of_model(each) for each in members])
    )
    rows = looked(asked, about)[1]
    result = next(each for each in stage.checks if each.check == check)
    return Checked(result, model or "", sorted(rows, key=lambda row: (-(row.moment or 0), row.model, row.subject)))


def keep_month(store: Store, *, again: bool = False, most: int | None = None) -> int:
    """Keep the stages of the months that are over, of each model and of the team, and return how many were new.

    What is kept stays, so that pruning its records takes no history away; with `again` all that the records still tell is
    computed anew. With `most` the newest so many, about: the rest the next time.
    """
    records = load(store)
    wanted = history.wanted(records)
    known = {} if again else history.kept(store)
    missing = {name: [month for month in months if (name, month) not in known] for name, months in wanted.items()}
    if most is not None:
        missing = history.newest(missing, most)
    since = history.reaching(missing)
    if since is None:
        return 0
    stages = list(history.made(load(store, since=since), missing))
    history.keep(store, stages, again=again)
    return len(stages)


_next: dict[str, int] = {}
"""By database, when this process looks the next time whether months are over."""


def keep_daily(store: Store) -> int:
    """`keep_month`, once a day in a process, and a part of it each ten minutes while there is much: the loop calls it with each turn."""
    now = now_ms()
    if 0 < _next.get(store.db.url, 0) - now <= DAY_MS:
        return 0
    _next[store.db.url] = now + DAY_MS  # also where it fails
    new = keep_month(store, most=TOGETHER)
    if new >= TOGETHER:
        _next[store.db.url] = now + SOON
    return new


def _read(store: Store, at: int | None) -> tuple[Records, int]:
    now = now_ms()
    if at is not None and at > now:
        raise InvalidInput("moment-ahead", f"{to_iso(at)} is not over yet", hint="--at takes a time that has passed")
    if at is not None:
        checked_ms(at)
    records = load(store, since=None if at is None else at - LOOK_BACK)
    return records, records.now if at is None else at


def _known(records: Records, members: list[Member], model: str | None) -> list[Member]:
    if model is None or any(member.of.name == model for member in members):
        return members
    if model in records.models:
        raise NotFound(
            "model-unknown", f"{model} was not there yet at that time", hint=f"stead models show {model}", model=model
        )
    hint = did_you_mean(model, records.models) or "stead models list"
    raise NotFound("model-unknown", f"there is no model {model!r}", hint=hint, model=model)


def _figures(records: Records, members: Sequence[Member], at: int, about: Stage) -> list[Figure]:
    """Some of the checks' figures, now and a window before."""
    chosen = [member for member in members if about.model in ("", member.of.name)]
    before = [member for member in members_of(records, at - WINDOW) if about.model in ("", member.of.name)]
    if chosen and all(
        member.of.clock.pairs for member in chosen
    ):  # a replay passed its months in minutes: go back on its own clock
        before = [Member(m.of, m.at - WINDOW, m.wall) for m in chosen]
    names = {member.of.name for member in chosen}
    hours = [_hours(records, [m for m in some if m.of.name in names]) for some in (chosen, before)]
    found = [Figure("Hand work, a week", f"{hours[0]:.1f} h", f"was {hours[1]:.1f} h" if hours[1] else "")]
    for name, title in FIGURES.items():
        check = named(name)
        now, then = looked(check, chosen)[0], looked(check, before)[0]
        was = "" if then.value is None else f", was {spoken(check, then.value)}"
        rows = f"{now.good} of {now.rows}" if check.kind in ("share", "most") else f"median of {now.rows}"
        told = now.value is not None
        value = spoken(check, now.value) if now.value is not None else "–"
        found.append(Figure(title, value, f"{rows}{was}" if told else f"{now.said}{was}"))
    return found


def _hours(records: Records, members: Sequence[Member]) -> float:
    """Of work by hand a week, over the window of each model."""
    until = {member.of.name: member.at for member in members}
    spent = (w.minutes for w in records.work if w.model in until and 0 <= until[w.model] - w.moment < WINDOW)
    return sum(spent) / 60 / (WINDOW / (7 * DAY_MS))


def _notes(members: Sequence[Member], about: Stage, months: int) -> list[str]:
    """What is not counted, or could not be told."""
    found = []
    if about.left_out:
        count = f"{about.left_out} {'record lies' if about.left_out == 1 else 'records lie'}"
        found.append(
            f"{count} after the clock of what it is about, and {'is' if about.left_out == 1 else 'are'} not counted: a clock was set back, or set wrong."
        )
    told = [m for m in members if m.of.clock.pairs and about.model in ("", m.of.name)]
    found += [f"{m.of.name} is told as of {to_iso(m.at)[:10]}, {m.of.clock.as_of}." for m in told]
    if any(not each.sure for each in about.checks if each.met and each.stage <= about.stage) and about.recorded:
        found.append("It rests on few rows: the interval of a check reaches beyond its bound. More of them will say.")
    if months:
        found.append(f"{months} months of history are not computed yet: the agent keeps them once a day (stead up).")
    if about.model:
        found.append(
            "Three checks are asked of the team alone: a refusal by a gate, the kinds of decisions, a hundred live models."
        )
    return found
