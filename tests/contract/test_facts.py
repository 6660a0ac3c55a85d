"""Whose a model is, how much it matters and what its loss costs: by hand, by stead.toml, and which of both holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from watched import Watched

from stead import ledger, models, policies
from stead.api.undoing import undo
from stead.cli import cli
from stead.config import PolicyConfig, RolloutConfig, load_project
from stead.errors import InvalidInput, NotFound
from stead.pipelines import Spec, pack
from stead.store import Store

SPEC = Spec(
    project="p", model="m", entry="m.py", module="m", files={}, target="y", time="t", loss="mae", label_delay="0h",
    dataset="m", timeout_s=60, python=None, requirements=["six"], requirements_file=None, root="/nowhere",
)  # fmt: skip
TOML = """[project]
requirements = ["six"]
[models.p]
code = "p.py"
target = "y"
"""


def told(store: Store) -> tuple[str | None, str, float | None, str | None]:
    model = models.get_model(store, "m")
    return model.owner, model.importance, model.loss_value, model.currency


def entries(store: Store) -> list[ledger.Entry]:
    return [entry for entry in ledger.list_entries(store, model="m") if entry.action == "facts.set"]


def push(store: Store, **facts: Any) -> None:
    policies.push(store, "m", spec=replace(SPEC, **facts), policy=PolicyConfig(), rollout=RolloutConfig())


def test_they_are_set_by_hand_and_taken_back(any_store: Store) -> None:
    store = any_store
    Watched(store).live()
    assert told(store) == (None, "normal", None, None)
    models.set_facts(store, "m", owner=" ada ", importance="high", reason="asked around")
    models.set_facts(store, "m", loss_value=0.02, currency="EUR")
    assert told(store) == ("ada", "high", 0.02, "EUR")
    assert models.get_model(store, "m").settings["label_delay"] == "0h"
    last = entries(store)[0]
    assert last.summary == "m: a unit of its loss costs 0.02; its currency is EUR" and last.actor == "person:ada"
    assert last.evidence["before"] == {"owner": "ada", "importance": "high"}
    assert entries(store)[1].reason == "asked around"
    models.set_facts(store, "m", owner="ada")
    assert len(entries(store)) == 2, "the same again changes nothing"
    models.set_facts(store, "m", currency="USD")
    for number, after in ((0, "EUR"), (2, None)):
        undo(store, entries(store)[number].id)
        assert models.get_model(store, "m").currency == after
    assert told(store) == ("ada", "high", None, None)
    models.set_facts(store, "m", loss_value=3, currency="EUR")
    models.set_facts(store, "m", owner="", importance="", loss_value=0)
    assert told(store) == (None, "normal", None, None)
    undo(store, entries(store)[0].id)
    assert told(store) == ("ada", "high", 3.0, "EUR")


@pytest.mark.parametrize(
    ("facts", "code", "said"),
    [
        ({}, "facts-missing", "nothing was said"),
        ({"owner": "  "}, "facts-invalid", "owner is '  '"),
        ({"owner": "a\nb"}, "facts-invalid", "owner"),
        ({"owner": "a\x00b"}, "facts-invalid", "owner"),
        ({"owner": "x" * 101}, "facts-invalid", "owner"),
        ({"importance": "hihg"}, "facts-invalid", "importance is 'hihg'"),
        ({"loss_value": -1.0, "currency": "EUR"}, "facts-invalid", "loss_value is -1.0"),
        ({"loss_value": float("nan"), "currency": "EUR"}, "facts-invalid", "loss_value is nan"),
        ({"loss_value": 1e300, "currency": "EUR"}, "facts-invalid", "loss_value is 1e+300"),
        ({"loss_value": 1.0, "currency": "euro"}, "facts-invalid", "currency is 'euro'"),
        ({"loss_value": 1.0}, "currency-missing", "needs a currency"),
        ({"currency": "EUR"}, "loss-value-missing", "a currency says nothing"),
        ({"owner": "bob", "importance": "huge"}, "facts-invalid", "importance"),
    ],
)
def test_what_makes_no_sense_changes_nothing(store: Store, facts: dict[str, Any], code: str, said: str) -> None:
    Watched(store).live()
    with pytest.raises(InvalidInput) as refused:
        models.set_facts(store, "m", **facts)
    assert refused.value.code == code and said in refused.value.message and refused.value.hint
    assert told(store) == (None, "normal", None, None) and not entries(store)


def test_a_model_that_does_not_exist_has_none(store: Store) -> None:
    with pytest.raises(NotFound, match="no model"):
        models.set_facts(store, "n", owner="ada")


def test_stead_toml_holds_where_it_says_something_and_leaves_the_rest(any_store: Store) -> None:
    store = any_store
    push(store, owner="eve")
    watched = Watched(store)
    watched.live()
    assert told(store)[0] is None, "what was handed over before there was a model comes with its first training"
    push(store, owner="eve")
    models.set_facts(store, "m", owner="ada", importance="low", loss_value=0.5, currency="EUR")
    watched.live()
    assert told(store) == ("ada", "low", 0.5, "EUR"), "a registration that says nothing of them changes none"
    push(store)
    assert told(store) == ("ada", "low", 0.5, "EUR")
    push(store, owner="bob", loss_value=2, currency="CHF")
    assert told(store) == ("bob", "low", 2.0, "CHF")
    assert models.get_model(store, "m").settings["policy"] == 3
    logged = models.get_version(store, "m@1").logged_model
    said = {"target": "y", **replace(SPEC, importance="high").facts}
    models.register(store, "m", logged, settings=said, serving_env={"A": "1"})
    assert told(store) == ("bob", "high", 2.0, "CHF") and models.get_model(store, "m").settings["target"] == "y"
    assert [entry.summary for entry in entries(store)][:2] == [
        "m: its importance is high",
        "m: its owner is bob; a unit of its loss costs 2; its currency is CHF",
    ]
    with pytest.raises(InvalidInput, match="currency"):
        models.register(store, "m", logged, settings={"currency": "Euro"}, serving_env={"A": "2"})
    with pytest.raises(InvalidInput, match="owner"):
        push(store, owner="a\tb")
    assert told(store)[0] == "bob" and len(models.list_versions(store, "m")) == 3


def test_a_project_hands_them_over(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text("")
    said = 'owner = "ada"\nimportance = "high"\nloss_value = 2\ncurrency = "EUR"\n'
    (tmp_path / "stead.toml").write_text(TOML + said)
    packed = pack(load_project(tmp_path), "p", lambda data: "d" * 64)
    assert packed.facts == {"owner": "ada", "importance": "high", "loss_value": 2, "currency": "EUR"}
    (tmp_path / "stead.toml").write_text(TOML)
    without = pack(load_project(tmp_path), "p", lambda data: "d" * 64)
    assert without.facts == {} and without.recipe == packed.recipe, "whose it is makes no other version"


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        ("owner = 5", "line 6: models.p.owner is 5", "who answers"),
        ('owner = ""', "line 6: models.p.owner is ''", "who answers"),
        ('importance = "hihg"', "line 6: models.p.importance is 'hihg'", "did you mean 'high'?"),
        ('loss_value = "2"\ncurrency = "EUR"', "line 6: models.p.loss_value is '2'", "above 0"),
        ('currency = "EUR"\nloss_value = 0', "line 7: models.p.loss_value is 0", "above 0"),
        ("loss_value = true", "line 6: models.p.loss_value is True", "above 0"),
        ("loss_value = 2", "line 6: models.p.loss_value says nothing without currency", '"EUR"'),
        ('currency = "EUR"', "line 6: models.p.currency says nothing without loss_value", "0.02"),
        ('currency = "Euro"\nloss_value = 1', "line 6: models.p.currency is 'Euro'", "ISO 4217"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(tmp_path: Path, line: str, said: str, hint: str) -> None:
    (tmp_path / "p.py").write_text("")
    (tmp_path / "stead.toml").write_text(TOML + line + "\n")
    with pytest.raises(InvalidInput) as refused:
        load_project(tmp_path)
    assert said in refused.value.message and hint in (refused.value.hint or "")


def test_by_command(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    Watched(store).live()
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    run = CliRunner()
    assert "nobody (stead models set m --owner NAME)" in run.invoke(cli, ["models", "show", "m"]).stdout
    words = ["models", "set", "m", "--owner", "ada", "--loss-value", "0.02", "--currency", "EUR"]
    said = run.invoke(cli, words, catch_exceptions=False)
    assert said.stdout == "m: owner ada, importance normal; a unit of its loss costs 0.02 EUR\n" and not said.stderr
    shown = run.invoke(cli, ["models", "show", "m"]).stdout
    assert "ada" in shown and "0.02 EUR" in shown
    push(store, owner="eve")
    said = run.invoke(cli, ["models", "set", "m", "--owner", "bob", "--json"], catch_exceptions=False)
    assert json.loads(said.stdout)["settings"]["owner"] == "bob"
    said = run.invoke(cli, ["models", "set", "m", "--owner", "carl"], catch_exceptions=False)
    assert "stead.toml says owner = 'eve', which holds again" in said.stderr
    for words in (["--importance", "huge"], ["--loss-value", "x"], ["--loss-value", "nan"], []):
        assert run.invoke(cli, ["models", "set", "m", *words]).exception is not None
    assert told(store) == ("carl", "normal", 0.02, "EUR")
