"""Identifiers that sort by the time they were made (UUIDv7, RFC 9562), as 32 hexadecimal digits."""

from __future__ import annotations

import os
import time


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
