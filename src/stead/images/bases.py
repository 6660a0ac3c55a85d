"""Bases: what an image is built on, from an OCI layout on disk, or pulled from a registry by digest."""

from __future__ import annotations

import gzip
import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from stead.config.units import size_text
from stead.errors import Failed, InvalidInput, NotFound
from stead.images import registry
from stead.images.documents import Configuration, as_json, formed, parts
from stead.images.layout import Layout, manifest_digest, moved, spare, used
from stead.images.types import LAYER, MANIFEST, Base, Descriptor, Layer, Platform
from stead.runtime.ids import new_id

DEFAULT = "bases/debian-python{python}-{architecture}"
"""Where `stead image base` puts one, in the store's folder of images."""
_STATUS = ("var/lib/dpkg/status", "var/lib/dpkg/status.d/")
LARGEST_LIST = 64 << 20
"""Of packages, in a base."""
UNPACKED = 1 << 30
"""A layer may unpack to so much, and to a hundred times its size."""


def find(pool: Layout, named: str, *, python: str, platform: Platform) -> Base:
    """The base that is named, its blobs in `pool`: a folder with an OCI layout, a reference `name@sha256:…`, or nothing
    for the one that `stead image base` made.

    Raises NotFound (`base-missing`, `image-unknown`, `image-platform`), InvalidInput (`base-unpinned`, `base-python`,
    `base-musl`, `reference-invalid`), and what `registry.pull` raises.
    """
    folder = Path(named) if named else pool.folder / DEFAULT.format(python=python, architecture=platform.architecture)
    if named and not folder.exists() and not named.startswith((".", "/")):
        digest, name = registry.pull(pool, named, platform)
    else:
        if not named and not folder.is_dir():
            raise NotFound(
                "base-missing",
                f"there is no base image with Python {python} for linux/{platform.architecture}",
                hint=f"stead image base --python {python} --platform {platform.architecture}, or name one: --base NAME@sha256:…",
            )
        digest, name = _taken(pool, Layout(folder), platform), ""
    return _described(pool, digest, name, python, platform)


def _taken(pool: Layout, source: Layout, platform: Platform) -> str:
    """Copy an image's blobs, checked, from a layout on disk."""
    digest = manifest_digest(source, platform)
    manifest = source.document(digest)
    for blob in parts(manifest, digest):
        if pool.has(blob):
            continue
        path = source.path(blob.digest)
        if not path.is_file():
            raise NotFound("image-incomplete", f"{source.folder} has no blob {blob.digest[:19]}…")
        if (size := path.stat().st_size) != blob.size:
            said = f"the blob {blob.digest[:19]}… of {source.folder} has {size} bytes, its manifest says {blob.size}"
            raise Failed("image-corrupt", said)
        with open(path, "rb") as file, pool.new(blob.media_type, expected=blob.digest) as new:
            while piece := file.read(1 << 20):
                new.file.write(piece)
    pool.put(source.read(digest), MANIFEST)
    return digest


def _described(pool: Layout, digest: str, name: str, python: str, platform: Platform) -> Base:
    described, *blobs = parts(pool.document(digest), digest)
    config = formed(pool.document(described.digest), Configuration, f"the configuration of the base {digest[:19]}…")
    if config["architecture"] != platform.architecture:
        said = f"the base {digest[:19]}… is for {config['architecture']}, not for {platform.architecture}"
        raise NotFound("image-platform", said, hint=f"name its index, or --platform {config['architecture']}")
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != len(blobs):
        raise Failed("image-corrupt", f"the base {digest[:19]}… has {len(blobs)} layers and {len(diff_ids)} names")
    layers = [
        Layer(Descriptor(blob.digest, blob.size, _oci(blob.media_type)), diff_id)
        for blob, diff_id in zip(blobs, diff_ids, strict=True)
    ]
    seen = _seen(pool, digest, layers)
    interpreters = [path for path in seen["pythons"] if path.endswith(f"/python{python}")]
    if seen["musl"]:
        raise InvalidInput(
            "base-musl", "the base has musl, and wheels are for glibc", hint="a base of Debian, Ubuntu or Fedora"
        )
    if not interpreters:
        has = ", ".join(sorted({path.rpartition("/")[2] for path in seen["pythons"]})) or "none"
        raise InvalidInput(
            "base-python",
            f"the environment is locked for Python {python}, and the base has {has}",
            hint=f"a base with python{python}: stead image base --python {python}",
        )
    return Base(
        layers=tuple(layers),
        digest=digest,
        name=name,
        config=config,
        python="/" + min(interpreters, key=lambda path: (not path.startswith("usr/local/"), path)),
        packages=tuple(seen["packages"]),
    )


def _oci(media_type: str) -> str:
    """The type of a layer in OCI's words, whoever wrote it."""
    if media_type == "application/vnd.docker.image.rootfs.diff.tar.gzip":
        return LAYER
    return media_type


def _seen(pool: Layout, digest: str, layers: list[Layer]) -> dict[str, Any]:
    """Interpreters and packages in a base, written down beside it: reading all of it takes a second."""
    note = pool.folder / "seen" / f"{digest.partition(':')[2]}.json"
    try:
        found: dict[str, Any] = json.loads(note.read_bytes())
        used(note)
        return found
    except (FileNotFoundError, ValueError):
        pass
    pythons: set[str] = set()
    packages: list[dict[str, str]] = []
    musl = False
    for layer in layers:
        with _opened(pool, layer) as file:
            try:
                with tarfile.open(fileobj=_Bounded(file, layer.blob), mode="r|") as tar:  # type: ignore[call-overload]
                    for member in tar:
                        path = member.name.removeprefix("./").removeprefix("/")
                        folder, _, name = path.rpartition("/")
                        musl = musl or (folder == "lib" and name.startswith("ld-musl"))
                        if folder.endswith("bin") and re.fullmatch(r"python3\.\d+", name) and path.isascii():
                            pythons.add(path)
                        elif member.isfile() and path.startswith(_STATUS) and not path.endswith(".md5sums"):
                            if member.size > LARGEST_LIST:
                                raise tarfile.ReadError(f"its list of packages has {size_text(member.size)}")
                            read = tar.extractfile(member)
                            told = list(_paragraphs(read.read().decode(errors="replace"))) if read else []
                            packages = [*packages, *told] if path.startswith(_STATUS[1]) else told
            except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
                raise Failed("image-corrupt", f"a layer of the base {digest[:19]}… cannot be read: {error}") from None
    found = {"pythons": sorted(pythons), "packages": packages, "musl": musl}
    note.parent.mkdir(parents=True, exist_ok=True)
    building = note.with_name(f".{note.name}-{new_id()[-12:]}")
    with spare(note):
        building.write_bytes(as_json(found))
        moved(building, note, "images.note")
    return found


@contextmanager
def _opened(pool: Layout, layer: Layer) -> Iterator[IO[bytes]]:
    """The tar of a layer."""
    path = pool.path(layer.blob.digest)
    if layer.blob.media_type.endswith("zstd"):
        import pyarrow as pa

        with pa.CompressedInputStream(str(path), "zstd") as stream:
            yield stream  # type: ignore[misc]
    elif layer.blob.media_type.endswith("gzip"):
        with gzip.open(path) as file:
            yield file  # type: ignore[misc]
    else:
        with open(path, "rb") as plain:
            yield plain


class _Bounded:
    """A tar that is read no further than a layer of its size can honestly unpack to."""

    def __init__(self, file: IO[bytes], blob: Descriptor) -> None:
        self._file = file
        self._most = self._left = max(UNPACKED, 100 * blob.size)

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise tarfile.ReadError(f"it unpacks to more than {size_text(self._most)}")
        return data


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Packages of Debian's list of what is installed; ours has their hashes, too."""
    for paragraph in text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in paragraph.splitlines() if line[:1] not in (" ", "\t"))
        if "Package" in fields and fields.get("Status", "install ok installed").endswith(" installed"):
            told = {"name": fields["Package"], "version": fields.get("Version", "")}
            told["architecture"] = fields.get("Architecture", "")
            yield told | ({"sha256": fields["SHA256"]} if "SHA256" in fields else {})
