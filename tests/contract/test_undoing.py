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
sys.path.insert(0, str(Path(__file__).parent))
import policies as world  # type: ignore[import-not-found]
from displaced import Displaced


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


def test_what_has_been_overtaken_is_not_undone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It went back to the version before the one that had taken over then, whatever answered by now."""
    circle = Displaced(store)
    circle.live()
    circle.swap(2)
    first = newest(store, "route.changed")
    assert offered(store, monkeypatch, first) == [True, True]
    circle.swap(3)
    assert offered(store, monkeypatch, first) == [False, False]
    assert offered(store, monkeypatch, newest(store, "route.changed")) == [True, True]
    assert offered(store, monkeypatch, newest(store, "deployment.requested")) == [False, False], "it has ended"
    with pytest.raises(Conflict, match="m@3 answers since") as error:
        undo(store, first.id)
    assert (
        error.value.code == "moved-on" and error.value.hint is not None and "stead rollback m --to" in error.value.hint
    )
    assert deployments.live_deployment(store, "m").version == 3
    undo(store, newest(store, "route.changed").id)  # asked for: version 2 is loaded first, where it is not warm
    assert deployments.under_way(store, "m") is not None or deployments.live_deployment(store, "m").version == 2
