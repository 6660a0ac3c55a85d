"""Days of served rows as histograms, in the bins of the version's reference; a day is counted once it is over, and anew when rows come late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from stead import models, predictions
from stead.monitors.columns import count
from stead.monitors.packing import Columns, pack, unpack
from stead.monitors.references import DAY, ColumnsReference, served_values
from stead.monitors.tables import profile_days as table
from stead.predictions import DayLoss
from stead.store import Store

ROWS_AT_ONCE = 500_000


class Profiles:
    """The days of one version: those that are stored, and those counted just now."""

    def __init__(self, store: Store, model: models.Model, version: int, reference: ColumnsReference) -> None:
        self.store = store
        self.model = model
        self.version = version
        self.reference = reference
        self.fresh: dict[int, tuple[int, Columns]] = {}
        self._mine = (table.c.model == model.name) & (table.c.version == version)
        self._read: dict[int, Columns] = {}
        self._known: list[int] | None = None

    @property
    def days(self) -> list[int]:
        """Days that have a profile, in order."""
        if self._known is None:
            with self.store.db.read() as tx:
                stored = set(tx.execute(sa.select(table.c.day).where(self._mine)).scalars())
            self._known = sorted(stored | set(self.fresh))
        return self._known

    def count(self, served: Sequence[DayLoss]) -> int | None:
        """Count the days whose rows are not those that were counted; the first of them, or None."""
        if not served:
            return None
        inside = table.c.day.between(served[0].day, served[-1].day)
        with self.store.db.read() as tx:
            known = {
                row.day: row.rows for row in tx.execute(sa.select(table.c.day, table.c.rows).where(self._mine, inside))
            }
        missing = [day for day in served if day.predictions and known.get(day.day) != day.predictions]
        for part in _parts(missing):
            got = predictions.read_columns(
                self.store, self.model.name, version=self.version, since=part[0].day, until=part[-1].day + DAY
            )
            self._count(got, {day.day for day in part})
        self._known = None
        return missing[0].day if missing else None

    def _count(self, got: Any, wanted: set[int]) -> None:
        import numpy as np

        found = served_values(got, self.model.settings.get("time"))
        days = got["event_time"].to_numpy() // DAY * DAY
        for day in np.unique(days).tolist():
            if day in wanted:
                low, high = (int(np.searchsorted(days, day, side)) for side in ("left", "right"))
                columns = {
                    name: count(found[name][low:high], bins)
                    for name, bins in self.reference.bins.items()
                    if name in found
                }
                self.fresh[day] = (high - low, columns)

    def window(self, last: int, days: int) -> list[Columns]:
        """The profiles of the `days` that end with day `last`."""
        return self.between(last - (days - 1) * DAY, last)

    def between(self, first: int, last: int) -> list[Columns]:
        """The profiles of the days from `first` to `last`."""
        wanted = [day for day in self.days if first <= day <= last]
        absent = [day for day in wanted if day not in self._read and day not in self.fresh]
        if absent:
            # the days before a day are asked for next: windows overlap
            inside = table.c.day.between(absent[0], absent[-1] + 64 * DAY)
            with self.store.db.read() as tx:
                for row in tx.execute(sa.select(table.c.day, table.c.histograms).where(self._mine, inside)):
                    self._read[row.day] = unpack(row.histograms)[0]
        return [self.fresh[day][1] if day in self.fresh else self._read[day] for day in wanted]

    def keep(self, tx: sa.Connection) -> None:
        rows = [
            {"model": self.model.name, "version": self.version, "day": day, "rows": rows, "histograms": pack([columns])}
            for day, (rows, columns) in sorted(self.fresh.items())
        ]
        self.store.db.upsert(tx, table, rows, ["model", "version", "day"])


def _parts(days: list[DayLoss]) -> list[list[DayLoss]]:
    """Days that are read at once: few rows, and nothing much between them."""
    parts: list[list[DayLoss]] = []
    for day in days:
        last = parts[-1] if parts else None
        near = last is not None and day.day - last[-1].day <= 7 * DAY
        if last is not None and near and sum(each.predictions for each in last) + day.predictions <= ROWS_AT_ONCE:
            last.append(day)
        else:
            parts.append([day])
    return parts
