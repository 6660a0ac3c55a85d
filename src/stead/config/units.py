"""Names, durations and sizes, as people write and read them."""

from __future__ import annotations

import re

from stead.errors import InvalidInput


def checked_name(name: str) -> str:
    """A name fit for a model, dataset or project. Raises InvalidInput (`name-invalid`).

    >>> checked_name("demand-2")
    'demand-2'
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) or ".." in name:
        raise InvalidInput(
            "name-invalid",
            f"{name!r} is no name",
            hint="letters, digits, '.', '_' and '-', at most 100, a letter or digit first",
        )
    return name


_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}


def duration_ms(text: str) -> int:
    """
    >>> duration_ms("24h"), duration_ms("7d"), duration_ms("1y") == duration_ms("365d")
    (86400000, 604800000, True)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdwy])\s*", text)
    if not match:
        raise InvalidInput(
            "duration-invalid", f"{text!r} is no duration", hint="write it as 30s, 15m, 24h, 7d, 2w or 1y"
        )
    return int(float(match[1]) * _UNITS[match[2]])


def size_text(count: float | None) -> str:
    """A number of bytes, for people.

    >>> size_text(1536), size_text(None)
    ('1.5 kB', '–')
    """
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GB"
