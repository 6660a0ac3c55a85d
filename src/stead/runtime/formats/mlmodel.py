"""The MLmodel file: YAML as MLflow writes it, without MLflow, and without PyYAML where the environment lacks it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from stead.errors import InvalidInput

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./ @+-]*")
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "~", "y", "n"}


def write(path: Path, data: dict[str, Any]) -> None:
    path.write_text("\n".join(_block(data, "")) + "\n", encoding="utf-8")


def _block(data: dict[str, Any], indent: str) -> list[str]:
    lines = []
    for key, value in sorted(data.items()):
        if isinstance(value, dict) and value:
            lines += [f"{indent}{_scalar(key)}:", *_block(value, indent + "  ")]
        else:  # JSON is YAML too
            lines.append(f"{indent}{_scalar(key)}: {_scalar(value)}")
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS and value.strip() == value:
        return value
    return json.dumps(value)


def read(path: Path) -> dict[str, Any]:
    """A file with a YAML mapping. Raises InvalidInput (`model-invalid`)."""
    return loads(path.read_text(encoding="utf-8"))


def loads(text: str) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        data = parse(text)
    else:
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidInput("model-invalid", f"MLmodel is no YAML: {error}") from None
    if not isinstance(data, dict):
        raise InvalidInput("model-invalid", "MLmodel is not a mapping")
    return data


def parse(text: str) -> dict[str, Any]:
    """The subset of YAML that `yaml.safe_dump` writes in block style: mappings, lists, scalars, folded quotes.

    >>> parse("flavors:\\n  sklearn:\\n    code: null\\nnames:\\n- a\\n- 'b c'\\n")
    {'flavors': {'sklearn': {'code': None}}, 'names': ['a', 'b c']}
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#") and line.strip() != "---"]
    value, rest = _parse_block(lines, 0, 0)
    while rest < len(lines) and not lines[rest].strip():
        rest += 1
    if rest != len(lines) or not isinstance(value, dict):
        raise InvalidInput("model-invalid", f"MLmodel, line {rest + 1}: not the YAML that is written here")
    return value


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _parse_block(lines: list[str], at: int, indent: int) -> tuple[Any, int]:
    while at < len(lines) and not lines[at].strip():
        at += 1
    if at < len(lines) and lines[at].lstrip().startswith("- "):
        return _parse_list(lines, at, _indent(lines[at]))
    found: dict[str, Any] = {}
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
            continue
        if _indent(line) != indent:
            break
        match = re.match(r"\s*(\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'|[^:#]+?):(?:\s+(.*))?$", line)
        if not match:
            raise InvalidInput("model-invalid", f"MLmodel, line {at + 1}: {line.strip()!r} is not understood")
        key = str(_parse_scalar(match[1]))
        text = (match[2] or "").strip()
        at += 1
        if text:
            text, at = _joined(lines, at, text, indent)
            found[key] = _parse_scalar(text)
        elif at < len(lines) and (
            _indent(lines[at]) > indent or (_indent(lines[at]) == indent and lines[at].lstrip().startswith("- "))
        ):
            found[key], at = _parse_block(lines, at, _indent(lines[at]))
        else:
            found[key] = None
    return found, at


def _parse_list(lines: list[str], at: int, indent: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    while at < len(lines) and _indent(lines[at]) == indent and lines[at].lstrip().startswith("- "):
        text = lines[at].lstrip()[2:].strip()
        if re.match(r"[A-Za-z_][\w-]*:(\s|$)", text):
            lines[at] = " " * (indent + 2) + text
            item, at = _parse_block(lines, at, indent + 2)
        else:
            text, at = _joined(lines, at + 1, text, indent)
            item = _parse_scalar(text)
        items.append(item)
    return items, at


def _joined(lines: list[str], at: int, text: str, indent: int) -> tuple[str, int]:
    """A scalar that was folded over several lines; a blank line in it stands for a line break."""
    quote = text[0] if text[0] in "'\"" else ""
    breaks = 0
    while at < len(lines) and not _closed(text, quote) and (quote or _indent(lines[at]) > indent):
        more = lines[at].strip()
        at += 1
        if not more:
            breaks += 1
            continue
        escaped = quote == '"' and text.endswith("\\") and not text.endswith("\\\\")
        text = text[:-1] + more if escaped else text + ("\n" * breaks or " ") + more
        breaks = 0
    return text, at


def _closed(text: str, quote: str) -> bool:
    if quote == "'":
        return len(text) > 1 and re.fullmatch(r"'(?:[^']|'')*'", text) is not None
    if quote == '"':
        return len(text) > 1 and re.fullmatch(r'"(?:[^"\\]|\\.)*"', text, re.S) is not None
    return False


def _parse_scalar(text: str) -> Any:
    text = text.strip()
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    if text.startswith('"') or text[:1] in "{[":
        try:
            return json.loads(re.sub(r"\\ ", " ", text).replace("\n", "\\n"))
        except ValueError:
            raise InvalidInput("model-invalid", f"MLmodel: {text!r} is not understood") from None
    if text in ("null", "~", ""):
        return None
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    if re.fullmatch(r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?", text):
        return float(text)
    return text
