"""A manifest: the parts of a version in order, and the exact schema of its frames; its own bytes are in the blob store."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import msgspec

from stead.datasets.types import Part, Reference
from stead.errors import Failed, NotFound
from stead.runtime import typed
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT, WITH_REFERENCE = 1, 2


@dataclass(frozen=True)
class Manifest:
    """What makes a version that version: the same content in the same order has the same digest."""

    parts: list[Part] = field(default_factory=list)
    time_column: str | None = None
    schema: str = ""
    """Arrow's IPC message of the schema, base64; empty for a version of files."""
    format: int = FORMAT
    reference: Reference | None = None
    """Where the rows are, in place of parts."""


def put(store: Store, manifest: Manifest) -> str:
    plain = msgspec.to_builtins(manifest)
    if manifest.reference is None:
        del plain["reference"]  # as it was before there were any, so that the same content keeps its name
    else:
        plain["format"] = WITH_REFERENCE
    return store.blobs.put(msgspec.json.encode(plain, order="sorted"))


def get(store: Store, digest: str, ref: str) -> Manifest:
    """The manifest of the version `ref`.

    Raises Failed (`dataset-corrupt`: it is missing or was altered, `manifest-unreadable`), Unreachable (`blobs-unreachable`).
    """
    return _read(store, digest, ref, Manifest)


def digests(store: Store, digest: str, ref: str) -> dict[str, str]:
    """By path the digests of the parts, and nothing else of a manifest: there may be many. Raises what `get` raises."""
    return {part.path: part.digest for part in _read(store, digest, ref, _Digests).parts}


def contents(store: Store, digest: str, ref: str) -> bytes:
    """The bytes of the manifest of `ref`. Raises Failed (`dataset-corrupt`: missing or altered), Unreachable (`blobs-unreachable`)."""
    try:
        return store.blobs.get(digest)
    except NotFound:
        why = "is missing"
    except Failed as error:
        if error.code != "blob-corrupt":
            raise
        why = "was altered"
    raise Failed(
        "dataset-corrupt",
        f"{ref}: its manifest {digest[:12]}, the list of its parts, {why}",
        hint=f"stead data verify {ref} --repair-from BACKUPS",
    )


class _Digest(msgspec.Struct, gc=False):
    path: str
    digest: str


class _Digests(msgspec.Struct):
    parts: list[_Digest]
    format: int = FORMAT


T = TypeVar("T", Manifest, _Digests)


def _read(store: Store, digest: str, ref: str, kind: type[T]) -> T:
    try:
        manifest = msgspec.json.decode(contents(store, digest, ref), type=typed.ready(kind))
    except msgspec.DecodeError as error:
        raise Failed("manifest-unreadable", f"{ref}: {digest[:12]} is no manifest of a dataset: {error}") from None
    if manifest.format not in (FORMAT, WITH_REFERENCE):
        raise Failed(
            "manifest-unreadable",
            f"{ref}: its manifest {digest[:12]} has format {manifest.format}",
            hint="pip install -U stead",
        )
    return manifest


def packed(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize()).decode()


def unpacked(text: str) -> pa.Schema:
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
