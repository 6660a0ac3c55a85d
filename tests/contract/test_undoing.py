"""What `stead undo` takes back, and what it does not: a refusal by gates, and what was decided since."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from stead import deployments, gates, ledger, policies
from stead.api.undoing import undo
from stead.cli import cli
from stead.errors import Conflict
from stead.store import Store

sys.path.insert(0, str(Path(__file__).parent / "failpoints"))
import policies as world  # type: ignore[import-not-found]


def newest(store: Store, action: str) -> ledger.Entry:
    return next(entry for entry in ledger.list_entries(store, model="m") if entry.action == action)


def offered(store: Store, monkeypatch: pytest.MonkeyPatch, entry: ledger.Entry) -> list[bool]:
    """Whether the list of decisions and the decision itself name the command."""
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    commands = (["decisions"], ["decisions", "show", str(entry.id)])
    return [
        f"stead undo {entry.id}" in CliRunner().invoke(cli, each, catch_exceptions=False).output for each in commands
    ]


def test_a_refusal_is_overridden_not_undone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    world.trained(store)
    gates.keep_verdict(store, "m", 1, gates.Verdict("challenger", "failed", "worse"))
    for _ in range(2):
        assert policies.advance(store, policies.get_retraining(store, 1))
    refused = newest(store, "retraining.refused")
    assert offered(store, monkeypatch, refused) == [False, False]
    before = len(deployments.list_deployments(store))
    with pytest.raises(Conflict, match="is a refusal by gates") as error:
        undo(store, refused.id)
    assert error.value.code == "not-undoable"
    assert error.value.hint == "stead deploy m@1 --override challenger --reason …"
    assert len(deployments.list_deployments(store)) == before


def test_an_undo_is_offered_only_while_it_can_be_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    world.trained(store)
    with store.db.write("deployments.request") as tx:
        tx.execute(sa.update(world.deployments_table).values(state="withdrawn"))
    begun = newest(store, "retraining.begun")
    for _ in range(2):
        assert policies.advance(store, policies.get_retraining(store, 1))
    asked = newest(store, "approval.asked")
    assert offered(store, monkeypatch, asked) == offered(store, monkeypatch, begun) == [True, True]
    policies.approve(store.acting("person:eve"), "m", version=1)
    assert offered(store, monkeypatch, asked) == offered(store, monkeypatch, begun) == [False, False]
    with pytest.raises(Conflict, match="approved by person:eve meanwhile"):
        undo(store, asked.id)
