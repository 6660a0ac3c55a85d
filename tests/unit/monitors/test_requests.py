"""Requests that fail, as a fold: many healthy years, and breaks that are told on their first day."""

from __future__ import annotations

import numpy as np
import pytest

from stead.monitors.failing import Requests, fold_requests
from stead.monitors.references import DAY


@pytest.mark.parametrize(("rows", "mean"), [(24, 1.0), (60, 3.0), (288, 3.0), (288, 9.0), (5000, 20.0), (5000, 100.0)])
def test_a_few_refused_requests_a_day_page_at_most_once_a_model_year(rows: int, mean: float) -> None:
    """Their number is overdispersed: a day's rate has half of its mean as its deviation."""
    pages = 0
    for seed in range(20):
        random, state, was = np.random.default_rng(seed), None, False
        for day in range(365):
            refused = min(rows, int(random.poisson(random.gamma(4, mean / 4))))
            judged = fold_requests(state, Requests(day * DAY, rows, {400: refused}))
            pages += int(bool(judged.findings) > was)
            state, was = judged.state, bool(judged.findings)
    assert pages <= 20


@pytest.mark.parametrize(
    ("before", "status", "cause"), [(0, 400, "refused"), (30, 400, "refused"), (30, 503, "failed")]
)
def test_an_eighth_of_the_requests_is_told_on_the_first_day(before: int, status: int, cause: str) -> None:
    state = None
    for day in range(before):
        state = fold_requests(state, Requests(day * DAY, 288, {400: day % 4})).state
    for day in range(before, before + 40):
        judged = fold_requests(state, Requests(day * DAY, 288, {status: 36}, ["schema-null: temp"]))
        assert judged.findings[cause].since == before * DAY and judged.outcome == "alarm"
        state = judged.state
    for day in range(before + 40, before + 43):
        judged = fold_requests(state, Requests(day * DAY, 288, {400: 2}))
        state = judged.state
    assert judged.findings == {} and judged.fine == "286 of 288 requests were answered"
