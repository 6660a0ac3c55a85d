"""The gates of a training: what a version must show before anybody, or a policy, lets it answer."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stead import environments, models
from stead.config.units import points
from stead.gates.beside import DAY, Beside, beside, find_champion, recent
from stead.gates.recipes import judge_recipe
from stead.gates.stored import stored
from stead.gates.types import Verdict
from stead.gates.verdicts import keep_verdict, list_verdicts
from stead.pipelines import Candidate, Judge
from stead.stats import intervals, promotion
from stead.stats.losses import row_losses
from stead.store import Store

SLICE_MARGIN = 0.10
SLICE_ROWS, SLICE_DAYS = 30, 7
MOST_LEVELS = 50
SLICE_ALPHA = 0.05
"""Over all slices of a version together."""
SMALL_BYTES = 1 << 20
QUICK_S = 0.1
"""Below these a model is small and quick, however many times it is the champion's."""
NO_CHAMPION = "there is no champion yet"


def judge(name: str, gate: Callable[[Store, Candidate], Verdict]) -> Judge:
    """A gate that keeps its verdict; a training that goes on after a crash is not judged twice."""

    def judged(store: Store, candidate: Candidate) -> None:
        version = candidate.version
        before = list_verdicts(store, version.model, version=version.version)
        if any(each.gate == name and each.deployment is None for each in before):
            return
        verdict = gate(store, candidate)
        keep_verdict(store, version.model, version.version, verdict)
        candidate.say(f"gate {name} {verdict.outcome}: {verdict.summary}")

    return judged


def metrics(store: Store, candidate: Candidate) -> Verdict:
    """Every figure of the training is a number, and every row of its hold-outs got an answer that can be judged."""
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(store.blobs.get(candidate.holdouts)))
    weight = row_losses(candidate.spec.loss, table["prediction"].to_pylist(), table["target"].to_pylist())[1]
    truth = row_losses(candidate.spec.loss, table["target"].to_pylist(), table["target"].to_pylist())[1]
    unusable = int(((weight <= 0) & (truth > 0)).sum())
    odd = [name for name, value in candidate.metrics.items() if not math.isfinite(value)]
    evidence: dict[str, Any] = {
        "metrics": {name: _finite(value) for name, value in candidate.metrics.items()},
        "rows": table.num_rows,
        "unusable": unusable,
    }
    if unusable:
        return Verdict(
            "metrics", "failed", f"{unusable} of {table.num_rows} answers to rows held out cannot be used", evidence
        )
    if odd:
        return Verdict("metrics", "failed", f"{odd[0]} is no finite number", evidence)
    said = ", ".join(f"{name} {value:.4g}" for name, value in candidate.metrics.items() if name.startswith("holdout"))
    return Verdict("metrics", "passed", said or "all figures are finite", evidence)


def challenger(store: Store, candidate: Candidate) -> Verdict:
    """The candidate against the champion on the last 28 days, by twins that have not seen them, clustered by day.

    A refresh of the champion's recipe must be shown not to be worse by more than the margin, 5 % unless `stead.toml` sets another, and not be
    worse by more than 2 % by the estimate. One that was refused comes back with the next training, on other days. A
    changed recipe must be better, within an error budget of 5 % a year; without proof it is refused, and its evidence goes on.
    """
    champion = find_champion(store, candidate.version.model)
    if champion is None or champion.version == candidate.version.version:
        return Verdict("challenger", "skipped", NO_CHAMPION)
    found = beside(store, candidate, champion)
    its = str(models.get_logged_model(store, champion.logged_model).info.get("recipe") or "")
    refresh = its == candidate.spec.recipe
    if isinstance(found, str):
        return Verdict("challenger", "skipped", found, {"champion": champion.version})
    evidence = _evidence(found, champion, refresh)
    if not len(found.day):
        return Verdict("challenger", "skipped", f"no row can be judged on that {champion.ref} has not seen", evidence)
    losses = (
        f"{evidence['loss']:.4g} against {evidence['champion_loss']:.4g} of {champion.ref} on {evidence['days']} days"
    )
    if refresh:
        return _refresh(found, evidence, losses, candidate.spec.gates.margin)
    proposed = judge_recipe(store, candidate.version.model, candidate.spec.recipe, its, found)
    change = proposed.verdict
    evidence |= {
        "verdict": change.verdict,
        "alpha": proposed.alpha,
        "number": proposed.number,
        "low": _finite(change.bounds.low),
        "high": _finite(change.bounds.high),
        "days_in_all": change.bounds.rows,
    }
    if change.verdict == "better":
        return Verdict("challenger", "passed", f"the changed recipe is better: {losses}", evidence)
    said = (
        "is worse"
        if change.verdict == "worse"
        else f"is not shown to be better yet, by {change.bounds.rows} days in all"
    )
    return Verdict("challenger", "failed", f"the changed recipe {said}: {losses}", evidence)


def _refresh(found: Beside, evidence: dict[str, Any], losses: str, margin: float) -> Verdict:
    judged = promotion.judge_refresh(found.challenger, found.champion, found.weight, found.day, margin=margin)
    evidence |= {
        "verdict": judged.verdict,
        "relative": _finite(judged.relative),
        "margin": margin,
        "relative_low": _finite(judged.low),
        "relative_high": _finite(judged.high),
    }
    if judged.excess.clusters < promotion.LEAST_DAYS:
        said = f"{judged.excess.clusters} days are too few to judge by, {promotion.LEAST_DAYS} are needed: {losses}"
        return Verdict("challenger", "skipped", said, evidence)
    here, least, most = (points(each) for each in (judged.relative, judged.low, judged.high))
    limit, near = (f"{100 * each:g} %" for each in (margin, min(margin, promotion.NEAR)))
    if judged.verdict == "pass" and judged.high <= margin:
        outcome, said = "passed", f"not more than {limit} worse: {here}, at most {most}"
    elif judged.verdict == "pass":
        outcome, said = "passed", f"not more than {limit} worse on any of {judged.excess.clusters} days: {here}"
    elif judged.verdict == "undecided":
        outcome, said = (
            "failed",
            f"not shown to be at most {limit} worse, the days are too few or too unlike: {here}, perhaps {most}",
        )
    elif judged.low > margin:
        outcome, said = "failed", f"clearly more than {limit} worse: {here}, at least {least}"
    else:
        outcome, said = "failed", f"more than {near} worse by the estimate: {here}"
    return Verdict("challenger", outcome, f"{said} ({losses})", evidence)


def _evidence(found: Beside, champion: models.Version, refresh: bool) -> dict[str, Any]:
    weight = float(found.weight.sum()) or math.nan
    return {
        "champion": champion.version,
        "kind": "refresh" if refresh else "change",
        "loss": _finite(float(found.challenger.sum()) / weight),
        "champion_loss": _finite(float(found.champion.sum()) / weight),
        "rows": len(found.weight),
        "days": len(np.unique(found.day)),
        "since": int(found.day.min()) * DAY if len(found.day) else None,
        "until": (int(found.day.max()) + 1) * DAY if len(found.day) else None,
        "left_out": found.left_out,
        "by_twin": found.by_twin,
        "by_day": _by_day(found),
    }


def _by_day(found: Beside) -> list[tuple[int, float | None, float | None]]:
    """Each day with the loss of the candidate and of the champion on its rows."""
    out = []
    for each in np.unique(found.day):
        mine = found.day == each
        weight = float(found.weight[mine].sum()) or math.nan
        both = (_finite(float(losses[mine].sum()) / weight) for losses in (found.challenger, found.champion))
        out.append((int(each) * DAY, *both))
    return out  # type: ignore[return-value]


def baseline(store: Store, candidate: Candidate) -> Verdict:
    """The mean by hour of the week beside it, to be seen: as a veto it would cost more than it saves."""
    import pyarrow.parquet as pq

    loss, spec = candidate.spec.loss, candidate.spec
    mine = recent(store, candidate.rows, candidate.holdouts)
    if mine is None or spec.time is None or loss not in ("wape", "mae", "mse"):
        return Verdict(
            "baseline", "skipped", "there is no simple model for this: it takes numbers, and 56 days of them"
        )
    rows = pq.read_table(io.BytesIO(store.blobs.get(candidate.rows)))
    time = _ms(rows[spec.time])
    before = time < mine.time.min()
    truth = np.array(rows[spec.target].to_pylist(), dtype=np.float64)
    simple = promotion.seasonal_mean(promotion.hour_of_week(time[before]), truth[before])
    answers = promotion.predict_seasonal(simple, promotion.hour_of_week(mine.time))
    figures = []
    for predicted in (mine.prediction, answers.tolist()):
        total, weight = row_losses(loss, predicted, mine.target)
        figures.append(float(total.sum() / weight.sum()) if weight.sum() else math.nan)
    said = f"{loss} {figures[0]:.4g} on the last 28 days; the mean by hour of the week has {figures[1]:.4g}"
    if figures[0] > figures[1]:
        said = (
            f"{loss} {figures[0]:.4g} on the last 28 days: worse than the mean by hour of the week, {figures[1]:.4g}, "
            "which is shown and no veto"
        )
    evidence = {"loss": _finite(figures[0]), "baseline": _finite(figures[1])}
    return Verdict("baseline", "passed", said, evidence)


def slices(store: Store, candidate: Candidate) -> Verdict:
    """On no value of the columns that stead.toml names may a version be worse than the champion by more than 10 %, beyond doubt."""
    names = candidate.spec.gates.slices
    if not names:
        return Verdict("slices", "skipped", "stead.toml names no columns")
    champion = find_champion(store, candidate.version.model)
    if champion is None:
        return Verdict("slices", "skipped", NO_CHAMPION)
    found = beside(store, candidate, champion)
    if isinstance(found, str):
        return Verdict("slices", "skipped", found)
    masks: dict[tuple[str, str], Any] = {}
    for name in names:
        if name not in found.rows.column_names:
            return Verdict("slices", "failed", f"the rows have no column {name!r}", {"column": name})
        values = np.array([str(value) for value in found.rows[name].to_pylist()])
        levels = np.unique(values)
        if len(levels) > MOST_LEVELS:
            said = f"the column {name!r} has {len(levels)} values, more than the {MOST_LEVELS} that can be held apart"
            return Verdict("slices", "failed", said, {"column": name})
        for level in levels.tolist():
            mask = values == level
            if mask.sum() >= SLICE_ROWS and len(np.unique(found.day[mask])) >= SLICE_DAYS:
                masks[name, level] = mask
    worse = []
    told = []
    for (name, level), mask in masks.items():
        champion_loss = found.champion[mask]
        excess = intervals.paired_difference(
            found.challenger[mask], (1 + SLICE_MARGIN) * champion_loss, found.weight[mask], found.day[mask],
            level=1 - 2 * SLICE_ALPHA / len(masks),
        )  # fmt: skip
        one = {"column": name, "value": level, "rows": int(mask.sum()), "loss": _finite(excess.a)}
        told.append(one | {"champion_loss": _finite(excess.b / (1 + SLICE_MARGIN)), "low": _finite(excess.low)})
        if excess.low > 0:
            worse.append(told[-1])
    evidence: dict[str, Any] = {"slices": told, "champion": champion.version}
    if not told:
        return Verdict("slices", "skipped", f"no slice has {SLICE_ROWS} rows on {SLICE_DAYS} days", evidence)
    if worse:
        first = worse[0]
        said = f"{first['loss']:.4g} against {first['champion_loss']:.4g} where {first['column']} is {first['value']}"
        return Verdict("slices", "failed", f"clearly worse than {champion.ref}: {said}", evidence)
    return Verdict("slices", "passed", f"on none of {len(told)} slices clearly worse than {champion.ref}", evidence)


def size(store: Store, candidate: Candidate) -> Verdict:
    """Bytes, and time to answer 1,000 rows, against the champion's as its own training measured them."""
    champion = find_champion(store, candidate.version.model)
    mine = _figures(store, candidate.version)
    if champion is None:
        return Verdict("size", "skipped", NO_CHAMPION, {"candidate": mine})
    its, limit = _figures(store, champion), candidate.spec.gates.size
    evidence = {"candidate": mine, "champion": its, "limit": limit}
    for what, unit, small in (("bytes", "bytes", SMALL_BYTES), ("seconds", "s for 1,000 rows", QUICK_S)):
        a, b = mine[what], its[what]
        if a is not None and b and a > small and a > limit * b:
            said = f"it takes {a:.3g} {unit}, {a / b:.1f} times what {champion.ref} does; {limit:g} times are allowed"
            return Verdict("size", "failed", said, evidence)
    quick = f", {mine['seconds']:.2g} s for 1,000 rows" if mine["seconds"] is not None else ""
    return Verdict("size", "passed", f"{mine['bytes']:,} bytes{quick}", evidence)


def _figures(store: Store, version: models.Version) -> dict[str, Any]:
    logged = models.get_logged_model(store, version.logged_model)
    seconds = logged.info.get("seconds_per_1000")
    return {"bytes": sum(file.bytes for file in logged.files.values()), "seconds": seconds}


def environment(store: Store, candidate: Candidate) -> Verdict:
    """What differs from the environment that the champion was trained in: to be seen, since parity judges what comes of it."""
    champion = find_champion(store, candidate.version.model)
    if champion is None:
        return Verdict("environment", "skipped", NO_CHAMPION)
    both = [models.get_logged_model(store, each.logged_model).environment for each in (champion, candidate.version)]
    if both[0] == both[1]:
        return Verdict("environment", "passed", f"the same as {champion.ref}'s", {"champion": champion.version})
    found = environments.compare(store, both)
    told = "; ".join(f"{each.name} {each.values[0] or 'absent'} → {each.values[1] or 'absent'}" for each in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    evidence = {"champion": champion.version, "differences": {each.name: list(each.values) for each in found}}
    return Verdict("environment", "passed", f"other than {champion.ref}'s: {told}{more}", evidence)


TRAINED: tuple[Judge, ...] = tuple(
    judge(gate.__name__, gate) for gate in (metrics, challenger, stored, baseline, slices, size, environment)
)


def _ms(column: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_integer(column.type):
        return column.to_numpy()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.timestamp("us"))
    zone = getattr(column.type, "tz", None)
    return column.cast(pa.timestamp("ms", tz=zone), safe=False).cast(pa.int64()).to_numpy()


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
