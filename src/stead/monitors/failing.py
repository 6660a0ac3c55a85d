"""Requests that got no answer: those that the gateway refused (4xx), and those on which the model failed (5xx).

Other monitors see rows that were answered. A null in a column that had none in training is refused, and so is a column of another
type or one that is missing: what a sender breaks most often would else be seen by nobody.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stead import models
from stead.config.units import percent
from stead.errors import SteadError
from stead.monitors.folding import CLEAN, LEAST_ROWS, USUAL, Finding, Judged, State
from stead.predictions import DayLoss, FailedDay, FailedRequest
from stead.runtime import protocols
from stead.runtime.formats import read_config
from stead.runtime.formats.signature import Checker
from stead.store import Store

LEAST_FAILED = 5
"""Requests that must fail in a day."""
LEAST_SHARE, UNKNOWN_SHARE = 0.01, 0.05
"""Share of a day's requests that may fail where it is known what is usual, and where that is not known yet."""
TIMES_USUAL, DEVIATIONS = 2.0, 5.0
"""So many times the usual share, or so many deviations of the days' shares over it, may be chance."""
KNOWN = 7
"""Days after which it is known what is usual."""
Z = 3.719
"""Of the lower end of a day's share: by chance, one day in ten thousand is beyond it."""
MOST_REASONS = 3
WORDS = {"refused": "were refused", "failed": "failed"}


@dataclass(frozen=True)
class Requests:
    """A day's requests to a version, and how many of them got no answer."""

    day: int
    requests: int
    statuses: Mapping[int, int] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    """Why they were refused, the most frequent first."""

    def of(self, cause: str) -> dict[int, int]:
        """Failed requests by status, of one of the causes."""
        return {status: count for status, count in self.statuses.items() if (status >= 500) == (cause == "failed")}


def fold_requests(state: State | None, day: Requests) -> Judged:
    """The share of requests that failed in a day, against what is usual: refused ones and failed ones apart.

    A break is a day whose share is surely (Wilson 1927, Journal of the American Statistical Association 22: lower end of the interval)
    over twice the mean of the last days without one, over that mean and five times their deviation, and at least over 1 %.
    """
    state = state or {}
    opened: dict[str, Any] = {}
    usual: dict[str, list[float]] = {}
    worst = (0.0, UNKNOWN_SHARE)
    for cause in WORDS:
        before = list(state.get("usual", {}).get(cause, ()))
        mean, limit = _usual(before)
        statuses = day.of(cause)
        count = sum(statuses.values())
        share = count / day.requests
        worst = max(worst, (share, limit), key=lambda each: each[0] / each[1])
        known = state.get("open", {}).get(cause)
        broken = count >= LEAST_FAILED and _surely(count, day.requests) > limit
        if broken:
            seen = {"failed": count, "requests": day.requests, "statuses": {str(s): n for s, n in statuses.items()}}
            seen |= {"reasons": list(day.reasons) if cause == "refused" else [], "usual": mean, "limit": limit}
            opened[cause] = {**seen, "since": known["since"] if known else day.day, "day": day.day, "clean": 0}
        elif known and known["clean"] + (share <= limit) < CLEAN:
            opened[cause] = {**known, "clean": known["clean"] + (share <= limit)}
        kept = not broken and day.requests >= LEAST_ROWS
        usual[cause] = [*before, share][-USUAL:] if kept else before
    answered = day.requests - sum(day.statuses.values())
    fine = "" if opened or worst[0] > worst[1] else f"{answered} of {day.requests} requests were answered"
    return Judged(
        "requests",
        day.day,
        worst[0],
        worst[1],
        "alarm" if opened else "ok",
        {"requests": day.requests, "answered": answered, **{cause: sum(day.of(cause).values()) for cause in WORDS}},
        {"usual": usual, "open": opened},
        {cause: _finding(cause, seen) for cause, seen in opened.items()},
        fine if day.requests >= LEAST_ROWS else "",
    )


def _usual(shares: Sequence[float]) -> tuple[float | None, float]:
    """The mean of the last days, None while there are few, and the share from which a day is a break."""
    if len(shares) < KNOWN:
        return None, UNKNOWN_SHARE
    mean = sum(shares) / len(shares)
    deviation = math.sqrt(sum((share - mean) ** 2 for share in shares) / (len(shares) - 1))
    return mean, max(LEAST_SHARE, TIMES_USUAL * mean, mean + DEVIATIONS * deviation)


def _surely(count: int, of: int) -> float:
    """The least share that a count leaves possible.

    >>> _surely(36, 288) > 0.06, _surely(6, 288) < 0.01
    (True, True)
    """
    share, square = count / of, Z * Z
    reach = Z * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    return (share + square / (2 * of) - reach) / (1 + square / of)


def _finding(cause: str, seen: Mapping[str, Any]) -> Finding:
    why = ", ".join(seen["statuses"]) + (f" ({'; '.join(seen['reasons'])})" if seen["reasons"] else "")
    usual = "" if seen["usual"] is None else f", usually {percent(seen['usual'], 1)}"
    said = f"{seen['failed']} of {seen['requests']} requests {WORDS[cause]}: {why}{usual}"
    proof = {name: value for name, value in seen.items() if name not in ("clean", "reasons")}
    if seen["reasons"]:
        proof["reasons"] = seen["reasons"]
    return Finding(cause, "data", "page", seen["since"], said, proof)


def requests_of(
    store: Store, model: str, version: int, days: Sequence[DayLoss], failed: Sequence[FailedDay]
) -> list[Requests]:
    """The days on which requests came, each with its failed ones; the reasons where enough of them were refused."""
    by_day = {each.day: each for each in failed}
    checker: Checker | None = None
    made = []
    for day in days:
        seen = by_day.get(day.day)
        if seen is None:
            if day.predictions:
                made.append(Requests(day.day, day.predictions))
            continue
        one = Requests(day.day, seen.requests, seen.statuses)
        refused = sum(one.of("refused").values())
        if refused >= LEAST_FAILED and _surely(refused, one.requests) > LEAST_SHARE:
            checker = checker or _checker(store, model, version)
            one = Requests(day.day, seen.requests, seen.statuses, _reasons(seen.samples, checker))
        made.append(one)
    return made


def _checker(store: Store, model: str, version: int) -> Checker:
    """The check of a version's columns, without its code: one that lets everything pass where it cannot be read."""
    try:
        known = models.get_version(store, f"{model}@{version}")
        config = read_config(models.materialise(store, known.logged_model))
        return Checker(config["input"], config.get("columns") or [])
    except (SteadError, LookupError, ValueError, TypeError):
        return Checker("frame", [])


def _reasons(samples: Sequence[FailedRequest], checker: Checker) -> list[str]:
    """What the gateway said of them, by asking what it asked."""
    found: Counter[str] = Counter()
    for each in samples:
        try:
            columns = protocols.decode(each.protocol, each.body, each.header_length)
        except SteadError as error:
            if (
                each.protocol != "v2" or each.header_length
            ):  # a binary body is not read without the length of its header
                found[error.code] += 1
            continue
        except (LookupError, ValueError):
            continue
        if not checker.columns:
            continue
        try:
            checker(columns)
        except SteadError as error:
            column = error.details.get("column")
            found[error.code if column is None else f"{error.code}: {column}"] += 1
        except (LookupError, ValueError, TypeError):
            continue
    return [reason for reason, _ in found.most_common(MOST_REASONS)]
