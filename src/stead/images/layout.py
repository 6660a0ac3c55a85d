"""OCI layouts: a folder with blobs by digest and an index; and the same as one tar, which `docker load` takes, too."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO

from stead.errors import Failed, InvalidInput, NotFound
from stead.images import documents
from stead.images.documents import as_json
from stead.images.types import INDEX, MANIFEST, Descriptor, Image, Platform
from stead.runtime.failpoints import check_registered, failpoint
from stead.runtime.ids import new_id

REF_NAME = "org.opencontainers.image.ref.name"
STALE_S = 24 * 3600
_PIECE = 1 << 20


class Blob:
    """A blob that is being written."""

    def __init__(self, file: BinaryIO, media_type: str) -> None:
        self.file: BinaryIO = file
        self.descriptor = Descriptor("", 0, media_type)


class Layout:
    """The blobs of a layout: each is whole under its digest or absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where a blob lies or would lie. Raises InvalidInput (`digest-invalid`)."""
        kind, _, digits = digest.partition(":")
        if kind != "sha256" or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
            raise InvalidInput("digest-invalid", f"{digest[:100]!r} is no digest sha256:…")
        return self.folder / "blobs" / "sha256" / digits

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob is there, which counts as used now."""
        path = self.path(blob.digest)
        try:
            there = path.stat().st_size == blob.size
        except FileNotFoundError:
            return False
        used(path)
        return there

    @contextmanager
    def new(self, media_type: str, *, expected: str = "") -> Iterator[Blob]:
        """A file whose bytes become a blob. Raises Failed (`image-corrupt`) where they are not what was expected, `disk-full`."""
        place = self.folder / "blobs" / "sha256"
        with spare(self.folder):
            place.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=place, prefix=".part-")
            try:
                with os.fdopen(handle, "w+b") as file:
                    blob = Blob(file, media_type)
                    yield blob
                    file.flush()
                    os.fsync(file.fileno())
                    file.seek(0)
                    digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
                    blob.descriptor = Descriptor(digest, os.fstat(file.fileno()).st_size, media_type)
                if expected and digest != expected:
                    raise Failed("image-corrupt", f"what came as {expected[:19]}… is {digest[:19]}…", hint="try again")
                os.chmod(name, 0o644)
                moved(Path(name), self.path(digest), "images.blob")
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name)

    def put(self, data: bytes, media_type: str) -> Descriptor:
        with self.new(media_type) as blob:
            blob.file.write(data)
        return blob.descriptor

    def read(self, digest: str) -> bytes:
        """A small blob, checked. Raises NotFound (`image-incomplete`), Failed (`image-corrupt`)."""
        what = f"the blob {digest[:19]}… of {self.folder}"
        try:
            documents.small(self.path(digest).stat().st_size, what)
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise NotFound("image-incomplete", f"{self.folder} has no blob {digest[:19]}…") from None
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise Failed("image-corrupt", f"{what} is not what its name says")
        return data

    def document(self, digest: str) -> dict[str, Any]:
        """A manifest, index or configuration."""
        return documents.document(self.read(digest), f"the blob {digest[:19]}… of {self.folder}")

    def tidy(self) -> None:
        """Remove what killed processes left behind a day ago or earlier."""
        for place in ("blobs/sha256", "layers", "seen"):
            for left in (self.folder / place).glob(".*"):
                if _stale(left):
                    left.unlink(missing_ok=True)


def used(path: Path) -> None:
    """Say that a build used a file: its time is what `keeping.prune` goes by."""
    with suppress(OSError):  # it belongs to somebody else
        os.utime(path)


def manifest_digest(layout: Layout, platform: Platform) -> str:
    """The manifest of a layout's only image for a platform. Raises NotFound (`image-unknown`, `image-platform`), InvalidInput."""
    front = layout.folder / "index.json"
    try:
        documents.small(front.stat().st_size, str(front))
        data = front.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        hint = "a folder with oci-layout and index.json, or a reference name@sha256:…"
        raise NotFound("image-unknown", f"{layout.folder} is no OCI layout", hint=hint) from None
    return documents.chosen(documents.document(data, str(front)), platform, layout.document, str(layout.folder))


def blobs_of(layout: Layout, image: Image) -> list[Descriptor]:
    """All blobs of an image, the manifest last."""
    manifest = layout.document(image.digest)
    told = [*manifest["layers"], manifest["config"]]
    found = [Descriptor(each["digest"], each["size"], each["mediaType"]) for each in told]
    return [*found, Descriptor(image.digest, layout.path(image.digest).stat().st_size, MANIFEST)]


def check_target(target: Path, name: str) -> None:
    """Whether an image of this name can be exported to a place without taking anything else away.

    Raises InvalidInput (`target-taken`, `folder-not-empty`).
    """
    with _alone(target.parent):
        _check(target, name)


def _check(target: Path, name: str) -> None:
    if target.suffix == ".tar":
        if target.is_dir():
            raise InvalidInput("target-taken", f"{target} is a folder, and .tar is for a file", hint="name another")
    elif target.exists() and not target.is_dir():
        raise InvalidInput("target-taken", f"{target} is a file", hint="name a new folder, or a file .tar")
    elif target.is_dir() and any(target.iterdir()) and not _holds(target, name):
        said = f"{target} holds something else than an image {_unversioned(name)}"
        raise InvalidInput("folder-not-empty", said, hint="name a new folder")


def _holds(folder: Path, name: str) -> bool:
    """Whether a layout has been exported here, of an image that another version of this one may replace."""
    try:
        listed = json.loads((folder / "index.json").read_bytes())["manifests"]
        names = [each["annotations"][REF_NAME] for each in listed]
        return bool(names) and all(_unversioned(each) == _unversioned(name) for each in names)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def _unversioned(name: str) -> str:
    return name.rpartition(":")[0]


def export(image: Image, target: Path) -> Image:
    """Write an image as a layout of its own: a folder, or one file where `target` ends in .tar; whole or not at all.

    An earlier export of the same model gives way. Raises InvalidInput (`target-taken`, `folder-not-empty`) where something
    else is there, Failed (`disk-full`, `file-failed`).
    """
    check_target(target, image.name)
    with beside(target) as building, spare(target):
        building.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".tar":
            with open(building, "wb") as file:
                write_archive(image, file)
                file.flush()
                os.fsync(file.fileno())
            moved(building, target, "images.export")
            return image
        _write_folder(image, building)
        with beside(target) as old, _alone(target.parent):
            _check(target, image.name)
            if target.exists():
                moved(target, old, "images.aside")
            moved(building, target, "images.export")
    return replace(image, layout=str(target))


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A name beside a target, to build there; what is there at the end goes, and what killed processes left a day ago."""
    ours = re.compile(re.escape(f".{target.name}-") + "[0-9a-z]{12}")
    left = [path for path in target.parent.glob(".*") if ours.fullmatch(path.name)]
    building = target.parent / f".{target.name}-{new_id()[-12:]}"
    try:
        yield building
    finally:
        for path in [building, *(each for each in left if _stale(each))]:
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):
                path.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """As the only one that puts exports into a folder, as far as its file system knows locks."""
    handle = -1
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def _stale(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime < time.time() - STALE_S
    return False


def _write_folder(image: Image, folder: Path) -> None:
    layout = Layout(Path(image.layout))
    (folder / "blobs" / "sha256").mkdir(parents=True)
    for blob in blobs_of(layout, image):
        source, place = layout.path(blob.digest), Layout(folder).path(blob.digest)
        try:
            os.link(source, place)
        except OSError:
            shutil.copyfile(source, place)
    for name, data in _fronts(image).items():
        (folder / name).write_bytes(data)


def write_archive(image: Image, out: IO[bytes]) -> None:
    """A layout as a tar."""
    layout = Layout(Path(image.layout))
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, data in _fronts(image).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, BytesIO(data))
        for blob in sorted(blobs_of(layout, image), key=lambda blob: blob.digest):
            info = tarfile.TarInfo(f"blobs/{blob.digest.replace(':', '/')}")
            info.size = blob.size
            with open(layout.path(blob.digest), "rb") as file:
                tar.addfile(info, file)


def _fronts(image: Image) -> dict[str, bytes]:
    """What makes a layout of blobs: OCI's own two files, and Docker's list of images."""
    layout = Layout(Path(image.layout))
    *_, manifest = blobs_of(layout, image)
    architecture = image.platform.partition("/")[2]
    entry = manifest.as_dict() | {
        "platform": {"os": "linux", "architecture": architecture},
        "annotations": {REF_NAME: image.name, "io.containerd.image.name": image.name},
    }
    place = "blobs/{}".format
    legacy = {
        "Config": place(image.config.replace(":", "/")),
        "RepoTags": [image.name],
        "Layers": [place(each["digest"].replace(":", "/")) for each in layout.document(image.digest)["layers"]],
    }
    return {
        "oci-layout": as_json({"imageLayoutVersion": "1.0.0"}),
        "index.json": as_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}),
        "manifest.json": as_json([legacy]),
    }


def moved(source: Path, target: Path, point: str) -> None:
    """Rename what is finished to its name."""
    check_registered(point)
    failpoint(f"{point}:before")
    os.replace(source, target)
    failpoint(f"{point}:after")


@contextmanager
def spare(place: Path) -> Iterator[None]:
    """Raises Failed (`disk-full`, `file-failed`) where a file cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            said = f"could not write to {place}: {error.strerror}"
            raise Failed("disk-full", said, hint="free space and try again") from None
        why = ": ".join(str(each) for each in (error.filename, error.strerror) if each)
        raise Failed("file-failed", f"could not write to {place}: {why}", hint="can you write there?") from None
