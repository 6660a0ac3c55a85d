"""Layers: a tar whose bytes follow from its content alone, compressed by a codec that is pinned.

Entries are sorted, belong to root, and have one time and one of two modes, so that neither the user, the umask nor the day
shows. They are compressed by libdeflate at one level in members of 4 MiB: gzip, which every registry and engine takes, of
one library and version that stead brings along, whatever zlib Python was built with.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from stead.errors import Failed
from stead.images.layout import Layout
from stead.images.types import LAYER, Layer

EPOCH = 315532800
"""1980-01-01: the time of every file, the earliest that zip archives know."""
CODEC = "0.9.0"
"""Of the package `deflate`, which brings libdeflate: another one may write other bytes, and an image other digests."""
LEVEL = 6
MEMBER = 4 << 20


@dataclass(frozen=True)
class Entry:
    """A file, folder or link of a layer; folders above it need none of their own."""

    path: str
    """Relative to the root of the image."""
    data: bytes | Path = b""
    mode: int = 0o644
    link: str | None = None
    kind: bytes = tarfile.REGTYPE


def folder(path: str, mode: int = 0o755) -> Entry:
    return Entry(path, mode=mode, kind=tarfile.DIRTYPE)


def link(path: str, target: str) -> Entry:
    return Entry(path, mode=0o777, link=target, kind=tarfile.SYMTYPE)


def tree(source: Path, target: str) -> Iterator[Entry]:
    """The files of a folder as they come to lie under `target`, without links."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.is_symlink():
            executable = bool(path.stat().st_mode & 0o100)
            yield Entry(f"{target}/{path.relative_to(source).as_posix()}", path, 0o755 if executable else 0o644)


def write_layer(layout: Layout, entries: Iterable[Entry], said: str) -> Layer:
    """Write a layer into a layout. Raises Failed (`codec-other`, `disk-full`)."""
    if (here := version("deflate")) != CODEC:
        raise Failed(
            "codec-other",
            f"layers are compressed by deflate {CODEC}, and {here} is installed: it may write other bytes",
            hint=f"uv pip install deflate=={CODEC}",
        )
    with layout.new(LAYER) as blob:
        squeezed = _Squeezed(blob.file)
        with tarfile.open(fileobj=squeezed, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for entry in _whole(entries):
                _add(tar, entry)
        squeezed.finish()
    return Layer(blob.descriptor, f"sha256:{squeezed.hasher.hexdigest()}", said)


def _whole(entries: Iterable[Entry]) -> list[Entry]:
    """Sorted, each path once, with the folders above each."""
    found: dict[str, Entry] = {}
    for entry in entries:
        for parent in list(Path(entry.path).parents)[:-1]:
            found.setdefault(parent.as_posix(), folder(parent.as_posix()))
        found[entry.path] = entry
    return [found[path] for path in sorted(found)]


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.path)
    info.type, info.mode, info.mtime = entry.kind, entry.mode, EPOCH
    if entry.link is not None:
        info.linkname = entry.link
    if entry.kind != tarfile.REGTYPE:
        tar.addfile(info)
    elif isinstance(entry.data, bytes):
        info.size = len(entry.data)
        tar.addfile(info, io.BytesIO(entry.data))
    else:
        info.size = entry.data.stat().st_size
        with open(entry.data, "rb") as file:
            tar.addfile(info, file)


class _Squeezed(io.RawIOBase):
    """Takes a tar, gives gzip members of 4 MiB each to a file, and hashes the tar."""

    def __init__(self, out: BinaryIO) -> None:
        self.hasher = hashlib.sha256()
        self._out = out
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.hasher.update(data)
        self._held += data
        while len(self._held) >= MEMBER:
            self._member(bytes(self._held[:MEMBER]))
            del self._held[:MEMBER]
        return len(data)

    def finish(self) -> None:
        if self._held:
            self._member(bytes(self._held))
            self._held.clear()

    def _member(self, data: bytes) -> None:
        import deflate

        self._out.write(deflate.gzip_compress(data, LEVEL))
