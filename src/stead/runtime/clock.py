"""Machine time in milliseconds since 1970 UTC, and times as people write them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from stead.errors import InvalidInput

FIRST_MS, END_MS = -30_610_224_000_000, 32_503_680_000_000
"""Years 1000 and 3000: what events may lie between, with room for pages that draw the time around them."""


def now_ms() -> int:
    """Machine time: for leases, heartbeats and stamps of what happened here. Never a model's time."""
    return time.time_ns() // 1_000_000


def to_ms(value: str | int | float | datetime) -> int:
    """Milliseconds since 1970 UTC of a time as written; a time without a zone counts as UTC.

    >>> to_ms("2012-01-01"), to_ms("2012-01-01T00:00:00+00:00")
    (1325376000000, 1325376000000)

    Raises InvalidInput (`time-invalid`) where it is not a time.
    """
    if isinstance(value, (int, float)):
        return int(value)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidInput(
                "time-invalid", f"{value!r} is not a time", hint="write it as 2012-01-31 or 2012-01-31T13:00:00+00:00"
            ) from None
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return int(value.timestamp() * 1000)


def checked_ms(value: Any) -> int:
    """A time of an event, from year 1000 to 2999, in milliseconds since 1970 UTC. Raises InvalidInput (`time-invalid`).

    >>> checked_ms(1325376000000)
    1325376000000
    """
    if type(value) is int and FIRST_MS <= value < END_MS:
        return value
    raise InvalidInput(
        "time-invalid",
        f"{shown(value)[:100]} is no time of an event",
        hint="milliseconds since 1970 UTC, from year 1000 to 2999",
    )


def shown(value: Any) -> str:
    """A value in a message: as it was written, a time as people write it.

    >>> shown("x"), shown(True), shown(datetime(2030, 1, 1, tzinfo=UTC))
    ("'x'", 'True', '2030-01-01T00:00:00+00:00')
    """
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


def to_iso(ms: int) -> str:
    """
    >>> to_iso(1325376000000)
    '2012-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()
