"""The monthly sample of versions that are made again: when it is due, what is drawn, once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from stead import fleet, jobs, ledger
from stead.config import load_settings
from stead.deployments.tables import deployments
from stead.errors import InvalidInput
from stead.fleet.sampling import ACTION, DAY_MS
from stead.ledger.tables import ledger as entries
from stead.pipelines.tables import reproductions
from stead.store import Store


def at(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def since(store: Store, day: str) -> None:
    """A store whose first record is of a day."""
    with store.db.engine.begin() as tx:
        if tx.execute(sa.select(entries.c.id)).first() is None:
            ledger.record(tx, actor="person:ada", action="x.y", subject="s", summary="s")
        tx.execute(sa.update(entries).values(at=at(day)))


def was_live(store: Store, ref: str, state: str = "live", ended: str | None = None) -> None:
    model, _, version = ref.partition("@")
    row = {"model": model, "version": int(version), "kind": "deploy", "state": state, "requested_by": "person:ada"}
    rest: dict[str, Any] = {"overrides": [], "steps": [], "plan": {}, "shares": [], "created_at": at("2026-01-01")}
    with store.db.engine.begin() as tx:
        tx.execute(sa.insert(deployments).values(**row, **rest, ended_at=at(ended) if ended else None))


def sampled(store: Store, now: str, number: int = 1) -> list[str] | None:
    """What is drawn at a moment; None where nothing was due."""
    before = drawn(store)
    fleet.sample_reproductions(store.acting("agent"), number, now=at(now))
    for job in jobs.open_jobs(store):
        jobs.cancel_job(store, job.id)
    after = drawn(store)
    if len(after) == len(before):
        return None
    with store.db.engine.begin() as tx:  # the entry was written at the time of the test
        newest = sa.select(sa.func.max(entries.c.id)).scalar_subquery()
        tx.execute(sa.update(entries).where(entries.c.id == newest).values(at=at(now)))
    found: list[str] = after[0].evidence["drawn"]
    return found


def drawn(store: Store) -> list[ledger.Entry]:
    return [each for each in ledger.list_entries(store) if each.action == ACTION]


def test_nothing_begins_in_an_empty_store_a_new_one_or_in_the_month_it_was_made(any_store: Store) -> None:
    store = any_store
    assert sampled(store, "2026-05-20") is None
    was_live(store, "m@1")
    since(store, "2026-04-28")
    assert sampled(store, "2026-04-30") is None, "the same month"
    assert sampled(store, "2026-05-02") is None, "too young, although the month is another one: a demo at its end"
    assert sampled(store, "2026-05-06") == ["m@1"]


def test_once_a_month_live_ones_first_and_none_twice(store: Store) -> None:
    for ref in ("a@2", "b@5", "c@1"):
        was_live(store, ref)
    was_live(store, "a@1", "replaced", "2026-03-01")
    was_live(store, "a@2", "replaced", "2026-03-01")  # it was live before, and is again
    was_live(store, "b@1", "rolled_back", "2025-06-01")
    was_live(store, "b@9", "refused", "2026-03-01")
    since(store, "2026-01-05")
    first = sampled(store, "2026-04-01T00:00:30", 2)
    assert first is not None and len(first) == 2 and set(first) <= {"a@2", "b@5", "c@1"}
    assert sampled(store, "2026-04-01T01:00:30", 2) is None and sampled(store, "2026-04-30T23:59:59", 2) is None
    second = sampled(store, "2026-05-01", 2)
    assert second is not None and second[0] in {"a@2", "b@5", "c@1"} - set(first) and second[1] == "a@1"
    assert sampled(store, "2026-06-01", 2) is None, "all were drawn, and b@1 was live too long ago"
    assert sampled(store, "2026-10-27", 2) is not None, "half a year later again"


def test_the_draw_is_no_ones_choice(store: Store) -> None:
    """Over months each of many live versions comes about as often: by chance, not by name."""
    for number in range(1, 5):
        was_live(store, f"m@{number}")
    since(store, "1990-01-01")
    counts = dict.fromkeys((f"m@{n}" for n in range(1, 5)), 0)
    for month in range(240):
        got = sampled(store, f"{2000 + month // 12}-{month % 12 + 1:02d}-03")
        if got:
            counts[got[0]] += 1
        with store.db.engine.begin() as tx:  # so that none is left out for having been drawn
            tx.execute(sa.delete(entries).where(entries.c.action == ACTION))
    assert sum(counts.values()) == 240 and all(40 < count < 80 for count in counts.values()), counts


def test_what_a_person_made_again_is_not_drawn(store: Store) -> None:
    was_live(store, "m@1")
    since(store, "2026-01-05")
    row = {"model": "m", "version": 1, "verdict": "identical", "difference": 0.0, "tolerance": 0.0, "evidence": {}}
    with store.db.engine.begin() as tx:
        tx.execute(sa.insert(reproductions).values(**row, job="j", by="person:ada", at=at("2026-03-20")))
    assert sampled(store, "2026-04-01") is None
    assert sampled(store, "2026-09-30") == ["m@1"]


def test_a_version_that_cannot_be_made_again_is_told_with_what_is_missing(store: Store) -> None:
    was_live(store, "m@1")
    since(store, "2026-01-05")
    assert sampled(store, "2026-04-01") == ["m@1"]
    (entry,) = drawn(store)
    assert (entry.actor, entry.evidence["jobs"]) == ("agent", []) and "m@1" in entry.evidence["missing"]
    assert "is not there any more" in entry.summary and jobs.list_jobs(store, kind="reproduce") == []


def test_none_where_none_is_wanted_and_a_clock_that_jumps_blocks_nothing(store: Store) -> None:
    was_live(store, "m@1")
    was_live(store, "n@1")
    since(store, "2026-01-05")
    assert sampled(store, "2026-04-01", 0) is None and sampled(store, "2026-04-01", -1) is None
    ahead = sampled(store, "2031-04-01")
    back = sampled(store, "2026-05-01")
    assert ahead is not None and back is not None and set(ahead) != set(back)
    assert sampled(store, "1999-01-01") is None


@pytest.mark.parametrize("value", ["-1", "many", "1.5"])
def test_the_setting_is_a_number(value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        load_settings(environ={"STEAD_REPRODUCE_SAMPLE": value})
    assert refused.value.code == "setting-invalid"
    assert load_settings(environ={}).reproduce_sample == 1 and DAY_MS == 24 * 3_600_000
    assert load_settings(environ={"STEAD_REPRODUCE_SAMPLE": "0"}).reproduce_sample == 0
