"""Monitors as folds: many healthy years, and each break on its own, without a store."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest

from stead.monitors import folding
from stead.monitors.columns import OUTPUT, count
from stead.monitors.packing import Columns
from stead.monitors.references import DAY, ColumnsReference, LossReference, _counted, _made, _served_loss
from stead.predictions import DayLoss
from stead.stats.risk import risk_reference

ROWS = 24


def drawn(random: np.random.Generator, day: int, rows: int = ROWS) -> dict[str, Any]:
    """A day of an hourly model: a daily wave that wanders, rain that is mostly nothing, a weekday's level, nulls now and then."""
    hours = np.arange(rows) * 24 / rows
    weather = 5 * np.sin(day / 9) + random.normal(0, 2)
    x = 15 + 4 * np.sin(hours / 24 * 6.283) + weather + random.normal(0, 1, rows)
    rain = np.where(random.random(rows) < 0.1, random.gamma(2, 1, rows), 0.0)
    kind = ["work" if day % 7 < 5 else "home"] * rows
    level = random.choice(["a", "b", "c", "d"], rows, p=[0.5, 0.3, 0.15, 0.05]).tolist()
    holes = np.where(random.random(rows) < 0.02, np.nan, random.normal(0, 1, rows))
    return {
        "features.x": x,
        "features.rain": rain,
        "features.kind": kind,
        "features.level": level,
        "features.holes": holes,
        OUTPUT: x,
    }


def reference(seed: int, days: int = 84) -> ColumnsReference:
    random = np.random.default_rng(seed)
    parts = [drawn(random, day) for day in range(days)]
    columns: dict[str, Any] = {}
    for name in parts[0]:
        joined = [part[name] for part in parts]
        values = list(chain(*joined)) if isinstance(joined[0], list) else np.concatenate(joined)
        columns[name] = (values, values)
    times = np.concatenate([day * DAY + np.arange(ROWS) * DAY // ROWS for day in range(days)])
    made = _counted(columns, times, "hold-out", 0)
    assert made is not None
    return _made({"kind": "columns", **made})  # type: ignore[no-any-return]


def profile(of: ColumnsReference, values: dict[str, Any]) -> Columns:
    return {name: count(column, of.bins[name]) for name, column in values.items()}


def run(of: ColumnsReference, days: list[Columns], first: int) -> dict[str, list[folding.Finding]]:
    """All findings of the monitors of columns over days in order, as a look makes them."""
    found: dict[str, list[folding.Finding]] = {}
    states: dict[str, Any] = {}
    opened: set[str] = set()
    for place in range(len(days)):
        at = (first + place) * DAY
        judged = [folding.fold_data(of, states.get("data"), at, days[max(0, place - of.quick + 1) : place + 1])]
        if (place + 1) % of.window == 0 and place + 1 > of.window:
            window = days[place + 1 - of.window : place + 1]
            judged.append(folding.fold_drift(of, states.get("drift"), at, window))
            judged.append(folding.fold_outputs(of, states.get("outputs"), at, window))
            before = days[place + 1 - 2 * of.window : place + 1 - of.window]
            judged.append(folding.fold_scale(of, states.get("scale"), at, window, before))
        for each in judged:
            states[each.monitor] = each.state
            now = set(each.findings)
            for cause in now - opened:
                found.setdefault(cause, []).append(each.findings[cause])
            opened = (opened - set(folding.CAUSES[each.monitor])) | now
    return found


@pytest.mark.parametrize("seed", range(4))
def test_in_a_healthy_year_nothing_is_told_to_people(seed: int) -> None:
    of = reference(seed)
    assert (of.window, of.quick) == (7, 5)
    random = np.random.default_rng(100 + seed)
    found = run(of, [profile(of, drawn(random, 84 + day)) for day in range(365)], 84)
    assert [each for some in found.values() for each in some if each.severity == "page"] == []


@pytest.mark.parametrize(
    ("change", "cause", "column"),
    [
        (lambda day: day | {"features.x": np.where(np.arange(ROWS) < 3, np.nan, day["features.x"])}, "null", "x"),
        (lambda day: day | {"features.x": ["n/a"] * 3 + day["features.x"][3:].tolist()}, "type", "x"),
        (lambda day: day | {"features.level": [each.upper() for each in day["features.level"]]}, "unseen", "level"),
        (lambda day: day | {"features.x": day["features.x"] * 1.8 + 32}, "scale", "x"),
        (lambda day: day | {"features.holes": np.zeros(ROWS)}, "constant", "holes"),
    ],
)
def test_a_break_is_told_within_two_weeks_and_names_its_column(change: Any, cause: str, column: str) -> None:
    of = reference(7)
    random = np.random.default_rng(8)
    days = [profile(of, drawn(random, 84 + day)) for day in range(28)]
    days += [profile(of, change(drawn(random, 112 + day))) for day in range(14)]
    found = run(of, days, 84)
    (first, *_) = found[cause]
    assert first.severity == "page" and column in first.evidence["columns"] and first.summary.startswith(column)
    assert set(found) <= {cause, "drift", "outputs"}


def losses(random: np.random.Generator, days: int, start: int = 0, rise: float = 1.0) -> list[DayLoss]:
    """Days whose loss hangs together (AR 1, .4) around .3."""
    z, found = 0.0, []
    for day in range(start, start + days):
        z = 0.4 * z + 0.92 * random.normal()
        loss = rise * 0.3 * float(np.exp(0.2 * z - 0.02))
        found.append(DayLoss("m", day * DAY, 1, "mae", 24, 0, 24, loss, 24 * loss, 24.0, 0.0, 0.0))
    return found


def held_against(hold_out: list[DayLoss], first: list[DayLoss]) -> tuple[LossReference, LossReference]:
    sums = np.array([[day.loss_sum, day.weight_sum] for day in hold_out])
    of_served = _served_loss(first)
    assert of_served is not None
    served: LossReference = _made({"kind": "first-loss", **of_served})
    return LossReference(risk_reference(sums[:, 0], sums[:, 1]), "hold-out", 0), served


def test_a_loss_held_against_two_references_pages_at_most_once_a_model_year() -> None:
    """Measured on 100 model-years each: .03 here, .35 to .5 with a season of ±10 % that neither reference knows, .6 to .66 with ±30 %."""
    pages, noticed = 0, []
    for seed in range(12):
        random = np.random.default_rng(seed)
        judged, days = losses(random, 37), [*losses(random, 365), *losses(random, 60, 365, rise=1.5)]
        of, state, was = held_against(judged, days), None, False
        for day in days:
            found = folding.fold_loss(of, state, day)
            state = found.state
            pages += int(bool(found.findings) > was and day.day < 365 * DAY)
            was = bool(found.findings)
        noticed.append(found.findings["loss"].since // DAY - 365 if was else 60)
    assert pages <= 1 and np.median(noticed) < 30


def test_volume_knows_weekends_and_forgets_another_clock() -> None:
    state = None
    for day in range(56):
        judged = folding.fold_volume(state, day * DAY, 0 if day % 7 > 4 else 200, 1)
        assert judged.findings == {}
        state = judged.state
    assert folding.fold_volume(state, 56 * DAY, 30, 2).findings == {}
    daily = None
    for day in range(20):
        daily = folding.fold_volume(daily, day * DAY, 100 + day, 1).state
    for day in range(20, 30):
        judged = folding.fold_volume(daily, day * DAY, 0, 1)
        daily = judged.state
        assert judged.findings["few-rows"].since == 20 * DAY
    assert folding.fold_volume(daily, 30 * DAY, 120, 1).findings == {}
    assert folding.fold_volume(daily, 30 * DAY, 1000, 1).findings["many-rows"].severity == "note"


def test_a_date_as_text_and_a_value_a_day_are_no_break() -> None:
    random = np.random.default_rng(3)

    def day(number: int) -> dict[str, Any]:
        return {
            "features.date": [f"day {number}"] * ROWS,
            "features.tmin": np.full(ROWS, random.normal(0, 5)),
            OUTPUT: random.normal(0, 1, ROWS),
        }

    parts = [day(number) for number in range(84)]
    columns: dict[str, Any] = {}
    for name in parts[0]:
        joined = [part[name] for part in parts]
        values = list(chain(*joined)) if isinstance(joined[0], list) else np.concatenate(joined)
        columns[name] = (values, values[len(values) // 2 :])
    times = np.concatenate([number * DAY + np.arange(ROWS) * DAY // ROWS for number in range(42, 84)])
    made = _counted(columns, times, "hold-out", 0)
    assert made is not None
    of = _made({"kind": "columns", **made})
    found = run(of, [profile(of, day(number)) for number in range(84, 200)], 84)
    assert [each for some in found.values() for each in some if each.severity == "page"] == []
