"""Links and names in the docs lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from stead.cli import COMMANDS, cli
from stead.config import SETTINGS

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.M)
            assert heading in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_options_and_settings_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\bSTEAD_([A-Z_]+)\b", text):
        assert name.lower() in SETTINGS or name.startswith(("JOURNAL", "COMPLETE")), f"STEAD_{name}"
    for line in re.findall(r"(?:^|[`$(] ?)stead ([a-z][^`\n]*)", text, re.M):
        words = re.split(r"[|#;$]|\s{2,}|&&", line)[0].split()
        if not words or words[0] not in COMMANDS:
            continue
        command = cli.get_command(click.Context(cli), words[0])
        if isinstance(command, click.Group) and len(words) > 1 and words[1] in command.commands:
            command = command.commands[words[1]]
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in {*known, "--help"}, line


def test_first_words_of_commands_exist() -> None:
    for page in PAGES:
        for block in re.findall(r"^```bash\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S):
            for word in re.findall(r"^stead ([a-z]+)", block, re.M):
                assert word in COMMANDS, f"{page.name}: stead {word}"
