"""Each kind of incident has a page, each error that an operator may have to act on an entry, and none is made up."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import get_args

import pytest

from stead.cli import runbook
from stead.monitors.types import Kind
from tests.support import commands
from tools import docs

FOLDER = Path(__file__).parent.parent.parent / "docs" / "runbook"
SECTIONS = [
    "What it means",
    "What stead has done",
    "What to look at",
    "What to do",
    "How it ends",
    "So that it does not come again",
]
ACT = ("Failed", "Unreachable", "Refused")


@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_kind_of_incident_has_a_page(kind: str) -> None:
    text = (FOLDER / f"incident-{kind}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# Incident `{kind}`: ")
    assert re.findall(r"^## (.+)$", text, re.M) == SECTIONS
    assert all(len(part.split()) > 5 for part in re.split(r"^## .+$", text, flags=re.M)[1:])


def test_no_page_is_about_a_kind_that_does_not_exist() -> None:
    assert {path.stem.removeprefix("incident-") for path in FOLDER.glob("incident-*.md")} == set(get_args(Kind))


def test_each_error_to_act_on_has_an_entry() -> None:
    parts = re.split(r"^## (\S+)$", (FOLDER / "errors.md").read_text(encoding="utf-8"), flags=re.M)[1:]
    entries = dict(zip(parts[::2], parts[1::2], strict=True))
    known = docs.every_error()
    assert {e.code for e in known if e.kind in ACT} - entries.keys() == set(), "docs/runbook/errors.md"
    assert entries.keys() - {e.code for e in known} == set(), "no such code"
    assert [code for code, text in entries.items() if len(text.split()) < 6] == []
    assert list(entries) == sorted(entries)


def test_stead_runbook_has_something_of_each_kind_and_code() -> None:
    names = [*get_args(Kind), *(e.code.replace("…", "some") for e in docs.every_error())]
    assert [name for name in names if not runbook.find(name)] == []
    assert "What to do" in str(runbook.find("data")) and "stead data quarantine" in str(
        runbook.find("batch-quarantined")
    )
    assert "letters, digits" in str(runbook.find("alias-invalid"))
    assert runbook.find("nonsense") is None and not runbook.has_entry("alias-invalid")


def test_an_error_to_act_on_names_its_entry(tmp_path: Path) -> None:
    def stead(*asked: str, url: str = "") -> str:
        environ = {**os.environ, "STEAD_STORE": str(tmp_path), "STEAD_URL": url}
        return commands.stead(asked, cwd=tmp_path, environ=environ).stderr

    assert "more: stead runbook server-unreachable" in stead("models", "list", url="http://127.0.0.1:9")
    assert "more:" not in stead("models", "show", "nobody")
    assert "did you mean 'performance'" in stead("runbook", "perfromance")
