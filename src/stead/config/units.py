"""Names, durations, sizes and figures, as people write and read them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

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

    >>> size_text(1500), size_text(600_000_000), size_text(None)
    ('1.5 kB', '600.0 MB', '–')
    """
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def number(value: Any, digits: int = 4) -> str:
    """A figure for reading: significant digits, thousands apart, – for nothing.

    >>> number(0.123456), number(12345), number(1e300), number(None)
    ('0.1235', '12,345', '1e+300', '–')
    """
    if value is None or value != value:
        return "–"
    if isinstance(value, int) or (abs(value) >= 1e3 and float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.{digits}g}"


def figure(value: float | None) -> str:
    """A loss: three decimals where it is small, so that a column lines up.

    >>> figure(0.36), figure(12.345), figure(1234.5), figure(None)
    ('0.360', '12.35', '1,234', '–')
    """
    if value is None or value != value:
        return "–"
    size = abs(value)
    if 0 < size < 0.001:
        return f"{value:.2e}"
    return f"{value:.3f}" if size < 10 else f"{value:.2f}" if size < 1000 else f"{value:,.0f}"


def took(ms: int | float | None) -> str:
    """A duration in the unit that reads best.

    >>> took(420), took(65_000), took(None)
    ('0.4 s', '1 min 5 s', '–')
    """
    if ms is None:
        return "–"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def lasting(ms: int) -> str:
    """A longer while, in days and hours.

    >>> lasting(77 * 3_600_000), lasting(5_400_000), lasting(21_600_000), lasting(259_200_000)
    ('3 d 5 h', '1 h 30 min', '6 h', '3 d')
    """
    hours, rest = divmod(ms, 3_600_000)
    said = f"{hours // 24} d {hours % 24} h" if hours >= 48 else f"{hours} h" if hours and not rest else took(ms)
    return said.removesuffix(" 0 h")


def percent(value: float | None, digits: int = 1) -> str:
    """A share.

    >>> percent(0.0123), percent(-0.5), percent(0.25, 0), percent(None)
    ('1.2 %', '−50.0 %', '25 %', '–')
    """
    return "–" if value is None else f"{value:.{digits}%}".replace("%", " %").replace("-", "−")


def points(value: float) -> str:
    """A share with its sign; nothing has a plus.

    >>> points(0.0123), points(-0.5), points(-0.0001), points(float("inf"))
    ('+1.2 %', '−50.0 %', '+0.0 %', '+∞ %')
    """
    return f"{round(100 * value, 1) + 0:+.1f} %".replace("-", "−").replace("inf", "∞")


def milliseconds(value: float) -> str:
    """Microseconds, as milliseconds.

    >>> milliseconds(31_440), milliseconds(1_043_000)
    ('31.4 ms', '1,043 ms')
    """
    return f"{value / 1000:{',.0f' if value >= 1e6 else '.3g'}} ms"


def some(names: Iterable[str], most: int = 3) -> str:
    """Names, few of them.

    >>> some(["a", "b"]), some(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    kept = list(names)
    return ", ".join(kept[:most]) + (f" and {len(kept) - most} more" if len(kept) > most else "")
