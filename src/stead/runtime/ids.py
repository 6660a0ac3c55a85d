"""Identifiers that sort by the time they were made (UUIDv7, RFC 9562), as 32 hexadecimal digits."""

from __future__ import annotations

import os
import time


def first_id(at: int) -> str:
    """Lower than every identifier that was made from a moment on, milliseconds, and higher than those before.

    >>> first_id(0) < first_id(1_700_000_000_000) < new_id()
    True
    """
    return f"{at << 80:032x}"


def new_id() -> str:
    """A new identifier: 48 bits of milliseconds, then 74 random bits.

    >>> a, b = new_id(), new_id()
    >>> len(a), a != b
    (32, True)
    """
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"
