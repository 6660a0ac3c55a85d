"""Where requirements stand: lines, requirements.txt, pyproject.toml, the header of a script (PEP 723)."""

from __future__ import annotations

import platform
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from stead.errors import InvalidInput, NotFound

_SCRIPT = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_OPTIONS = ("--index-url", "-i", "--extra-index-url", "--find-links", "-f", "--pre", "--prefer-binary", "--no-binary", "--only-binary", "--no-index", "--trusted-host")  # fmt: skip


@dataclass
class Requirements:
    """What is asked for: lines for an index, local packages to build first, and options that only locking uses."""

    lines: list[str] = field(default_factory=list)
    local: list[tuple[Path, str]] = field(default_factory=list)
    """Folder or archive, and its extras as `[a,b]` or nothing."""
    options: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    folder: Path | None = None
    """Where uv runs, so that the index settings of a project hold."""
    kind: str = "lines"
    python: str | None = None


def read_requirements(source: Sequence[str] | Path) -> Requirements:
    """Requirements from lines or from a file; the kind of file follows from its name.

    >>> read_requirements(["scikit-learn>=1.5"]).lines
    ['scikit-learn>=1.5']

    Raises NotFound (`requirements-missing`) or InvalidInput (`requirement-invalid`) with file and line.
    """
    found = Requirements()
    if not isinstance(source, Path):
        if isinstance(source, str):
            raise InvalidInput("requirement-invalid", f"{source!r} is one line, not a list of lines", hint="[…]")
        _read_lines(found, list(source), "requirements", Path.cwd(), set())
        return found
    path = source.resolve()
    if not path.is_file():
        raise NotFound("requirements-missing", f"there is no file {source}", hint="name a requirements.txt or a script")
    found.folder, found.kind = path.parent, path.name
    if path.name == "pyproject.toml":
        _read_pyproject(found, path)
    elif path.suffix == ".py":
        found.kind = "script"
        _read_script(found, path)
    else:
        _read_lines(found, _logical_lines(path), path.name, path.parent, {path})
    return found


def checked(line: str, where: str) -> Requirement:
    """A requirement as PEP 508 has it. Raises InvalidInput (`requirement-invalid`)."""
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise InvalidInput(
            "requirement-invalid", f"{where}: {line!r} is no requirement: {error}", hint="write it as name>=1.0"
        ) from None


def _read_lines(found: Requirements, lines: list[str], where: str, folder: Path, seen: set[Path]) -> None:
    for number, raw in enumerate(lines, 1):
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        line = re.sub(r"\s+--hash[= ]\S+", "", line)
        if not line:
            continue
        place = f"{where}, line {number}"
        if match := re.match(r"(?:-r|--requirement|-c|--constraint)[= ]\s*(.+)", line):
            _include(
                found, (folder / match[1].strip()).resolve(), place, seen, constraint=line.startswith(("-c", "--c"))
            )
        elif match := re.match(r"(?:-e|--editable)[= ]\s*(.+)", line):
            _add_local(found, match[1].strip(), folder, place)
        elif line.startswith("-"):
            if not line.startswith(_OPTIONS):
                raise InvalidInput("requirement-invalid", f"{place}: the option {line!r} is not known here")
            found.options.extend(line.replace("=", " ", 1).split())
        elif _is_local(line, folder):
            _add_local(found, line, folder, place)
        else:
            requirement = checked(line, place)
            if requirement.url and requirement.url.startswith("file:"):
                extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
                _add_local(found, requirement.url + extras, folder, place)
                continue
            _refuse_vcs(requirement, place)
            found.lines.append(line)


def _include(found: Requirements, path: Path, place: str, seen: set[Path], *, constraint: bool) -> None:
    if path in seen:
        return
    if not path.is_file():
        raise NotFound("requirements-missing", f"{place}: there is no file {path.name}")
    seen.add(path)
    if constraint:
        found.constraints.extend(line for line in _logical_lines(path) if line and not line.startswith(("#", "-")))
    else:
        _read_lines(found, _logical_lines(path), path.name, path.parent, seen)


def _logical_lines(path: Path) -> list[str]:
    return re.sub(r"\\\r?\n", " ", path.read_text(encoding="utf-8")).splitlines()


def _is_local(line: str, folder: Path) -> bool:
    head = re.sub(r"\[[^\]]*\]$", "", line)
    if line.startswith(("./", "../", "/", "~", "file:")) or head in (".", ".."):
        return True
    return head.endswith((".whl", ".tar.gz")) and "@" not in head and (folder / head).exists()


def _add_local(found: Requirements, text: str, folder: Path, place: str) -> None:
    match = re.fullmatch(r"(.*?)(\[[^\]]*\])?", text)
    assert match is not None
    target, extras = match[1].strip(), match[2] or ""
    if target.startswith("file:"):
        target = unquote(urlsplit(target).path)
    elif re.match(r"[a-z+]+://", target):
        raise InvalidInput("requirement-invalid", f"{place}: {text!r} is neither on an index nor on this machine")
    path = (folder / Path(target).expanduser()).resolve()
    if not path.exists():
        raise NotFound("requirements-missing", f"{place}: there is no {target}")
    found.local.append((path, extras))


def _refuse_vcs(requirement: Requirement, place: str) -> None:
    if requirement.url and re.match(r"(git|hg|svn|bzr)\+", requirement.url):
        raise InvalidInput(
            "requirement-unhashable",
            f"{place}: {requirement.name} comes from a repository and has no hash to lock",
            hint=f"clone it and name the folder instead, or use a release of {requirement.name}",
        )


def _read_pyproject(found: Requirements, path: Path) -> None:
    data = _toml(path.read_text(encoding="utf-8"), str(path.name))
    project = data.get("project", {})
    found.python = _python(project.get("requires-python", ""), path.name)
    sources = {canonicalize_name(k): v for k, v in data.get("tool", {}).get("uv", {}).get("sources", {}).items()}
    for line in project.get("dependencies", []):
        requirement = checked(line, path.name)
        source = sources.get(canonicalize_name(requirement.name))
        if isinstance(source, dict) and "path" in source:
            extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
            _add_local(found, source["path"] + extras, path.parent, path.name)
        elif isinstance(source, dict) and not source.keys() & {"index", "url"}:
            raise InvalidInput(
                "requirement-unhashable",
                f"{path.name}: {requirement.name} comes from {'git' if 'git' in source else 'a workspace'}, which has no hash",
                hint=f'name its folder: {requirement.name} = {{ path = "…" }}',
            )
        else:
            _refuse_vcs(requirement, path.name)
            found.lines.append(line)


def _read_script(found: Requirements, path: Path) -> None:
    """The header that PEP 723 defines."""
    blocks = [m for m in _SCRIPT.finditer(path.read_text(encoding="utf-8")) if m["type"] == "script"]
    if len(blocks) != 1:
        raise InvalidInput(
            "requirements-missing",
            f"{path.name} has {'no' if not blocks else 'more than one'} header with its requirements",
            hint='put "# /// script", "# dependencies = [\\"scikit-learn\\"]", "# ///" at its top',
        )
    content = "".join(
        line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines(keepends=True)
    )
    data = _toml(content, path.name)
    found.python = _python(data.get("requires-python", ""), path.name)
    _read_lines(found, list(data.get("dependencies", [])), path.name, path.parent, set())


def _python(asked: str, where: str) -> str | None:
    """The minor version of Python that `requires-python` asks for: None where the running one will do, else the lowest that does.

    Raises InvalidInput (`requirement-invalid`).
    """
    try:
        fits = SpecifierSet(asked)
    except InvalidSpecifier as error:
        raise InvalidInput(
            "requirement-invalid", f"{where}: requires-python says no version of Python: {error}", hint='">=3.11"'
        ) from None
    if fits.contains(platform.python_version(), prereleases=True):
        return None
    for minor in range(9, 20):
        if fits.contains(f"3.{minor}.99") or fits.contains(f"3.{minor}"):
            return f"3.{minor}"
    raise InvalidInput("requirement-invalid", f"{where}: no Python has a version {asked}", hint='">=3.11"')


def _toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput("requirement-invalid", f"{where}: {error}") from None
