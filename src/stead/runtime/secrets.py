"""Secrets: named in files and in the store, looked up when they are used, and taken out of what is written down.

A setting or a variable is given as `env:NAME` or `file:/path`; that word is all that is ever stored or shown. A process that
was given secrets has their variables' names in `STEAD_SECRETS`, and what it writes about itself has stars in their place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from stead.errors import Failed

NAMES = "STEAD_SECRETS"
LEAST = 4
"""Shorter values are no secrets, and stars for them would make a text unreadable."""
_reference = re.compile(r"(env|file):(\S.*)").fullmatch
_word = re.compile(r"true|false|none|null|auto|[0-9.]{0,8}", re.I).fullmatch
_loose = re.compile(r"TOKEN|KEY", re.I).search
"""Names as TOKENIZERS_PARALLELISM or MAX_TOKENS have, too: stars for the words that those hold would hide half of a run."""
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


def mine() -> tuple[str, ...]:
    """The secrets of this process: those that it was given, in a job, or else what variables hold whose names say that it is one."""
    named = os.environ.get(NAMES)
    if named is not None:
        return tuple(os.environ[name] for name in named.split(",") if os.environ.get(name))
    found = ((name, os.environ[name]) for name in telling(os.environ))
    return tuple(value for name, value in found if not (_word(value) and _loose(name)))
