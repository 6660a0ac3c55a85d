"""The page of worth: the answer first, every input with its source, and a form that keeps answers or only tries them out."""

from __future__ import annotations

import json
import re

import pytest
from asking import Site
from bs4 import BeautifulSoup

from stead import ledger, maturity
from stead.api import tokens
from stead.runtime import typed

THREE = {"models": "3", "depends": "yes", "retrains": "50", "people": "3"}


def verdict(page: BeautifulSoup) -> str:
    found = page.select_one(".verdict")
    assert found is not None
    return " ".join(found.get_text().split())


def rows(page: BeautifulSoup, label: str) -> dict[str, list[str]]:
    table = page.select_one(f'[aria-label="{label}"] table')
    assert table is not None
    out = {}
    for row in table.select("tbody tr:not(.group)"):
        head = row.select_one("th")
        assert head is not None
        out[" ".join(head.get_text().split())] = [" ".join(cell.get_text().split()) for cell in row.select("td")]
    return out


def test_an_empty_store_has_its_answer_and_the_default_case(bare: Site) -> None:
    page = bare.page("/worth")
    assert verdict(page).startswith("Not yet. Nothing is known of models in production here.")
    assert "The right time is while the first model goes to production" in verdict(page)
    inputs = rows(page, "Inputs")
    assert len(inputs) == 8 and {cells[3] for cells in inputs.values()} == {"default"}
    assert inputs["Work by hand for a deployment h"][:3] == ["2", "3", "4"]
    assert len(rows(page, "Conditions")) == 8
    assert rows(page, "Business case")["Deployments by hand"][1] == "100 to 200 h"
    assert "33 to 77 months" in page.get_text() and "hours won since the beginning by month" in str(page)
    assert {field["name"] for field in page.select("#answers input, #answers select")} == {
        q.name for q in maturity.QUESTIONS
    }
    assert page.select_one("script:not([src])") is None and page.select_one("[style]") is None


def test_a_form_keeps_answers_and_takes_them_away(bare: Site) -> None:
    kept = bare.ask("/worth", "POST", data=THREE | {"late": "", "hours": " "})
    assert kept.status_code == 303 and kept.headers["location"] == "/worth"
    assert {each.question for each in maturity.list_answers(bare.store)} == set(THREE)
    page = bare.page("/worth")
    assert verdict(page).startswith("Yes.") and "10 to 21" in page.get_text()
    field = page.select_one('#answers input[name="models"]')
    assert field is not None and field["value"] == "3"
    chosen = page.select_one('#answers select[name="depends"] option[selected]')
    assert chosen is not None and chosen.get_text() == "yes"
    assert rows(page, "Inputs")["Models in production"][3] == "interview"
    bare.ask("/worth", "POST", data=THREE | {"models": "", "people": "4"})
    assert {each.question: maturity.said(each.value) for each in maturity.list_answers(bare.store)} == {
        "depends": "yes",
        "retrains": "50",
        "people": "4",
    }
    assert [each.action for each in ledger.list_entries(bare.store)] == ["worth.answered"] * 2


def test_what_is_tried_out_stands_in_the_address_and_is_not_kept(bare: Site) -> None:
    bare.ask("/worth", "POST", data=THREE)
    page = bare.page("/worth?models=1&depends=yes&retrains=50&late=")
    assert verdict(page).startswith("Not yet.") and "with 3 such models (now 1)" in verdict(page)
    assert "tried out, not kept" in page.get_text() and "models 1" in page.get_text()
    assert rows(page, "What decides")["Models in production"][-1] == "changes at 2"
    assert "The answer changes with" in page.get_text()
    assert len(maturity.list_answers(bare.store)) == 4
    assert verdict(bare.page("/worth")).startswith("Yes.")


def test_as_json(bare: Site) -> None:
    found = json.loads(bare.ask("/worth?format=json&models=2").text)
    assert (found["answer"], found["stage"], found["case"]["inputs"][0]["likely"]) == ("not yet", 1, 2)
    assert found["known"]["models"]["said"] == "tried out, not kept"


def test_over_http_it_is_the_same(bare: Site) -> None:
    maturity.answer(bare.store, {"models": 3, "hours": "2-4"})
    asked = bare.ask("/api/v1/maturity.worth", "POST", json={"trying": {"depends": "yes", "retrains": [50]}})
    assert asked.status_code == 200, asked.text
    trying = {"depends": True, "retrains": 50}
    assert typed.convert(json.loads(asked.text), maturity.Worth) == maturity.worth(bare.store, trying=trying)
    refused = bare.ask("/api/v1/maturity.answer", "POST", json={"answers": {"models": "many"}})
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "answer-invalid"


@pytest.mark.parametrize("address", ["/worth?models=many", "/worth?hours=4-2", "/worth?depends=perhaps"])
def test_a_bad_answer_is_said(bare: Site, address: str) -> None:
    page = bare.page(address, 400)
    assert "answer-invalid" in page.get_text()
    name, _, value = address.partition("?")[2].partition("=")
    refused = bare.ask("/worth", "POST", data={name: value, "people": "3"})
    assert refused.status_code == 400 and maturity.list_answers(bare.store) == []


def test_contradictions_are_named(bare: Site) -> None:
    page = bare.page("/worth?static=yes&retrains=50&models=3")
    (named,) = page.select("li .chip.warn")
    assert named.get_text() == "contradiction" and "the figure counts" in str(named.parent)


@pytest.mark.parametrize("name", ["models", "retrains", "hours", "build", "review", "weeks", "fte", "horizon"])
def test_a_zero_breaks_no_picture(bare: Site, name: str) -> None:
    fields = {"models": "3", "depends": "yes", "retrains": "50", name: "0"}
    page = bare.page("/worth?" + "&".join(f"{key}={value}" for key, value in fields.items()))
    text = str(page.select_one("main"))
    assert not re.search(r"\b(nan|inf)\b", text)


def test_a_store_with_records_answers_from_them(site: Site) -> None:
    page = site.page("/worth")
    conditions = rows(page, "Conditions")
    assert conditions["One person alone"][1] == "record"
    assert rows(page, "Inputs")["Models in production"][3] == "record"
    measured = page.select_one("aside")
    assert measured is not None and "Hours saved so far" in measured.get_text()


def test_roles(own: Site) -> None:
    reader = tokens.create_token(own.store, "reader", role="read").secret
    tokens.create_token(own.store, "boss", role="admin")
    asks = {"authorization": f"Bearer {reader}"}
    page = BeautifulSoup(own.ask("/worth", headers=asks).text, "html.parser")
    assert [button.get_text() for button in page.select("#answers button")] == ["Try out"]
    refused = own.ask("/worth", "POST", data=THREE, headers=asks)
    assert refused.status_code == 403 and maturity.list_answers(own.store) == []
