"""The text of a lock: pinned requirements with hashes, and nothing else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

from stead.environments.requirements import checked
from stead.errors import InvalidInput


def pin_wheels(text: str, wheels: Sequence[Path]) -> str:
    """The lock with one hash for each package that we built: nothing of the same name from an index can take its place."""
    for wheel in wheels:
        name, version, _, _ = parse_wheel_filename(wheel.name)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        pattern = rf"(?m)^{re.escape(name)}==.*(?:\n[ \t]+.*)*"
        text, n = re.subn(pattern, f"{name}=={version} \\\\\n    --hash=sha256:{digest}", text)
        if n == 0:
            text += f"{name}=={version} \\\n    --hash=sha256:{digest}\n"
    return text


def blocks(text: str) -> dict[str, str]:
    """The lines of each package in a lock, its hashes among them.

    >>> blocks("a==1 --hash=sha256:0\\nb==2 \\\\\\n    --hash=sha256:1\\n")
    {'a': 'a==1 --hash=sha256:0\\n', 'b': 'b==2 \\\\\\n    --hash=sha256:1\\n'}
    """
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        if match := re.match(r"[A-Za-z0-9][\w.-]*", line):
            name = canonicalize_name(match[0])
        if name and line.strip() and not line.startswith("#"):
            found[name] = found.get(name, "") + line
    return found


def parse_hashes(text: str) -> dict[str, set[str]]:
    """The SHA-256 of each file that a lock allows, by package.

    >>> parse_hashes("six==1.16.0 --hash=sha256:" + "a" * 64) == {"six": {"a" * 64}}
    True
    """
    lines = re.sub(r"\\\r?\n", " ", text).splitlines()
    found: dict[str, set[str]] = {}
    for line in lines:
        if match := re.match(r"[A-Za-z0-9][\w.-]*", line):
            found.setdefault(canonicalize_name(match[0]), set()).update(re.findall(r"sha256:([0-9a-f]{64})", line))
    return found


def parse_lock(text: str) -> dict[str, str]:
    """Name and version of everything in a lock.

    >>> parse_lock("numpy==2.0 \\\\\\n    --hash=sha256:" + "0" * 64 + "\\n")
    {'numpy': '2.0'}

    Raises InvalidInput (`lock-invalid`) for a line that is neither, `requirement-unhashable` for one without a hash.
    """
    packages: dict[str, str] = {}
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        bare = re.sub(r"\s+--hash=(sha256|sha384|sha512):[0-9a-f]{64,128}", "", line)
        if "--" in bare or line.lstrip().startswith("-"):
            raise InvalidInput("lock-invalid", f"a lock holds requirements and hashes, not {bare.strip()!r}")
        requirement = checked(bare.strip(), "lock")
        if bare == line:
            raise InvalidInput("requirement-unhashable", f"{requirement.name} has no hash to lock")
        if requirement.marker and not requirement.marker.evaluate():
            continue
        pins = list(requirement.specifier)
        if requirement.url is None and (len(pins) != 1 or pins[0].operator not in ("==", "===")):
            raise InvalidInput("lock-invalid", f"{requirement.name} is not pinned to one version")
        packages[canonicalize_name(requirement.name)] = requirement.url or pins[0].version
    return packages
