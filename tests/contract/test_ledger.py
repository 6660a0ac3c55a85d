"""The ledger: written with the change, listed, undone once, sealed by checkpoints; on every database."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from stead import ledger, policies
from stead.api.undoing import undo
from stead.errors import Conflict, Failed, NotFound
from stead.ledger import Undo
from stead.ledger.tables import ledger as table
from stead.store import Store

NAME = "ledger.checkpoint"  # any registered name


def record(store: Store, **fields: Any) -> int:
    given = {"actor": store.actor, "action": "alias.set", "subject": "alias bikes champion", "summary": "moved"}
    with store.db.write(NAME) as tx:
        return ledger.record(tx, **{**given, **fields})


def test_entries_come_back_as_they_were(any_store: Store) -> None:
    back = Undo("models.set_alias", {"model": "bikes", "alias": "champion", "version": 1})
    number = record(any_store, model="bikes", reason="better", evidence={"loss": [0.1, None]}, undo=back, event_time=7)
    entry = ledger.get_entry(any_store, number)
    assert (entry.actor, entry.action, entry.model, entry.reason) == (any_store.actor, "alias.set", "bikes", "better")
    assert (entry.evidence, entry.undo, entry.event_time, entry.undone_by) == ({"loss": [0.1, None]}, back, 7, None)


def test_lists_are_newest_first_and_go_on(any_store: Store) -> None:
    numbers = [record(any_store, model="bikes" if n % 2 else "other") for n in range(7)]
    assert [entry.id for entry in ledger.list_entries(any_store)] == numbers[::-1]
    assert [entry.id for entry in ledger.list_entries(any_store, model="bikes")] == [numbers[5], numbers[3], numbers[1]]
    assert [entry.id for entry in ledger.list_entries(any_store, before=numbers[4], limit=2)] == [
        numbers[3],
        numbers[2],
    ]


def test_an_entry_that_is_not_there(any_store: Store) -> None:
    with pytest.raises(NotFound) as raised:
        ledger.get_entry(any_store, 7)
    assert raised.value.code == "decision-unknown"


def test_a_decision_is_undone_once(any_store: Store) -> None:
    first = record(any_store)
    taken_back = record(any_store, undoes=first)
    assert ledger.get_entry(any_store, first).undone_by == taken_back
    with pytest.raises(Conflict) as raised:
        record(any_store, undoes=first)
    assert raised.value.code == "already-undone"
    assert len(ledger.list_entries(any_store)) == 2


def test_an_entry_goes_with_its_change(any_store: Store) -> None:
    with pytest.raises(ZeroDivisionError), any_store.db.write(NAME) as tx:
        assert ledger.record(tx, actor="me", action="x.made", subject="x", summary="x") / 0
    assert ledger.list_entries(any_store) == []


@pytest.mark.parametrize("damage", ["altered", "removed", "inserted"])
def test_what_is_altered_later_is_found(any_store: Store, damage: str) -> None:
    assert ledger.checkpoint(any_store) is None
    numbers = [record(any_store, evidence={"n": n}) for n in range(3)]
    ledger.checkpoint(any_store)
    numbers += [record(any_store) for _ in range(2)]
    point = ledger.checkpoint(any_store)
    assert point is not None
    assert point.last_entry == numbers[4]
    assert ledger.checkpoint(any_store) is None
    record(any_store)
    assert ledger.verify(any_store) == numbers[4]
    with any_store.db.write(NAME) as tx:
        if damage == "altered":
            tx.execute(sa.update(table).where(table.c.id == numbers[1]).values(evidence={"n": 7}))
        elif damage == "removed":
            tx.execute(sa.delete(table).where(table.c.id == numbers[4]))
        else:
            values = {"id": numbers[0] - 1, "at": 0, "actor": "x", "action": "x", "subject": "x", "summary": "x"}
            tx.execute(sa.insert(table).values({**values, "evidence": {}, "alternatives": []}))
    with pytest.raises(Failed) as raised:
        ledger.verify(any_store)
    assert raised.value.code == "ledger-altered"


def test_what_holds_no_more_is_not_undone_and_no_other_decision_is_shown_for_it(any_store: Store) -> None:
    policies.freeze(any_store)
    frozen = ledger.list_entries(any_store)[0]
    policies.thaw(any_store)
    with pytest.raises(Conflict) as raised:
        undo(any_store, frozen.id)
    assert raised.value.code == "already-undone" and "holds no more" in raised.value.message
    assert len(ledger.list_entries(any_store)) == 2
