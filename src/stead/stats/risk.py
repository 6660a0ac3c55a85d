"""Is the labelled loss really higher than where the version was judged? A sequential test that opens and closes.

The unit is a day of event time: its Σ loss and Σ weight. The reference is the days a version was judged on; the test bets, day after
day, against "the mean is at most the reference's upper bound plus a tolerance", and restarts whenever its wealth is gone.
Feed days in order and once, when their labels are in; when labels come late, `replay` the days from the start: a year is 365 numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stead.stats.intervals import t_quantile

Array = NDArray[np.float64]
TOLERANCE = 0.05
ALPHA = 1 / 100
"""One false alarm in 1/α batches at most on average, for a loss right at the bound; far fewer below it."""
RECENT = 0.2
"""Weight of the newest batch in the recent loss, which closes: about the last nine batches."""
BETS = (0.05, 0.1, 0.2, 0.4, 0.7, 0.95)
BLOCKS = 8
_LONGEST = 7


@dataclass(frozen=True)
class RiskReference:
    """What the loss is held against, in units of the loss."""

    mean: float
    bound: float
    """The most that counts as healthy: mean + what the blocks leave open + tolerance."""
    low: float
    high: float
    """Batches are cut to these ends: one terrible day is one day's evidence."""
    batch: int
    """Days taken together, so that batches are nearly independent."""
    block_sd: float
    weight: float
    """Of a day, on average."""
    days: int


@dataclass(frozen=True)
class RiskState:
    """Where the test stands; one row."""

    days: int = 0
    loss: float = 0.0
    weight: float = 0.0
    gathered: int = 0
    """Loss, weight and number of the days of the batch that is not full yet."""
    wealth: tuple[float, ...] = (0.0,) * len(BETS)
    """Logarithm of the wealth of each bet; rests while open."""
    recent: float | None = None
    """Moving average of the batches, cut like them: what is held against the bound to close."""
    typical: float | None = None
    """Moving average of a day's weight."""
    open: bool = False
    changed: int = 0
    """Day number (from 1) at which it opened or closed last; 0 = never."""


def risk_reference(
    loss: Array, weight: Array, *, tolerance: float = TOLERANCE, level: float = 0.95, blocks: int = BLOCKS
) -> RiskReference:
    """The reference from the days a version was judged on, in order: Σ loss and Σ weight of each day, at least eight days.

    Bound = mean + t · sd / √B + tolerance · mean over B blocks of consecutive days: the uncertainty of the mean, one-sided, with
    B − 1 degrees of freedom. The design effect (Kish 1965, Survey Sampling, section 8.2) is the variance of block means over that of
    independent days; as many days make a batch, at most seven. Batches are cut at 2 sd below and 6 above, and so are the
    reference's; the cut below is what lets a bet be large. Days count by their weight, (loss − mean · weight) / average weight, so that
    they add up to Σ loss / Σ weight and a day of few rows says little, nor does a block of few (the linearised ratio: Cochran 1977,
    Sampling Techniques, section 6.4). A season that the reference has not seen counts as a rise.

    >>> days = np.random.default_rng(0).gamma(40, 0.3 / 40, 56)
    >>> found = risk_reference(days * 1000, np.full(56, 1000.0))
    >>> round(found.mean, 2), round(found.bound, 2), found.batch
    (0.3, 0.33, 1)
    """
    used = weight > 0
    loss, weight = loss[used], weight[used]
    days = len(loss)
    if days < BLOCKS:
        raise ValueError(f"a reference needs at least {BLOCKS} days with weight, not {days}")
    center, heavy = float(loss.sum() / weight.sum()), float(weight.mean())
    value = center + (loss - center * weight) / heavy
    number = min(blocks, days // 2)
    apart = [float(part.mean()) for part in np.array_split(value, number)]
    block_sd, day_sd = float(np.std(apart, ddof=1)), float(value.std(ddof=1))
    effect = block_sd**2 * days / number / day_sd**2 if day_sd > 0 else 1.0
    batch = min(_LONGEST, max(1, round(effect)))
    batch_sd = max(day_sd * math.sqrt(max(effect, 1.0) / batch), 0.01 * abs(center), 1e-12)
    low, high = max(0.0, center - 2 * batch_sd), center + 6 * batch_sd
    spread = block_sd * t_quantile(level, number - 1) / math.sqrt(number)
    bound = float(np.clip(value, low, high).mean()) + spread + tolerance * abs(center)
    bound = max(bound, low + batch_sd)
    return RiskReference(center, bound, low, max(high, 2 * bound - low), batch, block_sd, heavy, days)


def update_risk(
    reference: RiskReference,
    state: RiskState,
    loss: float,
    weight: float,
    *,
    alpha: float = ALPHA,
) -> RiskState:
    """The state after one more day: Σ loss and Σ weight of its labelled rows. A day without weight changes nothing.

    Podkopaev & Ramdas 2022, "Tracking the risk of a deployed model and detecting harmful distribution shifts", ICLR: bets of
    1 + λ (x − bound) on a loss x cut to [low, high], for several λ at once. Each bet's wealth restarts at 1 when it falls below
    (CUSUM), their mean is an e-detector, so stopping at 1/α has a mean time to a false alarm of at least 1/α batches (Shin, Ramdas &
    Rinaldo 2024, "E-detectors: a nonparametric framework for sequential change detection", NEJSDS 2, theorem 2.4). Once open
    it stays so until the moving average of the batches (Roberts 1959, Technometrics 1) is back under the bound.

    >>> days = np.random.default_rng(0).gamma(40, 0.3 / 40, 70)
    >>> reference, state = risk_reference(days[:56], np.ones(56)), RiskState()
    >>> for day in 2 * days[56:]:
    ...     state = update_risk(reference, state, day, 1.0)
    >>> state.open, state.changed
    (True, 6)
    """
    if not weight > 0 or not math.isfinite(loss):
        return replace(state, days=state.days + 1)
    gathered, total, heavy = state.gathered + 1, state.loss + float(loss), state.weight + float(weight)
    state = replace(state, days=state.days + 1, gathered=gathered, loss=total, weight=heavy)
    if gathered < reference.batch:
        return state
    typical = state.typical or reference.weight
    value = reference.bound + (total - reference.bound * heavy) / (typical * gathered)
    value = min(max(value, reference.low), reference.high)
    recent = _moved(reference.mean if state.recent is None else state.recent, value)
    state = replace(state, gathered=0, loss=0.0, weight=0.0, recent=recent, typical=_moved(typical, heavy / gathered))
    if state.open:
        return state if recent > reference.bound else replace(state, open=False, changed=state.days)
    stake = (value - reference.bound) / (reference.bound - reference.low)
    wealth = tuple(max(before, 0.0) + math.log1p(bet * stake) for before, bet in zip(state.wealth, BETS, strict=True))
    state = replace(state, wealth=wealth)
    if evidence(state) < -math.log(alpha):
        return state
    return replace(state, wealth=(0.0,) * len(BETS), open=True, changed=state.days)


def _moved(average: float, value: float) -> float:
    return average + RECENT * (value - average)


def evidence(state: RiskState) -> float:
    """Logarithm of the mean wealth; it opens at ln(1/α).

    >>> evidence(RiskState())
    0.0
    """
    top = max(state.wealth)
    return top + math.log(sum(math.exp(each - top) for each in state.wealth) / len(state.wealth))


def replay(reference: RiskReference, days: Iterable[tuple[float, float]], *, alpha: float = ALPHA) -> list[RiskState]:
    """The states after each day of (Σ loss, Σ weight), from the start: for labels of any age, which restate their day.

    >>> reference = risk_reference(np.linspace(0.9, 1.1, 28), np.ones(28))
    >>> [state.open for state in replay(reference, [(1.0, 1.0)] * 3)]
    [False, False, False]
    """
    states, state = [], RiskState()
    for loss, weight in days:
        state = update_risk(reference, state, loss, weight, alpha=alpha)
        states.append(state)
    return states
