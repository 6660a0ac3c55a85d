"""A JSON object that tells a key twice: decoders take the last one, and what was meant is not known."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar

from stead.errors import InvalidInput

T = TypeVar("T")


def parse(text: bytes | str) -> Any:
    """JSON as Python values. Raises ValueError, InvalidInput (`key-repeated`).

    >>> parse('{"a": 1, "b": {"a": 2}}')
    {'a': 1, 'b': {'a': 2}}
    """
    return json.loads(text, object_pairs_hook=_object)


def check(body: bytes, keys: int) -> None:
    """Refuse a body that a decoder took and that has a key twice; `keys` is how many it found in all objects.

    A body with as many colons, or as many quotes before a colon, as keys has each once and is looked at no further: it costs
    next to nothing. Only one that has a blank before some colons and none before others can pass so with a key told twice.
    Any other body is read again. Raises InvalidInput (`key-repeated`).

    >>> check(b'{"row": {"a": 1, "b": 2}}', 3)
    """
    if body.count(b":") != keys and body.count(b'":') != keys:
        json.loads(body, object_pairs_hook=_object, parse_int=str, parse_float=str)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = repeated(name for name, _ in pairs)
        raise InvalidInput(
            "key-repeated", f"the key {str(twice)[:100]!r} is there twice in one object", hint="tell each key once"
        )
    return found


def repeated(names: Iterable[T]) -> T | None:
    """The first that was there before.

    >>> repeated("abcb")
    'b'
    """
    seen: set[T] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
