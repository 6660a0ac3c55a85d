"""What the demo's records say: error by quarter beside yardsticks, what each level changed, what became of the bad version."""

from __future__ import annotations

import statistics
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from stead.config.units import percent
from stead.demo import spread
from stead.demo.told import Told
from stead.deployments.evidence import OWN_TOLERANCE
from stead.maturity.inputs import DEFAULTS
from stead.runtime.clock import to_ms

DAY = 86_400_000
EIGHTHS = " ▏▎▍▌▋▊▉█"
LEAST_ROWS = 30
BY_LOSS = ("loss", "own")
"""Guards that look at the labelled loss: against the champion, and against the version's own offline result."""


ACTING = "2013 Q1"
"""The first quarter in which stead trains: before it, at `record`, nobody acts."""


@dataclass
class Quarter:
    """Loss in one quarter: of what answered, of version 1 left alone, of a new version every month without a gate."""

    name: str
    weight: float = 0.0
    system_sum: float = 0.0
    once_sum: float = 0.0
    monthly_sum: float = 0.0
    yard_weight: float = 0.0

    @property
    def system(self) -> float | None:
        return self.system_sum / self.weight if self.weight else None

    @property
    def once(self) -> float | None:
        return self.once_sum / self.yard_weight if self.yard_weight else None

    @property
    def monthly(self) -> float | None:
        return self.monthly_sum / self.yard_weight if self.yard_weight else None


def quarters(told: Told) -> list[Quarter]:
    """Quarters in order, the whole time last."""
    found: dict[str, Quarter] = {}
    whole = Quarter("in all")
    for day in told.days:
        for each in (_quarter(found, day["day"]), whole):
            each.weight += day["weight_sum"]
            each.system_sum += day["loss_sum"]
    for period in told.backtest.get("periods", ()):
        for each in (_quarter(found, period["start"]), whole):
            each.yard_weight += period["weight"]
            each.once_sum += period["once"]
            each.monthly_sum += period["again"]
    return [*(found[name] for name in sorted(found)), whole]


def _quarter(found: dict[str, Quarter], moment: int) -> Quarter:
    date = datetime.fromtimestamp(moment / 1000, UTC)
    name = f"{date.year} Q{(date.month + 2) // 3}"
    return found.setdefault(name, Quarter(name))


def totals(told: Told) -> dict[str, int]:
    """Sent, answered, logged, labelled, failed."""
    return {
        "sent": sum(r["sent"] for r in told.replays),
        "answered": sum(r["answered"] for r in told.replays),
        "logged": sum(day["predictions"] for day in told.days),
        "labelled": sum(day["labelled"] for day in told.days),
        "failed": sum(r["failed"] for r in told.replays),
    }


@dataclass
class Stage:
    """What one stage of maturity was like, in the model's own time."""

    name: str
    since: int
    until: int
    loss: float | None
    acts: list[str]
    """Commands that a person gave."""
    once: float | None = None
    """What version 1 left alone lost in the same time."""
    hours: float = 0.0
    """By hand: measured, or a stated time a command."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Trainings that stead began, by trigger."""
    refused: list[str] = field(default_factory=list)
    """What gates, guards and people kept from taking over."""
    took_over: int = 0
    incidents: list[dict[str, Any]] = field(default_factory=list)
    """Those that people are told of because the loss rose."""
    notice: float | None = None
    """Days from the first bad day to the incident, the median."""
    mend: float | None = None
    """Days from the incident to a version that was trained after it, the median; later stages count."""
    turn: float | None = None
    """Days from a reason to train to the new champion, the median."""
    failed: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    """Judgements of stead's decisions by the rows that came after."""


def stages(told: Told) -> list[Stage]:
    """The stages of the story, in order."""
    made = [_stage(told, each) for each in told.stages if each.get("until")]
    return [stage for stage in made if stage is not None]


def _stage(told: Told, each: dict[str, Any]) -> Stage:
    since, until = to_ms(each["since"]), to_ms(each["until"])
    days = [day for day in told.days if since <= day["day"] < until]
    weight = sum(day["weight_sum"] for day in days)
    stage = Stage(
        name=each["stage"],
        since=since,
        until=until,
        loss=sum(day["loss_sum"] for day in days) / weight if weight else None,
        acts=[act.command for act in told.acts if act.stage == each["stage"]],
        failed=sum(r["failed"] for r in told.replays if since <= to_ms(r["since"]) < until),
        hours=sum(each["minutes"] for each in told.work if since <= each["moment"] < until) / 60,
    )
    alone = [period for period in told.backtest.get("periods", ()) if _within(period["start"], stage)]
    if lost := sum(period["weight"] for period in alone):
        stage.once = sum(period["once"] for period in alone) / lost
    began = [r for r in told.retrainings if r["trigger"] != "person" and _within(r["event_time"], stage)]
    moves = {
        entry["evidence"].get("deployment"): entry for entry in told.decisions if entry["action"] == "route.changed"
    }
    stage.reasons.update(r["trigger"] for r in began)
    stage.refused = [_refusal(r) for r in began if r["state"] in ("refused", "rejected", "failed")]
    turns = [moves[r["deployment"]]["event_time"] - r["event_time"] for r in began if _moved(moves, r["deployment"])]
    stage.took_over, stage.turn = len(turns), _days(turns)
    stage.incidents = [
        i
        for i in told.incidents
        if i["kind"] == "performance" and i["severity"] == "page" and _within(i["event_time"], stage)
    ]
    stage.notice = _days(i["event_time"] - i["evidence"].get("since", i["event_time"]) for i in stage.incidents)
    later = sorted(entry["event_time"] for entry in moves.values() if entry["event_time"])
    mended = [next((at for at in later if at > i["event_time"]), None) for i in stage.incidents]
    stage.mend = _days(at - i["event_time"] for at, i in zip(mended, stage.incidents, strict=True) if at is not None)
    judged = [e["judgement"] for e in told.decisions if e["judgement"] and _within(e["judgement"]["since"], stage)]
    stage.verdicts.update(judgement["verdict"] or "undecided" for judgement in judged)
    return stage


def _within(moment: int | None, stage: Stage) -> bool:
    return moment is not None and stage.since <= moment < stage.until


def _moved(moves: dict[Any, dict[str, Any]], deployment: int | None) -> bool:
    return deployment in moves and moves[deployment]["event_time"] is not None


def _refusal(retraining: dict[str, Any]) -> str:
    said = (retraining["error"] or {}).get("message") or retraining["decision_reason"] or ""
    return f"v{retraining['version']} {retraining['state']}: {said}" if retraining["version"] else said


def _days(spans: Iterable[int]) -> float | None:
    known = list(spans)
    return statistics.median(known) / DAY if known else None


@dataclass(frozen=True)
class Bad:
    """The bad version's canary, as it ended."""

    version: int
    state: str
    guard: str
    said: str
    rows: int
    """Labelled rows that both versions scored, and those of them that it answered."""
    answered: int
    days: float
    """Of event time, from its first answer to its last."""
    champion: float | None
    lost: float | None
    offline: float | None
    """Its result in its own hold-out by time, and by how much its loss is beyond what that allows: the low end of the interval."""
    beyond: float | None
    cost: float
    """Loss on the rows that it answered beyond what the champion lost on the same rows, in the unit of the target."""
    cost_share: float
    """The same as a share of the year's loss."""


def bad(told: Told) -> Bad | None:
    """What the canary of the bad version found; None where it came to none."""
    deployment = told.bad
    seen = deployment.get("evidence") or {}
    if not deployment.get("shares") or not seen:
        return None
    version = deployment["version"]
    begun = deployment["shares"][0]["event_time"]
    mine = [day for day in told.days if day["version"] == version]
    weight, lost = sum(day["weight_sum"] for day in mine), sum(day["loss_sum"] for day in mine)
    cost = lost - (seen.get("first_loss") or 0.0) * weight
    year = sum(day["loss_sum"] for day in told.days if day["day"] >= to_ms("2014-01-01"))
    decision = seen.get("decision") or {}
    return Bad(
        version=version,
        state=deployment["state"],
        guard=decision.get("guard") or "",
        said=decision.get("said") or "",
        rows=seen.get("rows", 0),
        answered=seen.get("arm_rows", 0),
        days=(max((day["day"] for day in mine), default=begun // DAY * DAY) - begun // DAY * DAY) / DAY + 1,
        champion=seen.get("first_loss"),
        lost=seen.get("second_loss"),
        offline=seen.get("offline"),
        beyond=(seen.get("own") or {}).get("low"),
        cost=cost,
        cost_share=cost / year if year else 0.0,
    )


def against(told: Told) -> list[str]:
    """The system beside its yardsticks, in sentences."""
    whole = quarters(told)[-1]
    out = []
    if whole.system is not None and whole.once and whole.monthly:
        out.append(f"It lost {_less(whole.system, whole.once)} version 1 left alone ({whole.once:.3f}) would have.")
        out.append(
            f"It lost {_less(whole.system, whole.monthly)} a new version every month without any gate ({whole.monthly:.3f})."
        )
    acting = _together([q for q in quarters(told)[:-1] if q.name >= ACTING])
    if acting.system is not None and acting.monthly:
        out.append(
            f"In {ACTING[:4]} and after, when it was let act: {acting.system:.3f}, {_less(acting.system, acting.monthly)} every month ({acting.monthly:.3f})."
        )
    return out


def _together(some: Sequence[Quarter]) -> Quarter:
    sums = ("weight", "system_sum", "once_sum", "monthly_sum", "yard_weight")
    return Quarter("together", **{name: sum(getattr(q, name) for q in some) for name in sums})


def _less(mine: float, other: float) -> str:
    gap = mine / other - 1
    if abs(gap) < 0.005:
        return "as much as"
    return f"{percent(abs(gap), 0)} {'less' if gap < 0 else 'more'} than"


def lines(told: Told) -> list[str]:
    """The summary for the terminal."""
    found = quarters(told)
    top = max((loss for q in found for loss in (q.system, q.once) if loss is not None), default=1.0)
    out = [
        "",
        "Summary",
        "",
        "Error (WAPE) by quarter: the system, version 1 left alone, a new version every month without a gate",
    ]
    for q in found:
        figures = "  ".join("    –" if loss is None else f"{loss:5.3f}" for loss in (q.system, q.once, q.monthly))
        out.append(f"  {q.name:8} {figures}  {_bar((q.system or 0.0) / top, 40)}")
    out += [f"  {text}" for text in (*against(told), *textwrap.wrap(spread.load().said(), 110, break_on_hyphens=False))]
    out += ["", "What each level changed, in hours and in loss:", *_table(stages(told))]
    out += [f"  {text}" for text in changes(told)]
    out += ["", *(f"refused, {stage.name}: {text}" for stage in stages(told) for text in stage.refused)]
    out += ["", *_bad_lines(told), ""]
    counts = totals(told)
    names = ("sent", "answered", "logged", "labelled")
    equal = len({counts[name] for name in names}) == 1
    said = (" = " if equal else ", ").join(f"{name} {counts[name]:,}" for name in names)
    out.append(f"requests: {said}" + ("" if equal else "  ← these should be equal"))
    out.append(f"failed: {counts['failed']}")
    out += ["", "What each step took:"]
    out += [f"  {seconds:6.1f} s  {name}" for name, seconds in told.seconds.items()]
    return out


ROWS: Sequence[tuple[str, Any]] = (
    ("error", lambda s: None if s.loss is None else f"{s.loss:.3f}"),
    ("error of version 1 left alone", lambda s: None if s.once is None else f"{s.once:.3f}"),
    ("commands by hand", lambda s: str(len(s.acts))),
    ("hours by hand", lambda s: f"{s.hours:.1f}"),
    ("hours of the same without stead", lambda s: _without(s) if s.took_over else None),
    ("trained by stead", lambda s: _counted(s.reasons) or "0"),
    ("kept from taking over", lambda s: str(len(s.refused))),
    ("new champions", lambda s: str(s.took_over)),
    ("incidents of the loss", lambda s: str(len(s.incidents))),
    ("days to notice", lambda s: None if s.notice is None else f"{s.notice:.0f}"),
    ("days from incident to mend", lambda s: None if s.mend is None else f"{s.mend:.0f}"),
    ("days from reason to champion", lambda s: None if s.turn is None else f"{s.turn:.0f}"),
    ("failed requests", lambda s: str(s.failed)),
    ("decisions judged", lambda s: _counted(s.verdicts) or None),
)
"""What the table of stages shows: a name, and its words for a stage; None where there was no such thing."""


def _without(stage: Stage) -> str:
    """What the new champions would take by hand, at the hours of the business case."""
    low, _, high = DEFAULTS["hours"][0]
    return f"{low * stage.took_over:g} to {high * stage.took_over:g}"


def changes(told: Told) -> list[str]:
    """What each level changed, in sentences: loss, and hours by hand; and where the team stood at the end."""
    out = []
    for stage in stages(told):
        if stage.loss is None or not stage.once:
            continue
        gain = f"{_less(stage.loss, stage.once)} version 1 left alone"
        several = ("champion", "takes") if stage.took_over == 1 else ("champions", "take")
        made = (
            f", {stage.took_over} new {several[0]}, which {several[1]} {_without(stage)} hours without it"
            if stage.took_over
            else ""
        )
        out.append(f"{stage.name}: it lost {gain}, with {stage.hours:.1f} hours by hand{made}.")
    team, months = told.maturity.get("team"), told.maturity.get("history", ())
    if team:
        rose = {each["stage"]: each["month"] for each in reversed(months) if not each["model"]}
        since = ", ".join(f"stage {stage} from {month} on" for stage, month in sorted(rose.items()) if stage > 1)
        out.append(
            f"The team was at stage 1 at first{f', {since}' if since else ''}; it stands at stage {team['stage']} of 4."
        )
    if told.worth:
        out.append(f"Is it worth it? {told.worth['answer']}: {told.worth['said']}")
    return out


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {what}" for what, n in sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def _table(found: list[Stage]) -> list[str]:
    cells = [["", *(stage.name for stage in found)]]
    cells += [[name, *(words(stage) or "–" for stage in found)] for name, words in ROWS]
    wide = [max(len(row[at]) for row in cells) for at in range(len(found) + 1)]
    return ["  " + "  ".join(text.ljust(wide[at]) for at, text in enumerate(row)).rstrip() for row in cells]


def _bad_lines(told: Told) -> list[str]:
    out = [f"the bad version: {told.refusal or 'parity did not refuse it'} (exit code {told.refused_with})"]
    if (found := bad(told)) is not None:
        out.append(
            f"let through by a person, its canary ended as {found.state} by the guard {found.guard or '–'}: {found.said}"
        )
        if found.lost and found.champion and found.offline:
            sure = found.beyond is not None and found.beyond > 0
            out.append(
                f"its loss is {found.lost / found.champion:.1f} times the champion's on the same rows and {found.lost / found.offline:.1f} times its own "
                f"offline result; that it is beyond {OWN_TOLERANCE:g} times that is {'beyond doubt' if sure else 'not beyond doubt on so few days'}"
            )
        out.append(
            f"after {found.answered} labelled answers of its own ({found.rows} rows scored by both) and {found.days:.0f} days of event time; "
            f"it cost {found.cost:,.0f} rides of error, {percent(found.cost_share)} of the year's"
        )
    return out


def right(told: Told) -> list[str]:
    """What is not as it should be; empty when the demo shows what it says."""
    counts = totals(told)
    wrong = []
    if len({counts[name] for name in ("sent", "answered", "logged", "labelled")}) != 1:
        wrong.append(f"sent, answered, logged and labelled differ: {counts}")
    if counts["failed"]:
        wrong.append(f"{counts['failed']} requests failed")
    if told.refused_with != 4 or "hour" not in told.refusal:
        wrong.append(f"the parity check did not name the column: {told.refusal!r}")
    found = {stage.name: stage for stage in stages(told)}
    if "record" in found and not found["record"].incidents:
        wrong.append("no incident of the loss was opened at level record")
    if "train" in found and not found["train"].took_over:
        wrong.append("no approved version took over at level train")
    if "deploy" in found and (not found["deploy"].took_over or len(found["deploy"].acts) > 1):
        wrong.append("at level deploy no version took over by itself, or a person acted")
    canary = bad(told)
    if canary is None or canary.state != "aborted" or canary.guard not in BY_LOSS:
        wrong.append("the canary of the bad version was not taken back for its loss")
    elif canary.answered < LEAST_ROWS:
        wrong.append(f"the canary of the bad version was decided on {canary.answered} labelled rows")
    return wrong


def _bar(share: float, width: int) -> str:
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    return EIGHTHS[-1] * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
