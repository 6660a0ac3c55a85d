"""`stead runbook`: the runbook's pages where something is wrong, without a browser; in the wheel beside this file, else in the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from stead.cli import output
from stead.errors import NotFound, did_you_mean

_PACKED = Path(__file__).parent / "docs"
DOCS = _PACKED if _PACKED.is_dir() else Path(__file__).parents[3] / "docs"
INCIDENT = "incident-"


@click.command()
@click.argument("name", required=False)
@output.json_option
def runbook(name: str | None, as_json: bool) -> Any:
    """What to do about NAME, a kind of incident (performance) or an error's code (batch-quarantined); without it, the runbook."""
    text = (DOCS / "runbook.md").read_text(encoding="utf-8") if name is None else find(name)
    if name is not None and text is None:
        known = [*kinds(), *_entries(), *_codes()]
        raise NotFound(
            "runbook-unknown",
            f"{name!r} is no kind of incident and no error's code",
            hint=did_you_mean(name, known) or f"kinds: {', '.join(kinds())}; codes: stead … --json tells an error's",
        )
    if as_json:
        return {"name": name, "text": text}
    print(text, end="")
    return None


def find(name: str) -> str | None:
    """The page of a kind of incident, else what the runbook or the list of errors has of a code."""
    if name in kinds():
        return (DOCS / "runbook" / f"{INCIDENT}{name}.md").read_text(encoding="utf-8")
    if (entry := _matching(name, _entries())) is not None:
        return f"# Error `{name}`\n\n{entry}"
    row = _matching(name, _codes())
    return None if row is None else f"# Error `{name}`\n\n{row}"


def has_entry(code: str) -> bool:
    """Whether the runbook says more of an error than its sentence and hint."""
    return _matching(code, _entries()) is not None


def kinds() -> list[str]:
    """Kinds of incidents, each of which has a page."""
    return sorted(path.stem.removeprefix(INCIDENT) for path in (DOCS / "runbook").glob(f"{INCIDENT}*.md"))


def _entries() -> dict[str, str]:
    """What to do, by code."""
    parts = re.split(r"^## (\S+)$", (DOCS / "runbook" / "errors.md").read_text(encoding="utf-8"), flags=re.M)[1:]
    return {code: text.strip() + "\n" for code, text in zip(parts[::2], parts[1::2], strict=True)}


def _codes() -> dict[str, str]:
    """Every code of the reference: its kind, and the hints that it may come with."""
    found: dict[str, str] = {}
    for line in (DOCS / "reference" / "errors.md").read_text(encoding="utf-8").splitlines():
        if not (match := re.match(r"\| \[?`([^`]+)`\S* \| (\w+) \| (\d) \| ([\d, ]+) \| .* \| (.*) \|$", line)):
            continue
        code, kind, exit_code, status, hints = match.groups()
        said = f"{kind}: exit code {exit_code}, HTTP {status}. Its sentence says what is wrong with what.\n"
        found[code] = found.get(code, "") + said + "".join(f"- {hint}\n" for hint in hints.split("<br>") if hint)
    return found


def _matching(code: str, texts: dict[str, str]) -> str | None:
    """By name, or by a pattern such as `guard-…`."""
    if code in texts:
        return texts[code]
    patterns = (re.escape(name).replace("…", "[a-z0-9-]+") for name in texts)
    return next(
        (texts[name] for name, p in zip(texts, patterns, strict=True) if "…" in name and re.fullmatch(p, code)), None
    )
