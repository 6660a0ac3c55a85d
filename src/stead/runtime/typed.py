"""Values as types, from several threads.

msgspec looks a type's fields up when it is first used, and has it known before it has looked all of them up: another thread that uses
the type at that moment reads what is not there yet, and the process dies of it (msgspec 0.22, dataclasses in dataclasses). So a type
is looked up under a lock before it is used.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
_known: set[Any] = set()
_lock = threading.Lock()


def convert(value: Any, kind: type[T]) -> T:
    """What `msgspec.convert` gives. Raises msgspec.ValidationError.

    >>> convert({"a": 1}, dict[str, int])
    {'a': 1}
    """
    return msgspec.convert(value, ready(kind))


def ready(kind: type[T]) -> type[T]:
    """A type for `msgspec.json.decode(…, type=ready(Kind))`, known with all that is in it."""
    if kind not in _known:
        with _lock:
            msgspec.json.Decoder(kind)
            _known.add(kind)
    return kind
