"""What each monitor makes of one more day: pure functions from where it stands and what it sees to where it stands then.

A monitor goes over the days of event time in order, each once it is over. Its state after a day is kept with the day, so what
comes late (a label, a row) restates: it goes on again from the day before the first that changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from stead.config.units import percent
from stead.monitors.columns import OUTPUT, Values
from stead.monitors.packing import Columns
from stead.monitors.references import FEATURE, NAMES, ColumnsReference, EstimateReference, LossReference
from stead.monitors.types import Kind, Monitor, Outcome, Severity
from stead.predictions import DayLoss
from stead.runtime import typed
from stead.stats.breaks import Break, breaks, volume_break
from stead.stats.calibration import estimate
from stead.stats.drift import Note, drift, update_note, weighted_distance
from stead.stats.histograms import NULL, Histogram, merge_histograms
from stead.stats.risk import ALPHA, RiskState, evidence, update_risk

State = dict[str, Any]
DAY = 86_400_000
CLEAN = 3
"""Quick windows without a break that close one."""
SAID = 7
"""Labelled days whose loss is told."""
SETTLED = 7
"""Labelled days after which a version is known to be fine."""
USUAL, LEAST_USUAL = 28, 14
"""Days that the rows of a day are held against, and how many there must be."""
LEAST_ROWS = 20
"""Rows a day, on average, below which volume is not judged."""
DIFFERS = 0.01
"""p of a column that differs: it is named, and its cell is dark. The last window that has any names them while the note is open."""
MANY_UNSEEN = 0.1
"""Share of rows with a level never seen before that is told to people: less is often a season."""
_NAMES = {
    "null": "has no value in",
    "type": "is of another type in",
    "unseen": "has levels never seen before in",
    "scale": "has jumped in level or spread",
    "constant": "no longer varies",
}


@dataclass(frozen=True)
class Finding:
    """Something is wrong since a day."""

    cause: str
    kind: Kind
    severity: Severity
    since: int
    summary: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """What a monitor said of a day, where it stands after it, and what is wrong by it."""

    monitor: Monitor
    day: int
    value: float | None
    bound: float | None
    outcome: Outcome
    evidence: dict[str, Any]
    state: State
    findings: dict[str, Finding] = field(default_factory=dict)
    fine: str = ""
    """Where nothing is wrong on enough evidence: what says so."""


CAUSES: dict[Monitor, tuple[str, ...]] = {
    "loss": ("loss",),
    "estimate": ("estimate",),
    "requests": ("refused", "failed"),
    "data": ("null", "type", "unseen", "constant"),
    "scale": ("scale",),
    "drift": ("drift",),
    "outputs": ("outputs",),
    "volume": ("few-rows", "many-rows"),
}
"""What each monitor may find."""


class _Test(NamedTuple):
    """Where the test against one reference stands."""

    reference: LossReference
    risk: RiskState
    since: int | None

    @property
    def bound(self) -> float:
        return self.reference.risk.bound


def fold_loss(held_against: Sequence[LossReference], state: State | None, day: DayLoss) -> Judged:
    """The sequential risk tests after one more day of labelled rows, one against each reference that was made before it.

    The loss is too high when either test says so. A version with a hold-out will have two, so each has half of the budget of
    false alarms from the first day on.
    """
    state = state or {}
    alpha = ALPHA / 2 if any(each.source == "hold-out" for each in held_against) else ALPHA
    before = state.get("tests", {})
    tests = [
        _tested(reference, before.get(reference.source), day, alpha)
        for reference in held_against
        if day.day >= reference.tested_from
    ]
    tight = min(tests, key=lambda each: (each.risk.recent is None, each.bound))
    recent = tight.risk.recent
    bounds = {each.reference.source: each.bound for each in tests}
    days = state.get("days", [])
    if day.weight_sum > 0:
        days = [*days, [day.loss_sum, day.weight_sum]][-SAID:]
    loss = sum(each for each, _ in days) / sum(weight for _, weight in days) if days else None
    seen = {"loss": loss, "days": len(days), "statistic": recent}
    findings = {"loss": _risen(tests, bounds, day.day, seen)} if any(each.risk.open for each in tests) else {}
    fed = state.get("fed", 0) + int(day.weight_sum > 0)
    within = all(each.risk.recent is None or each.risk.recent <= each.bound for each in tests)
    high = not within or (loss is not None and loss > tight.bound)
    return Judged(
        "loss",
        day.day,
        day.loss,
        tight.bound,
        "alarm" if findings else "unknown" if not day.weight_sum > 0 else "watching" if high else "ok",
        {
            **seen,
            "evidence": max(evidence(each.risk) for each in tests),
            "labelled": day.labelled,
            "rows": day.predictions,
            "bounds": bounds,
        },
        {
            "tests": {each.reference.source: {"risk": asdict(each.risk), "since": each.since} for each in tests},
            "fed": fed,
            "days": days,
        },
        findings,
        f"the labelled loss of {len(days)} days is {loss:.4g}, usually {tight.reference.risk.mean:.4g}"
        if not findings and fed >= SETTLED and loss is not None and within
        else "",
    )


def _tested(reference: LossReference, state: State | None, day: DayLoss, alpha: float) -> _Test:
    before = typed.convert(state["risk"], RiskState) if state else RiskState()
    risk = update_risk(reference.risk, before, day.loss_sum, day.weight_sum, alpha=alpha)
    since = None if state is None else state["since"]
    return _Test(reference, risk, day.day if risk.open and not before.open else since)


def _risen(tests: Sequence[_Test], bounds: Mapping[str, float], day: int, seen: Mapping[str, Any]) -> Finding:
    """By the test that has said so longest, with what the other one says; `seen` is the loss of the last days as it is, uncut."""
    first = min((each for each in tests if each.risk.open), key=lambda each: each.since or day)
    source, usual = first.reference.source, first.reference.risk.mean
    said = (
        f"the labelled loss of {seen['days']} days is {seen['loss']:.4g}, usually {usual:.4g} and at most {first.bound:.4g} "
        f"by its {NAMES[source]}"
    )
    for other in tests:
        if other is not first:
            word = "and over" if other.risk.open else "not surely over"
            said += f", {word} {other.bound:.4g}, the most by its {NAMES[other.reference.source]}"
    since = first.since or day
    proof = {
        **seen,
        "statistic": first.risk.recent,
        "bound": first.bound,
        "reference": usual,
        "against": source,
        "bounds": dict(bounds),
    }
    return Finding("loss", "performance", "page", since, said, {**proof, "since": since, "day": day})


def fold_data(reference: ColumnsReference, state: State | None, day: int, window: Sequence[Columns]) -> Judged:
    """Nulls, types, levels and columns that stand still, in the last `reference.quick` days."""
    state = state or {}
    seen = sorted({*state.get("seen", ()), *(name for part in window for name in part)})
    merged = _merged(window, seen)
    found: dict[str, dict[str, Break]] = {}
    for name, columns in reference.fast.items():
        if name in merged and name != OUTPUT:
            for each in breaks(merged[name], columns):
                if each.kind == "constant" and len(window) < reference.quick:
                    continue  # a value a day stands still for a day
                found.setdefault(each.kind, {})[name.removeprefix(FEATURE)] = each
    opened = _opened(state.get("open", {}), found, day, CLEAN)
    looked = state.get("looked", 0) + 1
    after = {"seen": seen, "open": opened, "looked": looked, "born": state.get("born", day)}
    return _judged("data", day, found, opened, after, looked >= CLEAN)


def fold_scale(
    reference: ColumnsReference, state: State | None, day: int, window: Sequence[Columns], before: Sequence[Columns]
) -> Judged:
    """Units that jump between `before`, the last window that was not broken, and the window that ends with `day`."""
    state = state or {}
    merged, earlier = _merged(window, ()), _merged(before, ())
    found: dict[str, dict[str, Break]] = {}
    for name, columns in reference.slow.items():
        if name in merged and name in earlier and name != OUTPUT:
            for each in breaks(merged[name], columns, before=earlier[name]):
                if each.kind == "scale":
                    found.setdefault("scale", {})[name.removeprefix(FEATURE)] = each
    opened = _opened(state.get("open", {}), found, day, 1)
    looked = state.get("looked", 0) + 1
    last = state.get("before") if opened else day
    return _judged("scale", day, found, opened, {"before": last, "open": opened, "looked": looked}, looked > 1)


def _opened(
    before: Mapping[str, Any], found: Mapping[str, Mapping[str, Break]], day: int, clean: int
) -> dict[str, Any]:
    """Kinds of breaks that are open: since when, by which columns, and windows without them since."""
    opened: dict[str, Any] = {}
    for kind in sorted({*before, *found}):
        known = before.get(kind, {"since": day, "columns": {}})
        if kind in found:
            columns = {**known["columns"], **{name: asdict(each) for name, each in found[kind].items()}}
            opened[kind] = {"since": known["since"], "columns": columns, "clean": 0}
        elif known["clean"] + 1 < clean:
            opened[kind] = {**known, "clean": known["clean"] + 1}
    return opened


def _judged(
    monitor: Monitor, day: int, found: Mapping[str, Any], opened: Mapping[str, Any], state: State, settled: bool
) -> Judged:
    findings = {}
    for kind, each in opened.items():
        columns: dict[str, dict[str, Any]] = each["columns"]
        said = [f"{name} {_NAMES[kind]}{_share(kind, broken)}" for name, broken in columns.items()]
        few = kind == "unseen" and max(broken["value"] for broken in columns.values()) < MANY_UNSEEN
        proof = {"columns": columns, "since": each["since"], "day": day}
        findings[kind] = Finding(kind, "data", "note" if few else "page", each["since"], "; ".join(said), proof)
    broken = {name for columns in found.values() for name in columns}
    proof = {kind: {name: asdict(each) for name, each in columns.items()} for kind, columns in found.items()}
    outcome: Outcome = "alarm" if opened else "ok"
    fine = "its columns are as in its reference" if settled and not opened else ""
    return Judged(monitor, day, float(len(broken)), 0.0, outcome, proof, state, findings, fine)


def _share(kind: str, broken: Mapping[str, Any]) -> str:
    if kind in ("null", "type", "unseen"):
        return f" {percent(broken['value'], 0)} of the rows, usually {percent(broken['usual'], 0)}"
    return ""


def fold_drift(reference: ColumnsReference, state: State | None, day: int, window: Sequence[Columns]) -> Judged:
    """The drift note over the raw columns, after the window that ends with `day`."""
    names = [name for name in reference.slow if name != OUTPUT]
    return _note("drift", reference, names, state, day, window)


def fold_outputs(reference: ColumnsReference, state: State | None, day: int, window: Sequence[Columns]) -> Judged:
    """The drift note over what the model answers."""
    return _note("outputs", reference, [OUTPUT], state, day, window)


def fold_estimate(
    reference: EstimateReference,
    columns: ColumnsReference,
    state: State | None,
    day: int,
    window: Sequence[Columns],
    answers: Values,
) -> Judged:
    """The loss to expect of the answers in the window that ends with `day`; where its rows are too unlike, it stands as it stood."""
    state = state or {}
    merged = _merged(window, ())
    far = {
        name: drift(merged[name], of).distance for name, of in columns.slow.items() if name in merged and name != OUTPUT
    }
    apart = weighted_distance(far, dict.fromkeys(far, 1.0))
    found = estimate(reference.estimator, answers, distance=None if math.isnan(apart) else apart)
    since = state.get("since")
    if found.state != "unknown":
        since = (since or day) if found.state == "alarm" else None
    seen = (
        {"value": found.value, "usual": found.usual, "limit": found.limit}
        if found.state != "unknown"
        else state.get("seen")
    )
    proof = {
        "distance": None if math.isnan(apart) else apart,
        "usual": found.usual,
        "rows": len(answers),
        "reason": found.reason,
    }
    findings = {}
    if since is not None and seen:
        said = (
            f"without labels the loss is estimated at {seen['value']:.4g}, over {seen['limit']:.4g}, the most that is usual "
            f"({seen['usual']:.4g} in its hold-out): its rows have become harder"
        )
        findings["estimate"] = Finding(
            "estimate", "estimate", "page", since, said, {**seen, "since": since, "day": day}
        )
    known = found.state != "unknown"
    return Judged(
        "estimate",
        day,
        found.value if known else None,
        found.limit if known else None,
        "alarm" if found.state == "alarm" else "ok" if known else "unknown",
        proof,
        {"since": since, "seen": seen},
        findings,
        f"the estimate is {found.value:.4g}, at most {found.limit:.4g} is usual" if found.state == "usual" else "",
    )


def _note(
    monitor: Monitor,
    reference: ColumnsReference,
    names: Sequence[str],
    state: State | None,
    day: int,
    window: Sequence[Columns],
) -> Judged:
    state = state or {}
    before = typed.convert(state["note"], Note) if state else Note()
    merged = _merged(window, ())
    drifts = {name: drift(merged[name], reference.slow[name]) for name in names if name in merged}
    drifts = {name: each for name, each in drifts.items() if each.distance == each.distance}
    note = update_note(before, drifts)
    first = day - (reference.window - 1) * DAY
    begun = (state.get("begun") if before.wealth > 0 else None) or first  # since then the evidence has grown
    since = begun if note.open and not before.open else state.get("since")
    far = sorted(drifts, key=lambda name: -drifts[name].distance)
    differ = {
        name.removeprefix(FEATURE): drifts[name].distance for name in far if drifts[name].p_value <= DIFFERS
    } or state.get("differ", {})
    plain = {
        name.removeprefix(FEATURE): {"distance": each.distance, "p": each.p_value, "rows": each.rows}
        for name, each in drifts.items()
    }
    findings: dict[str, Finding] = {}
    if note.open and far:
        told = differ or {far[0].removeprefix(FEATURE): drifts[far[0]].distance}
        shown = ", ".join(f"{name} {distance:.2f}" for name, distance in list(told.items())[:3])
        said = f"the model answers otherwise than where it was judged: distance {shown}"
        if monitor == "drift":
            said = f"columns differ from where the model was judged: {shown} (distance, 0 to 1)"
        proof = {"columns": plain, "since": since, "day": day}
        findings[monitor] = Finding(monitor, "drift", "note", int(since or day), said, proof)
    return Judged(
        monitor,
        day,
        drifts[far[0]].distance if far else None,
        None,
        "alarm" if note.open else "ok" if drifts else "unknown",
        plain,
        {"note": asdict(note), "since": since, **({"begun": begun, "differ": differ} if note.wealth > 0 else {})},
        findings,
        "" if note.open or not note.windows else "the windows are as in its reference",
    )


def fold_volume(state: State | None, day: int, rows: int, regime: int) -> Judged:
    """The rows of a day against the four weeks before it, days with too few of them apart.

    `regime` tells from when on the same clock counts the days: a replay that takes or gives it back begins anew.
    """
    if not state or state["regime"] != regime:
        state = {"regime": regime, "usual": [], "open": {}}
    usual = np.array(state["usual"], dtype=np.int64)
    found = None
    if len(usual) >= LEAST_USUAL and float(usual.mean()) >= LEAST_ROWS:
        found = volume_break(rows, usual)
    opened: dict[str, int] = {found.kind: state["open"].get(found.kind, day)} if found else {}
    kept = state["usual"] if "few-rows" in opened else [*state["usual"], rows][-USUAL:]
    findings = {}
    for kind, since in opened.items():
        assert found is not None
        said = f"{rows} rows in a day, usually {found.usual:.0f}"
        proof = {"rows": rows, "usual": found.usual, "limit": found.limit, "since": since, "day": day}
        severity: Severity = "page" if kind == "few-rows" else "note"
        findings[kind] = Finding(kind, "volume", severity, since, said, proof)
    return Judged(
        "volume",
        day,
        float(rows),
        found.limit if found else None,
        "alarm" if found else "ok" if len(usual) >= LEAST_USUAL else "unknown",
        {"usual": float(usual.mean()) if len(usual) else None},
        {"regime": regime, "usual": kept, "open": opened},
        findings,
        "" if found else f"{rows} rows came",
    )


def _merged(window: Sequence[Columns], seen: Sequence[str]) -> Columns:
    """The sum of days. A column that has been seen and is missing from a day has no value in its rows."""
    made: Columns = {}
    for name in {*seen, *(name for part in window for name in part)}:
        parts = [part[name] if name in part else _missing(part, name, window) for part in window]
        made[name] = merge_histograms([part for part in parts if part is not None] or [Histogram((0, 0, 0, 0))])
    return made


def _missing(part: Columns, name: str, window: Sequence[Columns]) -> Histogram | None:
    slots = next((len(other[name].counts) for other in window if name in other), 5)
    rows = max((each.rows for each in part.values()), default=0)
    counts = [0] * slots
    counts[NULL] = rows
    return Histogram(tuple(counts)) if rows else None
