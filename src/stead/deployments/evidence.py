"""What a canary has shown so far, from the log: errors, latency, outputs and loss of the new version beside the present one.

Both versions score every row, one of them aside, so the loss is compared on the same rows. Rows of neighbouring hours go together, so
not the row is the unit but a block of event time: twelve hours, halved while fewer than twenty such blocks are over. A block counts when
it is over and its labels are due. Outputs are compared without labels, up to now. Everything is computed anew from the log at each look: a label that comes late changes the past.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stead import models, predictions
from stead.config import RolloutConfig, duration_ms
from stead.deployments.types import Deployment
from stead.stats import counts, losses, sequential, shift
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

Array = NDArray[np.float64]
DAY = 86_400_000
ALPHA = 0.05
"""Of the loss against the other version and against its own offline result, each two-sided: the sides of harm are 5 % together."""
TURN_ALPHA = 0.01
"""Of harm since some day, over all days together."""
TURN = 0.25
"""Harm that is looked for since some day: so much worse than the other version. Of 888 pairs of equal fits on electricity and air none was, by a tenth one."""
BLOCK = DAY // 2
"""This, the tolerance and the bound of the shift were chosen by rules on other data than the demo's (docs/statistics.md, which constants)."""
LEAST_BLOCKS = 20
HALVINGS = 12
"""A block is no shorter than 5 s, so that a look changes what is stored no oftener."""
OWN_TOLERANCE = 2.5
"""A version may lose so many times its own offline result before that alone stops it: seasons do that much."""
OWN_BLOCK = DAY // 4
OWN_DAYS = 3
"""Before that is judged."""
LATENCY = 0.95
LATE = 504
"""The status of an answer that did not come in time."""
RARE = 0.01
"""Where the intervals of rates of failures are narrow."""
SHIFT = 0.95
"""Outputs of both versions on the same row may be apart by so much of what they are on rows drawn at random."""


@dataclass(frozen=True)
class Interval:
    """An estimate with an interval that holds at every look; infinite ends mean that nothing can be said yet."""

    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Paired:
    """Losses by row of the labelled rows that both versions scored."""

    first: Array
    """Of the version that was there before."""
    second: Array
    weight: Array
    time: NDArray[Any]
    """Event time, milliseconds."""
    arm: NDArray[np.bool_]
    """Rows that the new version answered."""
    unusable: int
    """Outputs of the new version that are no finite number where those of the other one are."""

    @property
    def day(self) -> NDArray[Any]:
        return self.time // DAY


@dataclass(frozen=True)
class Turn:
    """Since when a version does harm that did none before."""

    since: int
    """Event time, milliseconds."""
    rows: int
    first_loss: float
    second_loss: float


@dataclass(frozen=True)
class Evidence:
    """What is known of a canary. Losses are differences as a share of the present version's loss, harm above 0."""

    days: int
    """Days of event time that are over, with their labels due, on which both versions scored labelled rows."""
    rows: int
    """Labelled rows that both scored."""
    arm_rows: int
    """Those of them that the new version answered."""
    requests: int
    """Requests of both arms since it began."""
    past: int
    """Requests that came since and count for nothing: their event times lie before its beginning."""
    step_days: int
    step_rows: int
    """Days and rows that count since the present step began."""
    answered: int
    failed: int
    """Requests of the new version's arm, and how many of them failed."""
    first_loss: float | None
    """Of the present version, on the rows of both."""
    second_loss: float | None
    loss: Interval
    """Harm beyond the margin, which an A/B test has none of; blocks of event time as the unit."""
    block: int
    """Length of a block, milliseconds."""
    own: Interval
    """Loss of the new version beyond its own offline result with tolerance, quarters of whole days as the unit."""
    errors: Interval
    """Rate of failed requests in the new arm minus that in the other."""
    aside: int
    """Requests that the new version scored aside, while the other one answered."""
    aside_failed: int
    aside_errors: Interval
    """Rate of failures as it scored aside minus that of the other version's answers."""
    hung: int
    """Requests for which the new version took too long, as it answered or scored aside."""
    other_hung: int
    latency: Interval
    """95th percentile in the new arm, microseconds."""
    other_latency: Interval
    unusable: int
    """Outputs of the new version that are no finite number where the present one's are."""
    shift: Interval
    """How far outputs of both are apart on the same row, as a share of what they are on rows drawn at random; no labels needed."""
    split: float
    """Always-valid p-value of "requests went to the arms by the shares"; those of one key count once."""
    until: int
    """Event time up to which rows count."""
    more_days: float | None
    """Days until the interval of the loss excludes harm beyond the margin, should the estimate stay; None where it never will."""
    turn: Turn | None = None
    """Harm by far, since a day on which it was no longer what it had been."""
    offline: float | None = None
    """The new version's own result in its hold-out by time."""
    other_scored: int = 0
    """Requests that the present version answered or scored aside, and how many of them failed."""
    other_failed: int = 0


def gather(store: Store, deployment: Deployment, *, now: int) -> Evidence:
    """Look at the log since the canary began, up to the model's `now`."""
    model = models.get_model(store, deployment.model)
    begun = deployment.shares[0]
    version = models.get_version(store, f"{deployment.model}@{deployment.version}")
    offline = models.get_logged_model(store, version.logged_model).metrics.get("holdout_time")
    due = _due(model, now)
    block = block_of(due - begun.event_time)
    until = due // block * block
    pairs = _pairs(store, deployment, since=begun.event_time, until=now, came=begun.at)
    found = _losses(deployment, model, pairs, until)
    total = float(found.weight.sum())
    scale = float(found.first.sum()) / total if total > 0 else math.nan
    loss = harm(found, margin_of(deployment.plan), block)
    own = beyond_own(offline, found, until)
    arms = _arms(store, deployment)
    over, step = found.time < until // DAY * DAY, found.time >= deployment.shares[-1].event_time
    counted = step if deployment.plan.kind == "shadow" else step & found.arm
    more = sequential.more_rows(loss) if math.isfinite(loss.standard_error) else math.nan
    a_block = (until - begun.event_time) / DAY / loss.rows if loss.rows else math.nan
    return Evidence(
        days=len(np.unique(found.day[over])),
        rows=len(found.weight),
        arm_rows=int(found.arm.sum()),
        requests=arms.requests,
        past=arms.past,
        step_days=len(np.unique(found.day[over & step])),
        step_rows=int(counted.sum()),
        answered=arms.answered,
        failed=arms.failed,
        first_loss=_finite(scale),
        second_loss=_finite(float(found.second.sum()) / total) if total > 0 else None,
        loss=_interval(loss, scale),
        block=block,
        own=_interval(own, 1.0) if own is not None else Interval(None, None, None),
        errors=_interval(counts.difference(arms.steps), 1.0) if arms.steps else Interval(None, None, None),
        aside=arms.aside,
        aside_failed=arms.aside_failed,
        aside_errors=arms.aside_errors,
        hung=arms.hung,
        other_hung=arms.other_hung,
        latency=_interval(counts.quantile(arms.latency, LATENCY), 1.0),
        other_latency=_interval(counts.quantile(arms.other_latency, LATENCY), 1.0),
        unusable=found.unusable,
        shift=_shift(pairs, begun.event_time, now),
        split=counts.sample_ratio(arms.splits) if arms.splits else 1.0,
        until=until,
        more_days=_finite(more * a_block),
        turn=turned(found, until),
        offline=offline,
        other_scored=arms.other_scored,
        other_failed=arms.other_failed,
    )


def margin_of(plan: RolloutConfig) -> float:
    """Harm that is still taken; an A/B test takes none: it asks which version is better at all."""
    return 0.0 if plan.kind == "ab" else plan.margin


def block_of(span: int) -> int:
    """How long the blocks are into which a canary's event time is cut, milliseconds, when it has lasted `span` of them.

    >>> [block_of(hours * 3_600_000) // 60_000 for hours in (480, 48, 1)]
    [720, 90, 2]
    """
    halvings = math.ceil(math.log2(max(1.0, BLOCK * LEAST_BLOCKS / max(span, 1))))
    return BLOCK >> min(halvings, HALVINGS)


def harm(found: Paired, margin: float, block: int) -> sequential.Bounds:
    """Loss of the new version beyond (1 + margin) times that of the other one on the same rows, valid at every look."""
    return beyond(found.second, (1 + margin) * found.first, found.weight, found.time // block)


def turned(found: Paired, until: int) -> Turn | None:
    """Harm by `TURN` since the second day, the third, …: to the interval of all rows a step from good to bad is blocks that go together, and hides.

    Each day has a share of `TURN_ALPHA` that falls with its square and adds up to it, so that the first beyond doubt counts at
    every look: the union bound over restarts (Shin, Ramdas & Rinaldo 2024, "E-detectors", New England Journal of Statistics in Data Science 2).
    """
    excess = found.second - (1 + TURN) * found.first
    for number, day in enumerate(np.unique(found.day)[1:].tolist(), 2):
        since = found.day >= day
        if not excess[since].sum() > 0:
            continue
        first, second, weight = found.first[since], found.second[since], found.weight[since]
        block = found.time[since] // block_of(until - day * DAY)
        alpha = TURN_ALPHA * 6 / (math.pi * number) ** 2
        if beyond(second, (1 + TURN) * first, weight, block, alpha=alpha).low > 0:
            total = float(weight.sum())
            return Turn(day * DAY, len(weight), float(first.sum()) / total, float(second.sum()) / total)
    return None


def beyond(
    value: Array, bound: Array, weight: Array, block: NDArray[Any], *, alpha: float = ALPHA
) -> sequential.Bounds:
    """Mean of value − bound. The spread is that of blocks, the clock is rows: blocks that grow longer would set it back."""
    state = sequential.observe_days(sequential.Paired(), value, bound, weight, block)
    return sequential.paired(state, alpha=alpha, tuned_for=sequential.TUNED_ROWS * state.days / max(len(weight), 1))


def due_until(model: models.Model, now: int) -> int:
    """Event time up to which days are over and their labels due, at the model's `now`."""
    return _due(model, now) // DAY * DAY


def _due(model: models.Model, now: int) -> int:
    return now - duration_ms(str(model.settings.get("label_delay") or "0h"))


def paired_losses(
    store: Store, deployment: Deployment, model: models.Model, *, since: int, until: int, came: int
) -> Paired:
    """Losses of a deployment's two versions on the rows that both scored, whichever answered; since <= event time < until.

    Rows that came before the moment `came` of the wall clock are of an earlier replay.
    """
    return _losses(deployment, model, _pairs(store, deployment, since=since, until=until, came=came), until)


def _pairs(store: Store, deployment: Deployment, *, since: int, until: int, came: int) -> pa.Table:
    first, second = deployment.previous or 0, deployment.version
    return predictions.read_pairs(
        store, deployment.model, first, second, since=since, until=max(until, since), came=came
    )


def _losses(deployment: Deployment, model: models.Model, pairs: pa.Table, until: int) -> Paired:
    due = pairs["label_json"].is_valid().to_numpy() & (pairs["event_time"].to_numpy() < until)
    pairs = pairs.filter(due)
    values = {name: _values(pairs, name) for name in ("first", "second", "label")}
    loss_a, weight_a = losses.row_losses(model.loss, values["first"], values["label"])
    loss_b, weight_b = losses.row_losses(model.loss, values["second"], values["label"])
    both = (weight_a > 0) & (weight_b > 0)
    return Paired(
        first=loss_a[both],
        second=loss_b[both],
        weight=weight_a[both],
        time=pairs["event_time"].to_numpy()[both],
        arm=pairs["answered"].to_numpy(zero_copy_only=False)[both] == deployment.version,
        unusable=int(((weight_a > 0) & ~(weight_b > 0)).sum()),
    )


def _shift(pairs: pa.Table, since: int, now: int) -> Interval:
    """Nothing for outputs that are no numbers, or all alike."""
    block = block_of(now - since)
    time, first, second = (pairs[name].to_numpy() for name in ("event_time", "first", "second"))
    used = (time < now // block * block) & (np.abs(first) < losses.LARGEST) & (np.abs(second) < losses.LARGEST)
    same, usual = shift.apart(first[used], second[used])
    found = beyond(same, SHIFT * usual, np.ones(len(same)), time[used] // block)
    scale = float(usual.mean()) if len(usual) else math.nan
    if len(same) < sequential.LEAST_ROWS or not scale > 0:
        return Interval(None, None, None)
    return Interval(*(_finite(value / scale + SHIFT) for value in (found.estimate, found.low, found.high)))


@dataclass(frozen=True)
class _Arms:
    steps: list[counts.Step]
    splits: list[tuple[tuple[int, int], tuple[float, float]]]
    latency: Any
    other_latency: Any
    requests: int
    past: int
    answered: int
    failed: int
    aside: int
    aside_failed: int
    aside_errors: Interval
    hung: int
    other_hung: int
    other_scored: int
    other_failed: int


def _arms(store: Store, deployment: Deployment) -> _Arms:
    """Requests by arm, step by step: those that came while the step was in force; and what was scored aside of them.

    An answer that did not come in time was slow, whatever else it is.
    """
    begun = deployment.shares[0]
    came = predictions.read_requests(store, deployment.model, came=begun.at)
    table = came.filter(came["event_time"].to_numpy() >= begun.event_time)
    version, status, latency, at = (
        table[name].to_numpy() for name in ("version", "status", "latency_us", "received_at")
    )
    first = table["first"].to_numpy(zero_copy_only=False)  # a key is drawn once, however much it asks
    mine, other, bad = version == deployment.version, version == deployment.previous, status >= 500
    steps, splits = [], []
    ends = [share.at for share in deployment.shares[1:]] + [1 << 62]
    for share, end in zip(deployment.shares, ends, strict=True):
        now = (at >= share.at) & (at < end)
        n, m = int((now & mine).sum()), int((now & other).sum())
        if 0 < share.share < 1 and n + m:
            steps.append(counts.Step(share.share, int((now & mine & bad).sum()), n, int((now & other & bad).sum()), m))
            drawn = int((now & mine & first).sum()), int((now & other & first).sum())
            splits.append((drawn, (share.share, 1 - share.share)))
    timely = (status < 400) | (status == LATE)
    asides = predictions.read_asides(store, deployment.model, came=begun.at)
    asides = asides.filter(asides["event_time"].to_numpy() >= begun.event_time)
    scorer, came_to = asides["version"].to_numpy(), asides["status"].to_numpy()
    own, others = came_to[scorer == deployment.version], came_to[scorer == deployment.previous]
    aside_failed, other_failed = int((own >= 500).sum()), int((other & bad).sum())
    answered = int(other.sum())
    return _Arms(
        steps, splits, latency[mine & timely].astype(float), latency[other & timely].astype(float),
        int((mine | other).sum()), len(came) - len(table), int(mine.sum()), int((mine & bad).sum()),
        len(own), aside_failed, _apart((aside_failed, len(own)), (other_failed, answered)),
        int((own == LATE).sum() + (status[mine] == LATE).sum()),
        int((others == LATE).sum() + (status[other] == LATE).sum()),
        answered + len(others), other_failed + int((others >= 500).sum()),
    )  # fmt: skip


def _apart(own: tuple[int, int], other: tuple[int, int]) -> Interval:
    """Rate of failures minus that of another version on the same requests, of (failures, requests), by an interval for each."""
    if not own[1] or not other[1]:
        return Interval(None, None, None)
    mine, usual = (counts.rate(*each, alpha=ALPHA / 2, expected=RARE, strength=20) for each in (own, other))
    return Interval(mine.estimate - usual.estimate, mine.low - usual.high, mine.high - usual.low)


def beyond_own(offline: float | None, found: Paired, until: int) -> sequential.Bounds | None:
    """Loss of the new version beyond `OWN_TOLERANCE` times its own offline result; None where it has none.

    Blocks of six hours of whole days: an hour of the night may well lose twice what a day does, so none stands for a day.
    """
    if offline is None or not offline > 0:
        return None
    over = found.day < until // DAY
    weight = found.weight[over]
    state = sequential.observe_days(
        sequential.Paired(), found.second[over], OWN_TOLERANCE * offline * weight, weight, found.time[over] // OWN_BLOCK
    )
    return sequential.paired(state, alpha=ALPHA, least=OWN_DAYS * DAY // OWN_BLOCK)


def _values(table: Any, name: str) -> Any:
    """Numbers as an array; a list of what the JSON says where any value is none."""
    import msgspec

    numbers, texts = table[name], table[f"{name}_json"]
    if numbers.null_count == 0:
        return numbers.to_numpy()
    return [msgspec.json.decode(text) for text in texts.to_pylist()]


def _interval(bounds: Any, scale: float) -> Interval:
    scale = scale if scale > 0 else math.nan
    return Interval(*(_finite(value / scale) for value in (bounds.estimate, bounds.low, bounds.high)))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
