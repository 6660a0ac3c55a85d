"""The clock that a model's records are read on: its own, which a replay may have left in another year than the wall's."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from stead import jobs
from stead.config.units import duration_ms
from stead.ledger.tables import ledger
from stead.models.tables import models
from stead.predictions.tables import performance
from stead.runtime.clock import now_ms
from stead.store import Store

DAY_MS = 86_400_000
LATE_MS = 7 * DAY_MS
"""Rows that are answered so long after their own time, and their labels' delay, are a replay's."""


@dataclass(frozen=True)
class Clock:
    """A model's clock, and where on it a record stands that was written by the wall's.

    >>> replayed = Clock(now=1000, as_of="the end of its last replay", pairs=((50_000, 0), (60_000, 900)))
    >>> replayed.moment(50_500, None), replayed.moment(49_000, None), replayed.moment(60_000, 700)
    (0, 0, 700)
    """

    now: int
    as_of: str
    """`now`, `where a replay holds it`, or `the end of its last replay`."""
    pairs: Sequence[tuple[int, int]] = ()
    """Wall clock and event time of the records that have both, in the order of the wall; empty where both clocks are one."""

    def moment(self, at: int, event_time: int | None) -> int:
        """When something happened, on the model's clock. What has no event time stands where the replay was when it was written."""
        if event_time is not None:
            return event_time
        if not self.pairs:
            return at
        place = bisect_right(self.pairs, at, key=lambda pair: pair[0])
        return self.pairs[max(place - 1, 0)][1]


def clock_of(store: Store, model: str) -> Clock:
    """The clock of one model; see `clocks`."""
    return clocks(store).get(model) or Clock(now_ms(), "now")


def clocks(store: Store) -> dict[str, Clock]:
    """The clocks of all models that are registered.

    A model whose last rows were answered long after their own time lives in a replay: its clock stands where that one ended, so that
    what happened in it is not taken for years old, or for the future.
    """
    now = now_ms()
    answered = (performance.c.role == "") & (performance.c.predictions > 0)
    last_day = sa.select(performance.c.model, sa.func.max(performance.c.day).label("day"))
    newest = last_day.where(answered).group_by(performance.c.model).subquery()
    last_days = sa.select(performance.c.model, performance.c.day, performance.c.updated_at).join(
        newest, (newest.c.model == performance.c.model) & (newest.c.day == performance.c.day)
    )
    with store.db.read() as tx:
        held = jobs.held_clocks(tx)
        settings = {row.name: row.settings for row in tx.execute(sa.select(models.c.name, models.c.settings))}
        last: dict[str, tuple[int, int]] = {}
        for model, day, at in tx.execute(last_days.where(answered)):
            last[model] = int(day), max(int(at), last.get(model, (0, 0))[1])
        replayed = {m for m, (day, at) in last.items() if at - day > DAY_MS + LATE_MS + delay_of(settings.get(m, {}))}
        pairs: dict[str, list[tuple[int, int]]] = {}
        both = sa.select(ledger.c.model, ledger.c.at, ledger.c.event_time).where(
            ledger.c.event_time.is_not(None), ledger.c.model.in_(sorted(replayed | held.keys()))
        )
        for model, at, event_time in tx.execute(both.order_by(ledger.c.id)):
            pairs.setdefault(model, []).append((int(at), int(event_time)))
        first = sa.select(performance.c.model, sa.func.min(performance.c.day)).where(
            answered, performance.c.model.in_(sorted(pairs))
        )
        for model, day in tx.execute(first.group_by(performance.c.model)):
            begun, moment = pairs[model][0]
            if day < moment:  # what was before its first decision stands at its first day
                pairs[model].insert(0, (begun - 1, int(day)))
    found = {}
    for model in settings:
        if model in held:
            found[model] = Clock(
                held[model], "where a replay holds it", tuple(pairs.get(model) or [(now, held[model])])
            )
        elif model in replayed:
            day, at = last[model]
            known = pairs.get(model) or [(at, day + DAY_MS)]  # nothing was decided in it: all stands at its end
            late = day + DAY_MS + LATE_MS + delay_of(settings[model])
            end = max([day + DAY_MS, *(moment for _, moment in known if moment <= late)])
            found[model] = Clock(end, "the end of its last replay", tuple(known))
        else:
            found[model] = Clock(now, "now")
    return found


def delay_of(settings: Mapping[str, object]) -> int:
    """How long after an event its label is known, milliseconds, as a model's settings say."""
    delay = settings.get("label_delay")
    return duration_ms(str(delay)) if delay else 0
