"""Secrets: named in files and in the store, looked up when they are used, and taken out of what is written down.

A setting or a variable is given as `env:NAME` or `file:/path`; that word is all that is ever stored or shown. A process that
was given secrets has their variables' names in `STEAD_SECRETS`, and what it writes about itself has stars in their place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from stead.errors import Failed

NAMES = "STEAD_SECRETS"
LEAST = 4
"""Shorter values are no secrets, and stars for them would make a text unreadable."""
_reference = re.compile(r"(env|file):(\S.*)").fullmatch
_telling = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|DSN", re.I).search


def is_reference(text: str) -> bool:
    """
    >>> is_reference("env:HOOK"), is_reference("file:/run/secrets/hook"), is_reference("https://hooks.example")
    (True, True, False)
    """
    return _reference(text) is not None


def looked_up(text: str, environ: Mapping[str, str], *, what: str) -> str:
    """The value that a reference names; any other text as it is. `what` says whose it is.

    Raises Failed (`secret-missing`), without any value in it.

    >>> looked_up("env:HOOK", {"HOOK": "s3cret"}, what="incident_webhook"), looked_up("plain", {}, what="")
    ('s3cret', 'plain')
    """
    match = _reference(text)
    if match is None:
        return text
    kind, name = match.groups()
    if kind == "env":
        if name not in environ:
            raise _missing(f"{what} names the variable {name}, which this process has not", f"export {name}=…")
        return environ[name]
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise _missing(f"{what} names the file {name}, which cannot be read: {why}", f"ls -l {name}") from None


def _missing(message: str, hint: str) -> Failed:
    return Failed("secret-missing", message, hint=f"{hint}, where stead up is started")


def telling(names: Iterable[str]) -> list[str]:
    """Names of variables that say that they hold a secret.

    >>> telling(["WAREHOUSE_PASSWORD", "AWS_REGION", "AWS_SECRET_ACCESS_KEY"])
    ['WAREHOUSE_PASSWORD', 'AWS_SECRET_ACCESS_KEY']
    """
    return [name for name in names if _telling(name)]


def hidden(data: bytes, values: Iterable[str]) -> bytes:
    """Bytes with as many stars in place of each value: lengths that are written before a text stay right.

    >>> hidden(b"at postgres://ada:geheim@db", ["geheim", "no"])
    b'at postgres://ada:******@db'
    """
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= LEAST:
            data = data.replace(value.encode(), b"*" * len(value.encode()))
    return data


def hidden_text(text: str, values: Iterable[str]) -> str:
    """`hidden` for a text."""
    return hidden(text.encode("utf-8", "surrogatepass"), values).decode("utf-8", "surrogatepass") if values else text


@lru_cache(1)
def mine() -> tuple[str, ...]:
    """The secrets that this process was given."""
    names = os.environ.get(NAMES, "").split(",")
    return tuple(os.environ[name] for name in names if os.environ.get(name))
