"""What monitors have seen: day by day, and now."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from stead import jobs, models, predictions
from stead.errors import InvalidInput, did_you_mean
from stead.monitors import references
from stead.monitors.failing import WORDS
from stead.monitors.incidents import list_incidents
from stead.monitors.references import DAY, FIRST_LABELLED, NAMES
from stead.monitors.tables import monitor_days as table
from stead.monitors.tables import profile_days
from stead.monitors.types import (
    MONITORS,
    Monitor,
    MonitorDay,
    Monitoring,
    MonitorView,
)
from stead.store import Store, from_row

WINDOWS: tuple[Monitor, ...] = ("estimate", "scale", "drift", "outputs")
"""Monitors that look at windows of some days."""
MODEL_WIDE = ("volume",)
"""Monitors that look at all versions together; their days have version 0."""


def monitor_days(
    store: Store,
    model: str,
    *,
    monitor: str | None = None,
    version: int | None = None,
    since: int | None = None,
    until: int | None = None,
) -> list[MonitorDay]:
    """What the monitors of a model said, by day; days from that of `since` to before `until`, milliseconds.

    Raises InvalidInput (`monitor-unknown`).
    """
    if monitor is not None and monitor not in MONITORS:
        hint = did_you_mean(monitor, MONITORS) or f"one of {', '.join(MONITORS)}"
        raise InvalidInput("monitor-unknown", f"there is no monitor {monitor!r}", hint=hint)
    query = sa.select(table).where(table.c.model == model).order_by(table.c.day, table.c.monitor, table.c.version)
    if monitor is not None:
        query = query.where(table.c.monitor == monitor)
    if version is not None:
        query = query.where(table.c.version.in_((0, version)))
    if since is not None:
        query = query.where(table.c.day >= since // DAY * DAY)
    if until is not None:
        query = query.where(table.c.day < until)
    with store.db.read() as tx:
        return [from_row(row, MonitorDay) for row in tx.execute(query).mappings()]


def monitoring(store: Store, model: str) -> Monitoring:
    """What the monitors of a model see now, and its open incidents. Raises NotFound (`model-unknown`)."""
    known = models.get_model(store, model)
    version = known.aliases.get("champion")
    views: list[MonitorView] = []
    if version is not None:
        held = references.load(store, model, version)
        with store.db.read() as tx:
            last = {name: _last(tx, model, 0 if name in MODEL_WIDE else version, name) for name in MONITORS}
            ends = {name: day.day for name in WINDOWS if (day := last[name]) is not None}
            seen = {name: _last_rows(tx, model, version, end) for name, end in ends.items()}
        without = {
            "loss": not held.losses,
            "estimate": held.estimate is None,
            **dict.fromkeys(("data", "scale", "drift", "outputs"), held.columns is None),
        }
        for name in MONITORS:
            day = last[name]
            if day is None:
                views.append(MonitorView(name, "unknown", _waits(store, model, version, name, without), None))
            else:
                last_day = seen.get(name, day.day)
                views.append(MonitorView(name, day.outcome, _said(day), last_day, day.value, day.bound))
    now = jobs.model_now(store, model)
    return Monitoring(model, version, now, views, list_incidents(store, model=model, state="open"))


def _last(tx: sa.Connection, model: str, version: int, monitor: Monitor) -> MonitorDay | None:
    query = sa.select(table).where(table.c.model == model, table.c.version == version, table.c.monitor == monitor)
    row = tx.execute(query.order_by(table.c.day.desc()).limit(1)).mappings().first()
    return None if row is None else from_row(row, MonitorDay)


def _last_rows(tx: sa.Connection, model: str, version: int, end: int) -> int:
    """The last day with rows in the window that ends with a day: it may go on behind them."""
    mine = (profile_days.c.model == model) & (profile_days.c.version == version) & (profile_days.c.day <= end)
    return int(tx.execute(sa.select(sa.func.max(profile_days.c.day)).where(mine)).scalar() or end)


def _waits(store: Store, model: str, version: int, monitor: Monitor, without: dict[str, bool]) -> str:
    if not without.get(monitor, False):
        return "waits for days that are over"
    if monitor == "loss":
        days = [day for day in predictions.performance(store, model) if day.version == version and day.weight_sum > 0]
        return f"waits for a reference: {min(len(days), FIRST_LABELLED)} of {FIRST_LABELLED} labelled days"
    if monitor == "estimate":
        return "no estimate without labels: the version has no time-ordered hold-out to read it off"
    return "waits for a reference: the first rows that it serves"


def _said(day: MonitorDay) -> str:
    proof = day.evidence
    if day.monitor == "loss":
        loss = proof.get("loss", proof.get("recent"))
        lately = "no labels yet" if loss is None else f"{loss:.4g} lately"
        if loss is not None and proof.get("days"):
            lately = f"{loss:.4g} of {proof['days']} labelled days"
        bounds = proof.get("bounds") or {}
        by = " and ".join(f"{bounds[source]:.4g} by its {name}" for source, name in NAMES.items() if source in bounds)
        more = ": more, but not beyond doubt yet" if day.outcome == "watching" else ""
        return f"{lately}, usual is at most {by}{more}"
    if day.monitor == "estimate":
        if day.value is None:
            return f"unknown: {proof['reason']}"
        return f"{day.value:.4g} without labels, usual is at most {day.bound:.4g}"
    if day.monitor == "requests":
        return _answered(proof)
    if day.monitor in ("data", "scale"):
        columns = sorted({name for each in proof.values() for name in each})
        return f"broken: {', '.join(columns)}" if columns else "as in the reference"
    if day.monitor == "volume":
        usual = proof.get("usual")
        return f"{day.value:.0f} rows" + ("" if usual is None else f", usually {usual:.0f}")
    far = sorted(proof, key=lambda name: -float(proof[name]["distance"]))[:3]
    return ", ".join(f"{name} {proof[name]['distance']:.2f}" for name in far) or "no rows to compare"


def _answered(proof: dict[str, Any]) -> str:
    """How many requests of a day got an answer."""
    bad = [f"{proof[cause]} {word}" for cause, word in WORDS.items() if proof[cause]]
    if not bad:
        return f"all {proof['requests']} were answered"
    return f"{proof['answered']} of {proof['requests']} were answered, {', '.join(bad)}"
