"""OCI's documents, index, manifest and configuration, in the forms that are known: anybody may have written their bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Required, TypedDict, TypeVar

import msgspec

from stead.config.units import size_text
from stead.errors import Failed, InvalidInput, NotFound
from stead.images.types import DOCKER_INDEX, INDEX, Descriptor, Platform
from stead.runtime import typed

LARGEST = 8 << 20
"""Of a document: more bytes are none."""
_DEEPEST = 4
"""So many indexes stand in each other."""
ANOTHER = "name another base, pushed as an OCI image or as Docker's schema 2"

T = TypeVar("T")
Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]


class Part(TypedDict):
    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
    mediaType: str


class Manifest(TypedDict):
    config: Part
    layers: list[Part]


class Listed(TypedDict, total=False):
    digest: Required[Digest]
    mediaType: str
    platform: dict[str, Any] | None


class Index(TypedDict):
    manifests: list[Listed]


class Filesystem(TypedDict):
    diff_ids: list[Digest]


class Start(TypedDict, total=False):
    """How an image is started, as far as an image above it takes it over."""

    Env: list[str] | None
    Labels: dict[str, str] | None


class Configuration(TypedDict, total=False):
    architecture: Required[str]
    rootfs: Required[Filesystem]
    config: Start | None
    history: list[Any] | None


def document(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in some bytes. Raises Failed (`image-corrupt`)."""
    found = None
    with suppress(msgspec.DecodeError, RecursionError):
        found = msgspec.json.decode(data)
    if not isinstance(found, dict):
        raise Failed("image-corrupt", f"{what} is no JSON object", hint=ANOTHER)
    return found


def as_json(value: Any) -> bytes:
    """JSON whose bytes follow from the value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def formed(told: Mapping[str, Any], kind: type[T], what: str) -> T:
    """A document in a form, without what the form does not name. Raises Failed (`image-corrupt`)."""
    try:
        return typed.convert(told, kind)
    except msgspec.ValidationError as error:
        raise Failed("image-corrupt", f"{what} has another form than OCI's: {error}", hint=ANOTHER) from None


def small(size: int, what: str) -> None:
    """Raises Failed (`image-corrupt`) where so many bytes are no document."""
    if size > LARGEST:
        raise Failed("image-corrupt", f"{what} has {size_text(size)}, a document at most {size_text(LARGEST)}")


def parts(manifest: Mapping[str, Any], digest: str) -> list[Descriptor]:
    """What a manifest consists of: its configuration, then its layers. Raises Failed (`image-corrupt`)."""
    told = formed(manifest, Manifest, f"the manifest {digest[:19]}…")
    return [Descriptor(each["digest"], each["size"], each["mediaType"]) for each in (told["config"], *told["layers"])]


def is_index(told: Mapping[str, Any]) -> bool:
    return told.get("mediaType") in (INDEX, DOCKER_INDEX) or "manifests" in told


def chosen(
    index: Mapping[str, Any], platform: Platform, read: Callable[[str], dict[str, Any]], where: str, depth: int = 1
) -> str:
    """Of an index the digest of the manifest that fits the platform; `read` gives a document by digest.

    Raises NotFound (`image-platform`), InvalidInput (`image-ambiguous`), Failed (`image-corrupt`) where the index has
    another form, and as `read` does.
    """
    found: list[str] = []
    if depth > _DEEPEST:
        raise Failed("image-corrupt", f"the index of {where} has indexes in each other without an end", hint=ANOTHER)
    for each in formed(index, Index, f"the index of {where}")["manifests"]:
        wanted = each.get("platform")
        if each.get("mediaType") in (INDEX, DOCKER_INDEX):
            with suppress(NotFound):
                found.append(chosen(read(each["digest"]), platform, read, where, depth + 1))
        elif not wanted:
            config = read(parts(read(each["digest"]), each["digest"])[0].digest)
            if config.get("architecture") == platform.architecture:
                found.append(each["digest"])
        elif wanted.get("os") == "linux" and wanted.get("architecture") == platform.architecture:
            found.append(each["digest"])
    if not found:
        raise NotFound(
            "image-platform",
            f"{where} has no image for linux/{platform.architecture}",
            hint="name another base, or make one: stead image base",
        )
    if len(found) > 1:
        raise InvalidInput("image-ambiguous", f"{where} has {len(found)} images for linux/{platform.architecture}")
    return found[0]
