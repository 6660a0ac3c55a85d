"""What an image is made of."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stead.errors import InvalidInput

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

Kind = Literal["serve", "train"]


@dataclass(frozen=True)
class Platform:
    """Processor of an image; the system is Linux with glibc.

    >>> PLATFORMS["arm64"].uv
    'aarch64-unknown-linux-gnu'
    """

    architecture: str
    """As OCI names it: `amd64`, `arm64`; Debian has the same names."""
    machine: str
    """As Python and wheels name it: `x86_64`, `aarch64`."""

    @property
    def uv(self) -> str:
        return f"{self.machine}-unknown-linux-gnu"


PLATFORMS = {p.architecture: p for p in (Platform("amd64", "x86_64"), Platform("arm64", "aarch64"))}


def this_platform() -> Platform:
    """That of this machine's processor. Raises InvalidInput (`image-platform`)."""
    here = platform.machine()
    for each in PLATFORMS.values():
        if here in (each.machine, each.architecture):
            return each
    raise InvalidInput("image-platform", f"no image is made for {here}", hint="--platform amd64")


@dataclass(frozen=True)
class Descriptor:
    """A blob by digest (`sha256:` and 64 hexadecimal digits), with what it is."""

    digest: str
    size: int
    media_type: str

    def as_dict(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Layer:
    """A compressed layer, and the digest of its tar."""

    blob: Descriptor
    diff_id: str
    said: str = ""
    """What it holds, for the image's history."""


@dataclass(frozen=True)
class Base:
    """An image that others are built on."""

    layers: tuple[Layer, ...]
    digest: str
    """Of its manifest."""
    name: str
    """The reference that it was pulled by, empty for a layout on disk."""
    config: Mapping[str, Any]
    python: str
    """Path of its interpreter of the version that was asked for."""
    packages: tuple[Mapping[str, str], ...] = ()
    """What its package manager says is installed: name, version, architecture, sha256 where it is known."""


@dataclass(frozen=True)
class Image:
    """An image in an OCI layout."""

    name: str
    """What docker and podman call it: `stead/demand:3`; part of the layout, not of the digest."""
    digest: str
    """Of the manifest: what a registry knows it by."""
    config: str
    """Digest of the configuration: what docker and podman show as its id."""
    platform: str
    bytes: int
    """Of its compressed layers."""
    kind: Kind
    model: str
    version: int
    base: str
    """The base's digest."""
    layout: str
    """Folder with the blobs; the image's manifest is among them."""
