"""Looking at a model: what has closed since the last look goes through its monitors, and what they find becomes incidents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import sqlalchemy as sa

from stead import jobs, models, predictions
from stead.config import duration_ms
from stead.errors import InvalidInput
from stead.monitors import failing, folding, incidents, references
from stead.monitors.folding import CAUSES, Judged, State
from stead.monitors.profiles import Profiles
from stead.monitors.references import DAY, LOSSES, MONDAY, ColumnsReference, EstimateReference, LossReference
from stead.monitors.tables import incidents as incidents_table
from stead.monitors.tables import monitor_days as table
from stead.monitors.tables import watches
from stead.monitors.types import Incident, Monitor
from stead.predictions import DayLoss
from stead.runtime.clock import now_ms
from stead.store import Store, from_row

GRACE_MS = 15 * 60_000
"""A day is over so long after its end: other machines' logs come in by then. A replay has sent a day when its clock passes on."""
LABELLED = 0.9
"""Share of a day's rows whose labels make it ready; without them it is ready a day after they are due."""
TRIES = 5
_EVER = -(1 << 60)
AUTOMATIC = tuple(cause for causes in CAUSES.values() for cause in causes)


@dataclass(frozen=True)
class Watch:
    """Where the looks at a model stand: the row, or what stands for none."""

    turn: int = 0
    version: int | None = None
    refresh: int = 0
    closed: int = 0
    holder: str | None = None
    since: int = 0
    now: int = 0
    next_at: int = 0


class _Overtaken(Exception):
    """Another agent has looked meanwhile."""


def observe(store: Store, model: str | models.Model, *, refreshed: int = 0) -> int:
    """Take what has closed since the last look through the monitors of the live version; how much moved.

    `refreshed` is the event time up to which the realised loss was brought up just now. Safe beside other looks: the one
    that is overtaken starts again. Raises NotFound.
    """
    watcher = store.acting("agent")
    for _ in range(TRIES):
        known = models.get_model(store, model) if isinstance(model, str) else model
        with suppress(_Overtaken):
            return _Look(watcher, known).work(refreshed)
        model = known.name  # what was overtaken may be out of date
    return 0


def due(store: Store, known: Iterable[models.Model]) -> list[str]:
    """Models at which a look may find something new: asked often, so it costs three questions for all of them."""
    with store.db.read() as tx:
        standing = {row["model"]: from_row(row, Watch) for row in tx.execute(sa.select(watches)).mappings()}
        holders = jobs.clock_holders(tx)
        changed = predictions.changed_models(tx, watches) if standing else set()
    wall = now_ms()
    found = []
    for model in known:
        version, watch = model.aliases.get("champion"), standing.get(model.name)
        if watch is None or watch.version is None:
            if version is not None:
                found.append(model.name)
            continue
        now, holder = holders.get(model.name, (wall, None))
        if (version, holder) != (watch.version, watch.holder) or now >= watch.next_at or model.name in changed:
            found.append(model.name)
    return found


@dataclass
class _Series:
    """What a look makes of one monitor: its days from `start` on are written anew."""

    monitor: Monitor
    version: int
    start: int
    frontier: int | None
    """The last day that it had looked at."""
    judged: list[Judged] = field(default_factory=list)


class _Look:
    def __init__(self, store: Store, model: models.Model) -> None:
        self.store = store
        self.model = model
        with store.db.read() as tx:
            row = tx.execute(sa.select(watches).where(watches.c.model == model.name)).mappings().first()
            self.watch = Watch() if row is None else from_row(row, Watch)
            held = jobs.clock_holders(tx).get(model.name)
        self.holder = None if held is None else held[1]
        now = self.now = now_ms() if held is None else held[0]
        self.version = model.aliases.get("champion")
        grace = GRACE_MS if self.holder is None else 0
        self.last: dict[str, tuple[int, State]] = {}
        self.closed = (now - grace) // DAY * DAY
        self.next_at = self.closed + DAY + grace
        watch = self.watch
        same = watch.version is not None and watch.holder == self.holder and watch.now <= now
        self.since = watch.since if same else now
        try:
            self.delay = duration_ms(str(model.settings.get("label_delay") or "0h"))
        except InvalidInput:
            self.delay = 0

    def work(self, refreshed: int) -> int:
        if self.version is None:
            return self._stand_down() if self.watch.version is not None else 0
        if self.closed > refreshed and (self.closed > self.watch.closed or self.watch.version is None):
            predictions.refresh_performance(self.store)
        refresh, changed = predictions.changed_days(self.store, self.model.name, after=self.watch.refresh)
        changed = [day for day in changed if day.day < self.closed]
        here = (self.version, self.holder, self.closed)
        if not changed and here == (self.watch.version, self.watch.holder, self.watch.closed):
            return 0
        return self._fold(self.version, refresh, changed)

    def _fold(self, version: int, refresh: int, changed: Sequence[DayLoss]) -> int:
        store, model = self.store, self.model
        known = references.load(store, model.name, version)
        made: list[dict[str, Any]] = []
        if not known.whole:
            own = [day for day in self._days(_EVER) if day.version == version]
            made = references.make(store, model, version, known, own, self._labelled(own))
            known = references.made(known, made)
        columns = known.columns
        self.last = self._last_states(version)
        mine = min((day.day for day in changed if day.version == version), default=None)
        begun = [
            row["tested_from"] for row in made if row["kind"] in LOSSES
        ]  # days behind may have been looked at without it
        labels = min([*begun, *([] if mine is None else [mine])], default=None)
        every = min((day.day for day in changed), default=None)
        starts = [self._start("volume", every), self._start("loss", labels), self._start("data", mine)]
        starts.append(self._start("requests", mine))
        days = self._days(min(starts))
        own = [day for day in days if day.version == version]
        series = [self._volume(days, every), self._requests(version, own, mine)]
        if known.losses:
            series.append(self._loss(version, known.losses, own, labels))
        profiles = None
        if columns is not None:
            first = max(self._start("data", mine), columns.tested_from)
            low = first - (2 * columns.window + columns.quick) * DAY
            profiles = Profiles(store, model, version, columns, low=max(low, columns.tested_from, _EVER))
            recounted = profiles.count([day for day in own if day.day >= first])
            series += self._columns(version, columns, known.estimate, profiles, recounted)
        return self._write(version, refresh, [one for one in series if one is not None], made, profiles)

    def _last_states(self, version: int) -> dict[str, tuple[int, State]]:
        """By monitor the last day that it looked at and where it stood then."""
        mine = (table.c.model == self.model.name) & table.c.version.in_((0, version))
        last = sa.select(table.c.monitor, sa.func.max(table.c.day).label("day")).where(mine).group_by(table.c.monitor)
        ends = last.subquery()
        here = (ends.c.monitor == table.c.monitor) & (ends.c.day == table.c.day)
        with self.store.db.read() as tx:
            found = tx.execute(sa.select(table.c.monitor, table.c.day, table.c.state).join(ends, here).where(mine))
            return {row.monitor: (row.day, row.state) for row in found}

    def _start(self, monitor: Monitor, first: int | None) -> int:
        """The first day to look at: the one behind the last, or one before it that has changed."""
        behind = self.last[monitor][0] + DAY if monitor in self.last else _EVER
        return behind if first is None else min(first, behind)

    def _begin(self, monitor: Monitor, version: int, start: int) -> tuple[_Series, State | None]:
        """A series from a day on, and where it stood before."""
        day, state = self.last.get(monitor, (None, None))
        series = _Series(monitor, version, start, day)
        if day is None or day < start:
            return series, state
        query = (
            sa.select(table.c.state)
            .where(table.c.model == self.model.name, table.c.version == version)
            .where(table.c.monitor == monitor, table.c.day < start)
            .order_by(table.c.day.desc())
            .limit(1)
        )
        with self.store.db.read() as tx:
            return series, tx.execute(query).scalar()

    def _days(self, since: int) -> list[DayLoss]:
        """Days that are over, of all versions."""
        return predictions.performance(self.store, self.model.name, since=since, until=self.closed)

    def _loss(
        self, version: int, held_against: Sequence[LossReference], days: Sequence[DayLoss], first: int | None
    ) -> _Series:
        tested_from = min(each.tested_from for each in held_against)
        series, state = self._begin("loss", version, max(self._start("loss", first), tested_from))
        for day in self._labelled([day for day in days if day.day >= series.start]):
            series.judged.append(folding.fold_loss(held_against, state, day))
            state = series.judged[-1].state
        return series

    def _requests(self, version: int, days: Sequence[DayLoss], first: int | None) -> _Series:
        series, state = self._begin("requests", version, self._start("requests", first))
        some = [day for day in days if day.day >= series.start]
        if state is None and some:
            state = self._usual_before(some[0].day)
        failed: list[predictions.FailedDay] = []
        if bad := [day.day for day in some if day.failed]:
            ends = {"since": bad[0], "until": bad[-1] + DAY}
            failed = predictions.read_failures(self.store, self.model.name, version=version, **ends)
        for day in failing.requests_of(self.store, self.model.name, version, some, failed):
            series.judged.append(failing.fold_requests(state, day))
            state = series.judged[-1].state
        return series

    def _usual_before(self, day: int) -> State | None:
        """What was usual of another version's requests: a new one is asked by the same callers."""
        mine = (table.c.model == self.model.name) & (table.c.monitor == "requests") & (table.c.day <= day)
        query = sa.select(table.c.state).where(mine).order_by(table.c.day.desc(), table.c.version.desc()).limit(1)
        with self.store.db.read() as tx:
            before = tx.execute(query).scalar()
        return None if before is None else {"usual": before["usual"]}

    def _labelled(self, days: Sequence[DayLoss]) -> list[DayLoss]:
        """Days whose labels are in, in order, up to the first that waits for them."""
        return list(takewhile(self._ready, days))

    def _ready(self, day: DayLoss) -> bool:
        age = self.now - day.day - DAY - self.delay
        return age >= 0 and (day.labelled >= LABELLED * day.predictions or age >= DAY)

    def _volume(self, days: Sequence[DayLoss], first: int | None) -> _Series | None:
        """Whole days on the present clock, with rows or without, whichever version answered.

        A request that failed came with a row, at least: that it failed is told by another monitor.
        """
        start = max(self._start("volume", first), self.since // DAY * DAY + DAY)
        if start >= self.closed:
            return None
        rows: dict[int, int] = {}
        for day in days:
            rows[day.day] = rows.get(day.day, 0) + day.predictions + day.failed
        # Where a replay holds the clock, days after its last rows are its end, no outage: it goes on for the labels.
        end = min(self.closed, max(rows, default=start - DAY) + DAY) if self.holder else self.closed
        series, state = self._begin("volume", 0, start)
        for at in range(start, end, DAY):
            series.judged.append(folding.fold_volume(state, at, rows.get(at, 0), self.since))
            state = series.judged[-1].state
        return series

    def _columns(
        self,
        version: int,
        reference: ColumnsReference,
        estimator: EstimateReference | None,
        profiles: Profiles,
        recounted: int | None,
    ) -> list[_Series]:
        data, state = self._begin("data", version, self._start("data", recounted))
        for day in profiles.days(max(data.start, reference.tested_from, _EVER), self.closed):
            data.judged.append(folding.fold_data(reference, state, day, profiles.window(day, reference.quick)))
            state = data.judged[-1].state
        found = [data]
        born = state["born"] if state else None
        notes: list[tuple[Monitor, Callable[..., Judged]]] = [
            ("drift", folding.fold_drift),
            ("outputs", folding.fold_outputs),
            ("scale", folding.fold_scale),
        ]
        for monitor, fold in notes:
            series, state = self._begin(monitor, version, self._start(monitor, recounted))
            for last in self._windows(reference, profiles, born, series.start):
                window = profiles.window(last, reference.window)
                further = []
                if monitor == "scale":
                    good = (state or {}).get("before")
                    further.append([] if good is None else profiles.window(good, reference.window))
                series.judged.append(fold(reference, state, last, window, *further))
                state = series.judged[-1].state
            found.append(series)
        if estimator is not None:
            series, state = self._begin("estimate", version, self._start("estimate", recounted))
            for last in self._windows(reference, profiles, born, series.start):
                window = profiles.window(last, reference.window)
                answers = profiles.answers(last, reference.window)
                series.judged.append(folding.fold_estimate(estimator, reference, state, last, window, answers))
                state = series.judged[-1].state
            found.append(series)
        return found

    def _windows(self, reference: ColumnsReference, profiles: Profiles, born: int | None, start: int) -> list[int]:
        """The last days, from `start` on, of the windows that lie in the version's life whole, are over and have rows."""
        if born is None:
            return []
        long = reference.window * DAY
        if reference.tested_from and born >= reference.tested_from:
            born -= DAY  # its first day here is no first day: those before made the reference
        low = max(start - long, born)
        begins = {(day - MONDAY) // long * long + MONDAY for day in profiles.days(low, self.closed)}
        ends = sorted(begin + long - DAY for begin in begins if begin > born and begin + long <= self.closed)
        return [last for last in ends if last >= start]

    def _write(
        self,
        version: int,
        refresh: int,
        series: Sequence[_Series],
        made: list[dict[str, Any]],
        profiles: Profiles | None,
    ) -> int:
        moved = 0
        with self.store.db.write("monitors.observe") as tx:
            self._take_turn(tx, version, refresh)
            references.keep(self.store, tx, made)
            if profiles is not None:
                profiles.keep(tx)
            self._keep(tx, series)
            opened = incidents.opened_in(tx, self.model.name)
            for one in series:
                for judged, restated in _steps(one):
                    at = min(self.now, judged.day + DAY + (self.delay if one.monitor == "loss" else 0))
                    moved += incidents.reconcile(
                        tx,
                        self.store,
                        self.model.name,
                        version,
                        CAUSES[one.monitor],
                        judged.findings,
                        opened,
                        fine=judged.fine,
                        restated=restated,
                        at=at,
                    )
        return moved + sum(len(one.judged) for one in series)

    def _keep(self, tx: sa.Connection, series: Sequence[_Series]) -> None:
        for one in series:
            if one.frontier is not None and one.frontier >= one.start:
                mine = (table.c.model == self.model.name) & (table.c.version == one.version)
                tx.execute(sa.delete(table).where(mine, table.c.monitor == one.monitor, table.c.day >= one.start))
        rows = [
            {
                "model": self.model.name,
                "version": one.version,
                "monitor": one.monitor,
                "day": judged.day,
                "value": judged.value,
                "bound": judged.bound,
                "outcome": judged.outcome,
                "evidence": judged.evidence,
                "state": judged.state,
            }
            for one in series
            for judged in one.judged
        ]
        if rows:
            tx.execute(sa.insert(table), rows)

    def _take_turn(self, tx: sa.Connection, version: int | None, refresh: int) -> None:
        """Note the look, unless somebody else has looked since this one began."""
        values = {
            "version": version,
            "refresh": refresh,
            "closed": self.closed,
            "holder": self.holder,
            "since": self.since,
            "now": self.now,
            "next_at": self.next_at,
        }
        began = self.watch.turn
        if not began:
            self.store.db.upsert(tx, watches, {"model": self.model.name, "turn": 0, **values}, ["model"], update=[])
        mine = (watches.c.model == self.model.name) & (watches.c.turn == began)
        if tx.execute(sa.update(watches).where(mine).values(turn=began + 1, **values)).rowcount != 1:
            raise _Overtaken

    def _stand_down(self) -> int:
        """No version is live: what monitors had opened is over, and the next version begins anew."""
        query = sa.select(incidents_table).where(
            incidents_table.c.model == self.model.name,
            incidents_table.c.state == "open",
            incidents_table.c.cause.in_(AUTOMATIC),
        )
        with self.store.db.write("monitors.observe") as tx:
            self._take_turn(tx, None, self.watch.refresh)
            opened = [from_row(row, Incident) for row in tx.execute(query).mappings()]
            for incident in opened:
                incidents.resolve_in(tx, self.store, incident, "no version is live any more", at=self.now)
        return len(opened)


def _steps(one: _Series) -> list[tuple[Judged, bool]]:
    """The days that incidents follow: where it stood, as restated, then each new one."""
    frontier = one.frontier
    if frontier is None:
        return [(judged, False) for judged in one.judged]
    old = [judged for judged in one.judged if judged.day <= frontier]
    new = [(judged, False) for judged in one.judged if judged.day > frontier]
    return [*((judged, True) for judged in old[-1:]), *new]
