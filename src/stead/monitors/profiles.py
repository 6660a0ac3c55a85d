"""Days of served rows as histograms, in the bins of the version's reference; a day is counted once it is over, and anew when rows come late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from stead import models, predictions
from stead.monitors.columns import Values, count, outputs
from stead.monitors.packing import Columns, pack, unpack
from stead.monitors.references import DAY, ColumnsReference, served_values
from stead.monitors.tables import profile_days as table
from stead.predictions import DayLoss
from stead.store import Store

ROWS_AT_ONCE = 500_000


class Profiles:
    """The days of one version from `low` on: those that are stored, and those counted just now."""

    def __init__(
        self, store: Store, model: models.Model, version: int, reference: ColumnsReference, *, low: int
    ) -> None:
        self.store = store
        self.model = model
        self.version = version
        self.reference = reference
        self.fresh: dict[int, tuple[int, Columns]] = {}
        self._mine = (table.c.model == model.name) & (table.c.version == version)
        self._packed: dict[int, tuple[int, bytes]] = {}
        self._read: dict[int, Columns] = {}
        self._low = 1 << 60
        self._reach(low)

    def _reach(self, low: int) -> None:
        """Have the stored days from `low` on at hand."""
        if low < self._low:
            columns = (table.c.day, table.c.rows, table.c.histograms)
            inside = sa.and_(self._mine, table.c.day >= low, table.c.day < self._low)
            with self.store.db.read() as tx:
                self._packed |= {
                    row.day: (row.rows, row.histograms) for row in tx.execute(sa.select(*columns).where(inside))
                }
            self._low = low

    def days(self, since: int, until: int) -> list[int]:
        """Days of since <= day < until that have a profile, in order."""
        self._reach(since)
        return sorted(day for day in self._packed.keys() | self.fresh.keys() if since <= day < until)

    def count(self, served: Sequence[DayLoss]) -> int | None:
        """Count the days whose rows are not those that were counted; the first of them, or None."""
        if not served:
            return None
        self._reach(served[0].day)
        known = {day: rows for day, (rows, _) in self._packed.items()}
        missing = [day for day in served if day.predictions and known.get(day.day) != day.predictions]
        for part in _parts(missing):
            got = predictions.read_columns(
                self.store, self.model.name, version=self.version, since=part[0].day, until=part[-1].day + DAY
            )
            self._count(got, {day.day for day in part})
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
        return [self._of(day) for day in self.days(last - (days - 1) * DAY, last + DAY)]

    def answers(self, last: int, days: int) -> Values:
        """What the version answered on the `days` that end with day `last`, row by row."""
        since = last - (days - 1) * DAY
        got = predictions.read_columns(self.store, self.model.name, version=self.version, since=since, until=last + DAY)
        return outputs(got["output"], got["output_json"])

    def _of(self, day: int) -> Columns:
        if day in self.fresh:
            return self.fresh[day][1]
        if day not in self._read:
            self._read[day] = unpack(self._packed[day][1])[0]
        return self._read[day]

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
