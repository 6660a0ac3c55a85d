"""A model's clock: the wall's, where a replay holds it, or where its last replay ended."""

from __future__ import annotations

import sqlalchemy as sa

from stead import jobs, ledger
from stead.maturity.clocks import DAY_MS, clock_of, clocks
from stead.models.tables import models
from stead.predictions.tables import performance
from stead.runtime.clock import now_ms, to_ms
from stead.store import Store


def known(store: Store, name: str, **settings: str) -> None:
    with store.db.engine.begin() as tx:
        tx.execute(
            sa.insert(models).values(
                name=name, description="", level="record", loss="mae", settings=settings, created_at=0, updated_at=0
            )
        )


def answered(store: Store, model: str, day: int, *, at: int) -> None:
    row = {"model": model, "day": day // DAY_MS * DAY_MS, "version": 1, "role": "", "measure": "mae", "predictions": 3}
    sums = dict.fromkeys(("failed", "labelled", "loss_sum", "weight_sum", "prediction_sum", "label_sum", "refresh"), 0)
    with store.db.engine.begin() as tx:
        tx.execute(sa.insert(performance).values(**row, **sums, updated_at=at))


def test_without_rows_and_with_todays_it_is_the_walls(store: Store) -> None:
    known(store, "a")
    known(store, "b", label_delay="30d")
    now = now_ms()
    answered(store, "b", now - 20 * DAY_MS, at=now)
    assert {name: clock.as_of for name, clock in clocks(store).items()} == {"a": "now", "b": "now"}
    assert clock_of(store, "a").moment(5, None) == 5 and clock_of(store, "a").moment(5, 3) == 3
    assert abs(clock_of(store, "nowhere").now - now) < 60_000


def test_a_replay_leaves_it_where_it_ended(store: Store) -> None:
    known(store, "a")
    end = to_ms("2014-12-31")
    answered(store, "a", to_ms("2014-01-01"), at=now_ms())
    answered(store, "a", end, at=now_ms())
    with store.db.engine.begin() as tx:
        ledger.record(
            tx, actor="agent", action="x.y", subject="s", summary="s", model="a", event_time=to_ms("2014-03-01")
        )
    found = clock_of(store, "a")
    assert (found.now, found.as_of) == (end + DAY_MS, "the end of its last replay")
    assert found.moment(now_ms() + 1, None) == to_ms("2014-03-01")
    assert found.moment(0, None) == to_ms("2014-01-01"), "before the first decision: its first day"


def test_a_replay_holds_it(store: Store) -> None:
    known(store, "a")
    jobs.hold_clock(store, "a", now=to_ms("2012-05-01"), holder="r")
    assert clock_of(store, "a").now == to_ms("2012-05-01")
