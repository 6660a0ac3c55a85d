"""Interpreters of other minor versions of Python: whether this machine has one, or uv can download it."""

from __future__ import annotations

import msgspec

from stead.environments.locking import here
from stead.environments.uv import UvFailed, run_uv
from stead.errors import Unreachable


def without_python(python: str) -> str | None:
    """Why this machine has no Python of a minor version and can't get one; None where it has one or can. Raises nothing.

    >>> without_python(here()[0]) is None
    True
    """
    if python == here()[0]:
        return None
    try:
        run_uv(["python", "find", "--no-project", "--no-python-downloads", python])
        return None
    except (UvFailed, Unreachable):
        told = f"Python {python} is not on this machine"
    command = ["python", "list", "--only-downloads", "--show-urls", "--output-format", "json", f"cpython@{python}"]
    try:
        urls = [each["url"] for each in msgspec.json.decode(run_uv(command)) if each["url"]]
    except (UvFailed, Unreachable):
        urls = []
    if not urls:
        return f"{told}, and uv has none to download"
    return None if not urls[0].startswith("http") or _answers(urls[0]) else f"{told}, and its download does not answer"


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.head(url, follow_redirects=True, timeout=10).is_success
    except httpx.HTTPError:
        return False
